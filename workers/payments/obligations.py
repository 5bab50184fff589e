"""The saga of payments on one page: what each event on `booking.events` makes us owe Stripe.

    PaymentRequested                                     -> a Checkout Session; earlier attempts' sessions are closed
    BookingExpired, BookingCancelled, BookingConfirmed   -> the booking's sessions are closed
    RefundRequested                                      -> a refund in full

Pure. The exact parameters of a call and its idempotency key are fixed here, from the event alone, before it is made:
repeated, it is the same call, and Stripe answers as it did before.
"""

from datetime import datetime, timedelta
from typing import Any, Final

from storage.payments import DueRefund, DueSession, RefundOwed, SessionOwed, SessionsToClose
from telemetry.traces import TRACEPARENT
from topics.envelope import Envelope
from topics.messages.events import (
    BookingCancelled,
    BookingConfirmed,
    BookingExpired,
    PaymentRequested,
    RefundRequested,
)
from workers.payments.objects import Ours

SESSION_TIME: Final = timedelta(minutes=35)
"""How long a session may be paid. Stripe asks for 30 minutes at least, by its clock at the time of the call: the rest
is for the call to come late. We close the session ourselves when the hold ends, long before."""

Obligation = SessionOwed | SessionsToClose | RefundOwed


def owed(event: object, envelope: Envelope, time: datetime, *, frontend_url: str) -> tuple[Obligation, ...]:
    """Return what an event makes us owe, in order; `time` is the log's (UTC). Most events make us owe nothing."""
    match event:
        case PaymentRequested():
            earlier = SessionsToClose(booking_id=event.booking_id, before_attempt=event.attempt)
            return (earlier, _session(event, envelope, time, frontend_url))
        case BookingExpired() | BookingCancelled():
            return (SessionsToClose(booking_id=event.booking_id),)
        case BookingConfirmed(payment_intent=str()):
            # The session that was paid is complete by now; another one that is open must not be paid as well.
            return (SessionsToClose(booking_id=event.booking_id),)
        case RefundRequested() if event.amount_minor > 0:
            return (_refund(event, envelope),)
        case _:
            return ()


def renewed_session(due: DueSession, now: datetime) -> SessionOwed:
    """Return the same session under a new key and with a deadline that is far enough ahead of `now` (UTC)."""
    expires_at = now + SESSION_TIME
    ours = Ours(due.booking_id, due.room_id, due.attempt)
    return SessionOwed(
        booking_id=due.booking_id,
        attempt=due.attempt,
        room_id=due.room_id,
        params=due.params | {"expires_at": _epoch_seconds(expires_at)},
        idempotency_key=f"{_session_key(ours)}:{_epoch_seconds(now)}",
        expires_at=expires_at,
        causation=due.causation,
        correlation=due.correlation,
    )


def renewed_refund_key(due: DueRefund, now: datetime) -> str:
    """Return a new idempotency key for the same refund."""
    return f"{_refund_key(due.payment_intent)}:{_epoch_seconds(now)}"


def _session(event: PaymentRequested, envelope: Envelope, time: datetime, frontend_url: str) -> SessionOwed:
    ours = Ours(event.booking_id, event.room_id, event.attempt)
    expires_at = time + SESSION_TIME
    return SessionOwed(
        booking_id=event.booking_id,
        attempt=event.attempt,
        room_id=event.room_id,
        params=_session_params(event, ours, expires_at, frontend_url, _trace(envelope)),
        idempotency_key=_session_key(ours),
        expires_at=expires_at,
        causation=envelope.id,
        correlation=envelope.correlation or envelope.id,
    )


def _session_params(
    event: PaymentRequested, ours: Ours, expires_at: datetime, frontend_url: str, trace: dict[str, str]
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
        "metadata": ours.metadata() | trace,
        "payment_intent_data": {"metadata": ours.metadata() | trace},
        "success_url": f"{page}?payment=success",
        "cancel_url": f"{page}?payment=cancelled",
        "expires_at": _epoch_seconds(expires_at),
    }


def _refund(event: RefundRequested, envelope: Envelope) -> RefundOwed:
    ours = Ours(event.booking_id, event.room_id)
    return RefundOwed(
        payment_intent=event.payment_intent,
        booking_id=event.booking_id,
        room_id=event.room_id,
        params={
            "payment_intent": event.payment_intent,
            "amount": event.amount_minor,
            "metadata": ours.metadata() | _trace(envelope),
        },
        idempotency_key=_refund_key(event.payment_intent),
        amount_minor=event.amount_minor,
        currency=event.currency,
        reason=event.reason,
        causation=envelope.id,
        correlation=envelope.correlation or envelope.id,
    )


def _trace(envelope: Envelope) -> dict[str, str]:
    """Return the event's own trace, the same whoever reads it: repeated, a call has the same parameters."""
    return {} if envelope.traceparent is None else {TRACEPARENT: envelope.traceparent}


def _session_key(ours: Ours) -> str:
    return f"{ours.booking_id}:checkout:{ours.attempt}"


def _refund_key(payment_intent: str) -> str:
    return f"{payment_intent}:refund"


def _epoch_seconds(time: datetime) -> int:
    return int(time.timestamp())
