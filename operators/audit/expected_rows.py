"""The rows that the ledger should have, while the events are applied: nights, payments, bookings, blocks, codes."""

from copy import copy
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Any, Final, TypeAlias

from operators.audit.ledger import (
    LedgerBlock,
    LedgerBooking,
    LedgerChange,
    LedgerCode,
    LedgerDocument,
    LedgerNight,
    LedgerPayment,
)

#: The data of an event, as JSON has it.
Event: TypeAlias = dict[str, Any]
#: The price of a stay that another room has not decided.
_NO_PRICE: Final[Event] = {"amount_minor": 0, "night_amounts_minor": [], "sale": None}


class Night:
    """One night of a room after the events so far.

    `priced_at` is the time at which its price or surge changed last, in milliseconds since 1970; None: never.
    """

    __slots__ = (
        "allowance", "blocked", "booked", "closed", "currency", "day", "hotel_id", "price", "priced_at", "reserved",
        "room_id", "surge", "total",
    )  # fmt: skip

    def __init__(self, event: Event, day: str) -> None:
        self.room_id: int = event["room_id"]
        self.day = day
        self.hotel_id: int = event["hotel_id"]
        self.total: int = event["total_count"]
        self.price: int = event["price_minor"]
        self.currency: str = event["currency"]
        self.booked = 0
        self.reserved = 0
        self.blocked = 0
        self.allowance = 0
        self.surge = 1000
        self.priced_at: int | None = None
        self.closed = False

    def as_row(self) -> LedgerNight:
        """Return the row that the ledger should have."""
        return LedgerNight(
            self.hotel_id, self.total, self.booked, self.reserved, self.price, self.surge, self.closed, self.currency,
            self.allowance, self.blocked,
        )  # fmt: skip


class Payment:
    """One payment after the events so far, and the money of it that left again; amounts in minor units.

    `policy` is kept by the policy of the booking, and `retained` is what is left of that. `early` was sent before the
    failure of the refunds that it replaces was recorded.
    """

    __slots__ = ("amount", "closed", "disputes", "due", "early", "failed", "policy", "refunds", "retained", "state")

    def __init__(self, amount: int) -> None:
        self.amount = amount
        self.state = "kept"
        self.due = 0
        self.closed = 0
        self.early = 0
        self.policy = 0
        self.retained = 0
        self.refunds: dict[str, tuple[int, bool]] = {}
        self.failed: list[str] = []
        self.disputes: dict[str, tuple[int, str]] = {}

    @property
    def refunded(self) -> int:
        """The sum of the refunds that did not fail."""
        return sum(amount for amount, _ in self.refunds.values())

    @property
    def sent(self) -> int:
        """The sum of the refunds that the product made and that did not fail."""
        return sum(amount for amount, by_hand in self.refunds.values() if not by_hand)

    @property
    def was_asked_for(self) -> bool:
        """Whether a refund of it may have been requested; others may have taken the place of that one."""
        return self.state != "kept" or bool(self.due or self.closed or self.refunds or self.failed or self.disputes)

    @property
    def lost(self) -> int:
        """The amount that lost disputes took of it."""
        lost = sum(amount for amount, state in self.disputes.values() if state == "lost")
        return min(lost, max(0, self.amount - self.refunded))

    @property
    def left(self) -> int:
        """The amount that neither a refund nor a lost dispute took."""
        return max(0, self.amount - self.refunded - self.lost)

    @property
    def kept(self) -> int:
        """The amount that is left, and neither due to the guest nor closed by an operator nor kept by the policy."""
        return self.left - self.due - self.closed - self.retained

    def settle(self) -> None:
        """Let no more be closed, retained or due than is left; the state follows, unless it pays its booking."""
        self.retained = min(self.policy, self.left)
        self.closed = min(self.closed, self.left - self.retained)
        self.due = min(self.due, self.left - self.retained - self.closed)
        if self.state != "kept":
            self.state = "refund_requested" if self.due else "refunded"

    def as_row(self) -> LedgerPayment:
        """Return the payment that the ledger should have."""
        return LedgerPayment(
            self.amount, self.state, self.due, self.closed, self.retained, self.policy, self.refunds,
            tuple(self.failed), self.disputes,
        )  # fmt: skip


