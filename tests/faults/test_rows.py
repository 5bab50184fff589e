"""A few rows on a whole system: the short form of the matrix, which asserts causes, and two rows with their times."""

import logging
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from sandbox.system import Plan
from tests.faults import catalogue
from tests.faults.groups import ONE_BROKER, missing
from tests.faults.results import Results
from tests.faults.row import Row
from tests.faults.runner import Run, Runner

MISSING = missing()
pytestmark = [
    pytest.mark.system,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(MISSING is not None, reason=MISSING or ""),
]
#: A worker that dies between ledger and log, and a silent database.
SHORT: Final = frozenset({"F2b", "F8c"})
TIMED: Final = frozenset({"F2b", "F8d"})


def _short_holds(folder: Path) -> Plan:
    plan = ONE_BROKER.plan(folder)
    # After each row its holds have to end.
    return replace(plan, environment={**plan.environment, "HOLD_SECONDS": "6"})


@pytest.fixture(autouse=True)
def _no_process_is_left_behind() -> None:
    """The system's own supervisor starts its processes, and ends them all."""


@pytest.fixture(autouse=True)
def _no_words_of_clients(caplog: pytest.LogCaptureFixture) -> None:
    """Clients log at length that servers which were killed do not answer."""
    caplog.set_level(logging.CRITICAL, "aiokafka")


def _rows(ids: Iterable[str]) -> list[Row]:
    return [row for row in catalogue.all_rows() if row.id in ids]


def _holds(run: Run, rows: Iterable[Row]) -> None:
    causes = {row.id: row.causes for row in rows}
    assert {result.row: result.problems for result in run.results} == {id: [] for id in causes}
    for result in run.results:
        assert result.promised == result.decided > 0
        assert set(causes[result.row]) <= result.causes.keys()
    assert run.failed_systems == []


async def test_the_short_form_of_the_matrix_breaks_no_promise_and_sees_every_cause_on_a_machine_of_any_speed(
    tmp_path: Path,
) -> None:
    group = replace(ONE_BROKER, name="short-holds", plan=_short_holds)
    rows = [replace(row, group=group) for row in _rows(SHORT)]

    _holds(await Runner(Results(1, "test", tmp_path), busy=True).play(rows), rows)


@pytest.mark.long
async def test_a_worker_that_dies_after_its_commit_and_sessions_that_are_ended_keep_nobody_waiting(
    tmp_path: Path,
) -> None:
    rows = _rows(TIMED)

    _holds(await Runner(Results(1, "test", tmp_path)).play(rows), rows)
