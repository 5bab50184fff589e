"""Two rows on a whole system, judged as `make faults` judges them; all of them take the better part of an hour."""

import logging
from pathlib import Path

import pytest

from tests.faults import catalogue
from tests.faults.groups import missing
from tests.faults.results import Results
from tests.faults.runner import Runner

MISSING = missing()


@pytest.fixture(autouse=True)
def _no_process_is_left_behind() -> None:
    """The system's own supervisor starts its processes, and ends them all."""


@pytest.mark.system
@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.skipif(MISSING is not None, reason=MISSING or "")
async def test_a_worker_that_dies_after_its_commit_and_sessions_that_are_ended_leave_nothing_behind(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # The clients log at length that servers which were killed do not answer.
    caplog.set_level(logging.CRITICAL, "aiokafka")
    rows = [row for row in catalogue.all_rows() if row.id in {"F2b", "F8d"}]

    run = await Runner(Results(1, "test", tmp_path)).play(rows)

    assert {result.row: result.problems for result in run.results} == {"F2b": [], "F8d": []}
    for row, result in zip(rows, run.results, strict=True):
        assert result.promised == result.decided > 0
        assert set(row.causes) <= result.causes.keys()
