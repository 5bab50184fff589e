"""One of three brokers hangs: it keeps its connections and answers nothing; every room is decided all the same.

The broker hangs (SIGSTOP) until a test has seen all that it waits for.
"""

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psutil
import pytest
from aiokafka.protocol.coordination import FindCoordinatorRequest

from sandbox import kafka
from sandbox.kafka import Cluster
from tests.system.cluster.conftest import Inn
from topics.kafka import admin

NO_KAFKA = kafka.available()
pytestmark = [
    pytest.mark.skipif(NO_KAFKA is not None, reason=NO_KAFKA or ""),
    pytest.mark.system,
    pytest.mark.long,
    pytest.mark.timeout(900),
    pytest.mark.asyncio(loop_scope="package"),
]


@asynccontextmanager
async def hung(inn: Inn, name: str) -> AsyncIterator[None]:
    """Hang a broker for the length of the block, at whose end it still hangs."""
    pid = inn.system.pid(name)
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
        assert psutil.Process(pid).status() == psutil.STATUS_STOPPED
    finally:
        os.kill(pid, signal.SIGCONT)


async def coordinator(inn: Inn, role: str) -> str:
    """Return the broker that coordinates the workers of a role."""
    async with admin.open_admin(inn.kafka) as opened:
        found = await opened._ask(FindCoordinatorRequest(inn.kafka.group(role), 0))
        node_id: int = found.coordinator_id
        return inn.system.broker_names[node_id - 1]


def gave_up(inn: Inn, name: str) -> set[str]:
    """Return the workers whose logs show that they gave a broker up."""
    assert isinstance(inn.system.kafka, Cluster)
    (url,) = (broker.url for broker in inn.system.kafka.brokers if broker.name == name)
    line = re.compile(rf"the broker at {re.escape(url)} does not answer")
    return {name for name in inn.system.worker_names if line.search((inn.system.logs / f"{name}.log").read_text())}


async def innkeeper(inn: Inn, *arguments: str) -> int | None:
    """Run an operator's command; return its exit status."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "operators", *arguments, env={**os.environ, **inn.system.environment()}
    )
    try:
        return await process.wait()
    except asyncio.CancelledError:
        process.kill()
        raise


async def test_every_room_decides_while_a_leader_hangs(inn: Inn) -> None:
    async def hang_a_leader() -> None:
        name = await inn.leader()
        async with hung(inn, name):
            await inn.guests.every_room_decides()

            assert "reservations-1" in gave_up(inn, name)
            assert await inn.leader() != name

    await inn.survives(11, hang_a_leader)


async def test_every_room_decides_while_the_coordinator_of_the_workers_hangs(inn: Inn) -> None:
    async def hang_the_coordinator() -> None:
        name = await coordinator(inn, "reservations")
        async with hung(inn, name):
            await inn.guests.every_room_decides()

            # A worker that begins only now finds the others, and a coordinator that answers.
            await inn.system.stop_part("reservations-1")
            await inn.system.start_part("reservations-1")
            await inn.guests.every_room_decides()
            assert await coordinator(inn, "reservations") != name

    await inn.survives(12, hang_the_coordinator)


async def test_operators_tools_work_while_a_broker_hangs(inn: Inn) -> None:
    async with inn.guests_book():
        name = await inn.leader()
        async with hung(inn, name):
            # From the first moment on: the leaders have not moved yet.
            together = await asyncio.gather(
                innkeeper(inn, "lag"),
                innkeeper(inn, "explain", inn.guests.bookings[0]),
                innkeeper(inn, "dead-letters", "list"),
                innkeeper(inn, "topics", "list"),
            )
            await inn.guests.every_room_decides()
            audited = await innkeeper(inn, "audit")

    assert {*together, audited} == {0}
