"""A test's hands on the log: write records, read them back, and feed them to a worker's `Runs` without Faust."""

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
from workers.runtime.batch_processor import Runs
from workers.runtime.log_source import Place
from workers.runtime.role import Role


class Log:
    """The topics of one test."""

    def __init__(self, settings: KafkaSettings, producer: Producer) -> None:
        self.settings = settings
        self.producer = producer

    async def send(self, *commands: Command, id: str | None = None) -> list[Place]:
        """Write commands, each with an id of its own unless one is given; return where they stand."""
        topic = self.settings.topic(BOOKING_COMMANDS)
        now = datetime.now(UTC)
        return await self.write(
            *(command_record(topic, command, id=id or str(uuid4()), source="test", time=now) for command in commands)
        )

    async def write(self, *records: Outgoing) -> list[Place]:
        """Write any records."""
        return [Place(written.topic, written.partition) for written in await self.producer.send_all(records)]

    async def read(self, topic: Topic, places: Sequence[Place] | None = None) -> dict[Place, list[Any]]:
        """Return every record that stands on the topic now, partition by partition."""
        name = self.settings.topic(topic)
        wanted = places or [Place(name, number) for number in range(self.settings.topic_partitions)]
        partitions = [TopicPartition(*place) for place in wanted]
        consumer = AIOKafkaConsumer(bootstrap_servers=self.settings.kafka_url, group_id=None, fetch_max_wait_ms=20)
        await consumer.start()
        try:
            consumer.assign(partitions)
            await consumer.seek_to_beginning()
            starts, ends = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
            found: dict[Place, list[Any]] = {place: [] for place in wanted}
            while any(_missing(found[Place(*tp)], starts[tp], ends[tp]) for tp in partitions):
                for tp, records in (await consumer.getmany(timeout_ms=200)).items():
                    found[Place(*tp)].extend(records)
            return {place: records for place, records in found.items() if records}
        finally:
            await consumer.stop()

    async def events(self) -> list[tuple[Envelope, Event]]:
        """Return every event that stands on the log, in order for each partition."""
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
    # Where the machine stands still a test waits, as nobody else writes its records.
    async with open_producer(settings, client_id="test", request_timeout_seconds=MAX_WAIT_SECONDS) as producer:
        yield Log(settings, producer)


@asynccontextmanager
async def open_runs(role: Role, log: Log, database: DatabaseSettings) -> AsyncIterator[Runs]:
    """Open a worker's `Runs` that owns every partition of its topics."""
    runs = Runs(role, log.settings, database, client_id=f"test-{role.name}")
    try:
        await runs.take_over(all_places(role, log.settings))
        yield runs
    finally:
        await runs.close()


def all_places(role: Role, settings: KafkaSettings) -> list[Place]:
    """Return every partition that the role reads."""
    return [
        Place(settings.topic(topic), number) for topic in role.topics for number in range(settings.topic_partitions)
    ]


async def carry_out_all(runs: Runs, role: Role, log: Log) -> dict[Place, int]:
    """Hand the runs everything that stands on the role's topics, from the beginning."""
    found = [await log.read(topic) for topic in role.topics]
    return await runs.carry_out([records for places in found for records in places.values()])


def _missing(records: Sequence[Any], start: int, end: int) -> bool:
    return start < end and (not records or records[-1].offset < end - 1)
