"""The saga of payments on one page: the calls to Stripe that each event on `booking.events` leads to.

    PaymentRequested                                     -> open a Checkout Session; close those of earlier attempts
    BookingExpired, BookingCancelled, BookingConfirmed   -> close the booking's sessions
    ChangeEnded, StayChanged                             -> close the booking's sessions, but that of a later change
    RefundRequested                                      -> refund the payment up to the target
    RefundFailed, RefundClosed, DisputeClosed            -> refund the amount that is due now
    BookingConfirmed, StayChanged, RefundRequested       -> note the session's payment

Pure. The exact parameters of a session and its idempotency key are fixed here, before the call is made. So a repeated
call is the same call, and Stripe answers as it did before. Those of a refund depend on the refunds that the payment has
already: `refunding` fixes them before each call.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from pricing.charges import step_minor, to_stripe
from storage.payments import (
    DueSession,
    PaymentOfSession,
    RefundToMake,
    RefundToSettle,
    SessionsToClose,
    SessionToOpen,
    Stay,
)
from telemetry.traces import TRACEPARENT
from topics.envelope import Envelope
from topics.messages.events import (
    BookingCancelled,
    BookingConfirmed,
    BookingExpired,
    ChangeEnded,
    DisputeClosed,
    PaymentRequested,
    RefundClosed,
    RefundFailed,
    RefundRequested,
    StayChanged,
)
from workers.payments import page
from workers.stripe.marks import Marks
from workers.stripe.objects import BookingRef

SESSION_TIME: Final = timedelta(minutes=35)
"""The time within which a session may be paid. Stripe demands 30 minutes at least, by its clock at the time of the
call; the rest allows for a late call. We close the session ourselves when the hold ends, long before."""

DEFAULT_LOCALE: Final = "auto"
"""Stripe's page follows the language of the guest's browser."""

PendingCall = SessionToOpen | SessionsToClose | RefundToMake | RefundToSettle | PaymentOfSession


@dataclass(frozen=True, kw_only=True)
class CallContext:
    """The settings that go into the parameters of calls: our marks, and the page's return address and language."""

    marks: Marks
    frontend_url: str
    locale: str = DEFAULT_LOCALE


def calls_for(
    event: object, envelope: Envelope, time: datetime, *, context: CallContext, stay: Stay | None = None
) -> tuple[PendingCall, ...]:
    """Return the calls that an event leads to, in order; most events lead to none.

    Args:
        event: the event.
        envelope: its envelope.
        time: the log's time of the event (UTC).
        context: our settings.
        stay: the words about the booking for the payment page; without them the page names no hotel.
    """
    match event:
        case PaymentRequested():
            earlier = SessionsToClose(booking_id=event.booking_id, before_attempt=event.attempt)
            return (earlier, _session(event, envelope, time, context, _of_attempt(stay, event.attempt)))
        case BookingExpired() | BookingCancelled() | ChangeEnded() | StayChanged(payment_intent=None):
            return (SessionsToClose(booking_id=event.booking_id),)
        case (
            BookingConfirmed(payment_intent=str() as payment_intent)
            | StayChanged(payment_intent=str() as payment_intent)
        ):
            # The paid session is complete by now; another one that is still open must not be paid as well.
            return (*_payment_of(event, payment_intent), SessionsToClose(booking_id=event.booking_id))
        case RefundRequested():
            noted = _payment_of(event, event.payment_intent)
            return (*noted, _refund(event, envelope, context)) if event.amount_minor > 0 else noted
        case RefundFailed() | RefundClosed() | DisputeClosed():
            return (RefundToSettle(payment_intent=event.payment_intent),)
        case _:
            return ()


def _of_attempt(stay: Stay | None, attempt: int) -> Stay | None:
    """Return the words for a payment attempt: those of the pending change only if the attempt pays it."""
    if stay is None or stay.change is None or stay.change.attempt == attempt:
        return stay
    return replace(stay, change=None)


def _payment_of(
    event: BookingConfirmed | StayChanged | RefundRequested, payment_intent: str
) -> tuple[PendingCall, ...]:
    if event.session_id is None:
        return ()
    paid = PaymentOfSession(booking_id=event.booking_id, session_id=event.session_id, payment_intent=payment_intent)
    return (paid,)


