"""Reads one booking's records on the log: by their positions, or in a range that is short."""

from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from aiokafka import TopicPartition

from topics.envelope import Envelope, Undecodable, decode_envelope, format_id, header
from topics.kafka import admin
from topics.kafka.log_reader import LogReader, OffsetRange
from topics.kafka.positions import LogPosition
from topics.kafka.records import sequence_of
from topics.kafka.settings import KafkaSettings

#: How much is fetched at once. The broker returns a whole batch at least.
_FETCH_BYTES: Final = 64 * 1024
_FETCH_WAIT_MS: Final = 10
_RETRY_MS: Final = 5


class BookingRecords:
    """The records of one booking that were read so far. A record of another booking is read past, and not kept."""

    def __init__(self, reader: LogReader, ranges: dict[TopicPartition, OffsetRange], booking_id: UUID) -> None:
        """Keep records of this booking; `ranges` are the offsets of each partition when the log was opened."""
        self._reader = reader
        self._ranges = ranges
        self._subject = format_id(booking_id).encode()
        self._found: dict[LogPosition, Any] = {}

    @property
    def partitions(self) -> int:
        """Return the number of each topic's partitions."""
        return len({where.partition for where in self._ranges})

    def begin(self, where: TopicPartition) -> int:
        """Return the partition's first offset."""
        return self._ranges[where].first

    def end(self, where: TopicPartition) -> int:
        """Return the offset after the partition's last record, when the log was opened."""
        return self._ranges[where].end

    async def end_now(self, where: TopicPartition) -> int:
        """Return the offset after the partition's last record at this moment."""
        return (await self._reader.ranges([where]))[where].end

    def at(self, position: LogPosition | None) -> Any | None:
        """Return the booking's record at a position, if it was read."""
        return None if position is None else self._found.get(position)

    def of(self, topic: str) -> list[Any]:
        """Return the booking's records of a topic that were read, in the order of the log."""
        return [record for position, record in sorted(self._found.items()) if position.topic == topic]

    async def offsets_at(self, places: Iterable[TopicPartition], time: datetime) -> dict[TopicPartition, int]:
        """Return the first offset at or after a time (UTC), for each partition; its end where there is none."""
        found = await self._reader.offsets_at(dict.fromkeys(places, int(time.timestamp() * 1000)))
        return {where: self.end(where) if at is None else at for where, at in found.items()}

    async def read_at(self, positions: Iterable[LogPosition]) -> None:
        """Read the records at these positions. A position that the log does not have (any more) is passed over.

        Raises:
            aiokafka.errors.KafkaError: the broker does not answer.
            topics.kafka.log_reader.RecordsMissing: the log has deleted some of them meanwhile.
        """
        wanted: defaultdict[TopicPartition, set[int]] = defaultdict(set)
        for position in positions:
            where = TopicPartition(position.topic, position.partition)
            if where in self._ranges and position not in self._found:
                wanted[where].add(position.offset)
        left = {
            where: sorted(each for each in wanted[where] if first <= each < end)
            for where, (first, end) in (await self._reader.ranges(wanted)).items()
        }
        await self._read_offsets({where: offsets for where, offsets in left.items() if offsets})

    async def _read_offsets(self, left: dict[TopicPartition, list[int]]) -> None:
        self._reader.assign({where: offsets[0] for where, offsets in left.items()})
        ends = {where: offsets[-1] + 1 for where, offsets in left.items()}
        # One record at a time: the next one that is wanted is mostly elsewhere.
        async with aclosing(self._reader.batches(ends, max_records=1)) as batches:
            async for batch in batches:
                for where, records in batch.items():
                    self._keep(records)
                    following = self._reader.position(where)
                    left[where] = [each for each in left[where] if each >= following]
                    if left[where] and left[where][0] > following:
                        self._reader.seek(where, left[where][0])

    async def read_range(
        self, where: TopicPartition, start: int, stop: int, *, most: int, last_sequence: int | None = None
    ) -> bool:
        """Read the records of [start, stop), `most` of them at most; False where there are more.

        `last_sequence`: the range ends in front of the first event of a higher sequence. Raises as `read_at`.
        """
        start = max(start, self.begin(where))
        end = min(stop, start + most)
        if start >= end:
            return True
        self._reader.assign({where: start})
        async with aclosing(self._reader.batches({where: end})) as batches:
            async for batch in batches:
                for record in batch[where]:
                    if last_sequence is not None and (sequence_of(record) or 0) > last_sequence:
                        return True
                    self._keep([record])
        return end == stop

    def _keep(self, records: Iterable[Any]) -> None:
        self._found |= {LogPosition.of(record): record for record in records if self._is_ours(record)}

    def _is_ours(self, record: Any) -> bool:
        subject = header(record.headers, "ce_subject")
        if subject is not None:
            return subject == self._subject
        # Foreign bytes are about a booking when they contain its id.
        return self._subject in (record.value or b"")


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


@asynccontextmanager
async def open_records(
    settings: KafkaSettings, topics: Sequence[str], booking_id: UUID
) -> AsyncIterator[BookingRecords]:
    """Open the topics, by a consumer that belongs to no group and so disturbs nobody, and measure them.

    Raises:
        aiokafka.errors.KafkaError: the broker cannot be reached.
        topics.kafka.admin.TopicsFailed: a topic is not on the broker.
    """
    counts = await admin.partition_counts(settings, list(topics))
    if missing := set(topics) - counts.keys():
        raise admin.TopicsFailed(f"No topic by the name of {', '.join(sorted(missing))}.")
    places = [TopicPartition(topic, number) for topic in topics for number in range(counts[topic])]
    async with LogReader(
        settings, fetch_bytes=_FETCH_BYTES, fetch_wait_ms=_FETCH_WAIT_MS, retry_ms=_RETRY_MS
    ) as reader:
        yield BookingRecords(reader, await reader.ranges(places), booking_id)
