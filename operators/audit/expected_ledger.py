"""Computes the nights and bookings that the ledger should have, from the events alone, and checks every event."""

from collections.abc import Callable, Iterable, Iterator
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Any, Final

import msgspec

from operators.audit.ledger import LedgerBooking, LedgerNight, LedgerPayment
from operators.audit.report import Check, Report

#: A booking remembers no more of its replaced guest lists.
MAX_EARLIER_GUEST_LISTS: Final = 500
LIVE: Final = frozenset({"RESERVED", "GUESTS_ADDED", "PAYMENTS_PENDING"})

_parse = msgspec.json.Decoder().decode
_Event = dict[str, Any]


class Night:
    """One night of a room after the events so far."""

    __slots__ = ("booked", "closed", "currency", "day", "hotel_id", "price", "reserved", "room_id", "surge", "total")

    def __init__(self, event: _Event, day: str) -> None:
        self.room_id: int = event["room_id"]
        self.day = day
        self.hotel_id: int = event["hotel_id"]
        self.total: int = event["total_count"]
        self.price: int = event["price_minor"]
        self.currency: str = event["currency"]
        self.booked = 0
        self.reserved = 0
        self.surge = 1000
        self.closed = False

    def as_row(self) -> LedgerNight:
        """Return the row that the ledger should have."""
        return LedgerNight(
            self.hotel_id, self.total, self.booked, self.reserved, self.price, self.surge, self.closed, self.currency
        )


class Payment:
    """One payment after the events so far, and the money of it that left again; amounts in minor units."""

    __slots__ = ("amount", "closed", "disputes", "due", "failed", "refunds", "state")

    def __init__(self, amount: int) -> None:
        self.amount = amount
        self.state = "kept"
        self.due = 0
        self.closed = 0
        self.refunds: dict[str, tuple[int, bool]] = {}
        self.failed: list[str] = []
        self.disputes: dict[str, tuple[int, str]] = {}

    @property
    def refunded(self) -> int:
        """The sum of the refunds that did not fail."""
        return sum(amount for amount, _ in self.refunds.values())

    @property
    def left(self) -> int:
        """The amount that neither a refund nor a lost dispute took."""
        lost = sum(amount for amount, state in self.disputes.values() if state == "lost")
        return max(0, self.amount - self.refunded - lost)

    @property
    def kept(self) -> int:
        """The amount that is left, and neither due to the guest nor closed by an operator."""
        return self.left - self.due - self.closed

    def settle(self) -> None:
        """Let no more be due or closed than is left; the state follows, unless the payment pays its booking."""
        self.closed = min(self.closed, self.left)
        self.due = min(self.due, self.left - self.closed)
        if self.state != "kept":
            self.state = "refund_requested" if self.due else "refunded"

    def as_row(self) -> LedgerPayment:
        """Return the payment that the ledger should have."""
        return LedgerPayment(
            self.amount, self.state, self.due, self.closed, self.refunds, tuple(self.failed), self.disputes
        )


class Booking:
    """One booking after the events so far."""

    __slots__ = (
        "amount", "attempt", "cancel_reason", "check_in", "check_out", "currency", "earlier_guest_lists", "freed_from",
        "guest_list", "guests", "hold_until", "hotel_id", "night_amounts", "nights", "payments", "rejection", "room_id",
        "rooms", "session_id", "status", "stay_times", "terms", "user_id",
    )  # fmt: skip

    def __init__(self, event: _Event, status: str, nights: list[Night]) -> None:
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
        self.hold_until = _milliseconds(event.get("hold_expires_at"))
        self.attempt = 0
        self.session_id: str | None = None
        self.cancel_reason: str | None = None
        self.night_amounts: tuple[int, ...] = tuple(event.get("night_amounts_minor", ()))
        self.stay_times: dict[str, str] | None = event.get("stay_times")
        self.freed_from: str | None = None
        self.payments: dict[str, Payment] = {}
        self.guests: tuple[int, ...] = ()
        self.guest_list: str | None = None
        self.earlier_guest_lists: list[str] = []

    def as_row(self) -> LedgerBooking:
        """Return the row that the ledger should have."""
        return LedgerBooking(
            self.room_id, self.hotel_id, self.user_id, self.check_in, self.check_out, self.rooms, self.terms,
            self.status, self.amount, self.currency, self.rejection, self.hold_until, self.attempt, self.session_id,
            self.cancel_reason, self.guest_list, tuple(self.earlier_guest_lists), self.night_amounts, self.stay_times,
            self.freed_from,
            {intent: paid.as_row() for intent, paid in self.payments.items()}, self.guests,
        )  # fmt: skip