def renewed_session(due: DueSession, now: datetime) -> SessionToOpen:
    """Return the same session under a new key, and with a deadline far enough ahead of `now` (UTC)."""
    expires_at = now + SESSION_TIME
    ref = BookingRef(due.booking_id, due.room_id, due.attempt)
    return SessionToOpen(
        booking_id=due.booking_id,
        attempt=due.attempt,
        room_id=due.room_id,
        params=due.params | {"expires_at": _epoch_seconds(expires_at)},
        idempotency_key=f"{_session_key(ref)}:{_epoch_seconds(now)}",
        expires_at=expires_at,
        causation=due.causation,
        correlation=due.correlation,
    )


def _session(
    event: PaymentRequested, envelope: Envelope, time: datetime, context: CallContext, stay: Stay | None
) -> SessionToOpen:
    ref = BookingRef(event.booking_id, event.room_id, event.attempt)
    expires_at = time + SESSION_TIME
    return SessionToOpen(
        booking_id=event.booking_id,
        attempt=event.attempt,
        room_id=event.room_id,
        params=_session_params(event, envelope, time, context, stay) | {"expires_at": _epoch_seconds(expires_at)},
        idempotency_key=_session_key(ref),
        expires_at=expires_at,
        causation=envelope.id,
        correlation=envelope.correlation or envelope.id,
    )


def _session_params(
    event: PaymentRequested, envelope: Envelope, time: datetime, context: CallContext, stay: Stay | None
) -> dict[str, Any]:
    address = f"{context.frontend_url.rstrip('/')}/bookings/{event.booking_id}"
    ref = BookingRef(event.booking_id, event.room_id, event.attempt)
    metadata = ref.metadata(context.marks) | _trace(envelope)
    terms = page.terms_text(event.currency, stay, time)
    custom_text = {} if terms is None else {"custom_text": {"submit": {"message": terms}}}
    return custom_text | {
        "mode": "payment",
        # Slow methods cannot fit into a hold.
        "allowed_payment_method_types": ["card"],
        "client_reference_id": str(event.booking_id),
        "line_items": page.line_items(event.amount_minor, event.currency, stay),
        "locale": context.locale,
        "metadata": metadata,
        "payment_intent_data": _payment_data(event, stay) | {"metadata": metadata},
        "success_url": f"{address}?payment=success",
        "cancel_url": f"{address}?payment=cancelled",
    }


def _payment_data(event: PaymentRequested, stay: Stay | None) -> dict[str, Any]:
    """Return the words of the receipt and of the bank statement."""
    words = {"description": page.receipt_text(stay, event.booking_id)}
    suffix = page.statement_suffix(stay)
    return words if suffix is None else words | {"statement_descriptor_suffix": suffix}


def _refund(event: RefundRequested, envelope: Envelope, context: CallContext) -> RefundToMake:
    ref = BookingRef(event.booking_id, event.room_id)
    target_minor = event.amount_minor if event.total_minor is None else event.total_minor
    return RefundToMake(
        payment_intent=event.payment_intent,
        booking_id=event.booking_id,
        room_id=event.room_id,
        params={
            "payment_intent": event.payment_intent,
            # The caller computes the amount anew. A fraction of Stripe's unit must not stop the reading of events.
            "amount": to_stripe(event.amount_minor - event.amount_minor % step_minor(event.currency), event.currency),
            "metadata": ref.metadata(context.marks) | _trace(envelope),
        },
        idempotency_key=f"{event.payment_intent}:refund",
        amount_minor=target_minor,
        currency=event.currency,
        reason=event.reason,
        causation=envelope.id,
        correlation=envelope.correlation or envelope.id,
    )


def _trace(envelope: Envelope) -> dict[str, str]:
    """Return the event's own trace, so that a repeated call has the same parameters."""
    return {} if envelope.traceparent is None else {TRACEPARENT: envelope.traceparent}


def _session_key(ref: BookingRef) -> str:
    return f"{ref.booking_id}:checkout:{ref.attempt}"


def _epoch_seconds(time: datetime) -> int:
    return int(time.timestamp())
