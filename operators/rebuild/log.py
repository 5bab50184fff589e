"""All of `booking.events` from its beginning, up to wherever the events of each partition are wanted."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition

from storage.projections.positioned_event import Heard
from topics.envelope import (
    EVERY_VERSION,
    Undecodable,
    UnknownType,
    UnknownVersion,
    decode_envelope,
    decode_value,
)
from topics.kafka.settings import KafkaSettings
from topics.kafka.starting import started
from topics.messages.events import Event

#: How many events are folded together: enough that what a statement costs by itself is nothing.
EVENTS_AT_ONCE: Final = 10_000
_FETCH_BYTES: Final = 4 * 2**20
_FETCH_WAIT_MS: Final = 20
_PATIENCE_SECONDS: Final = 10.0


class NotWhole(Exception):
    """The log does not have what the read model was made of: it was cut, or replaced, or has something unreadable."""


class EventLog:
    """Reads each event once, in the order of its partition, and remembers where it stands."""

    def __init__(self, consumer: AIOKafkaConsumer, topic: str, takes: frozenset[str]) -> None:
        """Begin at the beginning of the topic, by its name on the broker; `takes` names the events that are wanted."""
        self.events = 0
        self._consumer = consumer
        self._takes = takes
        self._topic = topic
        self._waiting: dict[int, deque[Any]] = {}
        self._at: dict[int, int] = {}

    def behind(self, sequences: Mapping[int, int]) -> int:
        """Return how many events are missing to stand at these sequences, by partition."""
        return sum(max(0, wanted - self._at.get(partition, 0)) for partition, wanted in sequences.items())

    async def until(self, sequences: Mapping[int, int]) -> AsyncIterator[list[Heard]]:
        """Yield the wanted events among those that are still missing up to these sequences, by partition; many at once.

        Raises:
            NotWhole: an event is not there.
            aiokafka.errors.KafkaError: the broker cannot be reached.
        """
        clock = asyncio.get_running_loop().time
        found_at = clock()
        while missing := [number for number, wanted in sequences.items() if self._at.get(number, 0) < wanted]:
            before = self.events
            heard = [one for number in missing for one in self._take(number, sequences[number])]
            if self.events > before:
                found_at = clock()
                yield heard
            else:
                await self._fetch(missing)
                if clock() - found_at > _PATIENCE_SECONDS and await self._all_read(missing):
                    raise NotWhole(self._short(missing[0], sequences[missing[0]]))

    async def _fetch(self, numbers: list[int]) -> None:
        partitions = [TopicPartition(self._topic, number) for number in numbers]
        found = await self._consumer.getmany(*partitions, timeout_ms=200, max_records=EVENTS_AT_ONCE)
        for partition, records in found.items():
            self._waiting.setdefault(partition.partition, deque()).extend(records)

    async def _all_read(self, numbers: list[int]) -> bool:
        partitions = [TopicPartition(self._topic, number) for number in numbers]
        ends = await self._consumer.end_offsets(partitions)
        return all([await self._consumer.position(partition) >= ends[partition] for partition in partitions])

    def _take(self, number: int, wanted: int) -> list[Heard]:
        """Return what has come of a partition, as far as it is wanted."""
        heard = []
        waiting = self._waiting.get(number)
        while waiting:
            headers = dict(waiting[0].headers)
            sequence = _sequence(waiting[0], headers)
            # The log of a topic that was made anew goes on where the one before ended: then it never comes to 1.
            at = self._at.get(number, 0)
            if at >= wanted:
                break
            record = waiting.popleft()
            # An event from behind a gap comes again when the gap is closed, as what was published twice does.
            if sequence == at + 1:
                self._at[number] = sequence
                self.events += 1
                if _kind(record, headers) in self._takes:
                    heard.append(_heard(record, sequence))
        return heard

    def _short(self, number: int, wanted: int) -> str:
        return (
            f"{self._topic}[{number}] goes up to sequence {self._at.get(number, 0)}, and the read model is made of"
            f" events up to {wanted}: the log was cut or replaced"
        )


@asynccontextmanager
async def open_log(kafka: KafkaSettings, topic: str, takes: frozenset[str]) -> AsyncIterator[EventLog]:
    """Open the whole log; `topic` is its name on the broker, `takes` the names of the events that are wanted.

    Raises:
        NotWhole: it has lost its beginning.
        aiokafka.errors.KafkaError: the broker cannot be reached.
    """
    consumer = AIOKafkaConsumer(
        **kafka.client_options(),
        client_id="innkeeper-rebuild",
        enable_auto_commit=False,
        auto_offset_reset="none",
        fetch_max_wait_ms=_FETCH_WAIT_MS,
        max_partition_fetch_bytes=_FETCH_BYTES,
    )
    try:
        await started(consumer.start())
        partitions = [TopicPartition(topic, number) for number in sorted(await _numbers(consumer, topic))]
        consumer.assign(partitions)
        for partition, offset in (await consumer.beginning_offsets(partitions)).items():
            if offset > 0:
                raise NotWhole(f"{topic}[{partition.partition}] begins at offset {offset}: its beginning is gone")
            consumer.seek(partition, offset)
        yield EventLog(consumer, topic, takes)
    finally:
        await consumer.stop()


async def _numbers(consumer: AIOKafkaConsumer, topic: str) -> set[int]:
    if topic not in await consumer.topics():
        raise NotWhole(f"there is no topic {topic}")
    consumer.assign([TopicPartition(topic, 0)])
    # The broker's answer about one partition brings with it which others there are.
    await consumer.end_offsets([TopicPartition(topic, 0)])
    return set(consumer.partitions_for_topic(topic) or ())


def _sequence(record: Any, headers: Mapping[str, bytes]) -> int:
    sequence = headers.get("ce_sequence") or b""
    if not sequence.isdigit():
        raise NotWhole(f"{_where(record)}: an event without a sequence")
    return int(sequence)


def _kind(record: Any, headers: Mapping[str, bytes]) -> str:
    kind = (headers.get("ce_type") or b"").decode(errors="replace")
    if kind not in EVERY_VERSION:
        raise NotWhole(f"{_where(record)}: nobody knows an event {kind!r}")
    return kind


def _heard(record: Any, sequence: int) -> Heard:
    try:
        envelope = decode_envelope(record.headers)
        event = decode_value(envelope.type, record.value)
    except (Undecodable, UnknownType, UnknownVersion) as error:
        raise NotWhole(f"{_where(record)}: {type(error).__name__}: {error}") from error
    if not isinstance(event, Event):
        raise NotWhole(f"{_where(record)}: {envelope.type} does not belong there")
    return Heard(envelope, event, record.value, record.partition, sequence, record.topic, record.offset)


def _where(record: Any) -> str:
    return f"{record.topic}[{record.partition}]@{record.offset}"
