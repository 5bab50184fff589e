"""The auditor's own consumer: every record of `booking.events`, from the beginning, as raw bytes."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from aiokafka import AIOKafkaConsumer, TopicPartition

from topics.kafka.settings import KafkaSettings

_PATIENT_FETCH_MS = 100
_MAX_SILENCE_SECONDS = 60.0


class NoSuchTopic(Exception):
    """The broker has no topic of this name."""


class Listener(Protocol):
    """Whom the log is read to."""

    def begins(self, partition: int, offset: int) -> None:
        """A partition's oldest record stands at `offset`."""

    def hear(self, partition: int, records: Sequence[Any]) -> None:
        """These records (aiokafka's) of a partition come next."""

    def last_sequence(self, partition: int) -> int:
        """Return the highest sequence heard; 0 before the first."""


async def read_log(
    kafka: KafkaSettings,
    topic: str,
    listener: Listener,
    wanted: Mapping[int, int],
    *,
    patience_seconds: float,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Read the topic to its present end, and on until each partition has the sequence that is wanted of it.

    Returns without it when nothing has come for `patience_seconds`, but waits longer for what stands there already.

    Raises:
        NoSuchTopic: the topic does not exist.
        aiokafka.errors.KafkaError: the broker cannot be reached.
    """
    consumer = AIOKafkaConsumer(
        **kafka.client_options(),
        client_id="innkeeper-audit",
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=_PATIENT_FETCH_MS,
        max_partition_fetch_bytes=4 * 1024 * 1024,
    )
    try:
        await consumer.start()
        await _read(consumer, topic, listener, wanted, patience_seconds=patience_seconds, progress=progress)
    finally:
        await consumer.stop()


async def _read(
    consumer: AIOKafkaConsumer,
    topic: str,
    listener: Listener,
    wanted: Mapping[int, int],
    *,
    patience_seconds: float,
    progress: Callable[[int, int], None] | None,
) -> None:
    partitions = await _assigned(consumer, topic)
    next_offsets = await consumer.beginning_offsets(partitions)
    ends = await consumer.end_offsets(partitions)
    for partition, offset in next_offsets.items():
        listener.begins(partition.partition, offset)
    to_read, read = sum(ends.values()) - sum(next_offsets.values()), 0

    def seconds_of_silence() -> float:
        """Return how long to wait for more: what stands on the log comes, however slow the broker is."""
        if any(next_offsets[partition] < ends[partition] for partition in partitions):
            return max(patience_seconds, _MAX_SILENCE_SECONDS)
        is_short = any(listener.last_sequence(partition) < sequence for partition, sequence in wanted.items())
        return patience_seconds if is_short else 0.0

    clock = asyncio.get_running_loop().time
    heard_at = clock()
    while clock() - heard_at < seconds_of_silence():
        batches = await consumer.getmany(timeout_ms=_PATIENT_FETCH_MS)
        for partition, records in batches.items():
            listener.hear(partition.partition, records)
            next_offsets[partition] = records[-1].offset + 1
            read += len(records)
            heard_at = clock()
        if progress is not None:
            progress(read, max(to_read, read))


async def _assigned(consumer: AIOKafkaConsumer, topic: str) -> list[TopicPartition]:
    """Give the consumer every partition of the topic, however many there are."""
    if topic not in await consumer.topics():
        raise NoSuchTopic(topic)
    first = TopicPartition(topic, 0)
    consumer.assign([first])
    # The broker's answer about one partition brings with it which others there are.
    await consumer.end_offsets([first])
    partitions = [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic))]
    consumer.assign(partitions)
    return partitions
