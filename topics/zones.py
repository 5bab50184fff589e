"""Time zones of hotels, read from the pinned `tzdata` package and never from the system's files."""

import zoneinfo
from datetime import UTC, date, datetime, time
from functools import lru_cache
from importlib.metadata import version
from typing import Final

# The system's zone files, which zoneinfo reads first, may be years older than the package.
zoneinfo.reset_tzpath(())

#: The release of the IANA data that hotels' times are read with, such as `2026.3`.
ZONE_DATA_VERSION: Final = version("tzdata")


def zone(name: str) -> zoneinfo.ZoneInfo:
    """Return a time zone (IANA name). Raises ZoneInfoNotFoundError or ValueError for a name that does not exist."""
    return zoneinfo.ZoneInfo(name)


@lru_cache(maxsize=10_000)
def instant(day: date, wall_time: time, time_zone: str) -> datetime:
    """Return the instant (UTC) at which clocks in the zone show a day and time.

    Of two such instants (clocks go back) the first counts; a time that clocks skip counts as if they had not.
    """
    return datetime.combine(day, wall_time, zone(time_zone)).astimezone(UTC)


def day_at(time_zone: str, at: datetime) -> date:
    """Return the date in a zone at an instant."""
    return at.astimezone(zone(time_zone)).date()
