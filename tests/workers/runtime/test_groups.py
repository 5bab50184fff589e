"""Workers of one role share its partitions: one that ends leaves them to the others, and the last one is waited for."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor

from operators.lag import lags
from sandbox.processes import Program
from storage.settings import DatabaseSettings
from tests.support.log import Log
from tests.support.waiting import wait_until
from tests.workers.runtime.conftest import Assigned, Tool, shared
from tests.workers.runtime.test_batch_processor import nights_on_sale
from tests.workers.runtime.test_pausing import workers
from topics.catalogue import BOOKING_COMMANDS
from topics.kafka.partitions import partition_of
from topics.kafka.settings import KafkaSettings

pytestmark = pytest.mark.system

#: How often another member joins and leaves again: two rebalances each.
COMINGS = 8
KILLS = 2
#: A worker whose session outlasts every pause of a machine.
LONG_SESSION = """
import runpy
import faust

made = faust.App
faust.App = lambda *group, **settings: made(*group, **settings | {"broker_session_timeout": 80})
runpy.run_module("operators", run_name="__main__")
"""


@pytest.fixture
def assigned(log: Log, database: DatabaseSettings) -> Assigned:
    """The worker that each partition of the commands is assigned to, as the broker reports now."""

    async def ask_broker() -> dict[int, str]:
        found = await lags(log.settings, database)
        return {lag.partition: lag.owner for lag in found if lag.role == "reservations" and lag.owner is not None}

    return ask_broker


async def test_workers_without_names_share_the_partitions(
    environment: dict[str, str], log: Log, assigned: Assigned, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "operators", "worker", "reservations"]
    both = [
        Program(name, command, os.environ | environment, ready_line="worker ready", log=tmp_path / name)
        for name in ("one", "other")
    ]

    async def all_are_shared() -> bool:
        workers_of = await assigned()
        return len(workers_of) == log.settings.topic_partitions and len(set(workers_of.values())) == len(both)

    try:
        await asyncio.gather(*(program.start() for program in both))
        await wait_until(all_are_shared)
    finally:
        await asyncio.gather(*(program.stop() for program in both))


async def test_a_worker_that_is_asked_to_end_leaves_its_partitions_to_the_other_at_once(
    environment: dict[str, str], log: Log, assigned: Assigned, tmp_path: Path
) -> None:
    every = range(log.settings.topic_partitions)
    rooms = range(1, 9)

    async def all_are_decided() -> bool:
        return len(await log.events()) == len(rooms)

    async with workers(["one", "two"], environment, tmp_path) as programs:
        before = await wait_until(lambda: shared(assigned, ["one", "two"], len(every)))

        await programs["one"].stop()

        # The broker would else wait for it as long as a session lasts.
        assert "one" not in (await assigned()).values()
        await log.send(*(nights_on_sale(room) for room in rooms))
        await wait_until(all_are_decided)
        assert await assigned() == dict.fromkeys(every, "two")

        await programs["one"].start()
        assert await wait_until(lambda: shared(assigned, ["one", "two"], len(every))) == before


async def test_a_worker_without_others_is_waited_for(
    environment: dict[str, str], log: Log, assigned: Assigned, tmp_path: Path
) -> None:
    async with workers(["one"], environment, tmp_path, ("-c", LONG_SESSION)) as programs:
        await wait_until(lambda: shared(assigned, ["one"], log.settings.topic_partitions))

        await programs["one"].stop()

        assert await assigned() == dict.fromkeys(range(log.settings.topic_partitions), "one")


@pytest.mark.parametrize("is_paused", [False, True], ids=["at work", "paused"])
async def test_a_worker_keeps_running_however_often_others_come_and_go(
    environment: dict[str, str], log: Log, assigned: Assigned, tool: Tool, tmp_path: Path, *, is_paused: bool
) -> None:
    rooms = range(1, 9)

    async def all_are_decided() -> bool:
        return len(await log.events()) == len(rooms)

    async with workers(["one"], environment, tmp_path) as programs:
        await wait_until(lambda: shared(assigned, ["one"], log.settings.topic_partitions))
        born = programs["one"].pid
        if is_paused:
            assert (await asyncio.to_thread(tool, "pause", "reservations", "--yes")).exit_code == 0

        for _ in range(COMINGS):
            async with passer_by(log.settings):
                pass

        await log.send(*(nights_on_sale(room) for room in rooms))
        if is_paused:
            assert (await asyncio.to_thread(tool, "resume", "reservations", "--yes")).exit_code == 0
        await wait_until(all_are_decided)
        assert programs["one"].pid == born, (tmp_path / "one.log").read_text()


async def test_a_worker_works_on_while_a_rebalance_waits_for_another_member(
    environment: dict[str, str], log: Log, assigned: Assigned, tmp_path: Path
) -> None:
    async with workers(["one"], environment, tmp_path):
        async with member(log.settings, "busy", busy := Busy()):
            await wait_until(lambda: shared(assigned, ["one", "busy"], log.settings.topic_partitions))
            rooms = rooms_of("one", await assigned())
            async with member(log.settings, "newcomer") as newcomer:
                await wait_until(busy.asked_to_let_go.is_set)

                await log.send(*(nights_on_sale(room) for room in rooms))
                await wait_until(lambda: all_are_decided(log, len(rooms)))

                assert not newcomer.assignment(), "the rebalance still waits for the busy member"
                busy.may_let_go.set()
                await wait_until(newcomer.assignment)

        await log.send(*(nights_on_sale(room, rooms=11) for room in range(1, 33)))
        await wait_until(lambda: all_are_decided(log, len(rooms) + 32))


async def test_a_worker_that_is_killed_and_back_in_time_takes_nothing_from_the_other(
    environment: dict[str, str], log: Log, assigned: Assigned, tmp_path: Path
) -> None:
    async with workers(["one", "two"], environment, tmp_path, ("-c", LONG_SESSION)) as programs:
        before = await wait_until(lambda: shared(assigned, ["one", "two"], log.settings.topic_partitions))
        reports = (tmp_path / "two.log").read_text().count("worker ready")

        for _ in range(KILLS):
            await programs["one"].kill()
            await programs["one"].start()

        assert await assigned() == before
        assert (tmp_path / "two.log").read_text().count("worker ready") == reports, "it learned of no rebalance"


def rooms_of(worker: str, workers: Mapping[int, str]) -> list[int]:
    """Return some rooms whose partitions are assigned to the worker."""
    return [room for room in range(1, 33) if workers[partition_of(b"%d" % room, len(workers))] == worker]


async def all_are_decided(log: Log, events: int) -> bool:
    return len(await log.events()) == events


class Busy(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """A member of the group that works, and takes part in no rebalance until it may let its partitions go."""

    def __init__(self) -> None:
        self.asked_to_let_go = asyncio.Event()
        self.may_let_go = asyncio.Event()

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        if revoked:
            self.asked_to_let_go.set()
            await self.may_let_go.wait()

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        pass


@asynccontextmanager
async def member(
    settings: KafkaSettings, name: str, listener: ConsumerRebalanceListener | None = None
) -> AsyncIterator[AIOKafkaConsumer]:
    """Join the reservations workers; the group waits for this member longer than the test does."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.kafka_url,
        group_id=settings.group("reservations"),
        client_id=name,
        heartbeat_interval_ms=100,
        rebalance_timeout_ms=600_000,
        partition_assignment_strategy=[RoundRobinPartitionAssignor],
    )
    await consumer.start()
    try:
        consumer.subscribe([settings.topic(BOOKING_COMMANDS)], listener=listener)
        yield consumer
    finally:
        await consumer.stop()


@asynccontextmanager
async def passer_by(settings: KafkaSettings) -> AsyncIterator[None]:
    """Join the reservations workers, and leave them as soon as a partition is assigned to us."""
    async with member(settings, "passer-by") as consumer:
        await wait_until(consumer.assignment)
        yield
