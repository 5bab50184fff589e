"""Hears `booking.events` from its first record to its present end: every event once, in order, none missing."""

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition

from operators.restore.described import Named
from operators.restore.target import NotRestored
from topics.catalogue import BOOKING_EVENTS
from topics.envelope import Envelope
from workers.runtime.records import read, where
from workers.runtime.role import Received, Record

_FETCH_MS: Final = 200
_MAX_AT_ONCE: Final = 10_000


class Partition:
    """How far one partition has been heard.

    `deciding`: the events of its last decision, held back until it is known whether there are more of them.
    `last`: the last record heard, `last_time` the log's time at it (UTC). What its events name is added to `named`.
    """

    def __init__(self, number: int, named: Named) -> None:
        self.number = number
        self.sequence = 0
        self.deciding: list[Received] = []
        self.last: Record | None = None
        self.last_time: datetime | None = None
        self._named = named
        self._highest = 0

    def hear(self, records: Sequence[Record]) -> list[Received]:
        """Return the events whose decisions are told to their ends.

        Raises:
            NotRestored: an event has no place in the sequence.
            workers.runtime.role.Stopped: an event cannot be read, or is newer than this program.
        """
        told: list[Received] = []
        for record in records:
            if (received := self._next(record)) is None:
                continue
            if self.deciding and decision(self.deciding[0]) != decision(received):
                told += self.deciding
                self.deciding = []
            self.deciding.append(received)
        return told

    def check_whole(self) -> None:
        """Refuse a log that lacks events. Raises NotRestored."""
        if self._highest > self.sequence:
            raise NotRestored(
                f"booking.events[{self.number}] lacks the events after sequence {self.sequence} and before"
                f" {self._highest}: what they decided is not known, and so is nothing after them."
            )

    def _next(self, record: Record) -> Received | None:
        """Return the event if it is the next one: a double is dropped, and so is one that came before its turn."""
        at = datetime.fromtimestamp(record.timestamp / 1000, UTC)
        if self.last_time is None or at > self.last_time:
            self.last_time = at
        self.last = record
        received = read(BOOKING_EVENTS, record, self.last_time)
        sequence = envelope_of(received).sequence
        if sequence is None:
            raise NotRestored(f"{where(record)}: an event without a sequence")
        if sequence != self.sequence + 1:
            # What was published too early is published again behind what it came before.
            self._highest = max(self._highest, sequence)
            return None
        self.sequence = sequence
        self._named.hear(received.message)
        return received


def envelope_of(received: Received) -> Envelope:
    """Return the envelope that every event of ours has."""
    assert received.envelope is not None
    return received.envelope


def decision(received: Received) -> tuple[str | None, datetime]:
    """Return what tells one decision from the next: the command, and the log's time at it."""
    envelope = envelope_of(received)
    return envelope.causation, envelope.time


async def events(
    consumer: AIOKafkaConsumer, bounds: Mapping[TopicPartition, tuple[int, int]]
) -> AsyncIterator[dict[int, Sequence[Record]]]:
    """Yield all records between the bounds (first offset, end) as they come, by partition.

    Raises:
        NotRestored: the beginning of the log is gone.
    """
    for partition, (start, _) in bounds.items():
        if start > 0:
            raise NotRestored(
                f"{partition.topic}[{partition.partition}] begins at offset {start}: its beginning is gone,"
                " and with it what the ledger had from it."
            )
    consumer.assign(list(bounds))
    for partition, (start, _) in bounds.items():
        consumer.seek(partition, start)
    open_ends = {partition: end for partition, (start, end) in bounds.items() if start < end}
    while open_ends:
        fetched = await consumer.getmany(timeout_ms=_FETCH_MS, max_records=_MAX_AT_ONCE)
        found: dict[int, Sequence[Record]] = {}
        for partition, records in fetched.items():
            end = bounds[partition][1]
            found[partition.partition] = [record for record in records if record.offset < end]
            if records[-1].offset + 1 >= end:
                open_ends.pop(partition, None)
        if found:
            yield found
