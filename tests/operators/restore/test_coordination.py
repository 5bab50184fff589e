"""The place from which coordination reads the log again after a restore."""

from datetime import UTC, datetime, timedelta

import pytest

from operators.restore.coordination import place
from operators.restore.log import BEGINNING, Mark

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)


def mark(offset: int, days_ago: float) -> Mark:
    return Mark(offset, offset + 1, NOW - timedelta(days=days_ago), b"")


MARKS = [BEGINNING, mark(999, 30), mark(1_999, 8), mark(2_999, 6), mark(20_999, 1)]


@pytest.mark.parametrize(
    ("newest", "found"),
    [
        # So many events before the newest that was followed: a part of a batch may be missing.
        (40_000, 20_999),
        (30_998, 2_999),
        (12_999, 2_999),
        (12_998, 1_999),
        (500, -1),
        (0, -1),
        # Without a command on the log, all that is older than the oldest command can be.
        (None, 1_999),
    ],
)
def test_coordination_reads_again_from_before_the_newest_event_that_it_followed(newest: int | None, found: int) -> None:
    assert place(MARKS, newest, NOW).offset == found


def test_a_short_log_is_read_from_its_beginning() -> None:
    assert place([BEGINNING], None, NOW) == place([BEGINNING], 7, NOW) == BEGINNING
