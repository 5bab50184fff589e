"""The time and the sequence of a record that was read from the log."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, Protocol

from topics.envelope import header

#: A sequence fits 64 bits; a foreign record may have any number of digits.
_MAX_DIGITS: Final = 18


class _Timed(Protocol):
    @property
    def timestamp(self) -> int: ...


class _WithHeaders(Protocol):
    @property
    def headers(self) -> Sequence[tuple[str, bytes]]: ...


def time_of(record: _Timed) -> datetime:
    """Return a record's time on the log (UTC): the broker's, or with `TOPIC_CREATE_TIME` the producer's."""
    return datetime.fromtimestamp(record.timestamp / 1000, UTC)


def sequence_of(record: _WithHeaders) -> int | None:
    """Return an event's sequence; None for a record that has none, or one that is no number of ours."""
    sequence = header(record.headers, "ce_sequence") or b""
    return int(sequence) if sequence.isdigit() and len(sequence) <= _MAX_DIGITS else None
