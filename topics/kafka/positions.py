"""The position of a record on the log."""

from typing import NamedTuple


class LogPosition(NamedTuple):
    """A topic by its name on the broker, one of its partitions, and an offset in it."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        """Return the position for people: `booking.events[3]@17`."""
        return f"{self.topic}[{self.partition}]@{self.offset}"
