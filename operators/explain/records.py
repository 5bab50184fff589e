"""Reads one booking's records on the log: by their positions, or in a range that is short."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError, KafkaTimeoutError

from topics.envelope import Envelope, Undecodable, decode_envelope, format_id, header
from topics.kafka import admin
from topics.kafka.log_reader import LogReader, OffsetRange
from topics.kafka.positions import LogPosition
from topics.kafka.records import sequence_of
from topics.kafka.settings import KafkaSettings

#: How much is fetched at once. The broker returns a whole batch at least.
_RECORDS_FETCH_BYTES: Final = 64 * 1024
_RECORDS_FETCH_WAIT_MS: Final = 10
_RECORDS_RETRY_MS: Final = 5
#: The beginning of the subjects of messages about promo codes.
_CODE_SUBJECT: Final = b"code/"
#: After so long without a connection the reason is looked for.
_MAX_OPEN_SECONDS: Final = 8.0


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
        return len({partition.partition for partition in self._ranges})

    def begin(self, partition: TopicPartition) -> int:
        """Return the partition's first offset."""
        return self._ranges[partition].first

    def end(self, partition: TopicPartition) -> int:
        """Return the offset after the partition's last record, when the log was opened."""
        return self._ranges[partition].end

    async def end_now(self, partition: TopicPartition) -> int:
        """Return the offset after the partition's last record at this moment."""
        return (await self._reader.ranges([partition]))[partition].end

    def at(self, position: LogPosition | None) -> Any | None:
        """Return the booking's record at a position, if it was read."""
        return None if position is None else self._found.get(position)

    def of(self, topic: str) -> list[Any]:
        """Return the booking's records of a topic that were read, in the order of the log."""
        return [record for position, record in sorted(self._found.items()) if position.topic == topic]

    async def offsets_at(self, partitions: Iterable[TopicPartition], time: datetime) -> dict[TopicPartition, int]:
        """Return the first offset at or after a time (UTC), for each partition; its end where there is none."""
        found = await self._reader.offsets_at(dict.fromkeys(partitions, int(time.timestamp() * 1000)))
        return {partition: self.end(partition) if at is None else at for partition, at in found.items()}

    async def read_at(self, positions: Iterable[LogPosition]) -> None:
        """Read the records at these positions. A position that the log does not have (any more) is passed over.

        Raises:
            aiokafka.errors.KafkaError: the broker does not answer.
            topics.kafka.log_reader.RecordsMissing: the log has deleted some of them meanwhile.
        """
        asked: defaultdict[TopicPartition, set[int]] = defaultdict(set)
        for position in positions:
            partition = TopicPartition(position.topic, position.partition)
            if partition in self._ranges and position not in self._found:
                asked[partition].add(position.offset)
        newer = [partition for partition, offsets in asked.items() if max(offsets) >= self.end(partition)]
        ranges = self._ranges | await self._reader.ranges(newer)
        left = {
            partition: sorted(each for each in offsets if ranges[partition].first <= each < ranges[partition].end)
            for partition, offsets in asked.items()
        }
        await self._read_offsets({partition: offsets for partition, offsets in left.items() if offsets})

    async def _read_offsets(self, left: dict[TopicPartition, list[int]]) -> None:
        self._reader.assign({partition: offsets[0] for partition, offsets in left.items()})
        ends = {partition: offsets[-1] + 1 for partition, offsets in left.items()}
        # One record at a time: the next one that is wanted is mostly elsewhere.
        async with aclosing(self._reader.batches(ends, max_records=1)) as batches:
            async for batch in batches:
                for partition, records in batch.items():
                    self._keep(records)
                    following = self._reader.position(partition)
                    left[partition] = [each for each in left[partition] if each >= following]
                    if left[partition] and left[partition][0] > following:
                        self._reader.seek(partition, left[partition][0])

    async def read_range(
        self, partition: TopicPartition, start: int, stop: int, *, max_records: int, last_sequence: int | None = None
    ) -> bool:
        """Read the records of [start, stop), at most `max_records` of them; return False where there are more.

        `last_sequence`: the range ends in front of the first event of a higher sequence. Raises as `read_at`.
        """
        start = max(start, self.begin(partition))
        end = min(stop, start + max_records)
        if start >= end:
            return True
        self._reader.assign({partition: start})
        async with aclosing(self._reader.batches({partition: end})) as batches:
            async for batch in batches:
                for record in batch[partition]:
                    if last_sequence is not None and (sequence_of(record) or 0) > last_sequence:
                        return True
                    self._keep([record])
        return end == stop

    def _keep(self, records: Iterable[Any]) -> None:
        self._found |= {LogPosition.of(record): record for record in records if self._is_ours(record)}

    def _is_ours(self, record: Any) -> bool:
        subject = header(record.headers, "ce_subject")
        if subject is not None and not subject.startswith(_CODE_SUBJECT):
            return subject == self._subject
        # Foreign bytes are about a booking when they contain its id, and so is the use of a promo code.
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
    """Open the topics, by a consumer that belongs to no group and so disturbs no other, and measure them.

    Raises:
        aiokafka.errors.KafkaError: the broker cannot be reached.
        topics.kafka.admin.TopicsFailed: a topic is not on the broker.
    """
    reader = LogReader(
        settings, fetch_bytes=_RECORDS_FETCH_BYTES, fetch_wait_ms=_RECORDS_FETCH_WAIT_MS, retry_ms=_RECORDS_RETRY_MS
    )
    async with AsyncExitStack() as stack:
        try:
            async with asyncio.timeout(_MAX_OPEN_SECONDS):
                await stack.enter_async_context(reader)
                counts = await reader.partition_counts(topics)
        except KafkaError:
            # A consumer's error is the same for a broker that is away and one that refuses us; an admin's is not.
            await admin.partition_counts(settings, topics)
            raise
        except TimeoutError as error:
            await admin.partition_counts(settings, topics)
            raise KafkaTimeoutError(f"no connection within {_MAX_OPEN_SECONDS:g} s") from error
        if set(topics) - counts.keys():
            # A consumer does not know why a topic is not there; an admin client does.
            counts = await admin.partition_counts(settings, topics)
        if missing := set(topics) - counts.keys():
            raise admin.TopicsFailed(f"No topic by the name of {', '.join(sorted(missing))}.")
        partitions = [TopicPartition(topic, number) for topic in topics for number in range(counts[topic])]
        yield BookingRecords(reader, await reader.ranges(partitions), booking_id)
