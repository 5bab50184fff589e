"""Computes the rows that the ledger should have, from the events alone, and checks every event."""

from collections.abc import Callable
from typing import Final

import msgspec

from operators.audit.expected_bookings import LIVE, KnownBookings
from operators.audit.expected_changes import ExpectedChanges
from operators.audit.expected_codes import ExpectedCodes
from operators.audit.expected_departures import faults_of_cancellation, kept_of_early_departure
from operators.audit.expected_documents import ExpectedDocuments
from operators.audit.expected_payments import ExpectedPayments
from operators.audit.expected_rooms import ExpectedRooms
from operators.audit.expected_rows import Booking, Event, kept_by, milliseconds
from operators.audit.expected_sales import (
    is_late_no_show,
)
from operators.audit.expected_trips import ExpectedTrips
from operators.audit.report import Check, Report

#: A booking remembers no more of its replaced guest lists.
MAX_EARLIER_GUEST_LISTS: Final = 500
#: The field with the key of an event, by the first word of its type, and the word for the key's object.
_KEYS: Final = {"code": ("code_id", "code"), "document": ("hotel_id", "hotel"), "": ("room_id", "room")}

_parse = msgspec.json.Decoder().decode


class ExpectedLedger:
    """The rooms, bookings, promo codes and documents after the events so far."""

    def __init__(self, report: Report) -> None:
        self.rooms = ExpectedRooms(self._wrong)
        self.codes = ExpectedCodes(self._wrong)
        self.documents = ExpectedDocuments(self._wrong)
        self._known = KnownBookings(self._wrong)
        self._payments = ExpectedPayments(self._known)
        self._changes = ExpectedChanges(self._known, self.rooms, self._payments)
        self._trips = ExpectedTrips(self._known)
        self._report = report
        self._partitions_of: dict[tuple[str, int], set[int]] = {}
        self._where: tuple[int, int, str] = (0, 0, "")
        self._appliers: dict[str, Callable[[Event], None]] = {
            **self.rooms.appliers,
            **self.codes.appliers,
            **self.documents.appliers,
            **self._payments.appliers,
            **self._changes.appliers,
            **self._trips.appliers,
            "booking.reserved.v1": self._on_reserved,
            "booking.rejected.v1": self._on_rejected,
            "booking.guests_added.v1": self._on_guests_added,
            "booking.payment_requested.v1": self._on_payment_requested,
            "booking.checkout_opened.v1": self._on_checkout_opened,
            "booking.confirmed.v1": self._on_confirmed,
            "booking.payment_declined.v1": self._on_payment_declined,
            "booking.cancelled.v1": self._on_cancelled,
            "booking.expired.v1": self._on_expired,
            "booking.guests_changed.v1": self._on_guests_changed,
            "booking.checked_in.v1": self._on_checked_in,
            "booking.checked_out.v1": self._on_checked_out,
            "booking.no_show.v1": self._on_no_show,
            "booking.command_refused.v1": self._on_answer,
            "booking.command_repeated.v1": self._on_answer,
        }

    @property
    def bookings(self) -> dict[str, Booking]:
        """The bookings by their ids."""
        return self._known.by_id

    def apply(self, partition: int, sequence: int, kind: str, time: str, value: bytes) -> None:
        """Apply one event, given by its type, the log's time (RFC 3339) and its data as JSON."""
        self._where = (partition, sequence, kind)
        apply = self._appliers.get(kind)
        if apply is None:
            self._known.mismatch("the audit does not know this type of event")
            return
        try:
            event = _parse(value)
            now_ms = milliseconds(time) or 0
            self._known.now_ms = self.rooms.now_ms = self.codes.now_ms = self.documents.now_ms = now_ms
            self._check_partition(kind, event, partition)
            apply(event)
            if kind.startswith("booking."):
                self._note_position(event, partition, sequence)
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            self._known.mismatch(f"it cannot be read ({error!r})")

    def _note_position(self, event: Event, partition: int, sequence: int) -> None:
        """Note the booking's last event; a request that was refused for another room is in another partition."""
        booking = self.bookings.get(event["booking_id"])
        if booking is not None and booking.room_id == event["room_id"]:
            booking.position = (partition, sequence)

    def _check_partition(self, kind: str, event: Event, partition: int) -> None:
        field, word = _KEYS.get(kind.partition(".")[0], _KEYS[""])
        partitions = self._partitions_of.setdefault((word, event[field]), {partition})
        if partition not in partitions:
            partitions.add(partition)
            numbers = " and ".join(str(number) for number in sorted(partitions))
            self._known.mismatch(f"{word} {event[field]} is in partitions {numbers}: a {word} belongs to one partition")

    def _wrong(self, check: Check, sentence: str) -> None:
        partition, sequence, kind = self._where
        self._report.add(check, f"partition {partition}, sequence {sequence}, {kind}: {sentence}")

    # First events of a booking.

    def _on_reserved(self, event: Event) -> None:
        if self._is_new(event):
            booking = Booking(event, "RESERVED", list(self.rooms.nights_of_stay(event)))
            if not booking.nights:
                self._known.fault(event, "reserved without a night")
            self._changes.check_stay(event, booking)
            self._known.by_id[event["booking_id"]] = booking
            self.rooms.take(booking, reserved=1)

    def _on_rejected(self, event: Event) -> None:
        if self._is_new(event):
            self._known.by_id[event["booking_id"]] = Booking(event, "REJECTED", [])

    def _is_new(self, event: Event) -> bool:
        known = self._known.by_id.get(event["booking_id"])
        if known is not None:
            self._known.illegal(event, known)
        return known is None

    # Later events of a booking.

    def _on_guests_added(self, event: Event) -> None:
        booking = self._known.changing(event, {"RESERVED", "GUESTS_ADDED"})
        if booking is not None:
            booking.status = "GUESTS_ADDED"
            self._set_guests(event, booking)

    def _on_guests_changed(self, event: Event) -> None:
        booking = self._known.changing(event, {"CONFIRMED"})
        if booking is not None:
            if not event["guest_list_id"] or event["guest_list_id"] == booking.guest_list:
                self._known.fault(event, "other guests without another list of them")
            self._set_guests(event, booking)

    def _set_guests(self, event: Event, booking: Booking) -> None:
        guest_list = event.get("guest_list_id")
        if guest_list in booking.earlier_guest_lists:
            self._known.fault(event, f"guest list {guest_list} comes back, which another had replaced")
        if booking.guest_list not in (None, guest_list):
            booking.earlier_guest_lists.append(booking.guest_list)
            del booking.earlier_guest_lists[:-MAX_EARLIER_GUEST_LISTS]
        booking.guests = tuple(sorted(set(event["guest_ids"])))
        booking.guest_list = guest_list

    def _on_payment_requested(self, event: Event) -> None:
        booking = self._known.changing(event, {"GUESTS_ADDED", "PAYMENTS_PENDING", "CONFIRMED"})
        if booking is None:
            return
        if event["attempt"] != booking.attempt + 1:
            self._known.fault(event, f"attempt {event['attempt']} follows {booking.attempt}")
        if booking.status == "CONFIRMED":
            self._changes.request_payment(event, booking)
        else:
            self._same_price(event, booking)
            booking.status = "PAYMENTS_PENDING"
        booking.attempt = event["attempt"]
        booking.session_id = None

    def _on_checkout_opened(self, event: Event) -> None:
        booking = self._awaiting_payment(event)
        if booking is not None:
            if event["attempt"] != booking.attempt:
                self._known.fault(
                    event,
                    f"a session for attempt {event['attempt']} of {booking.attempt}",
                )
            booking.session_id = event["session_id"]

    def _on_payment_declined(self, event: Event) -> None:
        self._awaiting_payment(event)

    def _awaiting_payment(self, event: Event) -> Booking | None:
        """Return the event's booking if a payment of its stay, or of a change of it, is awaited."""
        booking = self._known.changing(event, {"PAYMENTS_PENDING", "CONFIRMED"})
        change = None if booking is None else booking.pending
        if booking is not None and booking.status == "CONFIRMED" and (change is None or change.is_open):
            self._known.illegal(event, booking)
            return None
        return booking

    def _on_confirmed(self, event: Event) -> None:
        booking = self._known.changing(event, LIVE | {"EXPIRED"})
        if booking is None:
            return
        self._same_price(event, booking)
        if not _may_be_confirmed(event, booking):
            how = f"{'' if event['payment_intent'] else 'un'}paid{' and late' if event['late'] else ''}"
            self._known.fault(event, f"confirmed from {booking.status}, {how}: no legal transition")
        self.rooms.take(booking, reserved=-1 if booking.status in LIVE else 0, booked=1)
        booking.status = "CONFIRMED"
        booking.hold_until = None
        if event.get("payment_intent"):
            self._payments.add(event, booking, event["amount_minor"])
        if event.get("payment_intent") or booking.trip_id is not None:
            booking.charged_at = self._known.now_ms

    def _on_cancelled(self, event: Event) -> None:
        booking = self._ending(event, LIVE | {"RESERVING", "CONFIRMED", "CHECKED_IN"})
        if booking is None:
            return
        self._trips.check_release(event, booking)
        if booking.legs and booking.status == "CONFIRMED":
            self._trips.check_end(event, booking)
        else:
            self._check_cancellation(event, booking)
        booking.policy = event.get("policy")
        if booking.status in LIVE:
            self.rooms.take(booking, reserved=-1)
        else:
            booking.freed_from = event.get("freed_from")
            self.rooms.take(booking, booked=-1, first_night=booking.freed_from)
        booking.status = "CANCELLED"
        booking.charged_at = booking.charged_at or self._known.now_ms
        booking.hold_until = None
        booking.cancel_reason = event["reason"]
        self._payments.end(booking)

    def _check_cancellation(self, event: Event, booking: Booking) -> None:
        """Check what the event claims beside the transition: past nights, the hotel's reason, the refund by hand."""
        freed_from = event.get("freed_from")
        if freed_from is not None and (
            booking.status in LIVE or not booking.check_in < freed_from <= booking.check_out
        ):
            self._known.fault(event, f"{booking.status}, and its nights are free from {freed_from} on")
        policy = event.get("policy")
        by_guest = event["reason"] == "by_guest"
        if by_guest and booking.status == "CONFIRMED" and booking.sale is not None:
            for fault in faults_of_cancellation(booking, booking.sale, policy, self._known.now_ms):
                self._known.fault(event, f"{fault}")
        elif policy is not None or (by_guest and booking.status == "CHECKED_IN"):
            self._known.fault(event, f"{booking.status}, cancelled {event['reason']}, and {policy} is kept")
        if policy is not None and (milliseconds(policy.get("until")) or self._known.now_ms + 1) <= self._known.now_ms:
            self._known.fault(event, f"cancelled after {policy['until']}, by the policy until then")
        if event.get("hotel_reason") and event["reason"] != "by_hotel":
            self._known.fault(event, f"cancelled {event['reason']}, with the reason of a hotel")
        if event["reason"] == "refunded_by_hand" and booking.trip_id is None:
            kept = sum(paid.kept for paid in booking.payments.values() if paid.state == "kept")
            if kept or not any(by_hand for paid in booking.payments.values() for _, by_hand in paid.refunds.values()):
                self._known.fault(event, f"cancelled as refunded by hand, and {kept} of its payment is left")

    # The days of the stay.

    def _on_checked_in(self, event: Event) -> None:
        booking = self._ending(event, {"CONFIRMED"})
        if booking is not None:
            booking.status = "CHECKED_IN"

    def _on_checked_out(self, event: Event) -> None:
        booking = self._known.changing(event, {"CHECKED_IN"})
        if booking is None:
            return
        booking.status = "CHECKED_OUT"
        booking.charged_at = booking.charged_at or self._known.now_ms
        freed_from, policy = event.get("freed_from"), event.get("policy")
        if freed_from is None:
            if policy is not None:
                self._known.fault(event, f"nobody left early, and {policy} is kept")
            return
        if not booking.check_in <= freed_from < booking.check_out:
            self._known.fault(event, f"left early, and its nights are free from {freed_from} on")
        self._end(event, booking, *kept_of_early_departure(booking, freed_from))

    def _on_no_show(self, event: Event) -> None:
        booking = self._ending(event, {"CONFIRMED"})
        if booking is None:
            return
        if is_late_no_show(booking, self._known.now_ms):
            self._known.fault(event, "nobody arrived, and that was recorded more than 30 days after check-out")
        booking.status = "NO_SHOW"
        booking.charged_at = booking.charged_at or self._known.now_ms
        if not booking.check_in <= event["freed_from"] <= booking.check_out:
            self._known.fault(event, f"nobody arrived, and its nights are free from {event['freed_from']} on")
        self._end(event, booking, booking.amount if booking.sale is None else booking.sale["no_show_kept_minor"], None)

    def _ending(self, event: Event, legal_from: set[str] | frozenset[str]) -> Booking | None:
        """Return the event's booking, of which no change can be unpaid any more."""
        booking = self._known.changing(event, legal_from)
        if booking is not None and booking.pending is not None:
            self._known.fault(event, f"its change {booking.pending.id} has not ended")
        return booking

    def _end(self, event: Event, booking: Booking, kept: int, percent: int | None) -> None:
        """Put the nights from the event's on sale again, and check the policy that counts for the end of the stay."""
        booking.freed_from, booking.policy = event["freed_from"], event.get("policy")
        self.rooms.take(booking, booked=-1, first_night=booking.freed_from)
        if kept_by(booking) != kept:
            self._known.fault(event, f"{booking.status} costs {kept_by(booking)}, by its policy {kept}")
        elif booking.policy is None or booking.policy.get("percent") != percent:
            self._known.fault(event, f"{booking.status} with {booking.policy}, by its policy {percent} percent")

    def _on_expired(self, event: Event) -> None:
        booking = self._known.changing(event, LIVE | {"RESERVING"}, by_time=True)
        if booking is not None:
            self._known.not_early(event, booking)
            self.rooms.take(booking, reserved=-1)
            booking.status = "EXPIRED"
            booking.was_expired = True
            booking.hold_until = None

    def _on_answer(self, event: Event) -> None:
        """Check an answer that changes nothing: it has the booking's present status."""
        booking = self._known.by_id.get(event["booking_id"])
        if booking is None or booking.room_id != event["room_id"]:
            return
        self._known.in_time(event, booking)
        if event.get("booking_status") != booking.status:
            self._known.fault(
                event,
                f"answered with {event['booking_status']}, it is {booking.status}",
            )

    def _same_price(self, event: Event, booking: Booking) -> None:
        price = (event["amount_minor"], event["currency"])
        if price != (booking.amount, booking.currency):
            reserved = f"{booking.amount} {booking.currency}"
            self._known.fault(event, f"{price[0]} {price[1]}, reserved for {reserved}")


def _may_be_confirmed(event: Event, booking: Booking) -> bool:
    """Return whether this status may become CONFIRMED with this payment, or without."""
    paid = bool(event.get("payment_intent"))
    if booking.trip_id is not None:
        # The trip of a leg has the payment.
        return booking.status in LIVE and not paid and not event.get("late")
    if booking.legs and event.get("late"):
        return False
    match booking.status:
        case "RESERVED":
            return booking.terms == "at_hotel" and not paid and not event.get("late")
        case "GUESTS_ADDED":
            return booking.amount == 0 and not paid and not event.get("late")
        case "PAYMENTS_PENDING":
            return paid and not event.get("late")
        case _:
            return paid and bool(event.get("late"))
