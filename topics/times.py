"""How a time is told to people: UTC, to the second, in the same form everywhere."""

from datetime import UTC, datetime


def to_the_second(at: datetime) -> str:
    """Return a time as people read it: `2027-03-01 12:00:05 UTC`."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
