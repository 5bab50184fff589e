"""The money of simulated guests: runs in which Stripe fails often, and what the auditor of money notices."""

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest

from tests.faults.row import Promise
from tests.simulation.documents_auditor import DocumentsAuditor
from tests.simulation.money_auditor import MAX_OPEN, MoneyAuditor
from tests.simulation.plan import Fault, Plan
from tests.simulation.world import simulate

#: The faults after which a call to Stripe may have been carried out, or not.
OF_STRIPE: Final = frozenset(
    {
        Fault.CRASH_AFTER,
        Fault.ANSWER_LOST,
        Fault.LATE,
        Fault.SERVER_ERROR,
        Fault.RATE_LIMITED,
        Fault.STRIPE_AWAY,
    }
)
NOON: Final = datetime(2028, 1, 1, 12, tzinfo=UTC)
BOOKING: Final = "6a1f0c2e-0000-4000-8000-000000000001"
CLOSED: Final[dict[str, Any]] = {"booking_id": BOOKING}
CONFIRMED: Final = {**CLOSED, "payment_intent": "pi_1"}
REFUNDED: Final = {**CONFIRMED, "refund_id": "re_1", "amount_minor": 40}
PAYMENT: Final[dict[str, Any]] = {
    "id": "pi_1",
    "booking_id": BOOKING,
    "amount": 100,
    "refunds": {},
    "by_hand": 0,
    "lost": 0,
}


@pytest.mark.unit
def test_each_cent_is_explained_while_calls_to_stripe_fail() -> None:
    events, faults = Counter[str](), Counter[Fault]()
    for seed in range(1, 5):
        result = simulate(Plan(seed=seed, hours=6, steps_between_faults=30, kinds=OF_STRIPE))
        assert not result.problems, seed
        events += result.events
        faults += result.faults

    assert faults.keys() >= OF_STRIPE
    for kind in ("refunded", "refund_failed", "payment_declined", "dispute_closed", "changed", "leg_ended", "no_show"):
        assert events[f"booking.{kind}.v1"], kind
    # Parts that go back by a policy, documents, and sale terms that change.
    for kind in ("booking.refund_requested.v2", "document.issued.v1", "inventory.sale_terms_changed.v1"):
        assert events[kind], kind


@pytest.mark.long
@pytest.mark.parametrize("seed", range(5, 10))
def test_each_cent_is_explained_in_days_of_failing_calls(seed: int) -> None:
    result = simulate(Plan(seed=seed, hours=24, steps_between_faults=30, kinds=OF_STRIPE))
    assert not result.problems


def judged(judge: Callable[[MoneyAuditor], None]) -> list[str]:
    """Return what the auditor finds once a booking was asked to pay, and was confirmed at noon."""
    found: list[str] = []
    auditor = MoneyAuditor(lambda promise, what: found.append(f"{promise.name}: {what}"))
    auditor.read("booking.payment_requested", {**CLOSED, "attempt": 1}, NOON - timedelta(minutes=5))
    auditor.read("booking.confirmed", CONFIRMED, NOON)
    judge(auditor)
    assert all(problem.startswith(Promise.MONEY_IS_EXPLAINED.name) for problem in found)
    return found


@pytest.mark.unit
@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({}, None),
        ({"by_hand": 40, "lost": 0, "refunds": {"re_1": 40}}, "the events {}"),
        ({"refunds": {"re_1": 40}}, "costs 100, people took 0, Stripe has 60"),
        ({"refunds": {"re_1": 101}}, "went back"),
        ({"lost": 100}, None),
        ({"amount": 120}, "Stripe has 120"),
        ({"id": "pi_2"}, "no event names it"),
        ({"id": "pi_2"}, "pi_1, which nobody paid here"),
        ({"booking_id": "another"}, "which there is not"),
    ],
)
def test_money_that_no_event_explains_is_a_problem(change: dict[str, Any], part: str | None) -> None:
    found = judged(lambda auditor: auditor.check_money([PAYMENT | change], {BOOKING: 100}))
    assert any(part in problem for problem in found) if part else not found


@pytest.mark.unit
def test_a_refund_is_explained_once_it_is_recorded_and_no_more_once_it_failed() -> None:
    refunded = PAYMENT | {"refunds": {"re_1": 40}}

    def judge(auditor: MoneyAuditor) -> None:
        auditor.read("booking.refunded", REFUNDED, NOON)
        auditor.check_money([refunded], {BOOKING: 60})

    def judge_failed(auditor: MoneyAuditor) -> None:
        auditor.read("booking.refunded", REFUNDED, NOON)
        auditor.read("booking.refund_failed", REFUNDED, NOON)
        auditor.check_money([PAYMENT], {BOOKING: 100})

    def judge_twice(auditor: MoneyAuditor) -> None:
        auditor.read("booking.refunded", REFUNDED, NOON)
        auditor.read("booking.refunded", REFUNDED, NOON)

    assert judged(judge) == []
    assert judged(judge_failed) == []
    assert len(judged(judge_twice)) == 1


@pytest.mark.unit
@pytest.mark.parametrize(("ended", "is_problem"), [(NOON + MAX_OPEN, False), (NOON + 2 * MAX_OPEN, True), (None, True)])
def test_a_session_that_can_be_paid_long_after_its_booking_was_is_a_problem(
    ended: datetime | None, *, is_problem: bool
) -> None:
    session = {"id": "cs_1", "booking_id": BOOKING, "attempt": 1, "opened": NOON - timedelta(minutes=4), "ended": ended}
    assert bool(judged(lambda auditor: auditor.check_sessions([session]))) is is_problem


@pytest.mark.unit
def test_two_sessions_of_one_attempt_that_can_be_paid_at_once_are_a_problem() -> None:
    first = {"id": "cs_1", "booking_id": BOOKING, "attempt": 1, "opened": NOON, "ended": NOON + timedelta(minutes=2)}
    beside = first | {"id": "cs_2", "opened": NOON + timedelta(minutes=1)}
    behind = first | {"id": "cs_2", "opened": NOON + timedelta(minutes=2)}

    assert judged(lambda auditor: auditor.check_sessions([first, beside]))
    assert not judged(lambda auditor: auditor.check_sessions([first, behind]))


@pytest.mark.unit
def test_a_call_that_is_left_undone_is_a_problem() -> None:
    calls = [("session 1", "complete", False), ("session 2", "open", False), ("refund", "succeeded", True)]
    assert len(judged(lambda auditor: auditor.check_calls(calls))) == 2


@pytest.mark.unit
@pytest.mark.parametrize(
    ("issued", "due_minor", "part"),
    [
        ([("invoice", 1, 100)], 100, None),
        ([("invoice", 1, 100), ("credit_note", 1, 100), ("invoice", 2, 50)], 50, None),
        ([("invoice", 1, 100)], 50, "are of 100, not of 50"),
        ([], 100, "are of 0, not of 100"),
        ([("invoice", 2, 100)], 100, "has invoice 2 at 1"),
        ([("invoice", 1, 100), ("invoice", 1, 50)], 150, "has invoice 1 at 2"),
    ],
)
def test_documents_of_another_amount_or_number_are_a_problem(
    issued: list[tuple[str, int, int]], due_minor: int, part: str | None
) -> None:
    found: list[str] = []
    auditor = DocumentsAuditor(lambda promise, what: found.append(f"{promise.name}: {what}"))
    for kind, number, amount_minor in issued:
        auditor.read(
            {"hotel_id": 1, "kind": kind, "number": number, "booking_id": BOOKING, "amount_minor": amount_minor}
        )
    auditor.check({BOOKING: due_minor})
    assert any(part in problem for problem in found) if part else not found
