"""How much of a payment goes back, by which call, and when a refused one is tried again."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
import pytest

from storage.payments import DueRefund, LostDispute, RefundRow, RefundSeen
from workers.decisions import Payment, PaymentState, RefundMade
from workers.decisions.state import UNKNOWN_REFUND, Dispute
from workers.payments.refunding import RefundSums, call_for_rest, refused_delay_seconds, renewed_key, sums_of
from workers.stripe.marks import Marks

BOOKING = UUID("0197a5b2-6c00-8000-8000-000000000001")
MARKS = Marks("a key", UUID(int=1))
ROW = RefundRow(status="creating", idempotency_key="pi_1:refund", refusals=0, target_minor=20_000)
NOTHING = RefundSums(20_000, 20_000, 0, ended=False)
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


def seen(amount_minor: int, status: str = "succeeded", id: str = "re_1", *, by_hand: bool = False) -> RefundSeen:
    return RefundSeen(id, amount_minor, status, by_hand)


LOST = (LostDispute("dp_1", 5_000),)


@pytest.mark.parametrize(
    ("row", "rest", "status"),
    [
        ({}, 20_000, "creating"),
        ({"seen": (seen(5_000),)}, 15_000, "creating"),
        ({"seen": (seen(5_000, "pending"),)}, 15_000, "creating"),
        ({"seen": (seen(5_000, "failed"),)}, 20_000, "creating"),
        ({"seen": (seen(20_000, "pending"),)}, 0, "pending"),
        ({"seen": (seen(5_000), seen(15_000, "pending"))}, 0, "pending"),
        ({"seen": (seen(20_000),)}, 0, "succeeded"),
        ({"seen": (seen(25_000, by_hand=True),)}, 0, "succeeded"),
        ({"seen": (seen(5_000),), "lost": LOST}, 10_000, "creating"),
        ({"seen": (seen(15_000),), "lost": LOST}, 0, "closed"),
        ({"status": "closed"}, 0, "closed"),
        ({"status": "closed", "seen": (seen(5_000),)}, 0, "closed"),
        ({"status": "closed", "seen": (seen(5_000, "pending"),)}, 0, "pending"),
    ],
)
def test_the_rest_of_a_payment_without_a_ledger_is_what_did_not_leave_yet(
    row: dict[str, Any], rest: int, status: str
) -> None:
    sums = sums_of(replace(ROW, **row))

    assert (sums.target_minor, sums.rest_minor, sums.status) == (20_000, rest, status)


def ledger(**fields: Any) -> dict[str, Any]:
    """Return a payment of 400.00 as the ledger has it."""
    built: dict[str, Any] = msgspec.to_builtins(Payment("pi_1", "cs_1", 40_000, PaymentState.KEPT, **fields))
    return built


RECORDED = (Dispute("dp_1", 5_000, "lost"),)
OURS, BY_HAND = RefundMade("re_1", 20_000), RefundMade("re_2", 15_000, by_hand=True)


@pytest.mark.parametrize(
    ("paid", "row", "sums", "status"),
    [
        # Nothing at Stripe that the ledger does not have.
        ({"due_minor": 20_000}, {}, (20_000, 20_000), "creating"),
        ({"refunds": (OURS,)}, {"seen": (seen(20_000),)}, (20_000, 0), "succeeded"),
        ({"refunds": (OURS, BY_HAND)}, {"seen": (seen(20_000), seen(15_000, id="re_2"))}, (35_000, 0), "succeeded"),
        # The ledger has not recorded a refund yet, or only its request.
        ({"due_minor": 20_000}, {"seen": (seen(20_000),)}, (20_000, 0), "succeeded"),
        ({"due_minor": 20_000}, {"seen": (seen(20_000, "pending"),)}, (20_000, 0), "pending"),
        ({"due_minor": 20_000}, {"seen": (seen(5_000, by_hand=True),)}, (20_000, 15_000), "creating"),
        # A refund failed, and the room has not recorded it: its decision makes an amount due again.
        ({"refunds": (OURS,)}, {"seen": (seen(20_000, "failed"),)}, (20_000, 0), "succeeded"),
        (
            {"refunds": (BY_HAND,), "due_minor": 20_000, "failed_refund_ids": ("re_1",)},
            {"seen": (seen(20_000, "failed"), seen(15_000, id="re_2"))},
            (35_000, 20_000),
            "creating",
        ),
        # It failed before it counted as carried out.
        ({"due_minor": 20_000}, {"seen": (seen(20_000, "failed"),)}, (20_000, 20_000), "creating"),
        # One by hand failed: the row's target falls.
        ({"refunds": (OURS,), "failed_refund_ids": ("re_2",)}, {"target_minor": 35_000}, (20_000, 0), "succeeded"),
        # The amounts of lost disputes, and those that an operator closed, are not sent.
        ({"due_minor": 20_000}, {"lost": LOST}, (20_000, 15_000), "creating"),
        (
            {"due_minor": 15_000, "disputes": (Dispute("dp_1", 5_000, "lost"),)},
            {"lost": LOST},
            (20_000, 15_000),
            "creating",
        ),
        ({"due_minor": 5_000}, {"lost": LOST}, (5_000, 0), "closed"),
        ({"disputes": RECORDED}, {"lost": LOST}, (5_000, 0), "closed"),
        ({"closed_minor": 20_000}, {"status": "closed"}, (20_000, 0), "closed"),
        ({"closed_minor": 20_000, "due_minor": 5_000}, {"status": "closed"}, (25_000, 5_000), "creating"),
        # 0.1.0 recorded the sum of the refunds without their ids.
        ({"refunds": (RefundMade(UNKNOWN_REFUND, 20_000),)}, {"seen": (seen(20_000),)}, (20_000, 0), "succeeded"),
        (
            {"refunds": (RefundMade(UNKNOWN_REFUND, 20_000),), "due_minor": 9_000},
            {"seen": (seen(20_000), seen(4_000, "pending", "re_2"))},
            (29_000, 5_000),
            "creating",
        ),
    ],
)
def test_the_rest_is_the_amount_due_by_the_ledger_less_the_refunds_that_it_has_not_recorded(
    paid: dict[str, Any], row: dict[str, Any], sums: tuple[int, int], status: str
) -> None:
    after = sums_of(replace(ROW, **{**row, "ledger": ledger(**paid)}))

    assert (after.target_minor, after.rest_minor, after.status) == (*sums, status)


def test_the_call_is_for_the_rest_and_carries_our_mark_and_the_requests_trace() -> None:
    call = call_for_rest(DUE, NOTHING._replace(rest_minor=15_000), 1, MARKS)

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
        # The same rest of another target, and another rest of the same.
        ({"target_minor": 20_001}, 0),
        ({"rest_minor": 19_999}, 0),
        # A refund that failed: the sums are as before it.
        ({}, 1),
    ],
)
def test_another_state_of_the_payment_leads_to_another_key(changes: dict[str, Any], refunds_count: int) -> None:
    first = call_for_rest(DUE, NOTHING, 0, MARKS)
    fixed = replace(DUE, params=first.params, idempotency_key=renewed_key(first.idempotency_key))

    again = call_for_rest(fixed, NOTHING._replace(**changes), refunds_count, MARKS)

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