class ExpectedLedger:
    """The nights and bookings after the events so far."""

    def __init__(self, report: Report) -> None:
        self.nights: dict[tuple[int, str], Night] = {}
        self.bookings: dict[str, Booking] = {}
        self._report = report
        self._partitions_of: dict[int, set[int]] = {}
        self._where: tuple[int, int, str] = (0, 0, "")
        self._time = 0
        self._appliers: dict[str, Callable[[_Event], None]] = {
            "inventory.opened.v1": self._on_opened,
            "inventory.changed.v1": self._on_changed_nights,
            "inventory.changed.v2": self._on_changed_ranges,
            "inventory.unchanged.v1": self._on_unchanged,
            "booking.reserved.v1": self._on_reserved,
            "booking.rejected.v1": self._on_rejected,
            "booking.guests_added.v1": self._on_guests_added,
            "booking.payment_requested.v1": self._on_payment_requested,
            "booking.checkout_opened.v1": self._on_checkout_opened,
            "booking.confirmed.v1": self._on_confirmed,
            "booking.payment_declined.v1": self._on_payment_declined,
            "booking.cancelled.v1": self._on_cancelled,
            "booking.expired.v1": self._on_expired,
            "booking.refund_requested.v1": self._on_refund_requested,
            "booking.refunded.v1": self._on_refunded,
            "booking.guests_changed.v1": self._on_guests_changed,
            "booking.refund_failed.v1": self._on_refund_failed,
            "booking.refund_closed.v1": self._on_refund_closed,
            "booking.dispute_opened.v1": self._on_dispute_opened,
            "booking.dispute_closed.v1": self._on_dispute_closed,
            "booking.command_refused.v1": self._on_answer,
            "booking.command_repeated.v1": self._on_answer,
        }

    def apply(self, partition: int, sequence: int, kind: str, time: str, value: bytes) -> None:
        """Apply one event, given by its type, the log's time (RFC 3339) and its data as JSON."""
        self._where = (partition, sequence, kind)
        apply = self._appliers.get(kind)
        if apply is None:
            self._mismatch("the audit does not know this type of event")
            return
        try:
            event = _parse(value)
            self._time = _milliseconds(time) or 0
            self._check_partition(event["room_id"], partition)
            apply(event)
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            self._mismatch(f"it cannot be read ({error!r})")

    def _check_partition(self, room_id: int, partition: int) -> None:
        partitions = self._partitions_of.setdefault(room_id, {partition})
        if partition not in partitions:
            partitions.add(partition)
            numbers = " and ".join(str(number) for number in sorted(partitions))
            self._mismatch(f"room {room_id} is in partitions {numbers}: a room belongs to one partition")

    def _mismatch(self, sentence: str) -> None:
        self._wrong(Check.LOG_MATCHES_LEDGER, sentence)

    def _wrong(self, check: Check, sentence: str) -> None:
        partition, sequence, kind = self._where
        self._report.add(check, f"partition {partition}, sequence {sequence}, {kind}: {sentence}")

    # Nights.

    def _on_opened(self, event: _Event) -> None:
        for day in _days(event["first_night"], event["end_night"]):
            key = (event["room_id"], day)
            if key in self.nights:
                self._mismatch(f"room {key[0]}, night {day}: opened a second time")
            else:
                self.nights[key] = Night(event, day)
                self._check_counts(self.nights[key])

    def _on_changed_nights(self, event: _Event) -> None:
        self._change(event, event["nights"])

    def _on_changed_ranges(self, event: _Event) -> None:
        for each in event["ranges"]:
            self._change(event, _days(each["first_night"], each["end_night"]))

    def _change(self, event: _Event, days: Iterable[str]) -> None:
        for day in days:
            night = self.nights.get((event["room_id"], day))
            if night is None:
                self._mismatch(f"room {event['room_id']}, night {day}: changed but never opened")
                continue
            night.price = _or(event.get("price_minor"), night.price)
            night.surge = _or(event.get("surge_milli"), night.surge)
            night.closed = _or(event.get("closed"), night.closed)
            night.total = _or(event.get("total_count"), night.total)
            self._check_counts(night)

    def _on_unchanged(self, event: _Event) -> None:
        """Do nothing: the event changes nothing."""

    def _take(self, booking: Booking, *, reserved: int = 0, booked: int = 0, first_night: str | None = None) -> None:
        """Count rooms at the nights of a booking, or at those from `first_night` (ISO 8601) on."""
        for night in booking.nights:
            if first_night is not None and night.day < first_night:
                continue
            night.reserved += reserved * booking.rooms
            night.booked += booked * booking.rooms
            if night.reserved < 0 or night.booked < 0 or night.reserved + night.booked > night.total:
                self._check_counts(night)

    def _check_counts(self, night: Night) -> None:
        if night.reserved < 0 or night.booked < 0 or night.reserved + night.booked > night.total:
            self._wrong(
                Check.NO_OVERSOLD_NIGHT,
                f"room {night.room_id}, night {night.day}: {night.booked} booked and {night.reserved} reserved "
                f"of {night.total}",
            )

    # First events of a booking.

    def _on_reserved(self, event: _Event) -> None:
        if self._is_new(event):
            booking = Booking(event, "RESERVED", list(self._open_nights(event)))
            if not booking.nights:
                self._mismatch(f"booking {event['booking_id']}: reserved without a night")
            self._check_amounts(event, booking)
            self.bookings[event["booking_id"]] = booking
            self._take(booking, reserved=1)

    def _check_amounts(self, event: _Event, booking: Booking) -> None:
        """Check the amounts by night, which events of 0.1.0 do not have."""
        amounts = booking.night_amounts
        if amounts and (
            len(amounts) != len(_days(booking.check_in, booking.check_out)) or sum(amounts) != booking.amount
        ):
            self._mismatch(f"{_name(event)}: its nights cost {list(amounts)}, and all of it {booking.amount}")

    def _on_rejected(self, event: _Event) -> None:
        if self._is_new(event):
            self.bookings[event["booking_id"]] = Booking(event, "REJECTED", [])

    def _is_new(self, event: _Event) -> bool:
        known = self.bookings.get(event["booking_id"])
        if known is not None:
            self._illegal(event, known)
        return known is None

    def _open_nights(self, event: _Event) -> Iterator[Night]:
        for day in _days(event["check_in"], event["check_out"]):
            night = self.nights.get((event["room_id"], day))
            if night is None:
                self._wrong(Check.NO_OVERSOLD_NIGHT, f"room {event['room_id']}, night {day}: reserved but never opened")
            else:
                yield night

    # Later events of a booking.

    def _on_guests_added(self, event: _Event) -> None:
        booking = self._changing(event, {"RESERVED", "GUESTS_ADDED"})
        if booking is not None:
            booking.status = "GUESTS_ADDED"
            self._set_guests(event, booking)

    def _on_guests_changed(self, event: _Event) -> None:
        booking = self._changing(event, {"CONFIRMED"})
        if booking is not None:
            if not event["guest_list_id"] or event["guest_list_id"] == booking.guest_list:
                self._mismatch(f"{_name(event)}: other guests without another list of them")
            self._set_guests(event, booking)

    def _set_guests(self, event: _Event, booking: Booking) -> None:
        guest_list = event.get("guest_list_id")
        if guest_list in booking.earlier_guest_lists:
            self._mismatch(f"{_name(event)}: guest list {guest_list} comes back, which another had replaced")
        if booking.guest_list not in (None, guest_list):
            booking.earlier_guest_lists.append(booking.guest_list)
            del booking.earlier_guest_lists[:-MAX_EARLIER_GUEST_LISTS]
        booking.guests = tuple(sorted(set(event["guest_ids"])))
        booking.guest_list = guest_list

    def _on_payment_requested(self, event: _Event) -> None:
        booking = self._changing(event, {"GUESTS_ADDED", "PAYMENTS_PENDING"})
        if booking is not None:
            if event["attempt"] != booking.attempt + 1:
                self._mismatch(f"{_name(event)}: attempt {event['attempt']} follows {booking.attempt}")
            self._same_price(event, booking)
            booking.status = "PAYMENTS_PENDING"
            booking.attempt = event["attempt"]
            booking.session_id = None

    def _on_checkout_opened(self, event: _Event) -> None:
        booking = self._changing(event, {"PAYMENTS_PENDING"})
        if booking is not None:
            if event["attempt"] != booking.attempt:
                self._mismatch(
                    f"{_name(event)}: a session for attempt {event['attempt']} of {booking.attempt}",
                )
            booking.session_id = event["session_id"]

    def _on_payment_declined(self, event: _Event) -> None:
        self._changing(event, {"PAYMENTS_PENDING"})

    def _on_confirmed(self, event: _Event) -> None:
        booking = self._changing(event, LIVE | {"EXPIRED"})
        if booking is None:
            return
        self._same_price(event, booking)
        if not _may_be_confirmed(event, booking):
            how = f"{'' if event['payment_intent'] else 'un'}paid{' and late' if event['late'] else ''}"
            self._mismatch(f"{_name(event)}: confirmed from {booking.status}, {how}: no legal transition")
        self._take(booking, reserved=-1 if booking.status in LIVE else 0, booked=1)
        booking.status = "CONFIRMED"
        booking.hold_until = None
        if event.get("payment_intent"):
            self._add_payment(event, booking)

    def _on_cancelled(self, event: _Event) -> None:
        booking = self._changing(event, LIVE | {"CONFIRMED"})
        if booking is None:
            return
        self._check_cancellation(event, booking)
        if booking.status in LIVE:
            self._take(booking, reserved=-1)
        else:
            booking.freed_from = event.get("freed_from")
            self._take(booking, booked=-1, first_night=booking.freed_from)
        booking.status = "CANCELLED"
        booking.hold_until = None
        booking.cancel_reason = event["reason"]
        for paid in booking.payments.values():
            if paid.state == "kept" and paid.left == 0:
                paid.state = "refunded"

    def _check_cancellation(self, event: _Event, booking: Booking) -> None:
        """Check what the event claims beside the transition: past nights, the hotel's reason, the refund by hand."""
        freed_from = event.get("freed_from")
        if freed_from is not None and (
            booking.status in LIVE or not booking.check_in < freed_from <= booking.check_out
        ):
            self._mismatch(f"{_name(event)}: {booking.status}, and its nights are free from {freed_from} on")
        if event.get("hotel_reason") and event["reason"] != "by_hotel":
            self._mismatch(f"{_name(event)}: cancelled {event['reason']}, with the reason of a hotel")
        if event["reason"] == "refunded_by_hand":
            kept = sum(paid.left for paid in booking.payments.values() if paid.state == "kept")
            if kept or not any(by_hand for paid in booking.payments.values() for _, by_hand in paid.refunds.values()):
                self._mismatch(f"{_name(event)}: cancelled as refunded by hand, and {kept} of its payment is left")

    def _on_expired(self, event: _Event) -> None:
        booking = self._changing(event, LIVE, by_time=True)
        if booking is not None:
            if booking.hold_until is None or self._time < booking.hold_until:
                self._wrong(
                    Check.HOLDS_END_ON_TIME, f"{_name(event)}: its hold ended {_early(booking.hold_until, self._time)}"
                )
            self._take(booking, reserved=-1)
            booking.status = "EXPIRED"
            booking.hold_until = None

    def _on_answer(self, event: _Event) -> None:
        """Check an answer that changes nothing: it has the booking's present status."""
        booking = self.bookings.get(event["booking_id"])
        if booking is None or booking.room_id != event["room_id"]:
            return
        self._in_time(event, booking)
        if event.get("booking_status") != booking.status:
            self._mismatch(
                f"{_name(event)}: answered with {event['booking_status']}, it is {booking.status}",
            )

    # Payments and refunds.

    def _on_refund_requested(self, event: _Event) -> None:
        known = self.bookings.get(event["booking_id"])
        if known is None or known.room_id != event["room_id"]:
            if event["reason"] != "unknown_booking":
                self._mismatch(f"{_name(event)}: a refund of a booking that is unknown")
            return
        self._in_time(event, known)
        paid = known.payments.get(event["payment_intent"])
        if paid is None:
            if known.attempt == 0:
                self._mismatch(f"{_name(event)}: a refund without a payment")
            paid = known.payments[event["payment_intent"]] = Payment(event["amount_minor"])
        elif paid.state == "kept":
            if known.status != "CANCELLED":
                self._mismatch(f"{_name(event)}: {known.status}, and the money that pays it goes back")
        elif paid.kept == 0:
            self._mismatch(f"{_name(event)}: {event['payment_intent']} goes back a second time")
        if paid.kept != event["amount_minor"]:
            self._mismatch(f"{_name(event)}: {event['amount_minor']} of {paid.kept} goes back")
        total = _or(event.get("total_minor"), event["amount_minor"])
        if total != paid.amount - paid.closed:
            self._mismatch(
                f"{_name(event)}: {total} of {event['payment_intent']} goes back in all, "
                f"which paid {paid.amount} less {paid.closed} that is closed"
            )
        paid.due += event["amount_minor"]
        paid.state = "refund_requested"
        paid.settle()

    def _on_refunded(self, event: _Event) -> None:
        booking, paid = self._paid(event)
        if booking is None:
            return
        intent, id_, amount = event["payment_intent"], event["refund_id"], event["amount_minor"]
        by_hand = bool(event.get("by_hand"))
        if paid is None or (paid.state == "kept" and not by_hand):
            self._mismatch(
                f"{_name(event)}: {amount} went back for {intent}, "
                f"which is {'unknown' if paid is None else paid.state} with {0 if paid is None else paid.amount}",
            )
            return
        if id_ in paid.refunds or id_ in paid.failed:
            self._mismatch(f"{_name(event)}: refund {id_} of {intent} went back a second time")
            return
        paid.refunds[id_] = (amount, by_hand)
        paid.due = max(0, paid.due - amount)
        paid.settle()

    def _on_refund_failed(self, event: _Event) -> None:
        paid = self._known_payment(event, "a refund failed")
        if paid is None:
            return
        id_ = event["refund_id"]
        if id_ in paid.failed:
            self._mismatch(f"{_name(event)}: refund {id_} failed a second time")
            return
        paid.failed.append(id_)
        amount, by_hand = paid.refunds.pop(id_, (None, False))
        if amount is None:
            return
        if amount != event["amount_minor"]:
            self._mismatch(f"{_name(event)}: {event['amount_minor']} of refund {id_} failed, and {amount} went back")
        if by_hand != bool(event.get("by_hand")):
            self._mismatch(f"{_name(event)}: refund {id_} was made by {'a person' if by_hand else 'the product'}")
        if not event.get("by_hand"):
            paid.due += amount
        paid.settle()

    def _on_refund_closed(self, event: _Event) -> None:
        paid = self._known_payment(event, "a refund was closed")
        if paid is None:
            return
        if not paid.due or event["amount_minor"] != paid.due:
            self._mismatch(f"{_name(event)}: a refund of {event['amount_minor']} was closed, and {paid.due} is due")
        paid.closed += event["amount_minor"]
        paid.due = 0
        paid.settle()

    def _on_dispute_opened(self, event: _Event) -> None:
        paid = self._known_payment(event, "a dispute was opened")
        if paid is None:
            return
        if event["dispute_id"] in paid.disputes:
            self._mismatch(f"{_name(event)}: dispute {event['dispute_id']} was opened a second time")
            return
        paid.disputes[event["dispute_id"]] = (event["amount_minor"], "open")

    def _on_dispute_closed(self, event: _Event) -> None:
        paid = self._known_payment(event, "a dispute was closed")
        if paid is None:
            return
        _, state = paid.disputes.get(event["dispute_id"], (0, "unknown"))
        if state != "open":
            self._mismatch(f"{_name(event)}: dispute {event['dispute_id']} was closed, and it is {state}")
            return
        paid.disputes[event["dispute_id"]] = (event["amount_minor"], event["result"])
        paid.settle()

    def _known_payment(self, event: _Event, happened: str) -> Payment | None:
        """Return the event's payment; report it if the booking has no such payment."""
        booking, paid = self._paid(event)
        if booking is not None and paid is None:
            self._mismatch(f"{_name(event)}: {happened} for {event['payment_intent']}, which is unknown")
        return paid

    def _paid(self, event: _Event) -> tuple[Booking | None, Payment | None]:
        """Return the event's booking and payment, as far as they are known."""
        booking = self._of_room(event)
        if booking is None:
            return None, None
        self._in_time(event, booking)
        return booking, booking.payments.get(event["payment_intent"])

    def _add_payment(self, event: _Event, booking: Booking) -> None:
        if event["payment_intent"] in booking.payments:
            self._mismatch(f"{_name(event)}: {event['payment_intent']} pays a second time")
        booking.payments[event["payment_intent"]] = Payment(event["amount_minor"])

    def _same_price(self, event: _Event, booking: Booking) -> None:
        price = (event["amount_minor"], event["currency"])
        if price != (booking.amount, booking.currency):
            reserved = f"{booking.amount} {booking.currency}"
            self._mismatch(f"{_name(event)}: {price[0]} {price[1]}, reserved for {reserved}")

    # Conditions of every transition.

    def _changing(
        self, event: _Event, legal_from: set[str] | frozenset[str], *, by_time: bool = False
    ) -> Booking | None:
        """Return the event's booking if the event is a legal transition of it; report it if not."""
        booking = self._of_room(event)
        if booking is None:
            return None
        if booking.status not in legal_from:
            self._illegal(event, booking)
            return None
        if not by_time:
            self._in_time(event, booking)
        return booking

    def _of_room(self, event: _Event) -> Booking | None:
        booking = self.bookings.get(event["booking_id"])
        if booking is None:
            self._mismatch(f"{_name(event)}: it was never reserved")
        elif booking.room_id != event["room_id"]:
            self._mismatch(f"{_name(event)}: of room {booking.room_id}, not {event['room_id']}")
            return None
        return booking

    def _in_time(self, event: _Event, booking: Booking) -> None:
        if booking.hold_until is not None and self._time >= booking.hold_until:
            late_ms = self._time - booking.hold_until
            self._wrong(Check.HOLDS_END_ON_TIME, f"{_name(event)}: its hold had ended {late_ms} ms before")

    def _illegal(self, event: _Event, booking: Booking) -> None:
        self._mismatch(f"{_name(event)}: it was {booking.status}: no legal transition")


def _may_be_confirmed(event: _Event, booking: Booking) -> bool:
    """Return whether this status may become CONFIRMED with this payment, or without."""
    paid = bool(event.get("payment_intent"))
    match booking.status:
        case "RESERVED":
            return booking.terms == "at_hotel" and not paid and not event.get("late")
        case "GUESTS_ADDED":
            return booking.amount == 0 and not paid and not event.get("late")
        case "PAYMENTS_PENDING":
            return paid and not event.get("late")
        case _:
            return paid and bool(event.get("late"))


def _name(event: _Event) -> str:
    return f"booking {event['booking_id']}"


def _early(hold_until: int | None, time: int) -> str:
    return "though it has no deadline" if hold_until is None else f"{hold_until - time} ms early"


def _or(new: Any, old: Any) -> Any:
    return old if new is None else new


@lru_cache(maxsize=10_000)
def _days(first: str, end: str) -> tuple[str, ...]:
    start = date.fromisoformat(first)
    return tuple((start + timedelta(days=n)).isoformat() for n in range((date.fromisoformat(end) - start).days))


def _milliseconds(time: str | None) -> int | None:
    return None if time is None else round(datetime.fromisoformat(time).timestamp() * 1000)
