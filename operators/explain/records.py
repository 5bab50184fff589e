"""Reads one booking's records on the log: by their positions, or in a range that is short."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from topics.envelope import Envelope, Undecodable, decode_envelope, format_id, header
from topics.kafka.admin import TopicsFailed
from topics.kafka.log_reader import open_reader
from topics.kafka.positions import LogPosition
from topics.kafka.settings import KafkaSettings

#: How much is fetched at once. The broker returns a whole batch at least.
_FETCH_BYTES: Final = 64 * 1024
_FETCH_WAIT_MS: Final = 10
_ANSWER_MS: Final = 500
_MAX_SILENCE_SECONDS: Final = 30.0


class BookingRecords:
    """The records of one booking that were read so far. A record of another booking is read past, and not kept."""

    def __init__(self, consumer: AIOKafkaConsumer, bounds: dict[TopicPartition, tuple[int, int]], id: UUID) -> None:
        """`bounds` are the first offset of each partition and the one after its last."""
        self._consumer = consumer
        self._bounds = bounds
        self._subject = format_id(id).encode()
        self._found: dict[LogPosition, Any] = {}

    @property
    def partitions(self) -> int:
        """Return the number of each topic's partitions."""
        return len({where.partition for where in self._bounds})

    def begin(self, where: TopicPartition) -> int:
        """Return the partition's first offset."""
        return self._bounds[where][0]

    def end(self, where: TopicPartition) -> int:
        """Return the offset after the partition's last record, when the log was opened."""
        return self._bounds[where][1]

    def at(self, position: LogPosition | None) -> Any | None:
        """Return the booking's record at a position, if it was read."""
        return None if position is None else self._found.get(position)

    def of(self, topic: str) -> list[Any]:
        """Return the booking's records of a topic that were read, in the order of the log."""
        return [record for position, record in sorted(self._found.items()) if position.topic == topic]

    async def offsets_at(self, places: Iterable[TopicPartition], time: datetime) -> dict[TopicPartition, int]:
        """Return the first offset at or after a time (UTC), for each partition; its end where there is none."""
        milliseconds = int(time.timestamp() * 1000)
        found = await self._consumer.offsets_for_times(dict.fromkeys(places, milliseconds))
        return {where: self.end(where) if at is None else at.offset for where, at in found.items()}

    async def read_at(self, positions: Iterable[LogPosition]) -> None:
        """Read the records at these positions. A position that the log does not have (any more) is passed over."""
        wanted: defaultdict[TopicPartition, set[int]] = defaultdict(set)
        for position in positions:
            where = TopicPartition(position.topic, position.partition)
            if where in self._bounds and position not in self._found:
                wanted[where].add(position.offset)
        ends = await self._consumer.end_offsets(list(wanted)) if wanted else {}
        left = {
            where: sorted(each for each in offsets if self.begin(where) <= each < ends[where])
            for where, offsets in wanted.items()
        }
        await self._read_offsets({where: offsets for where, offsets in left.items() if offsets})

    async def _read_offsets(self, left: dict[TopicPartition, list[int]]) -> None:
        for where, offsets in left.items():
            self._consumer.seek(where, offsets[0])
            self._consumer.resume(where)
        while left:
            # One record at a time: the next one that is wanted is mostly elsewhere.
            for where, records in (await self._fetch(list(left), max_records=1)).items():
                [record], offsets = records, left[where]
                self._keep(record)
                left[where] = offsets = [each for each in offsets if each > record.offset]
                if not offsets:
                    del left[where]
                    self._consumer.pause(where)
                elif offsets[0] != record.offset + 1:
                    self._consumer.seek(where, offsets[0])

    async def read_range(
        self, where: TopicPartition, start: int, stop: int, *, most: int, last_sequence: int | None = None
    ) -> bool:
        """Read the records of [start, stop), `most` of them at most; False where there are more.

        `last_sequence`: the range ends in front of the first event of a higher sequence.
        """
        start = max(start, self.begin(where))
        end = min(stop, start + most)
        if start >= end:
            return True
        self._consumer.seek(where, start)
        self._consumer.resume(where)
        try:
            while start < end:
                for record in (await self._fetch([where])).get(where, ()):
                    start = record.offset + 1
                    if last_sequence is not None and sequence_of(record) > last_sequence:
                        return True
                    if record.offset >= end:
                        break
                    self._keep(record)
        finally:
            self._consumer.pause(where)
        return end == stop

    async def end_now(self, where: TopicPartition) -> int:
        """Return the offset after the partition's last record at this moment."""
        end: int = (await self._consumer.end_offsets([where]))[where]
        return end

    async def _fetch(
        self, places: Sequence[TopicPartition], *, max_records: int | None = None
    ) -> Mapping[TopicPartition, list[Any]]:
        """Return some of the next records. They exist, so a broker that is slow to return them is waited for."""
        try:
            async with asyncio.timeout(_MAX_SILENCE_SECONDS):
                while True:
                    found: dict[TopicPartition, list[Any]] = await self._consumer.getmany(
                        *places, timeout_ms=_ANSWER_MS, max_records=max_records
                    )
                    if found:
                        return found
        except TimeoutError:
            where = ", ".join(f"{place.topic}[{place.partition}]" for place in places)
            raise KafkaError(f"nothing of {where} for {_MAX_SILENCE_SECONDS:.0f} s") from None

    def _keep(self, record: Any) -> None:
        if self._is_ours(record):
            self._found[position_of(record)] = record

    def _is_ours(self, record: Any) -> bool:
        subject = header(record.headers, "ce_subject")
        if subject is not None:
            return subject == self._subject
        # Foreign bytes are about a booking when they contain its id.
        return self._subject in (record.value or b"")


