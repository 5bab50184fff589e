"""Faults: what can be done to a running system, and when, as a seed says.

The names are those of the design's table: F1 ingress, F2 reservations, F3 payments, F5 projections, F6 workers that
come, go and freeze, F7 broker, F8 database.
"""

import asyncio
import contextlib
import os
import random
import signal
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import psycopg

from sandbox.processes import Program, Service
from sandbox.system import System
from tests.support.waiting import wait_until

#: How long a part that was harmed may take to run again.
MOST_RESTART_SECONDS: Final = 60.0
#: Longer than the broker waits for a silent worker: whoever thaws has lost its partitions and does not know it.
FREEZE_SECONDS: Final = (12.0, 15.0)
_FAILPOINT = "INNKEEPER_FAILPOINT"


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One harm: `at_seconds` after the load began, `kind` is what is done to `part`; some last `seconds`."""

    at_seconds: float
    kind: str
    part: str
    seconds: float = 0.0
    failpoint: str | None = None

    def __str__(self) -> str:
        lasting = f" for {self.seconds:.1f} s" if self.seconds else ""
        where = f" at {self.failpoint}" if self.failpoint else ""
        return f"{self.at_seconds:5.1f} s: {self.kind} {self.part}{where}{lasting}"


@dataclass(frozen=True, kw_only=True)
class Menu:
    """A kind of fault: what may be harmed, and at which failpoints."""

    kind: str
    parts: Sequence[str]
    seconds: tuple[float, float] = (0.0, 0.0)
    failpoints: Sequence[str] = ()

    def choose(self, chance: random.Random, at_seconds: float) -> Fault:
        """Return one fault of this kind."""
        return Fault(
            at_seconds=at_seconds,
            kind=self.kind,
            part=chance.choice(self.parts),
            seconds=round(chance.uniform(*self.seconds), 2),
            failpoint=f"{chance.choice(self.failpoints)}:{chance.randint(1, 5)}" if self.failpoints else None,
        )


async def harm(system: System, fault: Fault) -> None:
    """Do it, and return when it is over (the part may still be on its way back)."""
    say(f"FAULT {fault}")
    match fault.kind:
        case "kill":
            await _signal(system, fault.part, signal.SIGKILL)
        case "failpoint":
            _at_next_start(system, fault.part, {_FAILPOINT: fault.failpoint or ""})
            await _signal(system, fault.part, signal.SIGKILL)
        case "leave":
            await _signal(system, fault.part, signal.SIGTERM)
        case "freeze":
            await _freeze(system, fault.part, fault.seconds)
        case "away":
            await system.kill_part(fault.part)
            await asyncio.sleep(fault.seconds)
            await system.start_part(fault.part)
        case "restart":
            await system.stop_part(fault.part)
            await asyncio.sleep(fault.seconds)
            await system.start_part(fault.part)
        case "sessions":
            await end_sessions(system)
        case other:
            raise ValueError(f"no such fault: {other}")


async def harm_all(system: System, faults: Iterable[Fault]) -> None:
    """Carry out a schedule, counted from now; faults may overlap."""
    began = asyncio.get_running_loop().time()

    async def one(fault: Fault) -> None:
        await asyncio.sleep(began + fault.at_seconds - asyncio.get_running_loop().time())
        await harm(system, fault)

    async with asyncio.TaskGroup() as together:
        for fault in faults:
            together.create_task(one(fault))


async def end_sessions(system: System) -> None:
    """Terminate every session of the database but our own."""
    with contextlib.suppress(psycopg.OperationalError):  # The server itself may be away.
        async with await psycopg.AsyncConnection.connect(system.database_url, autocommit=True) as connection:
            await connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where pid <> pg_backend_pid() and datname = current_database()"
            )


async def all_run(system: System, names: Iterable[str]) -> None:
    """Wait until these parts run and none of them is frozen."""
    for name in names:
        await _running(system.supervisor[name])


def _at_next_start(system: System, name: str, environment: dict[str, str]) -> None:
    """Let the part find this in its environment once, when it is started again."""
    program = system.supervisor[name]
    assert isinstance(program, Program)
    program._first_start.update(environment)


async def _signal(system: System, name: str, what: signal.Signals) -> None:
    pid = await _running(system.supervisor[name])
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, what)


async def _freeze(system: System, name: str, seconds: float) -> None:
    pid = await _running(system.supervisor[name])
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            os.kill(pid, signal.SIGCONT)


async def _running(service: Service) -> int:
    await wait_until(lambda: service.running, MOST_RESTART_SECONDS, f"{service.name} runs again")
    return service.pid


def say(line: str) -> None:
    """Tell what is done, on stderr beside the parts' own lines."""
    sys.stderr.write(f"{'chaos':<14} | {line}\n")
    sys.stderr.flush()
