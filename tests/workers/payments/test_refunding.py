"""How much of a payment goes back, by which call, and when a refused one is tried again."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from storage.payments import DueRefund, RefundSums
from workers.payments.refunding import (
    call_for_rest,
    refused_delay_seconds,
    renewed_key,
    rest_minor,
    status_after,
)
from workers.stripe.marks import Marks

BOOKING = UUID("0197a5b2-6c00-8000-8000-000000000001")
MARKS = Marks("a key", UUID(int=1))
NOTHING = RefundSums(
    status="creating",
    idempotency_key="pi_1:refund",
    refusals=0,
    target_minor=20_000,
    succeeded_minor=0,
    pending_minor=0,
    lost_minor=0,
    closed_minor=0,
    failed_count=0,
)
DUE = DueRefund(
    payment_intent="pi_1",
    booking_id=BOOKING,
    room_id=7,
    status="creating",
    params={"amount": 1, "metadata": {"traceparent": "00-1-2-01", "other": "x"}},
    idempotency_key="pi_1:refund",
    amount_minor=20_000,
    currency="EUR",
    refund_id=None,
    causation="x",
    correlation="x",
    failures=0,
    lease=datetime(2030, 1, 1, tzinfo=UTC),
)


@pytest.mark.parametrize(
    ("sums", "rest", "status"),
    [
        ({}, 20_000, "creating"),
        ({"succeeded_minor": 5_000}, 15_000, "creating"),
        ({"pending_minor": 5_000}, 15_000, "creating"),
        ({"pending_minor": 20_000}, 0, "pending"),
        ({"succeeded_minor": 5_000, "pending_minor": 15_000}, 0, "pending"),
        ({"succeeded_minor": 20_000}, 0, "succeeded"),
        ({"succeeded_minor": 25_000}, 0, "succeeded"),
        ({"succeeded_minor": 5_000, "lost_minor": 5_000}, 10_000, "creating"),
        ({"lost_minor": 20_000}, 0, "closed"),
        ({"succeeded_minor": 5_000, "lost_minor": 15_000}, 0, "closed"),
        ({"closed_minor": 20_000}, 0, "closed"),
        ({"succeeded_minor": 5_000, "closed_minor": 15_000}, 0, "closed"),
        ({"pending_minor": 5_000, "closed_minor": 15_000}, 0, "pending"),
    ],
)
def test_the_rest_is_what_did_not_leave_yet(sums: dict[str, Any], rest: int, status: str) -> None:
    after = replace(NOTHING, **sums)

    assert (rest_minor(after), status_after(after)) == (rest, status)


def test_the_call_is_for_the_rest_and_carries_our_mark_and_the_requests_trace() -> None:
    call = call_for_rest(DUE, replace(NOTHING, succeeded_minor=5_000), 1, MARKS)

    mark = MARKS.mark(BOOKING, 7)
    assert call.params == {
        "payment_intent": "pi_1",
        "amount": 15_000,
        "metadata": {"booking_id": str(BOOKING), "room_id": "7", "mark": mark, "traceparent": "00-1-2-01"},
    }
    assert call.idempotency_key == "pi_1:refund:20000:5000:1"


def test_a_call_that_was_fixed_before_is_the_same_call_also_under_a_renewed_key() -> None:
    first = call_for_rest(DUE, NOTHING, 0, MARKS)
    for key in (first.idempotency_key, renewed_key(first.idempotency_key)):
        fixed = replace(DUE, params={"as": "stored"}, idempotency_key=key)
        assert call_for_rest(fixed, NOTHING, 0, MARKS) == (fixed.params, key)


@pytest.mark.parametrize(
    ("changes", "refunds_count"),
    [
        ({"succeeded_minor": 1}, 0),
        ({"pending_minor": 1}, 0),
        ({"lost_minor": 1}, 0),
        ({"closed_minor": 1}, 0),
        ({"target_minor": 20_001}, 0),
        # A refund that failed: the sums are as before it.
        ({}, 1),
    ],
)
def test_another_state_of_the_payment_leads_to_another_key(changes: dict[str, Any], refunds_count: int) -> None:
    first = call_for_rest(DUE, NOTHING, 0, MARKS)
    fixed = replace(DUE, params=first.params, idempotency_key=renewed_key(first.idempotency_key))

    again = call_for_rest(fixed, replace(NOTHING, **changes), refunds_count, MARKS)

    assert again.idempotency_key not in {first.idempotency_key, fixed.idempotency_key}


def test_a_key_is_renewed_by_counting() -> None:
    assert renewed_key("pi_1:refund:1:0:0") == "pi_1:refund:1:0:0/1"
    assert renewed_key("pi_1:refund:1:0:0/9") == "pi_1:refund:1:0:0/10"


def test_pauses_double_from_a_minute_to_six_hours() -> None:
    delays = [refused_delay_seconds(failures) for failures in range(40)]

    assert 48 <= delays[0] <= 60
    assert all(0.8 * expected <= delay <= expected for delay, expected in zip(delays, _expected(), strict=False))
    assert 0.8 * 21_600 <= min(delays[12:]) <= max(delays) <= 21_600


def _expected() -> list[float]:
    return [min(21_600.0, 60.0 * 2**failures) for failures in range(11)]
