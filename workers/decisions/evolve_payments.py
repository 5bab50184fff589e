"""Applies events about money to the payments of a booking: refunds, disputes, and the end of a booking.

`workers.decisions.evolve` calls it.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final

from msgspec.structs import replace

from topics.messages.events import (
    BookingEvent,
    BookingRefunded,
    DisputeClosed,
    DisputeOpened,
    RefundClosed,
    RefundFailed,
    RefundRequested,
)
from topics.messages.values import BookingStatus, RefundReason
from workers.decisions.state import UNKNOWN_REFUND, Booking, Dispute, Payment, PaymentState, RefundMade, live


def ended_payments(booking: Booking, kept_minor: int) -> Iterable[Payment]:
    """Yield the payments of a cancelled booking: those of which nothing is kept get no refund and pay it no more.

    All of such a payment went back, is due already, or was taken by a lost dispute. It gets the part of the policy that
    the others have too little for, as far as its own money left without being due: a refund by hand may still fail.
    """
    kept_minor = max(0, kept_minor - sum(paid.kept_minor for paid in booking.paying_payments()))
    for paid in booking.payments:
        if paid.state is not PaymentState.KEPT:
            yield paid
            continue
        went_minor = paid.amount_minor - paid.left_minor - paid.sent_minor
        if paid.left_minor and not paid.kept_minor:
            # All of the rest is due, or was: it is not kept.
            went_minor = 0
        policy_minor = max(0, min(kept_minor, went_minor))
        kept_minor -= policy_minor
        if paid.kept_minor:
            yield paid
        else:
            yield _balanced(replace(paid, state=PaymentState.REFUNDED, policy_minor=policy_minor))


def _refund_request_changes(booking: Booking, event: RefundRequested) -> dict[str, Any]:
    known = booking.payment(event.payment_intent)
    if known is None:
        currency = "" if event.currency == booking.currency else event.currency
        known = Payment(
            event.payment_intent, event.session_id, event.amount_minor, PaymentState.KEPT, currency=currency
        )
    due_minor = known.due_minor + event.amount_minor
    has_legs = booking.legs and booking.status is BookingStatus.CONFIRMED and known.state is PaymentState.KEPT
    if event.reason is RefundReason.STAY_CHANGED or (has_legs and booking.payment(event.payment_intent) is not None):
        # The rest of the payment pays the cheaper stay, or the other legs of the trip.
        return {"payments": _with_payment(booking, replace(known, due_minor=due_minor))}
    payment = _balanced(
        replace(
            known,
            state=PaymentState.REFUND_REQUESTED,
            due_minor=due_minor,
            policy_minor=event.retained_minor,
        )
    )
    changes: dict[str, Any] = {"payments": _with_payment(booking, payment)}
    if (live(booking) or booking.pending_change is not None) and booking.session_id == event.session_id:
        # Its payment is refunded, so the session has ended: the guest may open another one.
        changes |= {"session_id": None, "failure": event.reason.value}
    return changes


def _refunded(payment: Payment, event: BookingRefunded) -> Payment:
    made = RefundMade(event.refund_id, event.amount_minor, event.by_hand)
    due_minor = max(0, payment.due_minor - event.amount_minor)
    # A refund of ours that was on its way when an operator ended it went back after all.
    more_minor = 0 if event.by_hand else max(0, event.amount_minor - payment.due_minor)
    return replace(
        payment,
        refunds=(*payment.refunds, made),
        due_minor=due_minor,
        closed_minor=max(0, payment.closed_minor - more_minor),
        ahead_minor=payment.ahead_minor + max(0, more_minor - payment.closed_minor),
    )


def _with_failed_refund(payment: Payment, event: RefundFailed) -> Payment:
    """Return the payment without the refund; its amount is due again.

    It is not if a person had made the refund, or as far as later refunds went out in its place.
    """
    refunds = tuple(left for made in payment.refunds if (left := _without(made, payment, event)) is not None)
    after = replace(payment, refunds=refunds, failed_refund_ids=(*payment.failed_refund_ids, event.refund_id))
    if event.by_hand:
        return after
    failed_minor = payment.refunded_minor - after.refunded_minor
    replaced_minor = min(failed_minor, payment.ahead_minor)
    return replace(
        after,
        due_minor=payment.due_minor + failed_minor - replaced_minor,
        ahead_minor=payment.ahead_minor - replaced_minor,
    )


def _without(made: RefundMade, payment: Payment, event: RefundFailed) -> RefundMade | None:
    """Return a refund without the one that failed; None: nothing of it is left."""
    if made.refund_id == event.refund_id:
        return None
    if made.refund_id != UNKNOWN_REFUND or event.by_hand or payment.refund(event.refund_id) is not None:
        return made
    # 0.1.0 kept no ids of refunds, so the one that failed is a part of this sum.
    left_minor = made.amount_minor - event.amount_minor
    return RefundMade(UNKNOWN_REFUND, left_minor) if left_minor > 0 else None


def _with_closed_refund(payment: Payment, event: RefundClosed) -> Payment:
    return replace(payment, due_minor=0, closed_minor=payment.closed_minor + event.amount_minor)


def _disputed(payment: Payment, event: DisputeOpened) -> Payment:
    return replace(payment, disputes=(*payment.disputes, Dispute(event.dispute_id, event.amount_minor, "open")))


def _with_closed_dispute(payment: Payment, event: DisputeClosed) -> Payment:
    """Return the payment after the dispute; nothing that a lost one took is due to the guest any more."""
    before_minor = payment.lost_minor
    disputes = tuple(
        replace(dispute, amount_minor=event.amount_minor, state=event.result.value)
        if dispute.dispute_id == event.dispute_id
        else dispute
        for dispute in payment.disputes
    )
    after = replace(payment, disputes=disputes)
    return replace(after, due_minor=max(0, payment.due_minor - (after.lost_minor - before_minor)))


def _of_payment(change: Callable[[Payment, Any], Payment]) -> Callable[[Booking, Any], dict[str, Any]]:
    """Return the changes of a booking by a change of the payment that the event names."""

    def changes(booking: Booking, event: Any) -> dict[str, Any]:
        payment = booking.payment(event.payment_intent)
        assert payment is not None
        changed = _balanced(change(payment, event))
        return {"payments": _with_payment(booking, changed)}

    return changes


def _balanced(payment: Payment) -> Payment:
    """Return the payment so that its sums are not more than is left of it, and its state follows from them.

    Money that left otherwise, such as by a lost dispute, was due to the guest before it was the hotel's, and so was
    the part of which an operator closed the refund: the part that the policy keeps falls last.
    """
    retained_minor = min(payment.policy_minor, payment.left_minor)
    closed_minor = min(payment.closed_minor, payment.left_minor - retained_minor)
    due_minor = min(payment.due_minor, payment.left_minor - retained_minor - closed_minor)
    state = payment.state
    if state is not PaymentState.KEPT:
        state = PaymentState.REFUND_REQUESTED if due_minor else PaymentState.REFUNDED
    return replace(payment, state=state, due_minor=due_minor, closed_minor=closed_minor, retained_minor=retained_minor)


def _with_payment(booking: Booking, payment: Payment) -> tuple[Payment, ...]:
    """Return the payments, in the order in which they arrived, with one of them changed, or a new one."""
    if booking.payment(payment.payment_intent) is None:
        return (*booking.payments, payment)
    return tuple(payment if paid.payment_intent == payment.payment_intent else paid for paid in booking.payments)


#: The changes of a booking by each event about one of its payments.
PAYMENT_CHANGES: Final[dict[type[BookingEvent], Callable[[Booking, Any], dict[str, Any]]]] = {
    RefundRequested: _refund_request_changes,
    BookingRefunded: _of_payment(_refunded),
    RefundFailed: _of_payment(_with_failed_refund),
    RefundClosed: _of_payment(_with_closed_refund),
    DisputeOpened: _of_payment(_disputed),
    DisputeClosed: _of_payment(_with_closed_dispute),
}
