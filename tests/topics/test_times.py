"""Times are shown in one form, wherever the database or the operator is."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from topics.times import to_the_second


@pytest.mark.parametrize("zone", [UTC, timezone(timedelta(hours=9))])
def test_a_time_is_shown_in_utc_to_the_second(zone: timezone) -> None:
    at = datetime(2027, 3, 1, 12, 0, 5, 999_999, tzinfo=UTC)

    assert to_the_second(at.astimezone(zone)) == "2027-03-01 12:00:05 UTC"
