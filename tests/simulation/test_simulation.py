"""The short form of the simulation runs in CI, the long one is a day of some weeks, and `make simulate` is a year."""

import asyncio
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.simulation import people, world
from tests.simulation.auditor import Auditor
from tests.simulation.database import Database
from tests.simulation.plan import Fault, Plan
from tests.simulation.shrinking import Shrinking, command_of
from tests.simulation.world import Result, simulate

SHORT = Plan(seed=1, hours=3, steps_between_faults=60)
#: The faults that are tried at every step in turn.
AT_EACH_STEP = (Fault.CRASH_BEFORE, Fault.CRASH_AFTER, Fault.FREEZE_AFTER, Fault.REFUSED)


@pytest.mark.unit
def test_every_promise_is_kept_under_all_faults_and_a_seed_is_one_history() -> None:
    first = simulate(SHORT)
    again = simulate(SHORT)

    assert not first.problems
    assert first.history == again.history
    assert first.events["booking.confirmed.v1"] > 10
    assert len(first.faults) > len(Fault) / 2
    assert simulate(replace(SHORT, seed=2)).history != first.history


@pytest.mark.long
@pytest.mark.parametrize("week", [0, 8, 12, 43])
def test_a_day_of_several_weeks(week: int) -> None:
    """The weeks have a new year, a 29 February, and both nights on which clocks change."""
    result = simulate(Plan(seed=7, week=week, hours=24, steps_between_faults=120))
    assert not result.problems, command_of(result.plan)


@pytest.mark.long
@pytest.mark.parametrize("fault", AT_EACH_STEP, ids=lambda fault: fault.name)
def test_one_fault_at_every_step_in_turn(fault: Fault) -> None:
    few = Plan(seed=3, hours=0.2, visitors_per_hour=10, steps_between_faults=10**9)
    steps = simulate(few).steps
    for step in range(1, steps, 3):
        result = simulate(replace(few, only_step=step, only_fault=fault))
        assert not result.problems, (step, fault, result.problems)


@pytest.mark.unit
def test_an_error_of_a_callback_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    def opening(*arguments: Any) -> Any:
        asyncio.get_running_loop().call_later(1.0, lambda: 1 // 0)
        return people.opening(*arguments)

    monkeypatch.setattr(world, "opening", opening)

    [problem] = simulate(replace(SHORT, hours=0.1)).problems

    assert problem.startswith("the simulation itself failed: Exception in callback")
    assert "ZeroDivisionError" in problem


@pytest.mark.unit
def test_a_failure_is_made_small() -> None:
    """The failing run is made up: it needs fault 7 and visitor 3."""

    def needs_fault_and_visitor(plan: Plan) -> Result:
        fails = (plan.faults is None or 7 in plan.faults) and (plan.visitors is None or 3 in plan.visitors)
        return made_up(plan, fails=fails)

    smaller = Shrinking(made_up(SHORT, fails=True), needs_fault_and_visitor).shrink()

    assert smaller.plan.faults == frozenset({7})
    assert smaller.plan.visitors == frozenset({3})
    assert command_of(smaller.plan).endswith("--faults 7 --visitors 3")


def made_up(plan: Plan, *, fails: bool) -> Result:
    """Return a result of no run."""
    numbers = tuple(sorted(plan.faults)) if plan.faults is not None else tuple(range(1, 30))
    problems = ("MONEY_IS_EXPLAINED: a cent is missing",) if fails else ()
    return Result(
        plan=plan,
        problems=problems,
        history="",
        visitors=10,
        steps=0,
        faults=Counter(),
        fault_numbers=numbers,
        events=Counter(),
        statements=None,
        database=Database(lambda: 0.0, lambda _: plan.begins_at),
    )


@pytest.mark.unit
def test_the_auditor_shares_no_code_with_the_workers() -> None:
    source = (Path(__file__).parent / "auditor.py").read_text()
    imports = [line for line in source.splitlines() if line.startswith(("from ", "import "))]
    assert not [line for line in imports if "workers" in line or "storage" in line or "topics" in line]
    assert Auditor("events", "commands", "dead").problems == []
