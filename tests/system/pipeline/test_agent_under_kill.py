"""Reservations workers are killed, frozen, robbed of their broker and their database, while commands keep coming."""

import asyncio
import logging
import random
import re
from itertools import pairwise
from pathlib import Path

import psycopg
import pytest

from sandbox import kafka
from sandbox.system import Plan, System
from tests.support.waiting import wait_until
from tests.system.pipeline import log, reckoning
from tests.system.pipeline.clerk import Clerk
from tests.system.pipeline.faults import Fault, all_run, inject_all, say

WORKERS = ("reservations-1", "reservations-2")
PER_SECOND = 150
SECONDS = 25.0
#: The first thaws, without knowing it, when its partitions are assigned to the other; only then the broker goes, or it
#: would wait.
SCHEDULE = (
    Fault(at_seconds=0.5, kind="freeze", part="reservations-1", seconds=13.0),
    Fault(at_seconds=2.0, kind="failpoint", part="reservations-2", failpoint="reservations.after_commit:4"),
    Fault(at_seconds=5.5, kind="failpoint", part="reservations-2", failpoint="reservations.in_batch:3"),
    Fault(at_seconds=9.0, kind="sessions", part="postgres"),
    Fault(at_seconds=15.0, kind="failpoint", part="reservations-2", failpoint="reservations.after_publish:2"),
    Fault(at_seconds=16.0, kind="away", part="kafka", seconds=0.5),
    Fault(at_seconds=17.0, kind="kill", part="reservations-1"),
    Fault(at_seconds=21.0, kind="restart", part="postgres", seconds=0.5),
    Fault(at_seconds=23.0, kind="leave", part="reservations-2"),
)


#: One worker is killed every two seconds: at work, while it joins, or before that, as the machine's speed has it.
KILLS = tuple(Fault(at_seconds=2.0 * number, kind="kill", part="reservations-1") for number in range(1, 15))


def two_workers(folder: Path) -> Plan:
    """Return the plan of a log, a database and two reservations workers."""
    return Plan(
        folder=folder,
        workers={"reservations": 2},
        ingress=0,
        stripe=False,
        partitions=4,
        own_servers=True,
        quiet=True,
    )


@pytest.mark.system
@pytest.mark.timeout(900)
@pytest.mark.skipif(kafka.available() is not None, reason=kafka.available() or "")
async def test_every_command_is_decided_once_whatever_happens_to_the_workers(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Given a load of commands and a schedule of harm, when all is over, nothing is lost and nothing happened twice."""
    # The client logs at length that a killed broker does not answer.
    caplog.set_level(logging.CRITICAL, "aiokafka")
    async with System(two_workers(tmp_path)) as system:
        clerk = Clerk(system.kafka_url, random.Random(1))
        try:
            await under_fire(system, clerk, SECONDS, SCHEDULE)
        finally:
            await clerk.close()
        await all_run(system, WORKERS)
        await caught_up(system)

        await everything_holds(system, clerk)


@pytest.mark.system
@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.skipif(kafka.available() is not None, reason=kafka.available() or "")
async def test_a_worker_keeps_its_partitions_while_the_other_is_killed_again_and_again(tmp_path: Path) -> None:
    """Given two workers, when one is killed every two seconds, the other never has fewer partitions than its own."""
    async with System(two_workers(tmp_path)) as system:
        clerk = Clerk(system.kafka_url, random.Random(2))
        undisturbed = system.pid("reservations-2")
        # Until both have joined one of them has all partitions.
        await wait_until(lambda: _assigned(system, "reservations-2")[-1:] == ["2"])
        began = len(_assigned(system, "reservations-2")) - 1
        try:
            await under_fire(system, clerk, SECONDS + 5, KILLS)
        finally:
            await clerk.close()
        await all_run(system, WORKERS)
        await caught_up(system)

        assert system.pid("reservations-2") == undisturbed
        found = _assigned(system, "reservations-2")[began:]
        assert set(found) <= {"2", "4"}
        assert all(before != after for before, after in pairwise(found)), "each break was for other partitions"
        await everything_holds(system, clerk)


def _assigned(system: System, worker: str) -> list[str]:
    """Return how many partitions a worker had after each rebalance that gave it others, by its log."""
    return re.findall(r"worker ready: reservations has (\d+) partitions", (system.logs / f"{worker}.log").read_text())


async def under_fire(system: System, clerk: Clerk, seconds: float, schedule: tuple[Fault, ...]) -> None:
    """Let the clerk work while the schedule is carried out."""
    await clerk.open_rooms()
    async with asyncio.TaskGroup() as together:
        together.create_task(clerk.work(seconds, PER_SECOND))
        together.create_task(inject_all(system, schedule))


async def caught_up(system: System) -> None:
    """Wait until the workers have decided and published everything."""
    left: list[str] = []

    async def nothing_is_left() -> bool:
        left[:] = await reckoning.behind(system.kafka_url, system.database_url, "reservations", [reckoning.COMMANDS])
        return not left

    await wait_until(nothing_is_left, 180.0, lambda: "; ".join(left))


async def everything_holds(system: System, clerk: Clerk) -> None:
    """Compare what was acknowledged with the log, the log with its answers, and the answers with the ledger."""
    commands = await log.read(system.kafka_url, reckoning.COMMANDS)
    events = await log.read(system.kafka_url, reckoning.EVENTS)
    dead_letters = await log.read(system.kafka_url, reckoning.DEAD_LETTERS)
    published, doubles, wrong = reckoning.first_publications(events)
    stored = {command.id for command in commands}
    say(f"{len(commands)} commands, {len(events)} events, {doubles} published twice")

    assert not wrong, "events are in sequence, and doubles are the same to the byte"
    assert set(clerk.acknowledged) <= stored, "what the broker acknowledged is on the log"
    assert not reckoning.decided_once(commands, published)
    assert not reckoning.sold_again(published)
    assert reckoning.last_status(published) == await reckoning.statuses(system.database_url)
    assert not await reckoning.miscounted(system.database_url)
    assert not await reckoning.oversold(system.database_url)
    assert {dead_letter.value.hex() for dead_letter in dead_letters} == set(clerk.poisoned)
    assert await dead_lettered(system) == sum(not command.id for command in commands), "each poison is counted once"


async def dead_lettered(system: System) -> int:
    async with await psycopg.AsyncConnection.connect(system.database_url) as connection:
        (count,) = await (await connection.execute("select count(*) from dead_letter")).fetchall()
        return int(count[0])
