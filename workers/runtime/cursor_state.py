"""The state that a process keeps of each cursor between two batches, in the two words of `storage.cursors`.

`applied` and `published` are as in the cursor's row. Only a gap in the events' sequence lets a process read beyond
`applied`: it reads on until the gap is filled, and applies no event beyond the gap.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final

from storage.cursors import Cursor
from topics.kafka.positions import position_text
from topics.sequence_tracker import Order, SequenceTracker
from workers.runtime.role import Received, Record, Stopped

log = logging.getLogger(__name__)

#: So many of the last events of a partition are compared with those that come again.
_MAX_RECENT: Final = 500
#: The digest of an event: a body of some hundred bytes would be kept for each of them, partition and consumer.
_DIGEST_BYTES: Final = 8


@dataclass(frozen=True, slots=True)
class SequenceGap:
    """Events that are missing from the sequence of one partition.

    `since`: the time at which the gap was noticed, by the clock of the event loop. `offset`: of the first record beyond
    it. `highest`: the highest sequence beyond it. `last_offset`: of the last record that was read.
    """

    since: float
    offset: int
    highest: int
    last_offset: int


@dataclass(slots=True)
class CursorState:
    """One cursor as this process left it. If the row has another `applied`, another worker wrote it.

    `recent` has the digests of the last events with their sequences, each at its sequence modulo `_MAX_RECENT`.
    """

    applied: int
    published: int
    gap: SequenceGap | None = None
    recent: dict[int, tuple[int, bytes]] = field(default_factory=dict)

    @property
    def next_offset(self) -> int:
        """The offset of the first record that was not read yet."""
        return (self.applied if self.gap is None else self.gap.last_offset) + 1


class EventSequence:
    """Picks out of the records of one partition the events that are next in their sequence."""

    def __init__(self, cursor: Cursor, state: CursorState) -> None:
        gap = state.gap
        self._tracker = SequenceTracker(cursor.sequence, 0 if gap is None else gap.highest)
        self._gap = None if gap is None else (gap.since, gap.offset)
        self._recent = state.recent

    def is_next(self, received: Received) -> bool:
        """Return whether this event is the next to apply; not a duplicate, nor one beyond a gap, which is read again.

        Raises:
            Stopped: the event has no sequence.
        """
        sequence = received.envelope.sequence if received.envelope is not None else None
        if sequence is None:
            raise Stopped(f"{position_text(received.record)}: an event without a sequence")
        order = self._tracker.add(sequence)
        if not self._tracker.has_gap:
            self._gap = None
        elif self._gap is None:
            self._gap = (asyncio.get_running_loop().time(), received.record.offset)
        if order is Order.NEXT:
            self._recent[sequence % _MAX_RECENT] = (sequence, _digest(received.record))
            return True
        if order is Order.DUPLICATE:
            self._compare(sequence, received.record)
        return False

    def _compare(self, sequence: int, record: Record) -> None:
        """Log an event that differs from the one of its sequence: a failover lost that one's decision (ADR 0042)."""
        known, digest = self._recent.get(sequence % _MAX_RECENT, (0, b""))
        if known == sequence and digest != _digest(record):
            log.error(
                "%s: sequence %d is there twice, as different events; the first was applied, and the ledger has the"
                " later one. innkeeper audit names the read models to be rebuilt",
                position_text(record),
                sequence,
            )

    @property
    def last(self) -> int:
        """The sequence of the last event that was next."""
        return self._tracker.last

    def gap(self, last_offset: int) -> SequenceGap | None:
        """Return the gap that is open after the record at `last_offset`, if there is one."""
        return None if self._gap is None else SequenceGap(*self._gap, self._tracker.highest, last_offset)


def _digest(record: Record) -> bytes:
    return blake2b(record.value or b"", digest_size=_DIGEST_BYTES).digest()


def unread(next_offset: int, records: Sequence[Record]) -> list[Record] | None:
    """Return the records from `next_offset` on, each of them once; None when one is missing.

    Several fetches of a partition may be in one batch, and any of them may have been read before, or may be lost.
    """
    new: list[Record] = []
    for record in records:
        if record.offset == next_offset:
            new.append(record)
            next_offset += 1
        elif record.offset > next_offset:
            return None
    return new
