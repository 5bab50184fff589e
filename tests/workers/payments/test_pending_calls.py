"""The saga of payments: the calls to Stripe that each event leads to."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest

from storage.payments import (
    DueSession,
    PaymentOfSession,
    RefundToMake,
    RefundToSettle,
    SessionsToClose,
    SessionToOpen,
    Stay,
    StayChange,
)
from topics.envelope import Envelope
from topics.messages.events import (
    BookingCancelled,
    BookingConfirmed,
    BookingEvent,
    BookingExpired,
    BookingRefunded,
    ChangeEnded,
    DisputeClosed,
    Event,
    GuestsAdded,
    PaymentDeclined,
    PaymentRequested,
    RefundClosed,
    RefundFailed,
    RefundRequested,
    StayBefore,
    StayChanged,
)
from topics.messages.values import CancelReason, ChangeEnd, DisputeResult, RefundClosing, RefundReason
from workers.payments.pending_calls import CallContext, PendingCall, calls_for, renewed_session
from workers.stripe.marks import Marks

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


MARKS = Marks("a key", UUID(int=1))
CONTEXT = CallContext(marks=MARKS, frontend_url="https://inn.example/")
STAY = Stay(
    hotel="Hôtel du Lac",
    room_type="Double room",
    check_in=date(2030, 12, 24),
    check_out=date(2030, 12, 27),
    rooms_count=2,
)
PAID = PaymentOfSession(booking_id=BOOKING, session_id="cs_1", payment_intent="pi_1")


def calls_of(event: Event, stay: Stay | None = STAY) -> tuple[PendingCall, ...]:
    return calls_for(event, ENVELOPE, NOON, context=CONTEXT, stay=stay)


def test_a_fraction_of_stripes_unit_does_not_stop_the_reading_of_events() -> None:
    # Stripe counts whole ariary, and 0.1.0 priced stays in hundredths.
    _, session = calls_of(msgspec.structs.replace(REQUESTED, amount_minor=1_234, currency="MGA"))
    _, refund = calls_of(msgspec.structs.replace(REFUND, amount_minor=1_234, currency="MGA"))

    assert isinstance(session, SessionToOpen)
    assert isinstance(refund, RefundToMake)
    # Stripe refuses a price without an amount.
    assert "unit_amount" not in session.params["line_items"][0]["price_data"]
    assert (refund.amount_minor, refund.params["amount"]) == (1_234, 12)


def test_a_requested_payment_opens_a_session_with_its_call_fixed() -> None:
    _, session = calls_of(REQUESTED)

    assert isinstance(session, SessionToOpen)
    assert session.idempotency_key == f"{BOOKING}:checkout:2"
    assert session.expires_at == NOON + timedelta(minutes=35)
    assert (session.causation, session.correlation) == ("command-1:0", "command-1")
    mark = MARKS.mark(BOOKING, 7)
    metadata = {"booking_id": str(BOOKING), "room_id": "7", "attempt": "2", "mark": mark}
    words = "24 Dec 2030 - 27 Dec 2030, 3 nights, 2 rooms"
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
                    "product_data": {"name": "Hôtel du Lac, Double room", "description": words},
                },
            }
        ],
        "locale": "auto",
        "metadata": metadata,
        "payment_intent_data": {
            "description": f"Hôtel du Lac, Double room: {words}. Booking {BOOKING}",
            "metadata": metadata,
            "statement_descriptor_suffix": "Hotel du L",
        },
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
    ],
)
def test_a_booking_that_needs_no_money_any_more_closes_its_sessions(event: Event) -> None:
    assert calls_of(event) == (SessionsToClose(booking_id=BOOKING),)


def test_a_booking_that_was_paid_notes_its_payment_and_closes_its_sessions() -> None:
    confirmed = BookingConfirmed(
        room_id=7, booking_id=BOOKING, amount_minor=1, currency="EUR", session_id="cs_1", payment_intent="pi_1"
    )

    assert calls_of(confirmed) == (PAID, SessionsToClose(booking_id=BOOKING))


def changed(payment_intent: str | None) -> StayChanged:
    return StayChanged(
        room_id=7,
        booking_id=BOOKING,
        change_id=UUID(int=9),
        check_in=date(2030, 12, 24),
        check_out=date(2030, 12, 28),
        rooms_count=2,
        amount_minor=32_000,
        currency="EUR",
        night_amounts_minor=(8_000,) * 4,
        before=StayBefore(check_in=STAY.check_in, check_out=STAY.check_out, rooms_count=2, amount_minor=24_000),
        extra_minor=0 if payment_intent is None else 8_000,
        session_id=None if payment_intent is None else "cs_1",
        payment_intent=payment_intent,
    )


def test_a_change_that_was_paid_notes_its_payment_and_closes_the_other_sessions() -> None:
    assert calls_of(changed("pi_1")) == (PAID, SessionsToClose(booking_id=BOOKING))


def test_a_change_that_ends_or_costs_nothing_closes_the_sessions() -> None:
    ended = ChangeEnded(room_id=7, booking_id=BOOKING, change_id=UUID(int=9), reason=ChangeEnd.EXPIRED)

    assert calls_of(ended) == calls_of(changed(None)) == (SessionsToClose(booking_id=BOOKING),)


def test_the_words_of_a_change_are_on_the_page_of_its_own_attempt_alone() -> None:
    change = StayChange(attempt=2, check_in=STAY.check_in, check_out=date(2030, 12, 28), rooms_count=2)
    changing = replace(STAY, change=change)

    (_, its_own), (_, first) = (
        calls_of(REQUESTED, changing),
        calls_of(msgspec.structs.replace(REQUESTED, attempt=1), changing),
    )

    assert isinstance(its_own, SessionToOpen)
    assert isinstance(first, SessionToOpen)
    words, others = (
        session.params["line_items"][0]["price_data"]["product_data"]["description"] for session in (its_own, first)
    )
    assert words == (
        "Additional amount for a change of the stay, now 24 Dec 2030 - 27 Dec 2030, 3 nights, 2 rooms, to "
        "24 Dec 2030 - 28 Dec 2030, 4 nights, 2 rooms"
    )
    assert others == "24 Dec 2030 - 27 Dec 2030, 3 nights, 2 rooms"


def test_a_booking_whose_hotel_is_not_known_can_be_paid_all_the_same() -> None:
    _, session = calls_of(REQUESTED, stay=None)

    assert isinstance(session, SessionToOpen)
    (line,) = session.params["line_items"]
    assert line["price_data"]["product_data"] == {"name": "Hotel booking"}
    assert session.params["payment_intent_data"].keys() == {"description", "metadata"}


@pytest.mark.parametrize(("currency", "in_stripes_unit"), [("EUR", 24_000), ("ISK", 2_400_000), ("MGA", 240)])
def test_amounts_are_sent_in_the_unit_in_which_stripe_counts(currency: str, in_stripes_unit: int) -> None:
    _, session = calls_of(msgspec.structs.replace(REQUESTED, currency=currency))
    _, refund = calls_of(msgspec.structs.replace(REFUND, currency=currency))

    assert isinstance(session, SessionToOpen)
    assert isinstance(refund, RefundToMake)
    assert session.params["line_items"][0]["price_data"]["unit_amount"] == in_stripes_unit
    assert refund.params["amount"] == in_stripes_unit
    assert refund.amount_minor == 24_000


@pytest.mark.parametrize(("total_minor", "target_minor"), [(None, 15_000), (20_000, 20_000)])
def test_the_target_of_a_refund_is_the_sum_of_all_refunds(total_minor: int | None, target_minor: int) -> None:
    event = msgspec.structs.replace(REFUND, amount_minor=15_000, total_minor=total_minor)

    _, refund = calls_of(event)

    assert isinstance(refund, RefundToMake)
    assert refund.amount_minor == target_minor


@pytest.mark.parametrize(
    "event",
    [
        RefundClosed(
            room_id=7,
            booking_id=BOOKING,
            payment_intent="pi_1",
            amount_minor=1,
            currency="EUR",
            reason=RefundClosing.PAID_OTHERWISE,
        ),
        RefundFailed(
            room_id=7, booking_id=BOOKING, payment_intent="pi_1", refund_id="re_1", amount_minor=1, failure="declined"
        ),
        DisputeClosed(
            room_id=7,
            booking_id=BOOKING,
            payment_intent="pi_1",
            dispute_id="dp_1",
            amount_minor=1,
            currency="EUR",
            result=DisputeResult.LOST,
        ),
    ],
    ids=lambda event: type(event).__name__,
)
def test_a_due_amount_that_changes_without_a_request_is_read_from_the_ledger(event: BookingEvent) -> None:
    assert calls_of(event) == (RefundToSettle(payment_intent="pi_1"),)


def test_a_refund_of_nothing_only_notes_the_payment() -> None:
    assert calls_of(msgspec.structs.replace(REFUND, amount_minor=0)) == (PAID,)


def test_a_refund_goes_back_in_full_under_the_payments_key() -> None:
    noted, refund = calls_of(REFUND)

    assert noted == PAID
    assert refund == RefundToMake(
        payment_intent="pi_1",
        booking_id=BOOKING,
        room_id=7,
        params={
            "payment_intent": "pi_1",
            "amount": 24_000,
            "metadata": {"booking_id": str(BOOKING), "room_id": "7", "mark": MARKS.mark(BOOKING, 7)},
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
