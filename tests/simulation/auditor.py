"""The auditor: follows the log from outside and checks the promises. It shares no code with the workers.

It reads records as bytes, keeps its own books of nights, bookings and money, and compares them with the rows at the
end. Each problem names the promise that is broken.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from hashlib import blake2b
from typing import Any, Final

from tests.faults.row import Promise
from tests.simulation.documents_auditor import DocumentsAuditor
from tests.simulation.money_auditor import MoneyAuditor

#: Event -> {status before: status after}; written by hand from the states that guests are promised.
_MOVES: Final[dict[str, dict[str | None, str]]] = {
    "booking.reserved": {None: "RESERVED"},
    "booking.rejected": {None: "REJECTED"},
    "booking.trip_opened": {None: "RESERVING"},
    "booking.leg_held": {"RESERVING": "RESERVING"},
    "booking.trip_reserved": {"RESERVING": "RESERVED"},
    "booking.trip_rejected": {None: "REJECTED", "RESERVING": "REJECTED"},
    "booking.trip_cancel_requested": {"CONFIRMED": "CONFIRMED"},
    "booking.leg_ended": {"CONFIRMED": "CONFIRMED"},
    "booking.guests_added": {"RESERVED": "GUESTS_ADDED", "GUESTS_ADDED": "GUESTS_ADDED"},
    "booking.payment_requested": {
        "GUESTS_ADDED": "PAYMENTS_PENDING",
        "PAYMENTS_PENDING": "PAYMENTS_PENDING",
        "CONFIRMED": "CONFIRMED",
    },
    "booking.confirmed": dict.fromkeys(("RESERVED", "GUESTS_ADDED", "PAYMENTS_PENDING", "EXPIRED"), "CONFIRMED"),
    "booking.cancelled": dict.fromkeys(
        ("RESERVING", "RESERVED", "GUESTS_ADDED", "PAYMENTS_PENDING", "CONFIRMED", "CHECKED_IN"), "CANCELLED"
    ),
    "booking.expired": dict.fromkeys(("RESERVING", "RESERVED", "GUESTS_ADDED", "PAYMENTS_PENDING"), "EXPIRED"),
    "booking.change_held": {"CONFIRMED": "CONFIRMED"},
    "booking.change_ended": {"CONFIRMED": "CONFIRMED"},
    "booking.changed": {"CONFIRMED": "CONFIRMED"},
    "booking.checked_in": {"CONFIRMED": "CHECKED_IN"},
    "booking.checked_out": {"CHECKED_IN": "CHECKED_OUT"},
    "booking.no_show": {"CONFIRMED": "NO_SHOW"},
}
_WAITING: Final = frozenset({"RESERVING", "RESERVED", "GUESTS_ADDED", "PAYMENTS_PENDING"})
_PAID: Final = frozenset({"CONFIRMED", "CHECKED_IN", "CHECKED_OUT"})
_ENDED: Final = frozenset({"CANCELLED", "NO_SHOW"})
_DAY: Final = timedelta(days=1)
#: By plan, the percentage of the price that a guest who cancels a bought stay loses.
_KEPT_PERCENT: Final = {"standard": 0, "half": 50, "saver": 100}

Night = tuple[int, date]


@dataclass
class _Booking:
    """A booking by its events."""

    room_id: int
    status: str | None = None
    deadline: datetime | None = None
    amount_minor: int = 0
    #: The plan that it was bought by, and what the policy keeps of the price once it has ended.
    plan_id: str | None = None
    is_changed: bool = False
    kept_minor: int | None = None
    #: The rooms that it has of each night, booked or reserved.
    booked: Counter[Night] = field(default_factory=Counter)
    reserved: Counter[Night] = field(default_factory=Counter)
    held: Counter[Night] = field(default_factory=Counter)
    trip_id: str | None = None
    legs: tuple[str, ...] = ()
    stay: tuple[date, date, int] | None = None

    def free(self, first: str) -> None:
        """Give the nights back from a day on."""
        for claims in (self.booked, self.reserved, self.held):
            for night in [night for night in claims if night[1] >= date.fromisoformat(first)]:
                del claims[night]


@dataclass
class _Night:
    total: int = 0
    booked: int = 0
    reserved: int = 0
    blocked: int = 0


class Auditor:
    """Reads every record of the log as it is stored."""

    def __init__(self, events_topic: str, commands_topic: str, dead_letters_topic: str) -> None:
        self._events_topic = events_topic
        self._commands_topic = commands_topic
        self._dead_letters_topic = dead_letters_topic
        self.problems: list[str] = []
        self.money = MoneyAuditor(self.problem)
        self.documents = DocumentsAuditor(self.problem)
        self.bookings: dict[str, _Booking] = {}
        self.events: Counter[str] = Counter()
        self._nights: dict[Night, _Night] = {}
        self._sequences: dict[int, list[bytes]] = {}
        self._promised: set[str] = set()
        self._answered: set[str] = set()
        self._seen: dict[str, int] = {}
        self._uses: Counter[int] = Counter()
        self._max_uses: dict[int, int] = {}
        self._blocks: dict[str, tuple[int, date, date, int]] = {}
        self._unreadable: set[bytes] = set()
        self._dead: Counter[bytes] = Counter()

    def problem(self, promise: Promise, what: str) -> None:
        """Note that a promise is broken."""
        self.problems.append(f"{promise.name}: {what}")

    # From outside.

    def promise(self, command_id: str) -> None:
        """Note that a client got 202 for a command."""
        self._promised.add(command_id)

    def expect_dead_letter(self, value: bytes) -> None:
        """Note that somebody sent bytes that are no message."""
        self._unreadable.add(value)

    def see(self, booking_id: str, version: int) -> None:
        """Note the version of a booking that a client was shown."""
        if version < self._seen.get(booking_id, 0):
            self.problem(Promise.NO_STATUS_GOES_BACK, f"booking {booking_id} was at version {version} again")
        self._seen[booking_id] = version

    def read(self, record: Any) -> tuple[str, dict[str, Any]] | None:
        """Take a record that was stored; return an event that is new, by its type and as JSON."""
        if record.topic == self._dead_letters_topic:
            self._dead[record.value or b""] += 1
            return None
        if record.topic != self._events_topic:
            return None
        headers = dict(record.headers)
        kind, sequence = headers["ce_type"].decode(), int(headers["ce_sequence"])
        known = self._sequences.setdefault(record.partition, [])
        fingerprint = headers["ce_id"] + b" " + (record.value or b"")
        if sequence <= len(known):
            if known[sequence - 1] != _short(fingerprint):
                self.problem(
                    Promise.EVERY_PROMISE_IS_KEPT,
                    f"events[{record.partition}] has two events {sequence}: {kind} {headers['ce_id'].decode()}",
                )
            return None
        if sequence > len(known) + 1:
            self.problem(
                Promise.THE_LOG_HAS_NO_GAP, f"events[{record.partition}] has {sequence} after {len(known)}: {kind}"
            )
            known += [b""] * (sequence - len(known) - 1)
        known.append(_short(fingerprint))
        event: dict[str, Any] = json.loads(record.value)
        self._answered.add(headers["ce_causationid"].decode())
        self.events[kind] += 1
        self._apply(kind.rpartition(".v")[0], event, datetime.fromisoformat(headers["ce_time"].decode()))
        self.money.read(kind.rpartition(".v")[0], event, datetime.fromtimestamp(record.timestamp / 1000, UTC))
        return kind, event

    # Events.

    def _apply(self, kind: str, event: dict[str, Any], at: datetime) -> None:
        if kind.startswith("inventory."):
            self._apply_inventory(kind, event)
        elif kind == "code.claimed":
            self._uses[event["code_id"]] += 1
        elif kind == "code.returned":
            self._uses[event["code_id"]] -= 1
        elif kind == "code.changed":
            self._max_uses[event["code_id"]] = event["terms"]["max_uses"]
        elif kind == "document.issued":
            self.documents.read(event)
        elif kind in _MOVES:
            self._move(kind, event, at)
        for code_id, uses in self._uses.items():
            if not 0 <= uses <= self._max_uses.get(code_id, 0):
                self.problem(Promise.COUNTS_ADD_UP, f"promo code {code_id} has {uses} uses")

    def _move(self, kind: str, event: dict[str, Any], at: datetime) -> None:
        id = event["booking_id"]
        booking = self.bookings.setdefault(id, _Booking(event["room_id"]))
        after = _MOVES[kind].get(booking.status)
        if after is None:
            promise = Promise.ONE_KEY_ONE_BOOKING if None in _MOVES[kind] else Promise.THE_LOG_HAS_NO_GAP
            self.problem(promise, f"{kind} of booking {id} in status {booking.status}")
            return
        if kind == "booking.expired" and (booking.deadline is None or at < booking.deadline):
            self.problem(
                Promise.HOLDS_END_IN_TIME, f"booking {id} expired at {at}, its hold ends at {booking.deadline}"
            )
        if kind == "booking.confirmed" and booking.status != "EXPIRED" and _is_over(booking, at):
            self.problem(Promise.HOLDS_END_IN_TIME, f"booking {id} was confirmed at {at}, after {booking.deadline}")
        before = self._claims(booking)
        if kind in {"booking.reserved", "booking.trip_reserved", "booking.changed"}:
            booking.amount_minor = event["amount_minor"]
            booking.plan_id = (event.get("sale") or {}).get("plan_id")
            booking.is_changed = kind == "booking.changed"
        if after in _ENDED or kind == "booking.checked_out":
            self._end(kind, event, booking)
        if event.get("hold_expires_at") is not None:
            booking.deadline = datetime.fromisoformat(event["hold_expires_at"])
        self._take(kind, event, booking)
        booking.status = after
        if kind != "booking.change_held" and after not in _WAITING:
            booking.deadline = None
        self._count(before, self._claims(booking))

    def _end(self, kind: str, event: dict[str, Any], booking: _Booking) -> None:
        """Note what is kept of a booking whose end costs something by a policy, and check what a cancellation costs."""
        policy = event.get("policy")
        if policy is not None or kind == "booking.cancelled":
            booking.kept_minor = 0 if policy is None else policy["kept_minor"]
        reason, minor, kept_minor = event.get("reason"), booking.amount_minor, booking.kept_minor
        if reason in {"by_hotel", "refunded_by_hand"}:
            is_right = kept_minor == 0
        elif reason == "by_guest" and booking.status == "CONFIRMED" and not booking.legs:
            least_minor = minor * _KEPT_PERCENT[booking.plan_id or "standard"] // 100
            # The costs of earlier changes are kept too.
            most_minor = minor if booking.is_changed else least_minor + 1
            is_right = kept_minor is not None and least_minor <= kept_minor <= most_minor
        else:
            return
        if not is_right:
            self.problem(
                Promise.MONEY_IS_EXPLAINED,
                f"booking {event['booking_id']} of {minor} by plan {booking.plan_id} cost {kept_minor} to cancel",
            )

    def _take(self, kind: str, event: dict[str, Any], booking: _Booking) -> None:
        """Change what a booking has of nights."""
        match kind:
            case "booking.reserved":
                booking.trip_id = event.get("trip_id")
                booking.stay = _stay(event)
                booking.reserved = _nights(booking.room_id, *booking.stay)
            case "booking.trip_opened":
                booking.legs = tuple(leg["booking_id"] for leg in event["legs"])
            case "booking.confirmed":
                booking.reserved = Counter()
                if booking.stay is not None:
                    booking.booked = _nights(booking.room_id, *booking.stay)
            case "booking.change_held":
                booking.held = _ranges(booking.room_id, event.get("held", ()))
            case "booking.change_ended":
                booking.held = Counter()
            case "booking.changed":
                booking.held = Counter()
                booking.stay = _stay(event)
                booking.booked = _nights(booking.room_id, *booking.stay)
            case "booking.cancelled" | "booking.expired":
                booking.free(event.get("freed_from") or date.min.isoformat())
            case "booking.checked_out" | "booking.no_show" if event.get("freed_from") is not None:
                booking.free(event["freed_from"])

    def _claims(self, booking: _Booking) -> tuple[Counter[Night], Counter[Night]]:
        return Counter(booking.booked), Counter(booking.reserved) + booking.held

    def _count(
        self, before: tuple[Counter[Night], Counter[Night]], after: tuple[Counter[Night], Counter[Night]]
    ) -> None:
        """Move the counts of nights by what changed."""
        nights = {night for claims in (*before, *after) for night in claims}
        for key in nights:
            night = self._nights.get(key)
            if night is None:
                self.problem(Promise.NO_ROOM_SOLD_TWICE, f"{key} is sold, and was never opened")
                continue
            night.booked += after[0][key] - before[0][key]
            night.reserved += after[1][key] - before[1][key]
            self._check_night(key, night)

    def _check_night(self, key: Night, night: _Night) -> None:
        if night.booked + night.reserved + night.blocked > night.total or min(night.booked, night.reserved) < 0:
            self.problem(Promise.NO_ROOM_SOLD_TWICE, f"{key} is oversold: {night}")

    def _apply_inventory(self, kind: str, event: dict[str, Any]) -> None:
        room_id = event["room_id"]
        match kind:
            case "inventory.opened":
                for day in _days(event["first_night"], event["end_night"]):
                    if (room_id, day) not in self._nights:
                        self._nights[room_id, day] = _Night(total=event["total_count"])
            case "inventory.changed":
                self._change_totals(room_id, event)
            case "inventory.blocked":
                first, end = date.fromisoformat(event["first_night"]), date.fromisoformat(event["end_night"])
                self._blocks[event["block_id"]] = (room_id, first, end, event["rooms_count"])
                self._block(event["block_id"], 1)
            case "inventory.block_released":
                self._block(event["block_id"], -1)

    def _change_totals(self, room_id: int, event: dict[str, Any]) -> None:
        refused = {each["night"] for each in event.get("refused", ())}
        if event.get("total_count") is None:
            return
        ranges = event.get("ranges")
        spans = [(each["first_night"], each["end_night"]) for each in ranges] if ranges is not None else []
        spans += [(day, (date.fromisoformat(day) + _DAY).isoformat()) for day in event.get("nights", ())]
        for first, end in spans:
            for day in _days(first, end):
                if day.isoformat() not in refused:
                    self._nights[room_id, day].total = event["total_count"]
                    self._check_night((room_id, day), self._nights[room_id, day])

    def _block(self, block_id: str, sign: int) -> None:
        room_id, first, end, rooms = self._blocks[block_id]
        for day in _days(first.isoformat(), end.isoformat()):
            night = self._nights[room_id, day]
            night.blocked += sign * rooms
            self._check_night((room_id, day), night)

    # At the end.

    def check_settled(self, now: datetime) -> None:
        """Check what must hold once nothing is on its way; `money` checks the rest."""
        for command_id in sorted(self._promised - self._answered):
            self.problem(Promise.EVERY_PROMISE_IS_KEPT, f"command {command_id} was accepted, and never decided")
        for value in sorted(self._unreadable):
            if not self._dead[value]:
                self.problem(Promise.DEAD_LETTERS_ARE_EXPLAINED, f"{value!r} is no dead letter")
        for value in sorted(self._dead.keys() - self._unreadable):
            self.problem(Promise.DEAD_LETTERS_ARE_EXPLAINED, f"{value[:100]!r} is a dead letter")
        for id, booking in self.bookings.items():
            if booking.deadline is not None and booking.deadline + timedelta(minutes=10) < now:
                self.problem(Promise.HOLDS_END_IN_TIME, f"booking {id} is {booking.status} after {booking.deadline}")
            self._check_trip(id, booking)

    def _check_trip(self, id: str, trip: _Booking) -> None:
        legs = [self.bookings[leg] for leg in trip.legs if leg in self.bookings]
        if trip.status in _PAID and len(legs) != len(trip.legs):
            self.problem(Promise.TRIPS_ARE_WHOLE, f"trip {id} has {len(legs)} of {len(trip.legs)} legs")
        for leg in legs:
            # A leg of a paid trip may end alone.
            is_right = leg.status in _PAID | _ENDED if trip.status in _PAID else leg.status not in _PAID
            if not is_right:
                self.problem(Promise.TRIPS_ARE_WHOLE, f"trip {id} is {trip.status}, and a leg of it {leg.status}")

    def due(self) -> dict[str, int]:
        """Return the costs of each booking: its price, or what is kept of it once it has ended; 0 if it was never sold.

        A trip costs what its stays cost.
        """
        due = {}
        for id, booking in self.bookings.items():
            parts = [self.bookings[leg] for leg in booking.legs if leg in self.bookings] or [booking]
            due[id] = 0 if booking.trip_id is not None else sum(map(_cost_minor, parts))
        return due

    def documented(self, payments: Iterable[Mapping[str, Any]]) -> dict[str, int]:
        """Return the amount of the documents that each booking is to have: its costs, less refunds by hand.

        A dispute that is lost changes no document. A trip has none; the stays of one of which a part went back by hand
        are left out, as such a refund names no stay.
        """
        paid: Counter[str] = Counter()
        by_hand: set[str] = set()
        for payment in payments:
            paid[payment["booking_id"]] += payment["amount"] - sum(payment["refunds"].values())
            if payment["by_hand"]:
                by_hand.add(payment["booking_id"])
        return {
            id: 0 if booking.legs else _cost_minor(booking) if booking.trip_id else min(_cost_minor(booking), paid[id])
            for id, booking in self.bookings.items()
            if booking.trip_id not in by_hand
        }

    def compare_nights(self, rows: dict[Night, tuple[int, int, int, int]]) -> None:
        """Compare the ledger's nights: total, booked, reserved, blocked."""
        own = {key: (night.total, night.booked, night.reserved, night.blocked) for key, night in self._nights.items()}
        for key in sorted(own.keys() | rows.keys()):
            if own.get(key) != rows.get(key):
                self.problem(Promise.COUNTS_ADD_UP, f"{key} is {rows.get(key)} in the ledger, {own.get(key)} by events")

    def compare_bookings(self, rows: dict[str, str]) -> None:
        """Compare the statuses of the ledger's bookings."""
        own = {id: booking.status for id, booking in self.bookings.items() if booking.status is not None}
        for id in sorted(own.keys() | rows.keys()):
            if own.get(id) != rows.get(id):
                self.problem(
                    Promise.COUNTS_ADD_UP, f"booking {id} is {rows.get(id)} in the ledger, {own.get(id)} by events"
                )


def _cost_minor(booking: _Booking) -> int:
    if booking.status not in _PAID | _ENDED:
        return 0
    return booking.amount_minor if booking.kept_minor is None else booking.kept_minor


def _short(fingerprint: bytes) -> bytes:
    return blake2b(fingerprint, digest_size=8).digest()


def _is_over(booking: _Booking, at: datetime) -> bool:
    return booking.deadline is not None and at > booking.deadline


def _stay(event: dict[str, Any]) -> tuple[date, date, int]:
    return date.fromisoformat(event["check_in"]), date.fromisoformat(event["check_out"]), event["rooms_count"]


def _nights(room_id: int, first: date, end: date, rooms: int) -> Counter[Night]:
    return Counter({(room_id, day): rooms for day in _days(first.isoformat(), end.isoformat())})


def _ranges(room_id: int, held: Any) -> Counter[Night]:
    nights: Counter[Night] = Counter()
    for each in held:
        nights.update({(room_id, day): each["rooms_count"] for day in _days(each["first_night"], each["end_night"])})
    return nights


def _days(first: str, end: str) -> list[date]:
    begin = date.fromisoformat(first)
    return [begin + timedelta(days=number) for number in range((date.fromisoformat(end) - begin).days)]
