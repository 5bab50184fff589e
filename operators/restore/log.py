"""Decodes `booking.events` for a restore: every event once, in order, none missing."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple

from operators.restore.backup_check import NamedIds
from operators.restore.target import NotRestored
from topics.catalogue import BOOKING_EVENTS
from topics.envelope import Envelope
from topics.kafka.positions import position_text
from topics.kafka.records import time_of
from topics.kafka.replaced_events import EventsReplaced, ReplacedEvents, Replacement, replaces
from topics.sequence_tracker import Order, SequenceTracker
from workers.runtime.records import fingerprint, read
from workers.runtime.role import Received, Record

#: Of every so many events of a partition one is remembered, as a place from which a consumer can read again.
EVENTS_BETWEEN_MARKS: Final = 1_000


class Mark(NamedTuple):
    """A place behind an event: its offset and sequence, the log's time (UTC) and the record's fingerprint."""

    offset: int
    sequence: int
    time: datetime | None
    fingerprint: bytes | None


#: The place before the first event.
BEGINNING: Final = Mark(-1, 0, None, None)


class Partition:
    """The progress of one partition of `booking.events`.

    Attributes:
        number: the partition's number.
        last_decision: the events of its last decision, kept back until the next decision's first event has come.
        last: the last record, also if it was a duplicate.
        last_time: the log's time at that record (UTC).
        marks: places in the partition, the beginning first.
    """

    def __init__(self, number: int, named: NamedIds, replaced: Sequence[Replacement] = ()) -> None:
        """The ids that the events name are added to `named`; events that others replace are dropped."""
        self.number = number
        self.last_decision: list[Received] = []
        self.last: Record | None = None
        self.last_time: datetime | None = None
        self.marks = [BEGINNING]
        self._named = named
        self._sequences = SequenceTracker()
        self._replaced = ReplacedEvents(replaced)

    @property
    def sequence(self) -> int:
        """The sequence of the last event."""
        return self._sequences.last

    def decode(self, records: Sequence[Record]) -> list[Received]:
        """Return the events of all decisions that are complete with these records.

        Raises:
            NotRestored: an event has no sequence.
            EventsReplaced: an event replaces another one that is not known to be replaced.
            workers.runtime.role.Stopped: an event cannot be read, or is newer than this program.
        """
        complete: list[Received] = []
        for record in records:
            if (received := self._next(record)) is None:
                continue
            if self.last_decision and decision(self.last_decision[0]) != decision(received):
                complete += self.last_decision
                self.last_decision = []
            self.last_decision.append(received)
        return complete

    def require_no_gap(self) -> None:
        """Raise NotRestored if the log lacks events."""
        if self._sequences.has_gap:
            raise NotRestored(
                f"booking.events[{self.number}] lacks the events after sequence {self.sequence} and before"
                f" {self._sequences.highest}: they and all events after them cannot be applied."
            )

    def _next(self, record: Record) -> Received | None:
        """Return the event if it is the next one; a duplicate is dropped, and so is an event beyond a gap."""
        at = time_of(record)
        if self.last_time is None or at > self.last_time:
            self.last_time = at
        self.last = record
        received = read(BOOKING_EVENTS, record, self.last_time)
        envelope = envelope_of(received)
        sequence = envelope.sequence
        if sequence is None:
            raise NotRestored(f"{position_text(record)}: an event without a sequence")
        if self._replaced.drops(sequence, record.offset):
            # The events that replace it must come as far.
            self._sequences.highest = max(self._sequences.highest, sequence)
            return None
        if replaces(self._replaced, record):
            raise EventsReplaced
        if self._sequences.add(sequence) is not Order.NEXT:
            # An event beyond a gap was published again after the events that fill the gap.
            return None
        if sequence % EVENTS_BETWEEN_MARKS == 0:
            self.marks.append(Mark(record.offset, sequence, self.last_time, fingerprint(record)))
        self._named.add(received.message)
        self._named.add_actor(envelope.actor)
        return received


def envelope_of(received: Received) -> Envelope:
    """Return the event's envelope, which every event has."""
    assert received.envelope is not None
    return received.envelope


def decision(received: Received) -> tuple[str | None, datetime]:
    """Return the command that an event follows from, and the log's time: the same for all events of a decision."""
    envelope = envelope_of(received)
    return envelope.causation, envelope.time
