"""The saga of a payment on one page: requested, opened, paid in time, paid too late, paid twice, refunded."""

from datetime import date, datetime
from itertools import pairwise

from msgspec.structs import replace

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
from topics.messages.values import SOLD, BookingStatus, CancelReason, ChangeEnd, LegState, RefundReason, Refusal
from workers.decisions.answers import not_theirs, payment_of, refused, repeated
from workers.decisions.booking import (
    end_of_change,
    first_night_freed,
    part_refunded,
    refund_but,
    rest_requested,
    stay_changed,
)
from workers.decisions.evolve import evolve
from workers.decisions.state import UNKNOWN_REFUND, Booking, Payment, PaymentState, PendingChange, State, live


def request_payment(state: State, command: RequestPayment, now: datetime) -> tuple[Event, ...]:
    """Request a Checkout Session, unless one is open or being opened. A free booking is confirmed at once."""
    booking = state.booking
    reason = not_theirs(booking, command.user_id)
    if booking is None or reason is not None:
        return refused(booking, command, reason or Refusal.BOOKING_NOT_FOUND)
    if booking.status is BookingStatus.EXPIRED:
        return refused(booking, command, Refusal.HOLD_EXPIRED)
    if booking.pending_change is not None:
        return _payment_of_change(booking, booking.pending_change, command)
    if booking.status in SOLD:
        return repeated(booking, command)
    if booking.status is BookingStatus.RESERVED:
        return refused(booking, command, Refusal.NO_GUESTS)
    if not _has_price(booking):
        return refused(booking, command, Refusal.WRONG_STATUS)
    if booking.amount_minor == 0:
        return (_confirmed_event(booking),)
    if booking.status is BookingStatus.PAYMENTS_PENDING and not _has_attempt_ended(booking):
        return repeated(booking, command)
    return (payment_requested(booking, booking.amount_minor),)


def _has_price(booking: Booking) -> bool:
    """Return whether the booking is held for a price: a trip has none until all of its legs are held."""
    return live(booking) and booking.status is not BookingStatus.RESERVING


def _payment_of_change(booking: Booking, change: PendingChange, command: RequestPayment) -> tuple[Event, ...]:
    if change.is_open or not _has_attempt_ended(booking):
        return repeated(booking, command)
    return (payment_requested(booking, change.extra_minor),)


def payment_requested(booking: Booking, amount_minor: int) -> PaymentRequested:
    """Return the event that asks for the next Checkout Session of a booking."""
    return PaymentRequested(
        room_id=booking.room_id,
        booking_id=booking.id,
        attempt=booking.payment_attempt + 1,
        amount_minor=amount_minor,
        currency=booking.currency,
    )


def _is_being_paid(booking: Booking) -> bool:
    """Return whether a payment is asked for: of the stay, or of a change that makes it dearer."""
    change = booking.pending_change
    return booking.status is BookingStatus.PAYMENTS_PENDING or (change is not None and not change.is_open)


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
    if not _is_being_paid(booking):
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
    """Let a payment buy the stay, also after the hold ended if the nights are free, or a change; or refund it."""
    booking = state.booking
    if booking is None:
        return (_refund_event(command, RefundReason.UNKNOWN_BOOKING),)
    if booking.payment(command.payment_intent) is not None:
        return repeated(booking, command)
    if booking.trip_id is not None:
        # Nobody is asked to pay a leg: its trip is paid.
        return (_refund_event(command, RefundReason.UNKNOWN_BOOKING),)
    change = booking.pending_change
    if change is not None and not change.is_open and _is_of_present_attempt(booking, command):
        return _change_paid(state, booking, change, command)
    if (command.amount_minor, command.currency) == (booking.amount_minor, booking.currency):
        if _has_price(booking):
            return (_confirmed_event(booking, command),)
        if _is_open_to_late_payment(state, booking):
            return (_confirmed_event(booking, command, late=True),)
    if _is_of_ended_change(booking, command):
        return (_refund_event(command, RefundReason.CHANGE_ENDED),)
    return (_refund_event(command, _refund_reason(booking, command.amount_minor, command.currency)),)


