"""Times for people: UTC, to the second, in one form everywhere."""

from datetime import UTC, datetime


def to_the_second(at: datetime) -> str:
    """Return a time for people, such as `2027-03-01 12:00:05 UTC`."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
