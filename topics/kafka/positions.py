"""Where a record is on the log."""

from typing import NamedTuple


class LogPosition(NamedTuple):
    """A topic by its name on the broker, one of its partitions, and an offset in it."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        """Return it as people read it: `booking.events[3]@17`."""
        return f"{self.topic}[{self.partition}]@{self.offset}"
