"""The rules that every stay must keep: its length, how far ahead it begins, its people, and the day at the hotel."""

import time
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Annotated, Final

from pydantic import Field

from ingress.http.bodies import refused_field
from ingress.http.problems import Problem
from storage.horizon import HORIZON_NIGHTS
from topics.messages.sale import MAX_CHILD_AGE, Party
from topics.zones import day_at, instant

MAX_STAY_NIGHTS: Final = 30
MAX_ROOMS_OF_A_BOOKING: Final = 10
#: The largest number of people of one booking.
MAX_PEOPLE: Final = 200
#: Days begin on quarters of an hour everywhere: the offsets of time zones are whole quarters.
_QUARTER_SECONDS: Final = 15 * 60
_MIDNIGHT: Final = datetime.min.time()
HORIZON: Final = timedelta(days=HORIZON_NIGHTS)

RoomsCount = Annotated[int, Field(ge=1, le=MAX_ROOMS_OF_A_BOOKING)]
Adults = Annotated[int, Field(ge=1, le=MAX_PEOPLE)]
ChildAge = Annotated[int, Field(ge=0, le=MAX_CHILD_AGE)]


def accept_people(adults: int | None, child_ages: Sequence[int]) -> Party | None:
    """Return the people of a stay; None if no adult is named, and the plan's price decides.

    Raises:
        Problem: 422 for children without an adult, and for too many people.
    """
    if adults is None:
        if child_ages:
            raise refused_field("adults", "is needed with children: a party needs an adult")
        return None
    if adults + len(child_ages) > MAX_PEOPLE:
        raise refused_field("adults", f"a party has at most {MAX_PEOPLE} people")
    return Party(adults=adults, child_ages=tuple(child_ages))


def today_at(time_zone: str) -> date:
    """Return the present day in a time zone (IANA)."""
    return _day_at(time_zone, int(time.time()) // _QUARTER_SECONDS)


def month_at(month: str, time_zone: str) -> tuple[datetime, datetime]:
    """Return the instants (UTC) at which a month, such as 2026-12, begins and ends in a time zone (IANA)."""
    first = date.fromisoformat(f"{month}-01")
    following = (first + timedelta(days=31)).replace(day=1)
    return instant(first, _MIDNIGHT, time_zone), instant(following, _MIDNIGHT, time_zone)


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