def _is_of_present_attempt(booking: Booking, command: ConfirmPayment) -> bool:
    """Return whether the payment came through the session of the present attempt."""
    if command.attempt is None:
        return command.session_id == booking.session_id
    return command.attempt == booking.payment_attempt


def _change_paid(state: State, booking: Booking, change: PendingChange, command: ConfirmPayment) -> tuple[Event, ...]:
    """Return the change of the stay that its payment buys, or the refund of a payment that does not."""
    if (command.amount_minor, command.currency) != (change.extra_minor, booking.currency):
        return (_refund_event(command, RefundReason.WRONG_AMOUNT),)
    if has_begun(state, min(booking.check_in, change.stay.check_in)):
        # Its nights cannot be given back or sold any more.
        return (
            *end_of_change(booking, ChangeEnd.STAY_BEGAN),
            _refund_event(command, RefundReason.CHANGE_ENDED),
        )
    changed = replace(
        stay_changed(booking, change.id, change.stay, to_room_id=change.to_room_id),
        held=change.held,
        extra_minor=change.extra_minor,
        session_id=command.session_id,
        payment_intent=command.payment_intent,
    )
    return (changed,)


def _is_of_ended_change(booking: Booking, command: ConfirmPayment) -> bool:
    """Return whether the payment is for a change that did not take place.

    It came through a session of ours that bought nothing, for another amount than the stay and its changes cost. One
    of the same amount as the stay counts as a second payment: the booking does not remember the sessions of changes.
    """
    if not _was_sold(booking) or command.currency != booking.currency:
        return False
    if command.amount_minor in _charged_minor(booking):
        return False
    is_ours = command.attempt is not None or command.session_id == booking.session_id
    return is_ours and all(paid.session_id != command.session_id for paid in booking.payments)


def _was_sold(booking: Booking) -> bool:
    """Return whether the booking was bought, also if it is cancelled by now."""
    if booking.status is not BookingStatus.CANCELLED:
        return booking.status in SOLD
    charged_minor = _charged_minor(booking)
    return booking.earlier_stays != () or any(paid.amount_minor in charged_minor for paid in booking.payments)


def _is_open_to_late_payment(state: State, booking: Booking) -> bool:
    """Return whether the stay can still be bought after its hold ended, at the price agreed at the reservation."""
    return (
        booking.status is BookingStatus.EXPIRED
        # The legs of a trip that expired are released, one by one.
        and not booking.legs
        and not has_begun(state, booking.check_in)
        and _nights_are_free(state, booking)
    )


def _refund_reason(booking: Booking, amount_minor: int, currency: str) -> RefundReason:
    """Return why a payment of this amount does not pay the booking. Nobody is asked to pay a leg: its trip is paid."""
    if booking.trip_id is not None:
        return RefundReason.UNKNOWN_BOOKING
    if currency != booking.currency or amount_minor not in _charged_minor(booking):
        return RefundReason.WRONG_AMOUNT
    if booking.status in SOLD:
        return RefundReason.SECOND_PAYMENT
    return RefundReason.NIGHTS_GONE if booking.status is BookingStatus.EXPIRED else RefundReason.BOOKING_CANCELLED


def _charged_minor(booking: Booking) -> frozenset[int]:
    """Return the amounts that the booking's guest was asked to pay: the first stay's, and what changes cost."""
    amounts = [*(earlier.stay.amount_minor for earlier in booking.earlier_stays), booking.amount_minor]
    return frozenset((amounts[0], *(after - before for before, after in pairwise(amounts) if after > before)))


def has_begun(state: State, check_in: date) -> bool:
    """Return whether the first night of a stay is past at the hotel, so that it cannot be sold any more."""
    return state.clock is not None and state.clock.today > check_in


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
    if not _is_being_paid(booking):
        return refused(booking, command, Refusal.WRONG_STATUS)
    if booking.failure == command.failure:
        return repeated(booking, command)
    return (PaymentDeclined(room_id=booking.room_id, booking_id=booking.id, failure=command.failure),)


