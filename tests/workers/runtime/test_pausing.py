"""An operator pauses a role: real workers stop within a second, keep their partitions, and resume afterwards."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from operators.lag import Lag, lags
from sandbox.processes import Program
from storage import pauses
from storage.pauses import Pause
from storage.settings import DatabaseSettings
from tests.support.log import Log
from tests.support.waiting import MAX_WAIT_SECONDS, wait_until
from tests.workers.runtime.conftest import Connection, Tool, shared
from tests.workers.runtime.test_batch_processor import nights_on_sale, rows, stay
from workers.runtime.pause_gate import PauseGate


class TestCommand:
    """The commands that an operator types."""

    def test_without_a_yes_nothing_is_done_and_the_plan_is_shown(self, tool: Tool) -> None:
        result = tool("pause", "reservations")

        assert result.exit_code == 1
        assert "bookings are still accepted, and none of them is decided" in result.stderr
        assert "add --yes" in result.stderr
        none = tool("paused")
        assert (none.stdout, none.stderr) == ("", "No role is paused.\n")

    def test_an_operator_who_would_resume_a_role_sees_what_that_would_do(self, tool: Tool) -> None:
        idle = tool("resume", "payments")
        assert (idle.exit_code, idle.stderr) == (1, "payments is not paused.\nNothing was done: add --yes to do it.\n")

        assert tool("pause", "payments", "--by", "anna", "--yes").exit_code == 0
        held = tool("resume", "payments")
        assert held.exit_code == 1
        assert "by anna. All its processes would continue where they stopped." in held.stderr
        assert "payments is paused since" in tool("paused").stdout
        assert "already." in tool("pause", "payments").stderr

    @pytest.mark.parametrize("command", ["pause", "resume"])
    @pytest.mark.parametrize("options", [(), ("--yes",), ("--json",)])
    def test_nothing_is_logged_of_a_role_before_the_database_has_answered(
        self, tool: Tool, command: str, options: tuple[str, ...]
    ) -> None:
        result = tool(command, "payments", *options, DATABASE_URL="postgresql://a:b@127.0.0.1:1/x")

        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr.startswith("The database cannot be used")

    def test_a_program_reads_what_would_be_done_and_what_was(self, tool: Tool) -> None:
        def answer(*arguments: str) -> tuple[int, dict[str, Any]]:
            result = tool(*arguments, "payments", "--by", "anna", "--json")
            return result.exit_code, json.loads(result.stdout)

        nothing = {"role": "payments", "done": False, "changes": True, "pause": None}
        assert answer("pause") == (1, nothing)
        assert answer("resume") == (1, {**nothing, "changes": False})
        status, paused = answer("pause", "--yes", "--reason", "Stripe is down")
        assert (status, paused["done"], paused["changes"]) == (0, True, True)
        assert (paused["pause"]["who"], paused["pause"]["reason"]) == ("anna", "Stripe is down")
        assert answer("pause", "--yes") == (0, {**paused, "changes": False})
        assert json.loads(tool("paused", "--json").stdout) == paused["pause"]
        assert answer("resume", "--yes") == (0, {"role": "payments", "done": True, "changes": True, "pause": None})
        assert answer("resume", "--yes") == (0, {"role": "payments", "done": True, "changes": False, "pause": None})

    def test_a_role_is_paused_once_and_resumed_once_and_both_are_on_record(
        self, tool: Tool, database: DatabaseSettings
    ) -> None:
        assert tool("pause", "payments", "--reason", "Stripe is down", "--by", "anna", "--yes").exit_code == 0
        again = tool("pause", "payments", "--by", "bob", "--yes")
        assert again.exit_code == 0
        assert "by anna: Stripe is down; nothing was changed." in again.stderr
        assert "payments is paused since" in tool("paused").stdout
        assert '"who":"anna"' in tool("paused", "--json").stdout

        assert "payments continues." in tool("resume", "payments", "--by", "bob", "--yes").stderr
        assert "payments was not paused." in tool("resume", "payments", "--yes").stderr

        with psycopg.connect(database.conninfo()) as connection:
            done = connection.execute("select who, action, target from operator_action order by id").fetchall()
        assert done == [("anna", "pause", "payments"), ("bob", "resume", "payments")]

    def test_a_pause_that_ends_while_another_one_begins_is_followed_by_that_one(
        self, tool: Tool, database: DatabaseSettings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert tool("pause", "payments", "--by", "anna", "--yes").exit_code == 0
        of = pauses.of

        async def resumed_meanwhile(connection: pauses.Connection, role: str) -> Pause | None:
            monkeypatch.setattr(pauses, "of", of)
            async with await psycopg.AsyncConnection.connect(database.conninfo(), autocommit=True) as another:
                assert await pauses.end(another, role, who="anna")
            return await of(connection, role)

        monkeypatch.setattr(pauses, "of", resumed_meanwhile)
        result = tool("pause", "payments", "--by", "bob", "--yes")

        assert result.exit_code == 0
        assert result.stderr.startswith("payments is paused since")
        assert result.stderr.endswith(" by bob.\n")

    def test_a_role_that_does_not_exist_is_refused(self, tool: Tool) -> None:
        assert tool("pause", "housekeeping", "--yes").exit_code == 2


class TestGate:
    """A pause stops the work beside the agent too."""

    async def test_work_beside_the_agent_is_cancelled_by_a_pause_and_begins_anew_after_it(self) -> None:
        gate, begun, ended = PauseGate(), 0, 0
        pause = Pause(role="payments", who="anna", at=datetime.now(UTC), reason=None)

        async def work() -> None:
            nonlocal begun, ended
            begun += 1
            try:
                await asyncio.Event().wait()
            finally:
                ended += 1

        task = asyncio.create_task(gate.run_while_resumed(work))
        assert gate.paused, "nothing begins before the pauses were read"
        gate.update("payments", None)
        await wait_until(lambda: (begun, ended) == (1, 0))
        gate.update("payments", pause)
        await wait_until(lambda: (begun, ended) == (1, 1))
        gate.update("payments", None)
        await wait_until(lambda: (begun, ended) == (2, 1))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert (begun, ended) == (2, 2)

    async def test_work_that_fails_raises(self) -> None:
        async def work() -> None:
            raise ZeroDivisionError

        gate = PauseGate()
        gate.update("payments", None)
        with pytest.raises(ZeroDivisionError):
            await gate.run_while_resumed(work)


@asynccontextmanager
async def workers(
    names: list[str], environment: dict[str, str], folder: Path, program: Sequence[str] = ("-m", "operators")
) -> AsyncIterator[dict[str, Program]]:
    """Run reservations workers of these names, each with a log of its own; `program` are the arguments of Python."""
    programs = {
        name: Program(
            name,
            [sys.executable, *program, "worker", "reservations", "--name", name],
            {**os.environ, **environment},
            ready_line="worker ready",
            log=folder / f"{name}.log",
        )
        for name in names
    }
    try:
        await asyncio.gather(*(program.start() for program in programs.values()))
        yield programs
    finally:
        await asyncio.gather(*(program.stop() for program in programs.values()))


@pytest.mark.system
async def test_a_paused_role_stops_keeps_its_partitions_and_resumes_at_the_same_record(
    tool: Tool, environment: dict[str, str], log: Log, connection: Connection, tmp_path: Path
) -> None:
    """Given two workers in the middle of requests, a pause holds both, also after a restart, until it ends."""
    settings = log.settings
    rooms = range(1, 9)
    await log.send(*(nights_on_sale(room, rooms=1000) for room in rooms))
    names = ["one", "two"]

    def logged(words: str) -> list[str]:
        return [name for name in names if words in (tmp_path / f"{name}.log").read_text()]

    async def applied() -> int:
        return int((await rows(connection, "select coalesce(sum(applied + 1), 0) from log_cursor"))[0][0])

    async def looked() -> list[Lag]:
        return [lag for lag in await lags(settings, connection) if lag.role == "reservations"]

    async def assigned() -> dict[int, str]:
        return {lag.partition: lag.owner for lag in await looked() if lag.owner is not None}

    async def assigned_as_before() -> bool:
        return await assigned() == before

    sent = len(rooms)

    async def ask_for(rounds: int) -> None:
        nonlocal sent
        sent += len(await log.send(*(stay(room) for _ in range(rounds) for room in rooms)))

    async def all_are_decided() -> bool:
        return await applied() == sent and len(await log.events()) == sent

    async with workers(names, environment, tmp_path) as programs:
        before = await wait_until(lambda: shared(assigned, ["one", "two"], settings.topic_partitions))
        await ask_for(100)

        paused = await asyncio.to_thread(tool, "pause", "reservations", "--yes")
        assert paused.exit_code == 0
        async with asyncio.timeout(MAX_WAIT_SECONDS):
            while len(logged("reservations is paused")) < len(names):
                await ask_for(5)
        await ask_for(25)

        await programs["one"].stop()
        # No partition is assigned in the middle of a batch: the last one before the pause is over.
        await wait_until(lambda: shared(assigned, ["two"], settings.topic_partitions))
        applied_before = await applied()
        (tmp_path / "one.log").unlink()
        await programs["one"].start()
        await wait_until(lambda: logged("reservations is paused") == names)
        await wait_until(assigned_as_before)
        assert await applied() == applied_before < sent
        assert sum(lag.lag for lag in await looked() if lag.paused) == sent - applied_before

        resumed = await asyncio.to_thread(tool, "resume", "reservations", "--yes")
        assert resumed.exit_code == 0
        await wait_until(all_are_decided)

    events = await log.events()
    assert len({envelope.causation for envelope, _ in events}) == len(events) == sent
    assert [name for name in names if "must be read again" in (tmp_path / f"{name}.log").read_text()] == []
