"""A booking is explained in under a second, though a million records of others stand around its own."""

import asyncio
import json
import os
import resource
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from storage.explaining import explain
from storage.settings import DatabaseSettings
from tests.storage.test_explaining import COMMANDS, EVENTS, OPEN, ROOM, Desk, reserve
from tests.support.log import Log, all_places, open_log, open_runs
from topics import admin
from topics.catalogue import BOOKING_COMMANDS, BOOKING_EVENTS, Topic
from topics.commands import AddGuests, RequestPayment
from topics.envelope import Envelope, Headers, command_record, encode_headers, encode_value
from topics.events import BookingReserved
from topics.settings import KafkaSettings
from workers import projections, reservations
from workers.role import Role

#: Before the booking and after it, in each of two topics: a million in all.
MANY = 250_000
A_BATCH = 500
MOST_SECONDS = 1.0


@pytest.mark.system
@pytest.mark.timeout(600)
async def test_a_booking_among_a_million_records_is_explained_within_a_second(
    kafka_settings: KafkaSettings, database: DatabaseSettings, environment: dict[str, str]
) -> None:
    # Given a partition in which half of them stand before the booking's, and half after
    settings = kafka_settings.model_copy(update={"topic_partitions": 1})
    await admin.delete(settings)
    await admin.create(settings)
    booking_id = uuid4()
    async with open_log(settings) as log, filling(settings) as fill:
        desk = Desk(log, database)
        await log.send(OPEN)
        await desk.decide()
        await desk.project()
        await fill.all_around(database)
        for command in (
            reserve(booking_id),
            AddGuests(room_id=ROOM, booking_id=booking_id, user_id=3, guest_ids=(1,)),
            RequestPayment(room_id=ROOM, booking_id=booking_id, user_id=3),
        ):
            await log.send(command)
        for role in (reservations.build(settings, database), projections.build(settings, database)):
            await go_on(role, log, database)
        await fill.all_around(database)

    # When an operator asks for it, by the library and by the command
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        life = await explain(settings, database, booking_id)
        seconds.append(time.perf_counter() - began)
    said, command_seconds, cpu_seconds = min(
        [await by_command(booking_id, environment) for _ in range(2)], key=lambda told: told[2]
    )
    sys.stderr.write(
        f"explained among {4 * MANY} records in {min(seconds):.3f} s;"
        f" the whole command took {command_seconds:.3f} s, {cpu_seconds:.3f} s of them a core's\n"
    )

    # Then all of it is told, in time; how long a command waits for a core is another's doing
    steps = [(step["what"], step["place"]) for step in said["steps"]]
    assert sorted(what for what, _ in steps) == sorted(COMMANDS + EVENTS)
    assert all(place is not None for _, place in steps)
    assert [step.what for step in life.steps] == [what for what, _ in steps]
    assert min(seconds) < MOST_SECONDS
    assert cpu_seconds < MOST_SECONDS


async def by_command(booking_id: UUID, environment: dict[str, str]) -> tuple[dict[str, Any], float, float]:
    """Run `workers explain`; return what it says, and how long it took by the clock and of a core."""
    began, cores = time.perf_counter(), children_seconds()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "workers", "explain", str(booking_id), "--json"),
        env={**os.environ, **environment, "TOPIC_PARTITIONS": "1"},
        stdout=asyncio.subprocess.PIPE,
    )
    said = (await process.communicate())[0]
    return json.loads(said), time.perf_counter() - began, children_seconds() - cores


def children_seconds() -> float:
    """Return how long processes that we started, and that have ended, had a core."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class Filling:
    """Writes records of others, with ids and sequences as they would have."""

    def __init__(self, settings: KafkaSettings, producer: AIOKafkaProducer) -> None:
        self._settings = settings
        self._producer = producer
        self._others = reserve(uuid4())
        self._reserved = encode_value(
            BookingReserved(
                **{name: getattr(self._others, name) for name in ("room_id", "booking_id", "hotel_id", "rooms_count")},
                check_in=self._others.check_in,
                check_out=self._others.check_out,
                amount_minor=20_000,
                currency="EUR",
            )
        )

    async def all_around(self, database: DatabaseSettings) -> None:
        """Write the many commands and their events, and move the cursors of who would have read them."""
        async with await psycopg.AsyncConnection.connect(database.conninfo(), autocommit=True) as connection:
            found = await connection.execute("select max(sequence) from log_cursor where consumer = 'reservations'")
            [sequence] = await found.fetchone() or (0,)
            commands = await self._write(BOOKING_COMMANDS, self._command, int(sequence))
            events = await self._write(BOOKING_EVENTS, self._event, int(sequence))
            for topic, end in ((BOOKING_COMMANDS, commands), (BOOKING_EVENTS, events)):
                await connection.execute(
                    "update log_cursor set applied = %s, published = %s, sequence = sequence + %s, last_hash = null"
                    " where topic = %s",
                    (end, end, MANY, self._settings.topic(topic)),
                )

    async def _write(self, topic: Topic, record: Callable[[int], tuple[bytes, Headers]], sequence: int) -> int:
        """Write the many, numbered from behind `sequence` on; return the last one's offset."""
        name, key = self._settings.topic(topic), b"%d" % ROOM
        sent = []
        for first in range(sequence, sequence + MANY, A_BATCH):
            batch = self._producer.create_batch()
            for number in range(first + 1, first + A_BATCH + 1):
                value, headers = record(number)
                assert batch.append(key=key, value=value, timestamp=None, headers=headers) is not None
            batch.close()
            sent.append(await self._producer.send_batch(batch, name, partition=0))
        return int((await asyncio.gather(*sent))[-1].offset) + A_BATCH - 1

    def _command(self, _: int) -> tuple[bytes, Headers]:
        record = command_record("", self._others, id=uuid4().hex, source="test", time=datetime.now(UTC))
        return record.value, record.headers

    def _event(self, sequence: int) -> tuple[bytes, Headers]:
        envelope = Envelope(
            id=f"others:{sequence}",
            type=BookingReserved.wire,
            source="test",
            subject=str(self._others.booking_id),
            time=datetime.now(UTC),
            causation="others",
            sequence=sequence,
        )
        return self._reserved, encode_headers(envelope)


@asynccontextmanager
async def filling(settings: KafkaSettings) -> AsyncIterator[Filling]:
    producer = AIOKafkaProducer(bootstrap_servers=settings.kafka_url, max_batch_size=2**20, linger_ms=0)
    await producer.start()
    try:
        yield Filling(settings, producer)
    finally:
        await producer.stop()


async def go_on(role: Role, log: Log, database: DatabaseSettings) -> None:
    """Let a role read from its cursors on to the end of the log."""
    async with open_runs(role, log, database) as runs:
        starts = await runs.take_over(all_places(role, log.settings))
        consumer = AIOKafkaConsumer(bootstrap_servers=log.settings.kafka_url)
        await consumer.start()
        try:
            for place, start in starts.items():
                partition = TopicPartition(*place)
                consumer.assign([partition])
                consumer.seek(partition, start)
                end = (await consumer.end_offsets([partition]))[partition]
                records = [await consumer.getone() for _ in range(start, end)]
                assert await runs.carry_out([records]) == {}
        finally:
            await consumer.stop()