class Booking:
    """One booking after the events so far.

    `back` is what changes made it cheaper by, as far as its refund is not requested; `was_expired`: its hold ended.
    `legs` are those of a trip, by their bookings, as the ledger has them; `trip_id` is the trip of a leg.
    `opened_changes` are the changes to another room type that were asked for, by id: that room, and what the costs
    depend on, which the leg has in `replaces`.
    `position` are the partition and the sequence of its last event. `charged_at` is the time, in milliseconds since
    1970, from which on money is kept of it, or is to be paid for it at the hotel.
    """

    __slots__ = (
        "accepted_terms", "amount", "attempt", "back", "cancel_reason", "charged_at", "check_in", "check_out",
        "currency", "earlier_guest_lists", "earlier_stays", "ended_changes", "freed_from", "guest_list", "guests",
        "hold_until", "hotel_id", "legs", "night_amounts", "nights", "opened_changes", "payments", "pending", "policy",
        "position", "rejection", "replaces", "request_hash", "room_id", "rooms", "sale", "session_id", "status",
        "stay_times", "terms", "trip_id", "trip_room_id", "user_id", "was_expired",
    )  # fmt: skip

    def __init__(self, event: Event, status: str, nights: list[Night]) -> None:
        self.room_id: int = event["room_id"]
        self.hotel_id: int = event["hotel_id"]
        self.user_id: int | None = event.get("user_id")
        self.check_in: str = event["check_in"]
        self.check_out: str = event["check_out"]
        self.rooms: int = event["rooms_count"]
        self.terms: str = event.get("terms", "prepaid")
        self.status = status
        self.nights = nights
        self.amount: int = event.get("amount_minor", 0)
        self.currency: str = event.get("currency", "")
        self.rejection: str | None = event.get("reason")
        self.hold_until = milliseconds(event.get("hold_expires_at"))
        self.attempt = 0
        self.session_id: str | None = None
        self.cancel_reason: str | None = None
        self.night_amounts: tuple[int, ...] = tuple(event.get("night_amounts_minor", ()))
        self.stay_times: dict[str, str] | None = event.get("stay_times")
        self.freed_from: str | None = None
        self.sale: Event | None = event.get("sale")
        self.policy: Event | None = None
        self.payments: dict[str, Payment] = {}
        self.guests: tuple[int, ...] = ()
        self.guest_list: str | None = event.get("guest_list_id")
        self.earlier_guest_lists: list[str] = []
        self.accepted_terms: str | None = event.get("accepted_terms")
        self.pending: PendingChange | None = None
        self.earlier_stays: list[tuple[str, Event]] = []
        self.ended_changes: list[str] = []
        self.legs: dict[str, Event] = {}
        self.trip_id: str | None = event.get("trip_id")
        self.trip_room_id: int | None = event.get("trip_room_id")
        self.request_hash: str | None = event.get("request_hash")
        self.replaces: Event | None = event.get("moved")
        self.opened_changes: dict[str, tuple[int, Event]] = {}
        self.was_expired = False
        self.back = 0
        self.position = (0, 0)
        self.charged_at: int | None = None

    def as_row(self) -> LedgerBooking:
        """Return the row that the ledger should have."""
        return LedgerBooking(
            self.room_id, self.hotel_id, self.user_id, self.check_in, self.check_out, self.rooms, self.terms,
            self.status, self.amount, self.currency, self.rejection, self.hold_until, self.attempt, self.session_id,
            self.cancel_reason, self.guest_list, tuple(self.earlier_guest_lists), self.night_amounts, self.stay_times,
            self.freed_from, self.sale, self.policy, None if self.pending is None else self.pending.as_row(),
            tuple(self.earlier_stays), tuple(self.ended_changes), self.accepted_terms, tuple(self.legs.values()),
            self.trip_id, self.trip_room_id, self.request_hash,
            {intent: paid.as_row() for intent, paid in self.payments.items()}, self.guests,
        )  # fmt: skip

    def stay(self) -> Event:
        """Return the stay as it is, as an event has a stay before a change."""
        return {
            "check_in": self.check_in,
            "check_out": self.check_out,
            "rooms_count": self.rooms,
            "amount_minor": self.amount,
            "night_amounts_minor": list(self.night_amounts),
            "sale": self.sale,
        }

    def changed_to(self, stay: Event, nights: list[Night]) -> "Booking":
        """Return the booking as it would be with another stay."""
        changed = copy(self)
        changed.change_to(stay, nights)
        return changed

    def change_to(self, stay: Event, nights: list[Night]) -> None:
        """Give the booking another stay; `nights` are its open nights."""
        self.check_in, self.check_out, self.rooms = stay["check_in"], stay["check_out"], stay["rooms_count"]
        self.amount, self.night_amounts = stay["amount_minor"], tuple(stay["night_amounts_minor"])
        self.sale, self.nights = stay["sale"], nights

    def move_to(self, event: Event) -> None:
        """Give the booking's stay to a leg in another room."""
        self.change_to({**stay_of(event), "rooms_count": 0}, [])
        leg = {
            "booking_id": event["change_id"],
            "room_id": event["to_room_id"],
            "rooms_count": event["rooms_count"],
            "state": "held",
        }
        leg |= {name: event[name] for name in ("amount_minor", "night_amounts_minor", "currency") if event[name]}
        self.legs = {event["change_id"]: leg}


