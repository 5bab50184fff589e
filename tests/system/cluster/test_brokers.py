"""Three brokers lose one or two of themselves under load; nothing is lost, doubled or forgotten.

How soon a client gives up a broker that hangs is tested beside each client.
"""

import asyncio
import errno
import os
import signal
from pathlib import Path
from typing import Final

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import NewTopic

from operators.audit import audit
from sandbox import kafka
from storage.settings import DatabaseSettings
from tests.support.replicas import NO_LEADER, open_admin, replicas
from tests.support.waiting import wait_until
from tests.system.cluster.conftest import SMALL, Inn
from tests.system.pipeline.faults import Fault, inject
from topics.catalogue import BOOKING_COMMANDS, BOOKING_EVENTS
from topics.kafka import admin
from topics.kafka.admin import topic_configuration
from topics.kafka.settings import KafkaSettings

NO_KAFKA = kafka.available()
pytestmark = [
    pytest.mark.skipif(NO_KAFKA is not None, reason=NO_KAFKA or ""),
    pytest.mark.system,
    pytest.mark.timeout(900),
    pytest.mark.asyncio(loop_scope="package"),
]

AWAY_SECONDS: Final = 20.0
_CHUNK: Final = b"\0" * 65_536


async def test_a_broker_leaves_in_order_and_comes_back_and_no_request_is_refused(inn: Inn) -> None:
    # Given topics with three replicas
    assert await admin.check(inn.kafka) == []
    async with admin.open_admin(inn.kafka) as opened:
        states = await opened.describe([inn.kafka.topic(BOOKING_COMMANDS), inn.kafka.topic(BOOKING_EVENTS)])
    assert {(state.replication, state.in_sync) for state in states.values()} == {(3, 3)}

    # When a broker that leads partitions is stopped and started again while guests book
    async with inn.guests_book():
        name = await inn.leader()
        await inn.system.stop_part(name)
        await inn.guests.every_room_decides()
        await inn.system.start_part(name)
        await inn.guests.every_room_decides()

    # Then nobody was refused, and the ledger is that of the log.
    assert (inn.refused(), inn.guests.surprises) == (0, [])
    report = await audit(inn.kafka, DatabaseSettings(_env_file=None, database_url=inn.system.database_url))
    assert report.problems() == []


@pytest.mark.long
async def test_every_broker_is_restarted_in_turn_and_no_request_is_refused(inn: Inn) -> None:
    async def restart_each() -> None:
        for name in inn.system.broker_names:
            await inn.until_in_sync()
            await inn.system.stop_part(name)
            await inn.guests.every_room_decides()
            await inn.system.start_part(name)

    await inn.survives(1, restart_each)

    assert inn.refused() == 0


@pytest.mark.long
async def test_every_room_decides_while_a_leader_that_was_killed_is_away(inn: Inn) -> None:
    async def kill_a_leader() -> None:
        name = await inn.leader()
        await inn.system.kill_part(name)
        await inn.guests.every_room_decides()
        await inn.system.start_part(name)

    await inn.survives(2, kill_a_leader)


@pytest.mark.long
async def test_bookings_are_refused_while_two_of_three_are_away_and_all_that_were_accepted_are_decided(
    inn: Inn,
) -> None:
    async def take_two_away() -> None:
        away = [Fault(at_seconds=0.0, kind="away", part=name, seconds=AWAY_SECONDS) for name in inn.system.broker_names]
        async with asyncio.TaskGroup() as together:
            for fault in away[1:]:
                together.create_task(inject(inn.system, fault))
            await wait_until(lambda: inn.guests.statuses[503], message="bookings are refused")

    await inn.survives(3, take_two_away)


@pytest.mark.long
async def test_a_broker_that_hangs_falls_out_of_those_in_sync_and_catches_up_when_it_goes_on(inn: Inn) -> None:
    topic = inn.kafka.topic(BOOKING_COMMANDS)

    async def freeze_a_leader() -> None:
        name = await inn.leader()
        node_id = inn.system.broker_names.index(name) + 1

        async def is_out() -> bool:
            found = (await replicas(inn.kafka, topic)).values()
            return all(node_id != state.leader and node_id not in state.in_sync for state in found)

        pid = inn.system.pid(name)
        os.kill(pid, signal.SIGSTOP)
        try:
            await wait_until(is_out, message="others lead, and a hanging broker is not in sync")
        finally:
            os.kill(pid, signal.SIGCONT)

    await inn.survives(4, freeze_a_leader)

    assert await admin.check(inn.kafka) == []


@pytest.mark.long
async def test_every_room_decides_while_the_disk_of_a_broker_is_full(inn: Inn) -> None:
    if isinstance(inn.disk, str):
        pytest.skip(inn.disk)
    filler = inn.disk / "filler"
    broker = inn.system.supervisor[SMALL]
    before = broker.pid

    async def fill_the_disk() -> None:
        await asyncio.to_thread(_fill, filler)
        await wait_until(lambda: broker.running_pid != before, message="a broker without a disk ends")
        await inn.guests.every_room_decides()
        filler.unlink()

    await inn.survives(5, fill_the_disk)


@pytest.mark.long
async def test_a_broker_that_missed_a_record_does_not_lead_although_no_other_can(inn: Inn) -> None:
    topic, only = "unclean", TopicPartition("unclean", 0)
    # The product's own settings, but for a replica less that must have a record.
    configs = {**topic_configuration(inn.kafka, BOOKING_EVENTS), "min.insync.replicas": "1"}

    async def state_is(leader: int) -> bool:
        return (await replicas(inn.kafka, topic))[only].leader == leader

    async def lose_those_in_sync() -> None:
        async with open_admin(inn.kafka) as client:
            await client.create_topics([NewTopic(topic, -1, -1, {0: [2, 3]}, configs)])
        await wait_until(lambda: state_is(2))
        await inn.system.kill_part("kafka-3")
        await _send(inn.kafka, topic, b"missed by the third")
        await inn.system.kill_part("kafka-2")
        await inn.system.start_part("kafka-3")
        await wait_until(lambda: state_is(NO_LEADER), message="nobody leads")
        await inn.guests.every_room_decides()
        assert await state_is(NO_LEADER)
        await inn.system.start_part("kafka-2")
        await wait_until(lambda: state_is(2), message="the one that has the record leads")
        assert await _records(inn.kafka, only) == [b"missed by the third"]

    try:
        await inn.survives(6, lose_those_in_sync)
    finally:
        async with open_admin(inn.kafka) as client:
            await client.delete_topics([topic])


async def _send(kafka: KafkaSettings, topic: str, value: bytes) -> None:
    async with AIOKafkaProducer(bootstrap_servers=kafka.kafka_url, acks="all") as producer:
        await producer.send_and_wait(topic, value)


async def _records(kafka: KafkaSettings, partition: TopicPartition) -> list[bytes]:
    """Return the values of the records of a partition."""
    async with AIOKafkaConsumer(bootstrap_servers=kafka.kafka_url) as consumer:
        consumer.assign([partition])
        await consumer.seek_to_beginning()
        end = (await consumer.end_offsets([partition]))[partition]
        found: list[bytes] = []
        while await consumer.position(partition) < end:
            for records in (await consumer.getmany(timeout_ms=500)).values():
                found += [record.value for record in records if record.value is not None]
        return found


def _fill(file: Path) -> None:
    """Write a file until its disk is full."""
    try:
        with file.open("wb", buffering=0) as filler:
            while True:
                filler.write(_CHUNK)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
