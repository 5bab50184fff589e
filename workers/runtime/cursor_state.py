"""The state that a process keeps of each cursor between two batches, in the two words of `storage.cursors`.

`applied` and `published` are as in the cursor's row. Only a gap in the events' sequence lets a process read beyond
`applied`: it reads on until the gap is filled, and applies no event beyond the gap.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from storage.cursors import Cursor
from topics.kafka.positions import position_text
from topics.sequence_tracker import Order, SequenceTracker
from workers.runtime.role import Received, Record, Stopped


@dataclass(frozen=True, slots=True)
class SequenceGap:
    """Events that are missing from the sequence of one partition.

    `since`: the time at which the gap was noticed, by `time.monotonic`. `offset`: of the first record beyond it.
    `highest`: the highest sequence beyond it. `last_offset`: of the last record that was read.
    """

    since: float
    offset: int
    highest: int
    last_offset: int


@dataclass(slots=True)
class CursorState:
    """One cursor as this process left it. If the row has another `applied`, another worker wrote it."""

    applied: int
    published: int
    gap: SequenceGap | None = None

    @property
    def next_offset(self) -> int:
        """The offset of the first record that was not read yet."""
        return (self.applied if self.gap is None else self.gap.last_offset) + 1


class EventSequence:
    """Picks out of the records of one partition the events that are next in their sequence."""

    def __init__(self, cursor: Cursor, gap: SequenceGap | None) -> None:
        self._tracker = SequenceTracker(cursor.sequence, 0 if gap is None else gap.highest)
        self._gap = None if gap is None else (gap.since, gap.offset)

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
            self._gap = (time.monotonic(), received.record.offset)
        return order is Order.NEXT

    @property
    def last(self) -> int:
        """The sequence of the last event that was next."""
        return self._tracker.last

    def gap(self, last_offset: int) -> SequenceGap | None:
        """Return the gap that is open after the record at `last_offset`, if there is one."""
        return None if self._gap is None else SequenceGap(*self._gap, self._tracker.highest, last_offset)


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
