"""The checks of the rows of Stripe can fail."""

from pathlib import Path
from typing import Any

import pytest

from tests.faults.rows import stripe
from tests.faults.scenes import empty_scene
from tests.support.program_logs import ProgramLogs


def payment(*refunds: tuple[int, str], refunded: int) -> dict[str, Any]:
    objects = [
        {"id": f"re_{n}", "amount_minor": amount, "status": status} for n, (amount, status) in enumerate(refunds)
    ]
    return {"payment_intent": "pi_1", "refunded_minor": refunded, "refund_objects": objects}


@pytest.mark.parametrize(
    ("found", "short"),
    [
        (payment(refunded=0), []),
        (payment((500, "succeeded"), refunded=500), []),
        (payment((500, "failed"), refunded=0), ["pi_1"]),
        (payment((500, "failed"), (200, "succeeded"), refunded=200), ["pi_1"]),
        (payment((500, "failed"), (500, "succeeded"), refunded=500), []),
    ],
)
def test_a_refund_that_failed_is_short_until_as_much_went_back(found: dict[str, Any], short: list[str]) -> None:
    assert stripe.short_of_refunds([found]) == short


def test_only_refunds_that_failed_count_as_failed() -> None:
    assert stripe.failed_refunds([payment((500, "succeeded"), (200, "failed"), refunded=500)]) == ["re_1"]


def test_strikes_are_what_the_rules_have_used_up() -> None:
    assert stripe.strikes([{"times": stripe.MANY - 3}, {"times": stripe.MANY}]) == 3


def test_a_cause_is_seen_only_if_payments_wrote_its_line_during_the_row(tmp_path: Path) -> None:
    log = tmp_path / "payments-1.log"
    log.write_text("Stripe does not answer (calls in a row: 5)\n")
    scene, logs = empty_scene(tmp_path), ProgramLogs(tmp_path)

    stripe.note(scene, 0, [stripe.GAVE_UP, stripe.LIMITED], logs)
    assert not +scene.causes

    with log.open("a") as later:
        later.write("session of booking b: tried again later, after 0 failures: RateLimitError()\n")
    stripe.note(scene, 2, [stripe.GAVE_UP, stripe.LIMITED, stripe.TRIED_AGAIN], logs)
    assert +scene.causes == {stripe.STRUCK: 2, stripe.LIMITED: 1, stripe.TRIED_AGAIN: 1}


def test_a_circuit_that_opens_though_stripe_answers_is_a_problem(tmp_path: Path) -> None:
    scene, logs = empty_scene(tmp_path), ProgramLogs(tmp_path)
    stripe._must_not_give_up(scene, logs)
    assert not scene.problems

    (tmp_path / "payments-1.log").write_text("Stripe does not answer (calls in a row: 5)\n")
    stripe._must_not_give_up(scene, logs)
    assert scene.problems
