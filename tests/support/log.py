"""Writes records to the log of one test, reads them back, and hands them to a `BatchProcessor` without Faust."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from aiokafka import AIOKafkaConsumer, TopicPartition

from storage.settings import DatabaseSettings
from tests.support.waiting import MAX_WAIT_SECONDS
from topics.catalogue import BOOKING_COMMANDS, BOOKING_EVENTS, Topic
from topics.envelope import Envelope, Outgoing, command_record, decode_envelope, decode_value
from topics.kafka.producer import Producer, open_producer
from topics.kafka.settings import KafkaSettings
from topics.messages.commands import Command
from topics.messages.events import Event
from workers.runtime.batch_processor import BatchProcessor, dependencies_of
from workers.runtime.role import Role


class Log:
    """The topics of one test."""

    def __init__(self, settings: KafkaSettings, producer: Producer) -> None:
        self.settings = settings
        self.producer = producer

    async def send(self, *commands: Command, id: str | None = None) -> list[TopicPartition]:
        """Write commands, each with an id of its own unless one is given; return their partitions."""
        topic = self.settings.topic(BOOKING_COMMANDS)
        now = datetime.now(UTC)
        return await self.write(
            *(command_record(topic, command, id=id or str(uuid4()), source="test", time=now) for command in commands)
        )

    async def write(self, *records: Outgoing) -> list[TopicPartition]:
        """Write any records."""
        return [TopicPartition(written.topic, written.partition) for written in await self.producer.send_all(records)]

    async def read(
        self, topic: Topic, partitions: Sequence[TopicPartition] | None = None
    ) -> dict[TopicPartition, list[Any]]:
        """Return every record that the topic has now, by partition."""
        name = self.settings.topic(topic)
        partitions = partitions or [TopicPartition(name, number) for number in range(self.settings.topic_partitions)]
        consumer = AIOKafkaConsumer(bootstrap_servers=self.settings.kafka_url, group_id=None, fetch_max_wait_ms=20)
        await consumer.start()
        try:
            consumer.assign(partitions)
            await consumer.seek_to_beginning()
            starts, ends = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
            found: dict[TopicPartition, list[Any]] = {partition: [] for partition in partitions}
            while any(_missing(found[tp], starts[tp], ends[tp]) for tp in partitions):
                for tp, records in (await consumer.getmany(timeout_ms=200)).items():
                    found[tp].extend(records)
            return {partition: records for partition, records in found.items() if records}
        finally:
            await consumer.stop()

    async def events(self) -> list[tuple[Envelope, Event]]:
        """Return every event of the log, in order for each partition."""
        found = []
        for records in (await self.read(BOOKING_EVENTS)).values():
            for record in records:
                envelope = decode_envelope(record.headers)
                event = decode_value(envelope.type, record.value)
                assert isinstance(event, Event)
                found.append((envelope, event))
        return found


@asynccontextmanager
async def open_log(settings: KafkaSettings) -> AsyncIterator[Log]:
    """Open a test's log."""
    # When the machine is frozen for a while a test waits, since nothing else writes its records.
    async with open_producer(settings, client_id="test", request_timeout_seconds=MAX_WAIT_SECONDS) as producer:
        yield Log(settings, producer)


@asynccontextmanager
async def open_processor(role: Role, log: Log, database: DatabaseSettings) -> AsyncIterator[BatchProcessor]:
    """Open a worker's `BatchProcessor` to which every partition of its topics is assigned."""
    processor = BatchProcessor(role, log.settings, dependencies_of(role, log.settings, database, f"test-{role.name}"))
    try:
        await processor.on_assigned(all_partitions(role, log.settings))
        yield processor
    finally:
        await processor.close()


def all_partitions(role: Role, settings: KafkaSettings) -> list[TopicPartition]:
    """Return every partition that the role reads."""
    return [
        TopicPartition(settings.topic(topic), number)
        for topic in role.topics
        for number in range(settings.topic_partitions)
    ]


async def process_all(processor: BatchProcessor, role: Role, log: Log) -> dict[TopicPartition, int]:
    """Process everything that the role's topics have, from the beginning."""
    found = [await log.read(topic) for topic in role.topics]
    return await processor.process([records for places in found for records in places.values()])


def _missing(records: Sequence[Any], start: int, end: int) -> bool:
    return start < end and (not records or records[-1].offset < end - 1)