class PendingChange:
    """A change of a stay that is not paid, or that another room decides (`is_open`), after the events so far."""

    __slots__ = ("attempt", "extra", "held", "id", "is_open", "stay", "to_room")

    def __init__(self, event: Event) -> None:
        self.id: str = event["change_id"]
        self.is_open = "extra_minor" not in event
        self.stay = _NO_PRICE | event_dates(event) if self.is_open else stay_of(event)
        self.extra: int = event.get("extra_minor", 0)
        self.held: list[Event] = event.get("held", [])
        self.to_room: int | None = event.get("to_room_id")
        self.attempt = 0

    def as_row(self) -> LedgerChange:
        """Return the change that the ledger should have."""
        return LedgerChange(self.id, self.stay, self.extra, self.held, self.attempt, self.to_room, self.is_open)


class Code:
    """A promo code after the events so far; `uses` are the account and whether it was given back, by booking."""

    __slots__ = ("hotel_id", "terms", "uses")

    def __init__(self, event: Event) -> None:
        self.hotel_id: int = event["hotel_id"]
        self.terms: Event = event["terms"]
        self.uses: dict[str, tuple[int | None, bool]] = {}

    def used(self) -> list[int | None]:
        """Return the accounts of the uses that were not given back."""
        return [user_id for user_id, returned in self.uses.values() if not returned]

    def as_row(self) -> LedgerCode:
        """Return the row that the ledger should have."""
        return LedgerCode(self.hotel_id, self.terms["version"], self.terms, len(self.used()), self.uses)


class Document:
    """An invoice or a credit note of a hotel after the events so far."""

    __slots__ = ("credited", "event", "issued_at")

    def __init__(self, event: Event, issued_at: int) -> None:
        self.event = event
        self.issued_at = issued_at
        self.credited = 0

    def as_row(self) -> LedgerDocument:
        """Return the row that the ledger should have."""
        event = self.event
        return LedgerDocument(
            event["hotel_id"], event["kind"], event["number"], event["reason"], event["booking_id"],
            event["amount_minor"], event["currency"], event["lines"], event.get("corrects_id"), self.credited,
            event.get("booking_version", 0), self.issued_at,
        )  # fmt: skip


class Block:
    """Rooms of a hotel that are off sale, after the events so far."""

    __slots__ = ("end_night", "first_night", "reason", "released", "rooms")

    def __init__(self, event: Event) -> None:
        self.first_night: str = event["first_night"]
        self.end_night: str = event["end_night"]
        self.rooms: int = event["rooms_count"]
        self.reason: str = event["reason"]
        self.released = False

    def as_row(self) -> LedgerBlock:
        """Return the row that the ledger should have."""
        return LedgerBlock(self.first_night, self.end_night, self.rooms, self.reason, self.released)


def event_dates(event: Event) -> Event:
    """Return the dates and the number of rooms of the stay of an event about a change."""
    return {name: event[name] for name in ("check_in", "check_out", "rooms_count")}


def stay_of(event: Event) -> Event:
    """Return the stay that an event about a change gives a booking."""
    names = ("check_in", "check_out", "rooms_count", "amount_minor", "night_amounts_minor", "sale")
    return {name: event[name] for name in names}


def has_ended(booking: Booking) -> bool:
    """Return whether the stay was cancelled, was not begun, or was left early."""
    return booking.status in {"CANCELLED", "NO_SHOW"} or (
        booking.status == "CHECKED_OUT" and booking.freed_from is not None
    )


def kept_by(booking: Booking) -> int:
    """Return the amount that the hotel keeps since the booking ended."""
    return 0 if booking.policy is None else int(booking.policy["kept_minor"])


def milliseconds(time: str | None) -> int | None:
    """Return a time (RFC 3339) in milliseconds since 1970."""
    return None if time is None else round(datetime.fromisoformat(time).timestamp() * 1000)


@lru_cache(maxsize=10_000)
def days_of(first: str, end: str) -> tuple[str, ...]:
    """Return the nights from a day to another, which is not in it (ISO 8601)."""
    start = date.fromisoformat(first)
    return tuple((start + timedelta(days=n)).isoformat() for n in range((date.fromisoformat(end) - start).days))
