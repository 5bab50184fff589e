"""The position of a record on the log."""

import re
from typing import Final, NamedTuple

_WRITTEN: Final = re.compile(r"(.+)\[([0-9]{1,9})\]@([0-9]{1,18})", re.ASCII)


class LogPosition(NamedTuple):
    """A topic by its name on the broker, one of its partitions, and an offset in it."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        """Return the position for people: `booking.events[3]@17`."""
        return f"{self.topic}[{self.partition}]@{self.offset}"

    @classmethod
    def parse(cls, text: str) -> "LogPosition":
        """Read a position as `str` writes it.

        Raises:
            ValueError: the text is no position.
        """
        match = _WRITTEN.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} is no position like booking.events[3]@17")
        return cls(match[1], int(match[2]), int(match[3]))
