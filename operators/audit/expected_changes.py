"""Computes the stays that the ledger should have after changes of bookings, and checks what every stay costs."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from operators.audit.expected_bookings import KnownBookings
from operators.audit.expected_payments import ExpectedPayments
from operators.audit.expected_rooms import ExpectedRooms
from operators.audit.expected_rows import Booking, Event, PendingChange, days_of, milliseconds, stay_of
from operators.audit.expected_sales import faults_of_change, faults_of_sale, faults_of_sums

#: No more changes of a booking take place, or end without effect.
MAX_CHANGES: Final = 20


class ExpectedChanges:
    """The changes of stays after the events so far; `appliers` has the function that applies an event, by its type."""

    def __init__(self, known: KnownBookings, rooms: ExpectedRooms, payments: ExpectedPayments) -> None:
        self._known = known
        self._rooms = rooms
        self._payments = payments
        self.appliers: dict[str, Callable[[Event], None]] = {
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
        # A change has no quote.
        is_old = before is not None and version != present
        terms = None if is_old else self._rooms.terms_of_sale(booking.room_id, version)
        if terms is None:
            self._known.fault(event, f"sold by version {version} of the room's terms, which are at {present}")
            return
        for fault in faults_of_sale(booking, sale, terms, self._known.now_ms, before):
            self._known.fault(event, f"{fault}")

    # Changes.

    def _on_held(self, event: Event) -> None:
        booking = self._known.changing(event, {"CONFIRMED"})
        if booking is None:
            return
        if booking.pending is not None:
            self._known.fault(event, f"its change {booking.pending.id} has not ended")
        self._check_change(event, booking)
        extra = event["amount_minor"] - booking.amount
        if booking.terms != "prepaid" or extra <= 0 or event["extra_minor"] != extra:
            self._known.fault(
                event,
                f"{booking.terms}, and {event['extra_minor']} is due "
                f"for a stay of {event['amount_minor']} in place of {booking.amount}",
            )
        held, needed = _rooms_by_night(event["held"]), _more_rooms(booking, event)
        if held != needed:
            self._known.fault(event, f"its change holds {dict(held)}, and needs {dict(needed)}")
        booking.pending = PendingChange(event)
        booking.hold_until = milliseconds(event["hold_expires_at"])
        self._rooms.hold(event, 1)

    def request_payment(self, event: Event, booking: Booking) -> None:
        """Check a request for the payment of a change."""
        change = booking.pending
        if change is None:
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
        self._rooms.hold(event, -1)
        self._rooms.take(booking, booked=-1)
        if booking.terms == "prepaid":
            booking.back += max(0, booking.amount - event["amount_minor"])
        booking.earlier_stays.append((event["change_id"], event["before"]))
        booking.change_to(stay_of(event), list(self._rooms.nights_of_stay(event)))
        self._rooms.take(booking, booked=1)
        booking.pending = booking.hold_until = None
        if event.get("payment_intent"):
            self._payments.add(event, booking, event["extra_minor"])

    def _faults_of_payment(self, event: Event, booking: Booking) -> Iterator[str]:
        """Yield, in words, what is wrong with the change as the one that is paid, or as one that costs nothing."""
        change, is_paid = booking.pending, bool(event.get("payment_intent"))
        if change is None:
            dearer = event["amount_minor"] - booking.amount
            if is_paid or event["extra_minor"] or event["held"] or (dearer > 0 and booking.terms == "prepaid"):
                yield f"{booking.terms}, {dearer} dearer, and nothing of change {event['change_id']} was held"
            return
        held = (change.id, change.stay, change.extra, change.held)
        changed = (event["change_id"], stay_of(event), event["extra_minor"], event["held"])
        if changed != held or not is_paid:
            yield f"it becomes {changed}{'' if is_paid else ', unpaid'}, and {held} was held"

    def _check_change(self, event: Event, booking: Booking) -> None:
        """Check a stay that a booking becomes, or will: its price, and the costs of a cheaper one."""
        if event["change_id"] in {*(id_ for id_, _ in booking.earlier_stays), *booking.ended_changes}:
            self._known.fault(event, f"change {event['change_id']} comes a second time")
        # The change that this one replaces ended after the decision had counted.
        if len(booking.earlier_stays) + len(booking.ended_changes) > MAX_CHANGES:
            self._known.fault(event, f"changed more than {MAX_CHANGES} times")
        if event["currency"] != booking.currency:
            self._known.fault(event, f"it costs {event['currency']}, and did {booking.currency}")
        after = booking.changed_to(stay_of(event), list(self._rooms.nights_of_stay(event)))
        if not after.nights or after.rooms < 1:
            self._known.fault(event, f"changed to {after.rooms} rooms without a night")
        self.check_stay(event, after, booking)
        for fault in faults_of_change(after, booking):
            self._known.fault(event, f"{fault}")

    def _on_ended(self, event: Event) -> None:
        expired = event["reason"] == "expired"
        booking = self._known.changing(event, {"CONFIRMED"}, by_time=expired)
        if booking is None:
            return
        change = booking.pending
        if change is None or (change.id, change.held) != (event["change_id"], event["held"]):
            was = "none is" if change is None else f"{change.id} holds {change.held}"
            self._known.fault(event, f"change {event['change_id']} ends with {event['held']}, and {was} held")
            return
        if expired:
            self._known.not_early(event, booking)
        self._rooms.hold(event, -1)
        booking.pending = booking.hold_until = None
        booking.ended_changes.append(event["change_id"])

    def _on_rejected(self, event: Event) -> None:
        """Check that the booking is one that could be changed; it remembers the change."""
        booking = self._known.changing(event, {"CONFIRMED"})
        if booking is not None:
            booking.ended_changes.append(event["change_id"])


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
