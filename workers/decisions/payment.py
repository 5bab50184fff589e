"""The saga of a payment on one page: requested, opened, paid in time, paid too late, paid twice, refunded."""

from datetime import datetime

from topics.messages.commands import (
    ClosePayment,
    CloseRefund,
    ConfirmPayment,
    DeclinePayment,
    FailRefund,
    RecordDispute,
    RecordRefund,
    RecordSession,
    RequestPayment,
)
from topics.messages.events import (
    BookingCancelled,
    BookingConfirmed,
    BookingRefunded,
    CheckoutOpened,
    DisputeClosed,
    DisputeOpened,
    Event,
    PaymentDeclined,
    PaymentRequested,
    RefundClosed,
    RefundFailed,
    RefundRequested,
)
from topics.messages.values import SOLD, BookingStatus, CancelReason, RefundReason, Refusal
from workers.decisions.answers import not_theirs, refused, repeated
from workers.decisions.booking import first_night_freed, refund_but, rest_requested
from workers.decisions.evolve import evolve
from workers.decisions.state import UNKNOWN_REFUND, Booking, Payment, PaymentState, State, live


def request_payment(state: State, command: RequestPayment, now: datetime) -> tuple[Event, ...]:
    """Request a Checkout Session, unless one is open or being opened. A free booking is confirmed at once."""
    booking = state.booking
    reason = not_theirs(booking, command.user_id)
    if booking is None or reason is not None:
        return refused(booking, command, reason or Refusal.BOOKING_NOT_FOUND)
    if booking.status is BookingStatus.EXPIRED:
        return refused(booking, command, Refusal.HOLD_EXPIRED)
    if booking.status in SOLD:
        return repeated(booking, command)
    if booking.status is BookingStatus.RESERVED:
        return refused(booking, command, Refusal.NO_GUESTS)
    if not live(booking):
        return refused(booking, command, Refusal.WRONG_STATUS)
    if booking.amount_minor == 0:
        return (_confirmed_event(booking),)
    if booking.status is BookingStatus.PAYMENTS_PENDING and not _has_attempt_ended(booking):
        return repeated(booking, command)
    return (
        PaymentRequested(
            room_id=booking.room_id,
            booking_id=booking.id,
            attempt=booking.payment_attempt + 1,
            amount_minor=booking.amount_minor,
            currency=booking.currency,
        ),
    )


def _has_attempt_ended(booking: Booking) -> bool:
    """Return whether the present attempt never got a session: a declined card leaves its session open."""
    return booking.session_id is None and booking.failure is not None


def record_session(state: State, command: RecordSession, now: datetime) -> tuple[Event, ...]:
    """Record the session in which the guest can pay."""
    booking = state.booking
    if booking is None:
        return refused(booking, command, Refusal.BOOKING_NOT_FOUND)
    if booking.session_id == command.session_id:
        return repeated(booking, command)
    if booking.status is not BookingStatus.PAYMENTS_PENDING:
        return refused(booking, command, Refusal.WRONG_STATUS)
    if booking.payment_attempt != command.attempt:
        return refused(booking, command, Refusal.STALE_SESSION)
    return (
        CheckoutOpened(
            room_id=booking.room_id,
            booking_id=booking.id,
            attempt=command.attempt,
            session_id=command.session_id,
        ),
    )


def confirm(state: State, command: ConfirmPayment, now: datetime) -> tuple[Event, ...]:
    """Let a payment buy the stay, also after the hold ended if the nights are free, or refund it in full."""
    booking = state.booking
    if booking is None:
        return (_refund_event(command, RefundReason.UNKNOWN_BOOKING),)
    if booking.payment(command.payment_intent) is not None:
        return repeated(booking, command)
    if (command.amount_minor, command.currency) == (booking.amount_minor, booking.currency):
        if live(booking):
            return (_confirmed_event(booking, command),)
        if _is_open_to_late_payment(state, booking):
            return (_confirmed_event(booking, command, late=True),)
    return (_refund_event(command, _refund_reason(booking, command.amount_minor, command.currency)),)


def _is_open_to_late_payment(state: State, booking: Booking) -> bool:
    """Return whether the stay can still be bought after its hold ended, at the price agreed at the reservation."""
    return (
        booking.status is BookingStatus.EXPIRED and not _has_begun(state, booking) and _nights_are_free(state, booking)
    )


