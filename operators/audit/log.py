"""The auditor's own reader: every record of `booking.events`, from the beginning, as raw bytes.

It is not `LogReader`, because an auditor shares no code with the programs that it audits.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from aiokafka import AIOKafkaConsumer, TopicPartition

from topics.kafka.settings import KafkaSettings
from topics.kafka.silent_brokers import give_up_silent_brokers
from topics.kafka.starting import stop_consumer

_AUDIT_FETCH_MS = 100
_MAX_AUDIT_SILENCE_SECONDS = 60.0


class NoSuchTopic(Exception):
    """The broker has no topic of this name."""


class Receiver(Protocol):
    """Receives the log's records."""

    def begins(self, partition: int, offset: int) -> None:
        """Receive the offset of a partition's oldest record."""

    def receive(self, partition: int, records: Sequence[Any]) -> None:
        """Receive the next records (aiokafka's) of a partition."""

    def last_sequence(self, partition: int) -> int:
        """Return the highest sequence received; 0 before the first."""


async def read_log(
    kafka: KafkaSettings,
    topic: str,
    receiver: Receiver,
    wanted: Mapping[int, int],
    *,
    max_wait_seconds: float,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Read the topic to its present end, and on until each partition has the sequence that is wanted of it.

    Returns without it when no record has come for `max_wait_seconds`; for records that the log has already it waits
    longer.

    Raises:
        NoSuchTopic: the topic does not exist.
        aiokafka.errors.KafkaError: the broker cannot be reached.
    """
    consumer = _consumer(kafka)
    try:
        await consumer.start()
        await _read(consumer, topic, receiver, wanted, max_wait_seconds=max_wait_seconds, progress=progress)
    finally:
        await stop_consumer(consumer)


async def ends_of(kafka: KafkaSettings, topic: str) -> dict[int, int]:
    """Return the offset behind the last record of each partition; of a topic that does not exist, nothing.

    Raises:
        aiokafka.errors.KafkaError: the broker cannot be reached.
    """
    consumer = _consumer(kafka)
    try:
        await consumer.start()
        partitions = await _assigned(consumer, topic)
        return {partition.partition: end for partition, end in (await consumer.end_offsets(partitions)).items()}
    except NoSuchTopic:
        return {}
    finally:
        await stop_consumer(consumer)


def _consumer(kafka: KafkaSettings) -> AIOKafkaConsumer:
    consumer = AIOKafkaConsumer(
        **kafka.client_options(),
        client_id="innkeeper-audit",
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=_AUDIT_FETCH_MS,
        max_partition_fetch_bytes=4 * 1024 * 1024,
    )
    give_up_silent_brokers(consumer._client)  # noqa: SLF001 - aiokafka makes it itself
    return consumer


async def _read(
    consumer: AIOKafkaConsumer,
    topic: str,
    receiver: Receiver,
    wanted: Mapping[int, int],
    *,
    max_wait_seconds: float,
    progress: Callable[[int, int], None] | None,
) -> None:
    partitions = await _assigned(consumer, topic)
    next_offsets = await consumer.beginning_offsets(partitions)
    ends = await consumer.end_offsets(partitions)
    for partition, offset in next_offsets.items():
        receiver.begins(partition.partition, offset)
    to_read, read = sum(ends.values()) - sum(next_offsets.values()), 0

    def max_silence_seconds() -> float:
        """Return how long to wait for more: a slow broker does send the records that the log has."""
        if any(next_offsets[partition] < ends[partition] for partition in partitions):
            return max(max_wait_seconds, _MAX_AUDIT_SILENCE_SECONDS)
        is_short = any(receiver.last_sequence(partition) < sequence for partition, sequence in wanted.items())
        return max_wait_seconds if is_short else 0.0

    clock = asyncio.get_running_loop().time
    received_at = clock()
    while clock() - received_at < max_silence_seconds():
        batches = await consumer.getmany(timeout_ms=_AUDIT_FETCH_MS)
        for partition, records in batches.items():
            receiver.receive(partition.partition, records)
            next_offsets[partition] = records[-1].offset + 1
            read += len(records)
            received_at = clock()
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