def position_of(record: Any) -> LogPosition:
    """Return the record's position."""
    return LogPosition(record.topic, record.partition, record.offset)


def envelope_of(record: Any) -> Envelope | None:
    """Return the record's envelope; None where it has none of ours, as a dead letter may."""
    with suppress(Undecodable):
        return decode_envelope(record.headers)
    return None


def causation_position_of(envelope: Envelope) -> LogPosition | None:
    """Return the position of the record that a message follows from, if its envelope names it."""
    with suppress(ValueError):
        return None if envelope.causation_position is None else LogPosition.parse(envelope.causation_position)
    return None


def sequence_of(record: Any) -> int:
    """Return an event's sequence, 0 where it has none."""
    return int(header(record.headers, "ce_sequence") or 0)


def time_of(record: Any) -> datetime:
    """Return the log's time of a record (UTC)."""
    return datetime.fromtimestamp(record.timestamp / 1000, UTC)


@asynccontextmanager
async def open_records(
    settings: KafkaSettings, topics: Sequence[str], booking_id: UUID
) -> AsyncIterator[BookingRecords]:
    """Open the topics, by a consumer that belongs to no group and so disturbs nobody, and measure them.

    Raises:
        aiokafka.errors.KafkaError: the broker cannot be reached.
        topics.kafka.admin.TopicsFailed: a topic is not on the broker.
    """
    async with open_reader(settings, fetch_bytes=_FETCH_BYTES, fetch_wait_ms=_FETCH_WAIT_MS) as consumer:
        if missing := set(topics) - await consumer.topics():
            raise TopicsFailed(f"No topic by the name of {', '.join(sorted(missing))}.")
        firsts = [TopicPartition(topic, 0) for topic in topics]
        consumer.assign(firsts)
        # Nothing is fetched before somebody seeks.
        consumer.pause(*firsts)
        # The broker's answer about one partition brings with it which others there are.
        await consumer.end_offsets(firsts)
        places = [
            TopicPartition(topic, number) for topic in topics for number in sorted(consumer.partitions_for_topic(topic))
        ]
        consumer.assign(places)
        consumer.pause(*places)
        starts, ends = await asyncio.gather(consumer.beginning_offsets(places), consumer.end_offsets(places))
        yield BookingRecords(consumer, {where: (starts[where], ends[where]) for where in places}, booking_id)