def _refund_reason(booking: Booking, amount_minor: int, currency: str) -> RefundReason:
    """Return why a payment of this amount does not pay the booking."""
    if (amount_minor, currency) != (booking.amount_minor, booking.currency):
        return RefundReason.WRONG_AMOUNT
    if booking.status in SOLD:
        return RefundReason.SECOND_PAYMENT
    return RefundReason.NIGHTS_GONE if booking.status is BookingStatus.EXPIRED else RefundReason.BOOKING_CANCELLED


def _has_begun(state: State, booking: Booking) -> bool:
    """Return whether the first night of the stay is past at the hotel, so that it cannot be sold any more."""
    return state.clock is not None and state.clock.today > booking.check_in


def _nights_are_free(state: State, booking: Booking) -> bool:
    nights = [state.nights.get(day) for day in booking.nights()]
    return all(night is not None and not night.closed and night.free_count >= booking.rooms_count for night in nights)


def _confirmed_event(
    booking: Booking, payment: ConfirmPayment | None = None, *, late: bool = False
) -> BookingConfirmed:
    return BookingConfirmed(
        room_id=booking.room_id,
        booking_id=booking.id,
        amount_minor=booking.amount_minor,
        currency=booking.currency,
        session_id=None if payment is None else payment.session_id,
        payment_intent=None if payment is None else payment.payment_intent,
        late=late,
    )


def _refund_event(command: ConfirmPayment, reason: RefundReason) -> RefundRequested:
    return RefundRequested(
        room_id=command.room_id,
        booking_id=command.booking_id,
        session_id=command.session_id,
        payment_intent=command.payment_intent,
        amount_minor=command.amount_minor,
        currency=command.currency,
        reason=reason,
    )


def decline(state: State, command: DeclinePayment, now: datetime) -> tuple[Event, ...]:
    """Record why a payment failed; the booking may be paid again until its hold ends."""
    booking = state.booking
    if booking is None:
        return refused(booking, command, Refusal.BOOKING_NOT_FOUND)
    if booking.status is not BookingStatus.PAYMENTS_PENDING:
        return refused(booking, command, Refusal.WRONG_STATUS)
    if booking.failure == command.failure:
        return repeated(booking, command)
    return (PaymentDeclined(room_id=booking.room_id, booking_id=booking.id, failure=command.failure),)


def close(state: State, command: ClosePayment, now: datetime) -> tuple[Event, ...]:
    """End the booking whose session was closed without a payment; a session of an older attempt changes nothing."""
    booking = state.booking
    if booking is None:
        return refused(booking, command, Refusal.BOOKING_NOT_FOUND)
    if booking.status is not BookingStatus.PAYMENTS_PENDING:
        return repeated(booking, command)
    if booking.session_id != command.session_id:
        return refused(booking, command, Refusal.STALE_SESSION)
    return (BookingCancelled(room_id=booking.room_id, booking_id=booking.id, reason=CancelReason.PAYMENT_CLOSED),)


def record_refund(state: State, command: RecordRefund, now: datetime) -> tuple[Event, ...]:
    """Record that a refund was carried out; one made by hand at Stripe may end the booking, if it was the rest."""
    booking = state.booking
    if booking is None:
        return refused(booking, command, Refusal.BOOKING_NOT_FOUND)
    payment = booking.payment(command.payment_intent)
    if payment is None or (payment.state is PaymentState.KEPT and not command.by_hand):
        return refused(booking, command, Refusal.UNKNOWN_PAYMENT)
    if _is_known(payment, command):
        return repeated(booking, command)
    refunded = BookingRefunded(
        room_id=booking.room_id,
        booking_id=booking.id,
        payment_intent=command.payment_intent,
        refund_id=command.refund_id,
        amount_minor=command.amount_minor,
        by_hand=command.by_hand,
    )
    is_rest = payment.state is PaymentState.KEPT and payment.left_minor <= command.amount_minor
    if not (is_rest and command.cancel_if_full and booking.status is BookingStatus.CONFIRMED):
        return (refunded,)
    if state.clock is not None and now >= state.clock.check_out_at:
        return (refunded,)
    cancelled = BookingCancelled(
        room_id=booking.room_id,
        booking_id=booking.id,
        reason=CancelReason.REFUNDED_BY_HAND,
        freed_from=first_night_freed(state, booking),
    )
    return (refunded, cancelled)