def close(state: State, command: ClosePayment, now: datetime) -> tuple[Event, ...]:
    """End the booking, or the change, whose session was closed unpaid; an older session changes nothing."""
    booking = state.booking
    if booking is None:
        return refused(booking, command, Refusal.BOOKING_NOT_FOUND)
    if not _is_being_paid(booking):
        return repeated(booking, command)
    if booking.session_id != command.session_id:
        return refused(booking, command, Refusal.STALE_SESSION)
    if booking.pending_change is not None:
        return end_of_change(booking, ChangeEnd.PAYMENT_CLOSED)
    return (BookingCancelled(room_id=booking.room_id, booking_id=booking.id, reason=CancelReason.PAYMENT_CLOSED),)


def record_refund(state: State, command: RecordRefund, now: datetime) -> tuple[Event, ...]:
    """Record that a refund was carried out; one made by hand at Stripe may end the booking, if it was the rest."""
    booking = state.booking
    if booking is None:
        return refused(booking, command, Refusal.BOOKING_NOT_FOUND)
    payment = booking.payment(command.payment_intent)
    if payment is None or not (command.by_hand or _was_asked_for(payment)):
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
    is_rest = _is_rest(booking, payment, command.amount_minor)
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
    return (refunded, *end_of_change(booking, ChangeEnd.BOOKING_CANCELLED), cancelled)


def _was_asked_for(payment: Payment) -> bool:
    """Return whether this product may have asked for a refund of the payment, or of a part of it.

    Refunds by hand and lost disputes may have taken the place of the one that it asked for.
    """
    left = payment.refunds or payment.failed_refund_ids or payment.disputes
    return payment.state is not PaymentState.KEPT or bool(payment.due_minor or payment.closed_minor or left)


def _is_rest(booking: Booking, payment: Payment, amount_minor: int) -> bool:
    """Return whether a refund takes all that is left of the payments that pay the booking."""
    if payment.state is not PaymentState.KEPT or payment.left_minor > amount_minor:
        return False
    return all(paid is payment or paid.kept_minor == 0 for paid in booking.paying_payments())


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
    booking, payment = state.booking, payment_of(state.booking, command.payment_intent)
    if isinstance(payment, Refusal):
        return refused(booking, command, payment)
    assert booking is not None
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
        policy = booking.policy
        if policy is not None:
            return (failed, *refund_but(after, policy.kept_minor, _end_reason(booking)))
        # A stay that was not ended is still paid by it, but for what became cheaper: the guest is due that again.
        kept_minor = sum(paid.kept_minor for paid in after.paying_payments())
        is_whole = all(leg.state is LegState.HELD for leg in booking.legs)
        reason = RefundReason.STAY_CHANGED if is_whole else RefundReason.BOOKING_CANCELLED
        more_minor = kept_minor - price_minor(booking)
        return (failed, *part_refunded(after, more_minor, reason, first=left.payment_intent))
    if left.policy_minor:
        return (failed, rest_requested(after, left, _end_reason(booking)))
    reason = _refund_reason(booking, left.amount_minor, left.currency or booking.currency)
    return (failed, rest_requested(after, left, reason))


def price_minor(booking: Booking) -> int:
    """Return what the booking costs: of a trip, the legs that go on, and what is kept of those that ended early."""
    if not booking.legs:
        return booking.amount_minor
    return sum(leg.amount_minor if leg.state is LegState.HELD else leg.kept_minor for leg in booking.legs)


def _end_reason(booking: Booking) -> RefundReason:
    """Return why the money of a stay that a policy ended is sent back."""
    if booking.status is BookingStatus.NO_SHOW:
        return RefundReason.NO_SHOW
    left_early = booking.status is BookingStatus.CHECKED_OUT
    return RefundReason.EARLY_DEPARTURE if left_early else RefundReason.BOOKING_CANCELLED


def close_refund(state: State, command: CloseRefund, now: datetime) -> tuple[Event, ...]:
    """End a refund that is due, because an operator decided so."""
    booking, payment = state.booking, payment_of(state.booking, command.payment_intent)
    if isinstance(payment, Refusal):
        return refused(booking, command, payment)
    assert booking is not None
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
    booking, payment = state.booking, payment_of(state.booking, command.payment_intent)
    if isinstance(payment, Refusal):
        return refused(booking, command, payment)
    assert booking is not None
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
