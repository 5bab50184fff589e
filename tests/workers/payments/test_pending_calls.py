"""The saga of payments: the calls to Stripe that each event leads to."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from storage.payments import DueSession, RefundToMake, SessionsToClose, SessionToOpen
from topics.envelope import Envelope
from topics.messages.events import (
    BookingCancelled,
    BookingConfirmed,
    BookingExpired,
    BookingRefunded,
    Event,
    GuestsAdded,
    PaymentDeclined,
    PaymentRequested,
    RefundRequested,
)
from topics.messages.values import CancelReason, RefundReason
from workers.payments.pending_calls import PendingCall, calls_for, renewed_session

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
BOOKING = UUID("0197a5b2-6c00-8000-8000-000000000001")
ENVELOPE = Envelope(
    id="command-1:0", type="x", source="innkeeper/reservations", subject="x", time=NOON, correlation="command-1"
)
REQUESTED = PaymentRequested(room_id=7, booking_id=BOOKING, attempt=2, amount_minor=24_000, currency="EUR")
REFUND = RefundRequested(
    room_id=7,
    booking_id=BOOKING,
    session_id="cs_1",
    payment_intent="pi_1",
    amount_minor=24_000,
    currency="EUR",
    reason=RefundReason.NIGHTS_GONE,
)


def calls_of(event: Event) -> tuple[PendingCall, ...]:
    return calls_for(event, ENVELOPE, NOON, frontend_url="https://inn.example/")


def test_a_requested_payment_opens_a_session_with_its_call_fixed() -> None:
    _, session = calls_of(REQUESTED)

    assert isinstance(session, SessionToOpen)
    assert session.idempotency_key == f"{BOOKING}:checkout:2"
    assert session.expires_at == NOON + timedelta(minutes=35)
    assert (session.causation, session.correlation) == ("command-1:0", "command-1")
    metadata = {"booking_id": str(BOOKING), "room_id": "7", "attempt": "2"}
    assert session.params == {
        "mode": "payment",
        "allowed_payment_method_types": ["card"],
        "client_reference_id": str(BOOKING),
        "line_items": [
            {
                "quantity": 1,
                "price_data": {
                    "currency": "eur",
                    "unit_amount": 24_000,
                    "product_data": {"name": "Hotel booking"},
                },
            }
        ],
        "metadata": metadata,
        "payment_intent_data": {"metadata": metadata},
        "success_url": f"https://inn.example/bookings/{BOOKING}?payment=success",
        "cancel_url": f"https://inn.example/bookings/{BOOKING}?payment=cancelled",
        "expires_at": int((NOON + timedelta(minutes=35)).timestamp()),
    }


def test_a_second_attempt_closes_the_first_so_that_only_one_can_be_paid() -> None:
    first, _ = calls_of(REQUESTED)

    assert first == SessionsToClose(booking_id=BOOKING, before_attempt=2)


def test_the_same_event_read_again_leads_to_exactly_the_same_call() -> None:
    assert calls_of(REQUESTED) == calls_of(REQUESTED)


@pytest.mark.parametrize(
    "event",
    [
        BookingExpired(room_id=7, booking_id=BOOKING),
        BookingCancelled(room_id=7, booking_id=BOOKING, reason=CancelReason.BY_GUEST),
        BookingConfirmed(
            room_id=7, booking_id=BOOKING, amount_minor=1, currency="EUR", session_id="cs_1", payment_intent="pi_1"
        ),
    ],
)
def test_a_booking_that_needs_no_money_any_more_closes_its_sessions(event: Event) -> None:
    assert calls_of(event) == (SessionsToClose(booking_id=BOOKING),)


def test_a_refund_goes_back_in_full_under_the_payments_key() -> None:
    (refund,) = calls_of(REFUND)

    assert refund == RefundToMake(
        payment_intent="pi_1",
        booking_id=BOOKING,
        room_id=7,
        params={
            "payment_intent": "pi_1",
            "amount": 24_000,
            "metadata": {"booking_id": str(BOOKING), "room_id": "7"},
        },
        idempotency_key="pi_1:refund",
        amount_minor=24_000,
        currency="EUR",
        reason="nights_gone",
        causation="command-1:0",
        correlation="command-1",
    )


@pytest.mark.parametrize(
    "event",
    [
        GuestsAdded(room_id=7, booking_id=BOOKING, guest_ids=(1,)),
        PaymentDeclined(room_id=7, booking_id=BOOKING, failure="generic_decline"),
        BookingConfirmed(room_id=7, booking_id=BOOKING, amount_minor=1, currency="EUR"),
        BookingRefunded(room_id=7, booking_id=BOOKING, payment_intent="pi_1", refund_id="re_1", amount_minor=1),
        RefundRequested(**{name: getattr(REFUND, name) for name in REFUND.__struct_fields__} | {"amount_minor": 0}),
    ],
)
def test_nothing_else_leads_to_a_call(event: Event) -> None:
    assert calls_of(event) == ()


def test_a_session_fixed_anew_has_another_key_and_a_later_deadline_and_is_else_the_same() -> None:
    _, first = calls_of(REQUESTED)
    assert isinstance(first, SessionToOpen)

    again = renewed_session(due(first), NOON + timedelta(minutes=9))

    assert again.idempotency_key != first.idempotency_key
    assert again.expires_at == NOON + timedelta(minutes=44)
    assert again.params == first.params | {"expires_at": int(again.expires_at.timestamp())}


def due(session: SessionToOpen) -> DueSession:
    row: dict[str, Any] = {name: getattr(session, name) for name in session.__slots__ if name != "expires_at"}
    return DueSession(**row, status="creating", session_id=None, failures=0, created_at=NOON, lease=NOON)