def _is_known(payment: Payment, command: RecordRefund) -> bool:
    """Return whether the refund was recorded before, or is of nothing or of more than the payment.

    Payments of 0.1.0 have the sum of their refunds and no ids, so a refund that such a payment has no money left for is
    one of those. Any other refund of more than is left replaces one whose failure is reported later.
    """
    if payment.refund(command.refund_id) is not None or command.refund_id in payment.failed_refund_ids:
        return True
    before_minor = 0 if payment.refund(UNKNOWN_REFUND) is None else payment.refunded_minor
    return not 0 < command.amount_minor <= payment.amount_minor - before_minor


def fail_refund(state: State, command: FailRefund, now: datetime) -> tuple[Event, ...]:
    """Record that a refund failed, so that its amount is due again if it had counted as carried out.

    If a person had made it and the payment pays no booking, the money is asked for like that of any other payment. If
    the booking ended, the hotel keeps its part by the policy.
    """
    booking = state.booking
    if booking is None:
        return refused(booking, command, Refusal.BOOKING_NOT_FOUND)
    payment = booking.payment(command.payment_intent)
    if payment is None:
        return refused(booking, command, Refusal.UNKNOWN_PAYMENT)
    if command.refund_id in payment.failed_refund_ids:
        return repeated(booking, command)
    counted = payment.refund(command.refund_id)
    failed = RefundFailed(
        room_id=booking.room_id,
        booking_id=booking.id,
        payment_intent=command.payment_intent,
        refund_id=command.refund_id,
        amount_minor=command.amount_minor if counted is None else counted.amount_minor,
        failure=command.failure,
        by_hand=command.by_hand if counted is None else counted.by_hand,
    )
    after = evolve(State(booking, {}), failed).booking
    assert after is not None
    left = after.payment(command.payment_intent)
    if left is None or left.kept_minor == 0:
        return (failed,)
    if left.state is PaymentState.KEPT:
        # A stay that was not ended is still paid by it.
        policy = booking.policy
        return (failed,) if policy is None else (failed, *refund_but(after, policy.kept_minor, _end_reason(booking)))
    if left.policy_minor:
        return (failed, rest_requested(after, left, _end_reason(booking)))
    reason = _refund_reason(booking, left.amount_minor, left.currency or booking.currency)
    return (failed, rest_requested(after, left, reason))


def _end_reason(booking: Booking) -> RefundReason:
    """Return why the money of a stay that a policy ended is sent back."""
    if booking.status is BookingStatus.NO_SHOW:
        return RefundReason.NO_SHOW
    left_early = booking.status is BookingStatus.CHECKED_OUT
    return RefundReason.EARLY_DEPARTURE if left_early else RefundReason.BOOKING_CANCELLED


def close_refund(state: State, command: CloseRefund, now: datetime) -> tuple[Event, ...]:
    """End a refund that is due, because an operator decided so."""
    booking = state.booking
    if booking is None:
        return refused(booking, command, Refusal.BOOKING_NOT_FOUND)
    payment = booking.payment(command.payment_intent)
    if payment is None:
        return refused(booking, command, Refusal.UNKNOWN_PAYMENT)
    if payment.due_minor == 0:
        return repeated(booking, command) if payment.closed_minor else refused(booking, command, Refusal.NOTHING_DUE)
    return (
        RefundClosed(
            room_id=booking.room_id,
            booking_id=booking.id,
            payment_intent=command.payment_intent,
            amount_minor=payment.due_minor,
            currency=payment.currency or booking.currency,
            reason=command.reason,
        ),
    )


def record_dispute(state: State, command: RecordDispute, now: datetime) -> tuple[Event, ...]:
    """Record that a payment is disputed, or how its dispute ended; an end that comes first records both."""
    booking = state.booking
    if booking is None:
        return refused(booking, command, Refusal.BOOKING_NOT_FOUND)
    payment = booking.payment(command.payment_intent)
    if payment is None:
        return refused(booking, command, Refusal.UNKNOWN_PAYMENT)
    known = payment.dispute(command.dispute_id)
    if known is not None and (command.result is None or known.state != "open"):
        return repeated(booking, command)
    currency = payment.currency or booking.currency
    opened = DisputeOpened(
        room_id=booking.room_id,
        booking_id=booking.id,
        payment_intent=command.payment_intent,
        dispute_id=command.dispute_id,
        amount_minor=command.amount_minor,
        currency=currency,
        reason=command.reason,
    )
    if command.result is None:
        return (opened,)
    closed = DisputeClosed(
        room_id=booking.room_id,
        booking_id=booking.id,
        payment_intent=command.payment_intent,
        dispute_id=command.dispute_id,
        amount_minor=command.amount_minor,
        currency=currency,
        result=command.result,
    )
    return (opened, closed) if known is None else (closed,)
