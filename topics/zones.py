"""Time zones of hotels, read from the pinned `tzdata` package and never from the system's files.

The standard library's `ZoneInfo(name)` reads the system's files first, which may be years older than the package, and
keeps what it read first. `zone()` opens the package's file itself, so neither an import's place nor a setting of the
process (`PYTHONTZPATH`) changes a hotel's time. No other module of ours imports `zoneinfo`; a test checks that.
"""

from datetime import MINYEAR, UTC, date, datetime, time
from functools import cache, lru_cache
from importlib import resources
from importlib.metadata import version
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

#: The release of the `tzdata` package that hotels' times are read with, such as `2026.6`: the IANA data of 2026f.
ZONE_DATA_VERSION: Final = version("tzdata")

#: A name for a clock that nobody set; it is in the package, but it is no place.
_NO_PLACE: Final = frozenset({"Factory"})

_FIRST_INSTANT: Final = datetime.min.replace(tzinfo=UTC)
_LAST_INSTANT: Final = datetime.max.replace(tzinfo=UTC)


@cache
def zone_names() -> frozenset[str]:
    """Return the IANA names of all zones, links too."""
    listed = resources.files("tzdata").joinpath("zones").read_text(encoding="utf-8")
    return frozenset(listed.split()) - _NO_PLACE


@cache
def zone(name: str) -> ZoneInfo:
    """Return a time zone (IANA name). Raises ZoneInfoNotFoundError (a KeyError) for a name that does not exist."""
    if name not in zone_names():
        raise ZoneInfoNotFoundError(f"no time zone has the name {name!r}")
    with resources.files("tzdata").joinpath("zoneinfo", *name.split("/")).open("rb") as file:
        return ZoneInfo.from_file(file, key=name)


@lru_cache(maxsize=10_000)
def instant(day: date, wall_time: time, time_zone: str) -> datetime:
    """Return the instant (UTC) at which clocks in the zone show a day and time.

    Of two such instants (clocks go back) the first counts; a time that clocks skip counts as if they had not. An
    instant before the first or after the last that a `datetime` can have is that one.
    """
    try:
        return datetime.combine(day, wall_time, zone(time_zone)).astimezone(UTC)
    except OverflowError:
        return _FIRST_INSTANT if day.year == MINYEAR else _LAST_INSTANT


def day_at(time_zone: str, at: datetime) -> date:
    """Return the date in a zone at an instant, within what a `date` can have."""
    try:
        return at.astimezone(zone(time_zone)).date()
    except OverflowError:
        return date.min if at.year == MINYEAR else date.max
