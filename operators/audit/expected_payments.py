"""Computes the payments of bookings that the ledger should have: the money of each, and what left of it again."""

from collections.abc import Callable
from typing import Any

from operators.audit.expected_bookings import LIVE, KnownBookings
from operators.audit.expected_rows import Booking, Event, Payment, has_ended, kept_by
from operators.audit.expected_trips import worth


class ExpectedPayments:
    """The payments after the events so far; `appliers` has the function that applies an event, by its type."""

    def __init__(self, known: KnownBookings) -> None:
        self._known = known
        self.appliers: dict[str, Callable[[Event], None]] = {
            "booking.refund_requested.v1": self._on_refund_requested,
            "booking.refund_requested.v2": self._on_refund_requested,
            "booking.refunded.v1": self._on_refunded,
            "booking.refund_failed.v1": self._on_refund_failed,
            "booking.refund_closed.v1": self._on_refund_closed,
            "booking.dispute_opened.v1": self._on_dispute_opened,
            "booking.dispute_closed.v1": self._on_dispute_closed,
        }

    def add(self, event: Event, booking: Booking, amount: int) -> None:
        """Add a payment that pays the booking, in minor units."""
        if event["payment_intent"] in booking.payments:
            self._known.fault(event, f"{event['payment_intent']} pays a second time")
        booking.payments[event["payment_intent"]] = Payment(amount)

    def end(self, booking: Booking) -> None:
        """Let the payments of which nothing is kept pay a cancelled booking no more.

        Of what the policy keeps beyond all that is left, each has as much as left it without being due.
        """
        paying = [paid for paid in booking.payments.values() if paid.state == "kept"]
        beyond = max(0, kept_by(booking) - sum(paid.kept for paid in paying))
        for paid in paying:
            part = min(beyond, max(0, paid.amount - paid.left - paid.sent))
            if paid.left and not paid.kept:
                # All of the rest is due, or was: it is not kept (ADR 0031, Costs).
                part = 0
            beyond -= part
            if paid.kept == 0:
                paid.state, paid.policy = "refunded", part
                paid.settle()

    def _on_refund_requested(self, event: Event) -> None:
        known = self._known.by_id.get(event["booking_id"])
        if known is None or known.room_id != event["room_id"]:
            if event["reason"] != "unknown_booking":
                self._known.fault(event, "a refund of a booking that is unknown")
            return
        self._known.in_time(event, known)
        if (known.status in LIVE or known.pending is not None) and known.session_id == event["session_id"]:
            # The session has ended with its payment, so that the guest may open another one.
            known.session_id = None
        paid = known.payments.get(event["payment_intent"])
        is_part = event["reason"] == "stay_changed" or (known.legs and known.status == "CONFIRMED")
        if is_part and paid is not None and paid.state == "kept":
            self._send_part_back(event, known, paid)
            return
        if paid is None:
            if known.attempt == 0:
                self._known.fault(event, "a refund without a payment")
            paid = known.payments[event["payment_intent"]] = Payment(event["amount_minor"])
        elif paid.state == "kept":
            if not has_ended(known):
                self._known.fault(event, f"{known.status}, and the money that pays it goes back")
            paid.policy = _part_of_policy(known, paid)
        elif paid.kept == 0:
            self._known.fault(event, f"{event['payment_intent']} goes back a second time")
        self._check_refund(event, paid)
        paid.state = "refund_requested"
        paid.settle()

    def _send_part_back(self, event: Event, booking: Booking, paid: Payment) -> None:
        """Let a part of a payment go back that the stay, which became cheaper, is not worth any more."""
        amount = event["amount_minor"]
        price = worth(booking) if booking.legs else booking.amount
        excess = sum(each.kept for each in booking.payments.values() if each.state == "kept") - price
        if not 0 < amount <= min(paid.kept, max(booking.back, excess)) or event.get("retained_minor"):
            self._known.fault(
                event,
                f"{amount} of {paid.kept} of {event['payment_intent']} goes back for a change, "
                f"of which {booking.back} is due",
            )
        paid.due += amount
        booking.back -= min(booking.back, amount)
        self._check_total(event, paid, 0)

    def _check_refund(self, event: Event, paid: Payment) -> None:
        """Check the amounts of a refund: all goes back but for what the policy keeps."""
        retained = event.get("retained_minor", 0)
        if retained != paid.policy:
            self._known.fault(event, f"{retained} is kept of {event['payment_intent']}, by its policy {paid.policy}")
        paid.policy = retained
        paid.settle()
        if paid.kept != event["amount_minor"]:
            self._known.fault(event, f"{event['amount_minor']} of {paid.kept} goes back")
        paid.due += event["amount_minor"]
        self._check_total(event, paid, retained)

    def _check_total(self, event: Event, paid: Payment, retained: int) -> None:
        total, kept = _or(event.get("total_minor"), event["amount_minor"]), retained + paid.kept
        if total != paid.amount - kept:
            self._known.fault(
                event,
                f"{total} of {event['payment_intent']} goes back in all, "
                f"which paid {paid.amount} less {kept} that is kept",
            )

    def _on_refunded(self, event: Event) -> None:
        booking, paid = self._paid(event)
        if booking is None:
            return
        intent, id_, amount = event["payment_intent"], event["refund_id"], event["amount_minor"]
        by_hand = bool(event.get("by_hand"))
        if paid is None or not (by_hand or paid.was_asked_for):
            self._known.fault(
                event,
                f"{amount} went back for {intent}, "
                f"which is {'unknown' if paid is None else paid.state} with {0 if paid is None else paid.amount}",
            )
            return
        if id_ in paid.refunds or id_ in paid.failed:
            self._known.fault(event, f"refund {id_} of {intent} went back a second time")
            return
        paid.refunds[id_] = (amount, by_hand)
        if not by_hand:
            beyond_due = max(0, amount - paid.due)
            paid.early += max(0, beyond_due - paid.closed)
            paid.closed -= min(paid.closed, beyond_due)
        paid.due = max(0, paid.due - amount)
        paid.settle()

    def _on_refund_failed(self, event: Event) -> None:
        paid = self._known_payment(event, "a refund failed")
        if paid is None:
            return
        id_ = event["refund_id"]
        if id_ in paid.failed:
            self._known.fault(event, f"refund {id_} failed a second time")
            return
        paid.failed.append(id_)
        amount, by_hand = paid.refunds.pop(id_, (None, False))
        if amount is None:
            return
        if amount != event["amount_minor"]:
            self._known.fault(event, f"{event['amount_minor']} of refund {id_} failed, and {amount} went back")
        if by_hand != bool(event.get("by_hand")):
            self._known.fault(event, f"refund {id_} was made by {'a person' if by_hand else 'the product'}")
        if not event.get("by_hand"):
            replaced = min(amount, paid.early)
            paid.early -= replaced
            paid.due += amount - replaced
        paid.settle()

    def _on_refund_closed(self, event: Event) -> None:
        paid = self._known_payment(event, "a refund was closed")
        if paid is None:
            return
        if not paid.due or event["amount_minor"] != paid.due:
            self._known.fault(event, f"a refund of {event['amount_minor']} was closed, and {paid.due} is due")
        paid.closed += event["amount_minor"]
        paid.due = 0
        paid.settle()

    def _on_dispute_opened(self, event: Event) -> None:
        paid = self._known_payment(event, "a dispute was opened")
        if paid is None:
            return
        if event["dispute_id"] in paid.disputes:
            self._known.fault(event, f"dispute {event['dispute_id']} was opened a second time")
            return
        paid.disputes[event["dispute_id"]] = (event["amount_minor"], "open")

    def _on_dispute_closed(self, event: Event) -> None:
        paid = self._known_payment(event, "a dispute was closed")
        if paid is None:
            return
        _, state = paid.disputes.get(event["dispute_id"], (0, "unknown"))
        if state != "open":
            self._known.fault(event, f"dispute {event['dispute_id']} was closed, and it is {state}")
            return
        lost = paid.lost
        paid.disputes[event["dispute_id"]] = (event["amount_minor"], event["result"])
        # Money that was taken by the dispute is not due to the guest any more.
        paid.due = max(0, paid.due - (paid.lost - lost))
        paid.settle()

    def _known_payment(self, event: Event, happened: str) -> Payment | None:
        """Return the event's payment; report it if the booking has no such payment."""
        booking, paid = self._paid(event)
        if booking is not None and paid is None:
            self._known.fault(event, f"{happened} for {event['payment_intent']}, which is unknown")
        return paid

    def _paid(self, event: Event) -> tuple[Booking | None, Payment | None]:
        """Return the event's booking and payment, as far as they are known."""
        booking = self._known.of_room(event)
        if booking is None:
            return None, None
        self._known.in_time(event, booking)
        return booking, booking.payments.get(event["payment_intent"])


def _part_of_policy(booking: Booking, paid: Payment) -> int:
    """Return what the policy that ended a booking keeps of a payment that pays it: it keeps the oldest ones first."""
    kept = kept_by(booking) - sum(each.policy for each in booking.payments.values() if each.state != "kept")
    for each in booking.payments.values():
        if each is paid:
            break
        if each.state == "kept":
            kept -= each.kept
    return min(paid.kept, max(0, kept))


def _or(new: Any, old: Any) -> Any:
    return old if new is None else new
