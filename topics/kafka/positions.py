"""The position of a record on the log."""

import re
from typing import Final, NamedTuple, Protocol

_WRITTEN: Final = re.compile(r"(.+)\[([0-9]{1,9})\]@([0-9]{1,18})", re.ASCII)


class _OnTheLog(Protocol):
    """A record that was read, or a position."""

    @property
    def topic(self) -> str: ...

    @property
    def partition(self) -> int: ...

    @property
    def offset(self) -> int: ...


class LogPosition(NamedTuple):
    """A topic by its name on the broker, one of its partitions, and an offset in it."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        """Return the position for people: `booking.events[3]@17`."""
        return position_text(self)

    @classmethod
    def of(cls, record: _OnTheLog) -> "LogPosition":
        """Return the position of a record that was read."""
        return cls(record.topic, record.partition, record.offset)

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


def position_text(record: _OnTheLog) -> str:
    """Return `str(LogPosition.of(record))`; this makes no position, because every event is written with such a text."""
    return f"{record.topic}[{record.partition}]@{record.offset}"
