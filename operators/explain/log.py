"""Finds one booking's records on the log by where they must be: a sequence or a time leads to a place, none is scanned.

The times of a partition never run backwards as its readers see them: an event carries the latest time up to its
command, so the command stands among the records of just that time. Sequences are contiguous: from one known place the
others are counted, and what stands twice is made up for by counting again from there.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from topics.envelope import format_id, header
from topics.kafka.log_reader import open_reader
from topics.kafka.settings import KafkaSettings

#: So much is fetched at once: some hundred records, for it is a few of them that are wanted.
_CHUNK_BYTES: Final = 64 * 1024
_FETCH_MS: Final = 10
_ANSWER_MS: Final = 500
_PATIENCE_SECONDS: Final = 30.0
#: How often a place is counted again before the records there are read one after the other.
_MAX_GUESSES: Final = 8


class BookingLog:
    """What was read of the log; records of the booking are kept as they are met, wherever that is."""

    def __init__(self, consumer: AIOKafkaConsumer, partitions: Sequence[TopicPartition], booking_id: UUID) -> None:
        self._consumer = consumer
        self._partitions = partitions
        self._subject = format_id(booking_id).encode()
        self._bounds: dict[TopicPartition, tuple[int, int]] = {}
        self._chunks: dict[TopicPartition, list[list[Any]]] = {each: [] for each in partitions}
        self._found: dict[tuple[TopicPartition, int], Any] = {}
        self._last: Mapping[TopicPartition, int] = {}

    def found(self, topic: str) -> list[Any]:
        """Return the booking's records of a topic that were met so far, in the order of the log."""
        return [record for (where, _), record in sorted(self._found.items()) if where.topic == topic]

    def begin(self, where: TopicPartition) -> int:
        """Return the partition's first offset."""
        return self._bounds[where][0]

    def end(self, where: TopicPartition) -> int:
        """Return the offset after the partition's last record that counts: see `end_with`."""
        return self._bounds[where][1]

    async def measure(self) -> None:
        """Ask where the partitions begin and end."""
        starts = await self._consumer.beginning_offsets(self._partitions)
        ends = await self._consumer.end_offsets(self._partitions)
        self._bounds = {each: (starts[each], ends[each]) for each in self._partitions}

    async def end_with(self, read: Mapping[TopicPartition, int], decided: Mapping[TopicPartition, int]) -> None:
        """Go on to these offsets, where they are beyond what was measured, and of events to these sequences."""
        ends = await self._consumer.end_offsets(self._partitions)
        for where, (start, end) in self._bounds.items():
            last = ends[where] - 1 if where in decided else min(read.get(where, -1), ends[where] - 1)
            self._bounds[where] = start, max(end, last + 1)
        self._last = decided

    async def offsets_at(self, times: Mapping[TopicPartition, datetime]) -> dict[TopicPartition, int]:
        """Return the first offset at or after a time (UTC), for each partition; its end when there is none."""
        asked = {where: milliseconds(time) for where, time in times.items()}
        told = await self._consumer.offsets_for_times(asked)
        return {where: self.end(where) if at is None else at.offset for where, at in told.items()}

    async def at_sequence(self, where: TopicPartition, sequence: int, known: tuple[int, int]) -> bool:
        """Look for the event of a sequence; `known` is the place and the sequence of another. Whether it is there."""
        offset, of = known
        guess, seen = offset + sequence - of, set[int]()
        for _ in range(_MAX_GUESSES):
            if not self.begin(where) <= guess < self.end(where) or guess in seen:
                break
            seen.add(guess)
            record = await self._first(where, guess)
            if record is None:
                return False
            if (met := sequence_of(record)) == sequence:
                return True
            guess += sequence - met
        # Some stand twice around here: the first that is meant stands at or behind the earliest guess.
        start = min(seen, default=guess)
        async for record in self._between(where, start, start + 10 * _MAX_GUESSES):
            if sequence_of(record) == sequence:
                return True
        return False

    async def at_time(self, where: TopicPartition, time: datetime, *, seconds: float = 0.0, most: int) -> bool:
        """Look through the records of a time (UTC) and `seconds` after it; False when there are more than `most`."""
        start = (await self.offsets_at({where: time}))[where]
        last = milliseconds(time) + int(seconds * 1000)
        async for record in self._between(where, start, start + most):
            if record.timestamp > last:
                return True
        return start + most >= self.end(where)

    async def through(self, where: TopicPartition, start: int, *, most: int) -> bool:
        """Look through the records from an offset to the end; False when there are more than `most`."""
        async for _ in self._between(where, start, start + most):
            pass
        return start + most >= self.end(where)

    async def has(self, where: TopicPartition, offset: int) -> Any | None:
        """Return the record at an offset if it is the booking's."""
        await self._first(where, offset)
        return self._found.get((where, offset))

    async def _first(self, where: TopicPartition, offset: int) -> Any | None:
        async for record in self._between(where, offset, self.end(where)):
            return record
        return None

    async def _between(self, where: TopicPartition, start: int, stop: int) -> AsyncIterator[Any]:
        position = max(start, self.begin(where))
        stop = min(stop, self.end(where))
        while position < stop:
            records = await self._chunk(where, position)
            for record in records:
                if record.offset >= stop:
                    return
                yield record
            position = records[-1].offset + 1

    async def _chunk(self, where: TopicPartition, offset: int) -> list[Any]:
        """Return some records that follow from an offset before the end on, fetched unless they were before.

        They stand there, so they are waited for: a broker that is slow to give them must not change the story.
        """
        for chunk in self._chunks[where]:
            if chunk[0].offset <= offset <= chunk[-1].offset:
                return [record for record in chunk if record.offset >= offset]
        self._consumer.pause(*(each for each in self._partitions if each != where))
        self._consumer.resume(where)
        self._consumer.seek(where, offset)
        records: list[Any] = []
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                while not records:
                    records = (await self._consumer.getmany(where, timeout_ms=_ANSWER_MS)).get(where, [])
        except TimeoutError:
            raise KafkaError(f"nothing of {where.topic}[{where.partition}] for {_PATIENCE_SECONDS:.0f} s") from None
        self._chunks[where].append(records)
        self._cut(where, records)
        for record in records:
            if record.offset < self.end(where) and self._is_ours(record):
                self._found[where, record.offset] = record
        return records

    def _cut(self, where: TopicPartition, records: Sequence[Any]) -> None:
        """Let the partition end in front of the first event that is beyond those that count."""
        last = self._last.get(where)
        if last is not None and (beyond := [each.offset for each in records if sequence_of(each) > last]):
            start, end = self._bounds[where]
            self._bounds[where] = start, min(end, *beyond)

    def _is_ours(self, record: Any) -> bool:
        subject = header(record.headers, "ce_subject")
        if subject is not None:
            return subject == self._subject
        # Foreign bytes are about a booking when its id stands in them.
        return self._subject in (record.value or b"")


def sequence_of(record: Any) -> int:
    """Return an event's sequence, 0 when it has none."""
    return int(header(record.headers, "ce_sequence") or 0)


def time_of(record: Any) -> datetime:
    """Return the log's time of a record (UTC)."""
    return datetime.fromtimestamp(record.timestamp / 1000, UTC)


def milliseconds(time: datetime) -> int:
    """Return a time as the broker counts it."""
    # Rounded: a float of today's seconds is a little off, and a millisecond too few is another record.
    return round(time.timestamp() * 1000)


@asynccontextmanager
async def open_booking_log(
    settings: KafkaSettings, partitions: Sequence[TopicPartition], booking_id: UUID
) -> AsyncIterator[BookingLog]:
    """Open the log in these partitions, by a consumer that belongs to no group and so disturbs nobody.

    Raises:
        aiokafka.errors.KafkaError: the broker cannot be reached.
    """
    async with open_reader(settings, fetch_bytes=_CHUNK_BYTES, fetch_wait_ms=_FETCH_MS) as consumer:
        consumer.assign(partitions)
        consumer.pause(*partitions)
        log = BookingLog(consumer, partitions, booking_id)
        await log.measure()
        yield log
