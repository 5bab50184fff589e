"""The saga of payments on one page: the calls to Stripe that each event on `booking.events` leads to.

    PaymentRequested                                     -> open a Checkout Session; close those of earlier attempts
    BookingExpired, BookingCancelled, BookingConfirmed   -> close the booking's sessions
    RefundRequested                                      -> refund the payment in full

Pure. The exact parameters of a call and its idempotency key are fixed here, from the event alone, before it is made.
So a repeated call is the same call, and Stripe answers as it did before.
"""

from datetime import datetime, timedelta
from typing import Any, Final

from storage.payments import DueRefund, DueSession, RefundToMake, SessionsToClose, SessionToOpen
from telemetry.traces import TRACEPARENT
from topics.envelope import Envelope
from topics.messages.events import (
    BookingCancelled,
    BookingConfirmed,
    BookingExpired,
    PaymentRequested,
    RefundRequested,
)
from workers.payments.objects import BookingRef

SESSION_TIME: Final = timedelta(minutes=35)
"""The time within which a session may be paid. Stripe demands 30 minutes at least, by its clock at the time of the
call; the rest allows for a late call. We close the session ourselves when the hold ends, long before."""

PendingCall = SessionToOpen | SessionsToClose | RefundToMake


def calls_for(event: object, envelope: Envelope, time: datetime, *, frontend_url: str) -> tuple[PendingCall, ...]:
    """Return the calls that an event leads to, in order; `time` is the log's (UTC). Most events lead to none."""
    match event:
        case PaymentRequested():
            earlier = SessionsToClose(booking_id=event.booking_id, before_attempt=event.attempt)
            return (earlier, _session(event, envelope, time, frontend_url))
        case BookingExpired() | BookingCancelled():
            return (SessionsToClose(booking_id=event.booking_id),)
        case BookingConfirmed(payment_intent=str()):
            # The paid session is complete by now; another one that is still open must not be paid as well.
            return (SessionsToClose(booking_id=event.booking_id),)
        case RefundRequested() if event.amount_minor > 0:
            return (_refund(event, envelope),)
        case _:
            return ()


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


def renewed_refund_key(due: DueRefund, now: datetime) -> str:
    """Return a new idempotency key for the same refund."""
    return f"{_refund_key(due.payment_intent)}:{_epoch_seconds(now)}"


def _session(event: PaymentRequested, envelope: Envelope, time: datetime, frontend_url: str) -> SessionToOpen:
    ref = BookingRef(event.booking_id, event.room_id, event.attempt)
    expires_at = time + SESSION_TIME
    return SessionToOpen(
        booking_id=event.booking_id,
        attempt=event.attempt,
        room_id=event.room_id,
        params=_session_params(event, ref, expires_at, frontend_url, _trace(envelope)),
        idempotency_key=_session_key(ref),
        expires_at=expires_at,
        causation=envelope.id,
        correlation=envelope.correlation or envelope.id,
    )


def _session_params(
    event: PaymentRequested, ref: BookingRef, expires_at: datetime, frontend_url: str, trace: dict[str, str]
) -> dict[str, Any]:
    page = f"{frontend_url.rstrip('/')}/bookings/{event.booking_id}"
    price = {
        "currency": event.currency.lower(),
        "unit_amount": event.amount_minor,
        "product_data": {"name": "Hotel booking"},
    }
    return {
        "mode": "payment",
        # Slow methods cannot fit into a hold.
        "allowed_payment_method_types": ["card"],
        "client_reference_id": str(event.booking_id),
        "line_items": [{"quantity": 1, "price_data": price}],
        "metadata": ref.metadata() | trace,
        "payment_intent_data": {"metadata": ref.metadata() | trace},
        "success_url": f"{page}?payment=success",
        "cancel_url": f"{page}?payment=cancelled",
        "expires_at": _epoch_seconds(expires_at),
    }


def _refund(event: RefundRequested, envelope: Envelope) -> RefundToMake:
    ref = BookingRef(event.booking_id, event.room_id)
    return RefundToMake(
        payment_intent=event.payment_intent,
        booking_id=event.booking_id,
        room_id=event.room_id,
        params={
            "payment_intent": event.payment_intent,
            "amount": event.amount_minor,
            "metadata": ref.metadata() | _trace(envelope),
        },
        idempotency_key=_refund_key(event.payment_intent),
        amount_minor=event.amount_minor,
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


def _refund_key(payment_intent: str) -> str:
    return f"{payment_intent}:refund"


def _epoch_seconds(time: datetime) -> int:
    return int(time.timestamp())
