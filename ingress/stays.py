"""The rules that every stay must keep: its length, how far ahead it begins, and the day at the hotel."""

import time
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Annotated, Final

from pydantic import Field

from ingress.http.bodies import refused_field
from ingress.http.models import Several
from ingress.http.problems import Problem
from storage.horizon import HORIZON_NIGHTS
from topics.messages.sale import MAX_CHILD_AGE, Party
from topics.zones import day_at

MAX_STAY_NIGHTS: Final = 30
MAX_ROOMS_OF_A_BOOKING: Final = 10
#: Days begin on quarters of an hour everywhere: the offsets of time zones are whole quarters.
_QUARTER_SECONDS: Final = 15 * 60
HORIZON: Final = timedelta(days=HORIZON_NIGHTS)

RoomsCount = Annotated[int, Field(ge=1, le=MAX_ROOMS_OF_A_BOOKING)]
#: The largest number of adults, and of children, in a stay.
MAX_PEOPLE: Final = 1000
Adults = Annotated[int, Field(ge=1, le=MAX_PEOPLE)]
ChildrenAges = Annotated[Several[Annotated[int, Field(ge=0, le=MAX_CHILD_AGE)]], Field(max_length=MAX_PEOPLE)]


def today_at(time_zone: str) -> date:
    """Return the present day in a time zone (IANA)."""
    return _day_at(time_zone, int(time.time()) // _QUARTER_SECONDS)


def party_of(adults: int | None, children_ages: Sequence[int]) -> Party | None:
    """Return the people of a query, if it names any.

    Raises:
        Problem: 422, there are children and no adult.
    """
    if adults is None:
        if children_ages:
            raise refused_field("adults", "is needed with children_ages")
        return None
    return Party(adults=adults, child_ages=tuple(children_ages))


def accept_stay(check_in: date, check_out: date, today: date) -> None:
    """Check a stay's dates; `today` is the hotel's.

    Raises:
        Problem: 422, with the rule that is broken.
    """
    nights = (check_out - check_in).days
    if nights < 1:
        raise Problem(422, "check_out_date must be after check_in_date")
    if nights > MAX_STAY_NIGHTS:
        raise Problem(422, f"a stay is at most {MAX_STAY_NIGHTS} nights")
    if check_in < today:
        raise Problem(422, "check_in_date is in the past")
    if check_in >= today + HORIZON:
        raise Problem(422, f"a stay must begin within {HORIZON.days} days from now")


@lru_cache(1024)
def _day_at(time_zone: str, quarter: int) -> date:
    return day_at(time_zone, datetime.fromtimestamp(quarter * _QUARTER_SECONDS, UTC))
