"""A booking is explained from the few records that it needs, however many of other bookings are around its own."""

import asyncio
import json
import os
import sys
from typing import Any
from uuid import UUID, uuid4

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from benchmarks.filling import filling
from operators.explain import BookingHistory, explain
from storage.settings import DatabaseSettings
from tests.operators.explain.test_explain import COMMANDS, EVENTS, OPEN, ROOM, Desk, reserve
from tests.support.log import Log, all_partitions, open_log, open_processor
from topics.kafka import admin
from topics.kafka.settings import KafkaSettings
from topics.messages.commands import AddGuests, RequestPayment
from workers import projections
from workers.reservations import handler
from workers.runtime.role import Role

#: Before the booking and after it, in each of two topics.
MANY = 25_000
#: Some hundred come with each look at the log, which is for one of the booking's own.
MAX_READ = 1_000


@pytest.mark.system
@pytest.mark.timeout(900)
async def test_a_booking_among_many_is_explained_without_reading_theirs(
    kafka_settings: KafkaSettings,
    database: DatabaseSettings,
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given a partition in which half of the other records are before the booking's, and half after
    settings = kafka_settings.model_copy(update={"topic_partitions": 1})
    await admin.delete(settings)
    await admin.create(settings)
    booking_id = uuid4()
    async with open_log(settings) as log, filling(settings, database, reserve(uuid4())) as others:
        desk = Desk(log, database)
        await log.send(OPEN)
        await desk.decide()
        await desk.project()
        await others.write(MANY)
        for command in (
            reserve(booking_id),
            AddGuests(room_id=ROOM, booking_id=booking_id, user_id=3, guest_ids=(1,)),
            RequestPayment(room_id=ROOM, booking_id=booking_id, user_id=3),
        ):
            await log.send(command)
        for role in (handler.build(settings, database), projections.build(settings, database)):
            await resume(role, log, database)
        await others.write(MANY)

    # When an operator asks for it, by the library and by the command
    history, read = await reading(settings, database, booking_id, monkeypatch)
    answer = await by_command(booking_id, environment)

    # Then its whole history is shown, and hardly any of the others was read for it
    steps = [(step["what"], step["place"]) for step in answer["steps"]]
    assert sorted(what for what, _ in steps) == sorted(COMMANDS + EVENTS)
    assert all(place is not None for _, place in steps)
    assert [step.what for step in history.steps] == [what for what, _ in steps]
    assert len(COMMANDS + EVENTS) <= read <= MAX_READ < 4 * MANY


async def reading(
    settings: KafkaSettings, database: DatabaseSettings, booking_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> tuple[BookingHistory, int]:
    """Explain the booking; return its history, and how many records of the log were read for it."""
    read = 0
    getmany = AIOKafkaConsumer.getmany

    async def counted(*arguments: Any, **options: Any) -> dict[TopicPartition, list[Any]]:
        nonlocal read
        found: dict[TopicPartition, list[Any]] = await getmany(*arguments, **options)
        read += sum(map(len, found.values()))
        return found

    with monkeypatch.context() as patch:
        patch.setattr(AIOKafkaConsumer, "getmany", counted)
        return await explain(settings, database, booking_id), read


async def by_command(booking_id: UUID, environment: dict[str, str]) -> dict[str, Any]:
    """Run `innkeeper explain`; return its JSON."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "operators", "explain", str(booking_id), "--json"),
        env={**os.environ, **environment, "TOPIC_PARTITIONS": "1"},
        stdout=asyncio.subprocess.PIPE,
    )
    answer: dict[str, Any] = json.loads((await process.communicate())[0])
    return answer


async def resume(role: Role, log: Log, database: DatabaseSettings) -> None:
    """Let a role read from its cursors on to the end of the log."""
    async with open_processor(role, log, database) as processor:
        starts = await processor.on_assigned(all_partitions(role, log.settings))
        consumer = AIOKafkaConsumer(bootstrap_servers=log.settings.kafka_url)
        await consumer.start()
        try:
            for place, start in starts.items():
                partition = TopicPartition(*place)
                consumer.assign([partition])
                consumer.seek(partition, start)
                end = (await consumer.end_offsets([partition]))[partition]
                records = [await consumer.getone() for _ in range(start, end)]
                assert await processor.process([records]) == {}
        finally:
            await consumer.stop()
