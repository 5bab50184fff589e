"""Computes the bookings that the ledger should have, from the events alone, and checks every event."""

from collections.abc import Callable
from typing import Any, Final

import msgspec

from operators.audit.expected_rooms import ExpectedRooms
from operators.audit.expected_rows import Booking, Event, Payment, days_of, has_ended, kept_by, milliseconds
from operators.audit.expected_sales import (
    faults_of_cancellation,
    faults_of_sale,
    faults_of_sums,
    kept_of_early_departure,
)
from operators.audit.report import Check, Report

#: A booking remembers no more of its replaced guest lists.
MAX_EARLIER_GUEST_LISTS: Final = 500
LIVE: Final = frozenset({"RESERVED", "GUESTS_ADDED", "PAYMENTS_PENDING"})

_parse = msgspec.json.Decoder().decode


class ExpectedLedger:
    """The rooms and the bookings after the events so far."""

    def __init__(self, report: Report) -> None:
        self.rooms = ExpectedRooms(self._wrong)
        self.bookings: dict[str, Booking] = {}
        self._report = report
        self._partitions_of: dict[int, set[int]] = {}
        self._where: tuple[int, int, str] = (0, 0, "")
        self._time = 0
        self._appliers: dict[str, Callable[[Event], None]] = {
            **self.rooms.appliers,
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
            "booking.refund_requested.v2": self._on_refund_requested,
            "booking.refunded.v1": self._on_refunded,
            "booking.guests_changed.v1": self._on_guests_changed,
            "booking.refund_failed.v1": self._on_refund_failed,
            "booking.refund_closed.v1": self._on_refund_closed,
            "booking.dispute_opened.v1": self._on_dispute_opened,
            "booking.dispute_closed.v1": self._on_dispute_closed,
            "booking.checked_in.v1": self._on_checked_in,
            "booking.checked_out.v1": self._on_checked_out,
            "booking.no_show.v1": self._on_no_show,
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
            self._time = self.rooms.now_ms = milliseconds(time) or 0
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

    # First events of a booking.

    def _on_reserved(self, event: Event) -> None:
        if self._is_new(event):
            booking = Booking(event, "RESERVED", list(self.rooms.nights_of_stay(event)))
            if not booking.nights:
                self._mismatch(f"booking {event['booking_id']}: reserved without a night")
            self._check_amounts(event, booking)
            if booking.sale is not None:
                self._check_sale(event, booking, booking.sale)
            self.bookings[event["booking_id"]] = booking
            self.rooms.take(booking, reserved=1)

    def _check_amounts(self, event: Event, booking: Booking) -> None:
        """Check the amounts by night, which events of 0.1.0 do not have."""
        amounts = booking.night_amounts
        if amounts and (
            len(amounts) != len(days_of(booking.check_in, booking.check_out)) or sum(amounts) != booking.amount
        ):
            self._mismatch(f"{_name(event)}: its nights cost {list(amounts)}, and all of it {booking.amount}")

    def _check_sale(self, event: Event, booking: Booking, sale: Event) -> None:
        """Check that the sums of the sale add up, and that it follows the terms of its room."""
        for fault in faults_of_sums(booking, sale):
            self._mismatch(f"{_name(event)}: {fault}")
        if not booking.nights or len(booking.nights) != len(days_of(booking.check_in, booking.check_out)):
            return
        version = sale["terms_version"]
        terms = self.rooms.terms_of_sale(booking.room_id, version)
        if terms is None:
            present = self.rooms.present_terms(booking.room_id)["version"]
            self._mismatch(f"{_name(event)}: sold by version {version} of the room's terms, which are at {present}")
            return
        for fault in faults_of_sale(booking, sale, terms, self._time):
            self._mismatch(f"{_name(event)}: {fault}")

    def _on_rejected(self, event: Event) -> None:
        if self._is_new(event):
            self.bookings[event["booking_id"]] = Booking(event, "REJECTED", [])

    def _is_new(self, event: Event) -> bool:
        known = self.bookings.get(event["booking_id"])
        if known is not None:
            self._illegal(event, known)
        return known is None

    # Later events of a booking.

    def _on_guests_added(self, event: Event) -> None:
        booking = self._changing(event, {"RESERVED", "GUESTS_ADDED"})
        if booking is not None:
            booking.status = "GUESTS_ADDED"
            self._set_guests(event, booking)

    def _on_guests_changed(self, event: Event) -> None:
        booking = self._changing(event, {"CONFIRMED"})
        if booking is not None:
            if not event["guest_list_id"] or event["guest_list_id"] == booking.guest_list:
                self._mismatch(f"{_name(event)}: other guests without another list of them")
            self._set_guests(event, booking)

    def _set_guests(self, event: Event, booking: Booking) -> None:
        guest_list = event.get("guest_list_id")
        if guest_list in booking.earlier_guest_lists:
            self._mismatch(f"{_name(event)}: guest list {guest_list} comes back, which another had replaced")
        if booking.guest_list not in (None, guest_list):
            booking.earlier_guest_lists.append(booking.guest_list)
            del booking.earlier_guest_lists[:-MAX_EARLIER_GUEST_LISTS]
        booking.guests = tuple(sorted(set(event["guest_ids"])))
        booking.guest_list = guest_list

    def _on_payment_requested(self, event: Event) -> None:
        booking = self._changing(event, {"GUESTS_ADDED", "PAYMENTS_PENDING"})
        if booking is not None:
            if event["attempt"] != booking.attempt + 1:
                self._mismatch(f"{_name(event)}: attempt {event['attempt']} follows {booking.attempt}")
            self._same_price(event, booking)
            booking.status = "PAYMENTS_PENDING"
            booking.attempt = event["attempt"]
            booking.session_id = None

    def _on_checkout_opened(self, event: Event) -> None:
        booking = self._changing(event, {"PAYMENTS_PENDING"})
        if booking is not None:
            if event["attempt"] != booking.attempt:
                self._mismatch(
                    f"{_name(event)}: a session for attempt {event['attempt']} of {booking.attempt}",
                )
            booking.session_id = event["session_id"]

    def _on_payment_declined(self, event: Event) -> None:
        self._changing(event, {"PAYMENTS_PENDING"})

    def _on_confirmed(self, event: Event) -> None:
        booking = self._changing(event, LIVE | {"EXPIRED"})
        if booking is None:
            return
        self._same_price(event, booking)
        if not _may_be_confirmed(event, booking):
            how = f"{'' if event['payment_intent'] else 'un'}paid{' and late' if event['late'] else ''}"
            self._mismatch(f"{_name(event)}: confirmed from {booking.status}, {how}: no legal transition")
        self.rooms.take(booking, reserved=-1 if booking.status in LIVE else 0, booked=1)
        booking.status = "CONFIRMED"
        booking.hold_until = None
        if event.get("payment_intent"):
            self._add_payment(event, booking)

    def _on_cancelled(self, event: Event) -> None:
        booking = self._changing(event, LIVE | {"CONFIRMED", "CHECKED_IN"})
        if booking is None:
            return
        self._check_cancellation(event, booking)
        booking.policy = event.get("policy")
        if booking.status in LIVE:
            self.rooms.take(booking, reserved=-1)
        else:
            booking.freed_from = event.get("freed_from")
            self.rooms.take(booking, booked=-1, first_night=booking.freed_from)
        booking.status = "CANCELLED"
        booking.hold_until = None
        booking.cancel_reason = event["reason"]
        for paid in booking.payments.values():
            if paid.state == "kept" and paid.left == 0:
                paid.state = "refunded"
                paid.policy = kept_by(booking)

    def _check_cancellation(self, event: Event, booking: Booking) -> None:
        """Check what the event claims beside the transition: past nights, the hotel's reason, the refund by hand."""
        freed_from = event.get("freed_from")
        if freed_from is not None and (
            booking.status in LIVE or not booking.check_in < freed_from <= booking.check_out
        ):
            self._mismatch(f"{_name(event)}: {booking.status}, and its nights are free from {freed_from} on")
        policy = event.get("policy")
        by_guest = event["reason"] == "by_guest"
        if by_guest and booking.status == "CONFIRMED" and booking.sale is not None:
            for fault in faults_of_cancellation(booking, booking.sale, policy, self._time):
                self._mismatch(f"{_name(event)}: {fault}")
        elif policy is not None or (by_guest and booking.status == "CHECKED_IN"):
            self._mismatch(f"{_name(event)}: {booking.status}, cancelled {event['reason']}, and {policy} is kept")
        if policy is not None and (milliseconds(policy.get("until")) or self._time + 1) <= self._time:
            self._mismatch(f"{_name(event)}: cancelled after {policy['until']}, by the policy until then")
        if event.get("hotel_reason") and event["reason"] != "by_hotel":
            self._mismatch(f"{_name(event)}: cancelled {event['reason']}, with the reason of a hotel")
        if event["reason"] == "refunded_by_hand":
            kept = sum(paid.left for paid in booking.payments.values() if paid.state == "kept")
            if kept or not any(by_hand for paid in booking.payments.values() for _, by_hand in paid.refunds.values()):
                self._mismatch(f"{_name(event)}: cancelled as refunded by hand, and {kept} of its payment is left")

    # The days of the stay.

    def _on_checked_in(self, event: Event) -> None:
        booking = self._changing(event, {"CONFIRMED"})
        if booking is not None:
            booking.status = "CHECKED_IN"

    def _on_checked_out(self, event: Event) -> None:
        booking = self._changing(event, {"CHECKED_IN"})
        if booking is None:
            return
        booking.status = "CHECKED_OUT"
        freed_from, policy = event.get("freed_from"), event.get("policy")
        if freed_from is None:
            if policy is not None:
                self._mismatch(f"{_name(event)}: nobody left early, and {policy} is kept")
            return
        if not booking.check_in <= freed_from < booking.check_out:
            self._mismatch(f"{_name(event)}: left early, and its nights are free from {freed_from} on")
        percent = 100 if booking.sale is None else booking.sale["early_departure_percent"]
        self._end(event, booking, kept_of_early_departure(booking, freed_from), percent)

    def _on_no_show(self, event: Event) -> None:
        booking = self._changing(event, {"CONFIRMED"})
        if booking is None:
            return
        booking.status = "NO_SHOW"
        if not booking.check_in <= event["freed_from"] <= booking.check_out:
            self._mismatch(f"{_name(event)}: nobody arrived, and its nights are free from {event['freed_from']} on")
        self._end(event, booking, booking.amount if booking.sale is None else booking.sale["no_show_kept_minor"], None)

    def _end(self, event: Event, booking: Booking, kept: int, percent: int | None) -> None:
        """Put the nights from the event's on sale again, and check the policy that counts for the end of the stay."""
        booking.freed_from, booking.policy = event["freed_from"], event.get("policy")
        self.rooms.take(booking, booked=-1, first_night=booking.freed_from)
        if kept_by(booking) != kept:
            self._mismatch(f"{_name(event)}: {booking.status} costs {kept_by(booking)}, by its policy {kept}")
        elif booking.policy is None or booking.policy.get("percent") != percent:
            self._mismatch(f"{_name(event)}: {booking.status} with {booking.policy}, by its policy {percent} percent")

    def _on_expired(self, event: Event) -> None:
        booking = self._changing(event, LIVE, by_time=True)
        if booking is not None:
            if booking.hold_until is None or self._time < booking.hold_until:
                self._wrong(
                    Check.HOLDS_END_ON_TIME, f"{_name(event)}: its hold ended {_early(booking.hold_until, self._time)}"
                )
            self.rooms.take(booking, reserved=-1)
            booking.status = "EXPIRED"
            booking.hold_until = None

    def _on_answer(self, event: Event) -> None:
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

    def _on_refund_requested(self, event: Event) -> None:
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
            if not has_ended(known):
                self._mismatch(f"{_name(event)}: {known.status}, and the money that pays it goes back")
            paid.policy = kept_by(known)
        elif paid.kept == 0:
            self._mismatch(f"{_name(event)}: {event['payment_intent']} goes back a second time")
        self._check_refund(event, paid)
        paid.due += event["amount_minor"]
        paid.state = "refund_requested"
        paid.settle()

    def _check_refund(self, event: Event, paid: Payment) -> None:
        """Check the amounts of a refund: all goes back but for what the policy keeps."""
        retained = event.get("retained_minor", 0)
        if retained != paid.policy:
            self._mismatch(
                f"{_name(event)}: {retained} is kept of {event['payment_intent']}, by its policy {paid.policy}"
            )
        paid.policy = retained
        paid.settle()
        if paid.kept != event["amount_minor"]:
            self._mismatch(f"{_name(event)}: {event['amount_minor']} of {paid.kept} goes back")
        total = _or(event.get("total_minor"), event["amount_minor"])
        if total != paid.amount - paid.closed - retained:
            self._mismatch(
                f"{_name(event)}: {total} of {event['payment_intent']} goes back in all, "
                f"which paid {paid.amount} less {paid.closed} that is closed and {retained} that is kept"
            )

    def _on_refunded(self, event: Event) -> None:
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

    def _on_refund_failed(self, event: Event) -> None:
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

    def _on_refund_closed(self, event: Event) -> None:
        paid = self._known_payment(event, "a refund was closed")
        if paid is None:
            return
        if not paid.due or event["amount_minor"] != paid.due:
            self._mismatch(f"{_name(event)}: a refund of {event['amount_minor']} was closed, and {paid.due} is due")
        paid.closed += event["amount_minor"]
        paid.due = 0
        paid.settle()

    def _on_dispute_opened(self, event: Event) -> None:
        paid = self._known_payment(event, "a dispute was opened")
        if paid is None:
            return
        if event["dispute_id"] in paid.disputes:
            self._mismatch(f"{_name(event)}: dispute {event['dispute_id']} was opened a second time")
            return
        paid.disputes[event["dispute_id"]] = (event["amount_minor"], "open")

    def _on_dispute_closed(self, event: Event) -> None:
        paid = self._known_payment(event, "a dispute was closed")
        if paid is None:
            return
        _, state = paid.disputes.get(event["dispute_id"], (0, "unknown"))
        if state != "open":
            self._mismatch(f"{_name(event)}: dispute {event['dispute_id']} was closed, and it is {state}")
            return
        paid.disputes[event["dispute_id"]] = (event["amount_minor"], event["result"])
        paid.settle()

    def _known_payment(self, event: Event, happened: str) -> Payment | None:
        """Return the event's payment; report it if the booking has no such payment."""
        booking, paid = self._paid(event)
        if booking is not None and paid is None:
            self._mismatch(f"{_name(event)}: {happened} for {event['payment_intent']}, which is unknown")
        return paid

    def _paid(self, event: Event) -> tuple[Booking | None, Payment | None]:
        """Return the event's booking and payment, as far as they are known."""
        booking = self._of_room(event)
        if booking is None:
            return None, None
        self._in_time(event, booking)
        return booking, booking.payments.get(event["payment_intent"])

    def _add_payment(self, event: Event, booking: Booking) -> None:
        if event["payment_intent"] in booking.payments:
            self._mismatch(f"{_name(event)}: {event['payment_intent']} pays a second time")
        booking.payments[event["payment_intent"]] = Payment(event["amount_minor"])

    def _same_price(self, event: Event, booking: Booking) -> None:
        price = (event["amount_minor"], event["currency"])
        if price != (booking.amount, booking.currency):
            reserved = f"{booking.amount} {booking.currency}"
            self._mismatch(f"{_name(event)}: {price[0]} {price[1]}, reserved for {reserved}")

    # Conditions of every transition.

    def _changing(
        self, event: Event, legal_from: set[str] | frozenset[str], *, by_time: bool = False
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

    def _of_room(self, event: Event) -> Booking | None:
        booking = self.bookings.get(event["booking_id"])
        if booking is None:
            self._mismatch(f"{_name(event)}: it was never reserved")
        elif booking.room_id != event["room_id"]:
            self._mismatch(f"{_name(event)}: of room {booking.room_id}, not {event['room_id']}")
            return None
        return booking

    def _in_time(self, event: Event, booking: Booking) -> None:
        if booking.hold_until is not None and self._time >= booking.hold_until:
            late_ms = self._time - booking.hold_until
            self._wrong(Check.HOLDS_END_ON_TIME, f"{_name(event)}: its hold had ended {late_ms} ms before")

    def _illegal(self, event: Event, booking: Booking) -> None:
        self._mismatch(f"{_name(event)}: it was {booking.status}: no legal transition")


def _may_be_confirmed(event: Event, booking: Booking) -> bool:
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


def _name(event: Event) -> str:
    return f"booking {event['booking_id']}"


def _early(hold_until: int | None, time: int) -> str:
    return "though it has no deadline" if hold_until is None else f"{hold_until - time} ms early"


def _or(new: Any, old: Any) -> Any:
    return old if new is None else new
