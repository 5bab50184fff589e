"""Two processes with one name: the one that is at work keeps its partitions, the other ends and logs why."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import GroupCoordinatorNotAvailableError
from aiokafka.protocol.admin import DescribeGroupsRequest
from aiokafka.protocol.coordination import FindCoordinatorRequest

from sandbox.processes import Program
from sandbox.spawning import StartFailed
from storage import process_names
from storage.settings import DatabaseSettings
from tests.support.log import Log
from tests.support.waiting import wait_until
from tests.workers.runtime.conftest import Connection, Tool
from tests.workers.runtime.test_batch_processor import nights_on_sale
from tests.workers.runtime.test_pausing import workers
from topics.kafka.settings import KafkaSettings
from workers.runtime import process_names as own_name
from workers.runtime.role import Stopped
from workers.runtime.stopping import EXIT_FAILED

#: A worker whose group soon forgets a frozen member, and which waits for its name for five seconds.
SHORT_SESSION = """
import runpy
import faust
from workers.runtime import process_names

made = faust.App
faust.App = lambda *group, **settings: made(*group, **settings | {"broker_session_timeout": 3})
process_names.MAX_NAME_WAIT_SECONDS = 5
runpy.run_module("operators", run_name="__main__")
"""


async def test_processes_of_a_name_are_counted_until_their_sessions_end(
    connection: Connection, database: DatabaseSettings
) -> None:
    async with await type(connection).connect(database.conninfo(), autocommit=True) as another:
        assert await process_names.register(connection, "payments", "one") == 1
        assert await process_names.register(connection, "payments", "one") == 1
        assert await process_names.register(another, "payments", "one") == 2
        assert await process_names.register(another, "projections", "one") == 1
        assert await process_names.count(another, "payments", ["one", "two"]) == {"one": 2, "two": 0}

    async def is_alone() -> bool:
        return await process_names.count(connection, "payments", ["one"]) == {"one": 1}

    await wait_until(is_alone)


async def test_a_name_is_not_taken_while_nobody_knows_whether_its_process_is_at_work(
    connection: Connection,
    kafka_settings: KafkaSettings,
    database: DatabaseSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The broker starts, and has no coordinator for the group yet; then it has, and the other one is a member."""
    await process_names.register(connection, "reservations", "one")
    unknown = [GroupCoordinatorNotAvailableError.errno] * 2
    send = AIOKafkaClient.send

    async def answer(client: AIOKafkaClient, node: int, request: Any) -> Any:
        if isinstance(request, FindCoordinatorRequest):
            return SimpleNamespace(error_code=unknown.pop() if unknown else 0, coordinator_id=node)
        if isinstance(request, DescribeGroupsRequest):
            return SimpleNamespace(groups=[(0, "", "", "", "", [("one-1", "one", "/127.0.0.1", b"", b"")])])
        return await send(client, node, request)

    monkeypatch.setattr(AIOKafkaClient, "send", answer)
    monkeypatch.setattr(own_name, "MAX_NAME_WAIT_SECONDS", 0.0)

    with pytest.raises(Stopped, match="Another process with the name one is at work"):
        await own_name.wait_for_name(kafka_settings, database, "reservations", "one")


@pytest.fixture
def double(environment: dict[str, str], tmp_path: Path) -> Program:
    """A second worker with the name of the first."""
    return Program(
        "double",
        [sys.executable, "-c", SHORT_SESSION, "worker", "reservations", "--name", "one"],
        {**os.environ, **environment},
        ready_line="worker ready",
        log=tmp_path / "double.log",
    )


@pytest.mark.system
async def test_a_second_process_of_a_name_ends_and_the_first_works_on(
    environment: dict[str, str], log: Log, tool: Tool, double: Program, tmp_path: Path
) -> None:
    async with workers(["one"], environment, tmp_path) as programs:
        born = programs["one"].pid
        await wait_until(lambda: is_registered(tool))

        second = asyncio.create_task(double.start())
        await wait_until(lambda: lag_names_both(tool))
        with pytest.raises(StartFailed, match=f"double ended with {EXIT_FAILED} before it was ready") as failed:
            await second

        assert "Another process with the name one is at work" in str(failed.value)
        await log.send(nights_on_sale(1))
        await wait_until(log.events)
        assert programs["one"].pid == born
        assert "Heartbeat failed" not in (tmp_path / "one.log").read_text()


@pytest.mark.system
async def test_a_frozen_worker_that_thaws_beside_its_replacement_ends(
    environment: dict[str, str], log: Log, tool: Tool, double: Program, tmp_path: Path
) -> None:
    async with workers(["one"], environment, tmp_path, ("-c", SHORT_SESSION)) as programs:
        await wait_until(lambda: is_registered(tool))
        async with frozen(programs["one"]) as pid, double:
            await log.send(nights_on_sale(1))
            await wait_until(log.events)
            await wait_until(lambda: lag_names_both(tool))
            os.kill(pid, signal.SIGCONT)

            assert await programs["one"].ended() == EXIT_FAILED

            await log.send(nights_on_sale(2))
            await wait_until(lambda: decided(log, 2))
            assert double.running
        await programs["one"].drain_output()
        assert "Another process with the name one has taken the place of this one" in (tmp_path / "one.log").read_text()


@asynccontextmanager
async def frozen(program: Program) -> AsyncIterator[int]:
    """Stop a process for the length of the block, or until it is continued."""
    pid = program.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        yield pid
    finally:
        if program.running_pid == pid:
            os.kill(pid, signal.SIGCONT)


async def is_registered(tool: Tool) -> bool:
    return await processes(tool) == {1}


async def decided(log: Log, events: int) -> bool:
    return len(await log.events()) >= events


async def lag_names_both(tool: Tool) -> bool:
    """Whether `innkeeper lag` shows that two processes have the name."""
    table = await asyncio.to_thread(tool, "lag", "--interval", "0")
    line = "2 processes have the name one; only one of them can be at work."
    return line in table.stderr and await processes(tool) == {2}


async def processes(tool: Tool) -> set[int | None]:
    """Return how many processes have the names of the workers of reservations, as `innkeeper lag` shows it."""
    shown = await asyncio.to_thread(tool, "lag", "--interval", "0", "--json")
    lines: list[dict[str, Any]] = [json.loads(line) for line in shown.stdout.splitlines()]
    return {line["processes"] for line in lines if line["role"] == "reservations"}
