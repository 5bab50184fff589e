"""Computes the stays that the ledger should have after changes of bookings, and checks what every stay costs."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from operators.audit.expected_bookings import KnownBookings
from operators.audit.expected_moves import faults_of_held_move, faults_of_move, faults_of_opened
from operators.audit.expected_payments import ExpectedPayments
from operators.audit.expected_rooms import ExpectedRooms
from operators.audit.expected_rows import Booking, Event, PendingChange, days_of, milliseconds, stay_of
from operators.audit.expected_sales import faults_of_change, faults_of_sale, faults_of_sums

#: No more changes of a booking take place.
MAX_CHANGES: Final = 20
#: A booking whose payment was asked for so often is not changed any more.
MAX_PAYMENTS_ASKED: Final = 100
#: A booking remembers so many of its changes that were rejected or ended, the newest.
MAX_ENDED_CHANGES: Final = 100


class ExpectedChanges:
    """The changes of stays after the events so far; `appliers` has the function that applies an event, by its type."""

    def __init__(self, known: KnownBookings, rooms: ExpectedRooms, payments: ExpectedPayments) -> None:
        self._known = known
        self._rooms = rooms
        self._payments = payments
        self.appliers: dict[str, Callable[[Event], None]] = {
            "booking.change_opened.v1": self._on_opened,
            "booking.change_held.v1": self._on_held,
            "booking.changed.v1": self._on_changed,
            "booking.change_ended.v1": self._on_ended,
            "booking.change_rejected.v1": self._on_rejected,
        }

    # The price of a stay.

    def check_stay(self, event: Event, booking: Booking, before: Booking | None = None) -> None:
        """Check the price and the conditions of a stay that is bought now, or that `before` becomes now."""
        self._check_amounts(event, booking)
        if booking.sale is not None:
            self._check_sale(event, booking, booking.sale, before)
        elif any((booking.replaces or {}).get(name) for name in ("costs_minor", "kept_now_minor", "floor_minor")):
            self._known.fault(event, f"sold without a policy, and its change costs {booking.replaces}")

    def _check_amounts(self, event: Event, booking: Booking) -> None:
        """Check the amounts by night, which events of 0.1.0 do not have."""
        amounts = booking.night_amounts
        if amounts and (
            len(amounts) != len(days_of(booking.check_in, booking.check_out)) or sum(amounts) != booking.amount
        ):
            self._known.fault(event, f"its nights cost {list(amounts)}, and all of it {booking.amount}")

    def _check_sale(self, event: Event, booking: Booking, sale: Event, before: Booking | None) -> None:
        """Check that the sums of the sale add up, and that it follows the terms of its room."""
        for fault in faults_of_sums(booking, sale):
            self._known.fault(event, f"{fault}")
        if not booking.nights or len(booking.nights) != len(days_of(booking.check_in, booking.check_out)):
            return
        version = sale["terms_version"]
        present = self._rooms.present_terms(booking.room_id)["version"]
        terms = self._rooms.terms_of_sale(booking.room_id, version)
        if terms is None:
            self._known.fault(event, f"sold by version {version} of the room's terms, which are at {present}")
            return
        for fault in faults_of_sale(booking, sale, terms, self._known.now_ms, before):
            self._known.fault(event, f"{fault}")

    # Changes.

    def _on_opened(self, event: Event) -> None:
        booking = self._known.changing(event, {"CONFIRMED"})
        if booking is None:
            return
        self._check_place(event, booking)
        if booking.pending is not None:
            self._known.fault(event, f"its change {booking.pending.id} has not ended")
        for fault in faults_of_opened(event, booking, self._known.now_ms):
            self._known.fault(event, fault)
        booking.pending = PendingChange(event)
        booking.hold_until = milliseconds(event["hold_expires_at"])
        booking.opened_changes[event["change_id"]] = (event["to_room_id"], event["moved"])

    def _on_held(self, event: Event) -> None:
        booking = self._known.changing(event, {"CONFIRMED"})
        if booking is None:
            return
        if event.get("to_room_id") is not None:
            self._check_amounts(event, booking.changed_to(stay_of(event), []))
            for fault in faults_of_held_move(event, booking, self._known.by_id.get(event["change_id"])):
                self._known.fault(event, fault)
        elif booking.pending is not None:
            self._known.fault(event, f"its change {booking.pending.id} has not ended")
        if event.get("to_room_id") is None:
            self._check_change(event, booking)
        extra = event["amount_minor"] - booking.amount
        if booking.terms != "prepaid" or extra <= 0 or event["extra_minor"] != extra:
            self._known.fault(
                event,
                f"{booking.terms}, and {event['extra_minor']} is due "
                f"for a stay of {event['amount_minor']} in place of {booking.amount}",
            )
        held = _rooms_by_night(event["held"])
        needed = Counter() if event.get("to_room_id") is not None else _more_rooms(booking, event)
        if held != needed:
            self._known.fault(event, f"its change holds {dict(held)}, and needs {dict(needed)}")
        booking.pending = PendingChange(event)
        booking.hold_until = milliseconds(event["hold_expires_at"])
        self._rooms.hold(event, 1)

    def request_payment(self, event: Event, booking: Booking) -> None:
        """Check a request for the payment of a change."""
        change = booking.pending
        if change is None or change.is_open:
            self._known.illegal(event, booking)
            return
        if (event["amount_minor"], event["currency"]) != (change.extra, booking.currency):
            self._known.fault(
                event, f"{event['amount_minor']} {event['currency']}, and its change costs {change.extra} more"
            )
        change.attempt = event["attempt"]

    def _on_changed(self, event: Event) -> None:
        booking = self._known.changing(event, {"CONFIRMED"})
        if booking is None:
            return
        if event["before"] != booking.stay():
            self._known.fault(event, f"it was {booking.stay()}, and not {event['before']}")
        for fault in self._faults_of_payment(event, booking):
            self._known.fault(event, f"{fault}")
        if booking.pending is None:
            self._check_change(event, booking)
        elif booking.pending.is_open:
            self._check_amounts(event, booking.changed_to(stay_of(event), []))
        self._rooms.hold(event, -1)
        self._rooms.take(booking, booked=-1)
        if booking.terms == "prepaid":
            booking.back += max(0, booking.amount - event["amount_minor"])
        booking.earlier_stays.append((event["change_id"], event["before"]))
        if event.get("to_room_id") is None:
            booking.change_to(stay_of(event), list(self._rooms.nights_of_stay(event)))
            self._rooms.take(booking, booked=1)
        else:
            booking.move_to(event)
        booking.pending = booking.hold_until = None
        if event.get("payment_intent"):
            self._payments.add(event, booking, event["extra_minor"])

    def _faults_of_payment(self, event: Event, booking: Booking) -> Iterator[str]:
        """Yield, in words, what is wrong with the change as the one that is paid, or as one that costs nothing."""
        change, is_paid, to_room = booking.pending, bool(event.get("payment_intent")), event.get("to_room_id")
        if change is None or change.is_open:
            dearer = event["amount_minor"] - booking.amount
            if is_paid or event["extra_minor"] or event["held"] or (dearer > 0 and booking.terms == "prepaid"):
                yield f"{booking.terms}, {dearer} dearer, and nothing of change {event['change_id']} was held"
            yield from faults_of_move(event, booking, self._known.by_id.get(event["change_id"]))
            return
        held = (change.id, change.stay, change.extra, change.held, change.to_room)
        changed = (event["change_id"], stay_of(event), event["extra_minor"], event["held"], to_room)
        if changed != held or not is_paid:
            yield f"it becomes {changed}{'' if is_paid else ', unpaid'}, and {held} was held"

    def _check_change(self, event: Event, booking: Booking) -> None:
        """Check a stay that a booking becomes, or will: its price, and the costs of a cheaper one."""
        self._check_place(event, booking)
        if event["currency"] != booking.currency:
            self._known.fault(event, f"it costs {event['currency']}, and did {booking.currency}")
        after = booking.changed_to(stay_of(event), list(self._rooms.nights_of_stay(event)))
        if not after.nights or after.rooms < 1:
            self._known.fault(event, f"changed to {after.rooms} rooms without a night")
        self.check_stay(event, after, booking)
        for fault in faults_of_change(after, booking, self._known.now_ms):
            self._known.fault(event, f"{fault}")

    def _check_place(self, event: Event, booking: Booking) -> None:
        """Check that a change is new, and one of a booking that may be changed once more."""
        if booking.legs or booking.trip_id is not None:
            self._known.fault(event, f"changed, and it is of trip {booking.trip_id} with the legs {list(booking.legs)}")
        if event["change_id"] in {*(id_ for id_, _ in booking.earlier_stays), *booking.ended_changes}:
            self._known.fault(event, f"change {event['change_id']} comes a second time")
        if len(booking.earlier_stays) >= MAX_CHANGES:
            self._known.fault(event, f"changed more than {MAX_CHANGES} times")
        if booking.attempt >= MAX_PAYMENTS_ASKED:
            self._known.fault(event, f"changed after its payment was asked for {booking.attempt} times")

    def _on_ended(self, event: Event) -> None:
        expired = event["reason"] == "expired"
        booking = self._known.changing(event, {"CONFIRMED"}, by_time=expired)
        if booking is None:
            return
        change = booking.pending
        to_room = event.get("to_room_id")
        if change is None or (change.id, change.held, change.to_room) != (event["change_id"], event["held"], to_room):
            was = "none is" if change is None else f"{change.id} holds {change.held}{_in(change.to_room)}"
            self._known.fault(
                event, f"change {event['change_id']} ends with {event['held']}{_in(to_room)}, and {was} held"
            )
            return
        if expired:
            self._known.not_early(event, booking)
        self._rooms.hold(event, -1)
        booking.pending = booking.hold_until = None
        _remember(event, booking)

    def _on_rejected(self, event: Event) -> None:
        """Check that the booking is one that could be changed; it remembers the change."""
        booking = self._known.changing(event, {"CONFIRMED"})
        if booking is not None:
            _remember(event, booking)


def _remember(event: Event, booking: Booking) -> None:
    """Remember a change that does not take place, once, and forget the oldest of too many."""
    # A change to another room type that the other room refused has ended, and then is rejected.
    if event["change_id"] in booking.ended_changes:
        booking.ended_changes.remove(event["change_id"])
    booking.ended_changes.append(event["change_id"])
    del booking.ended_changes[:-MAX_ENDED_CHANGES]


def _in(room_id: int | None) -> str:
    return "" if room_id is None else f" in room {room_id}"


def _rooms_by_night(held: Sequence[Event]) -> Counter[str]:
    """Return the number of rooms that a change holds of each night."""
    rooms: Counter[str] = Counter()
    for each in held:
        for day in days_of(each["first_night"], each["end_night"]):
            rooms[day] += each["rooms_count"]
    return rooms


def _more_rooms(booking: Booking, stay: Event) -> Counter[str]:
    """Return the number of rooms of each night that a stay needs beside those that the booking has."""
    own = Counter(dict.fromkeys(days_of(booking.check_in, booking.check_out), booking.rooms))
    return Counter(dict.fromkeys(days_of(stay["check_in"], stay["check_out"]), stay["rooms_count"])) - own
