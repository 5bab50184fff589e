"""Faults of a running system, and their timetable, which follows from a seed.

The names are those of the design's table: F1 ingress, F2 reservations, F3 payments, F4 expiry, F5 projections,
F6 workers that come, go and freeze, F7 broker, F8 database; and reconciliation, and coordination.
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

from sandbox.processes import ManagedProcess, Program
from sandbox.system import System
from tests.support.waiting import wait_until

#: How long a part that was harmed may take to run again.
MAX_RESTART_SECONDS: Final = 120.0
#: Longer than the broker waits for a silent worker: one that thaws has lost its partitions and does not know it.
FREEZE_SECONDS: Final = (12.0, 15.0)
_FAILPOINT = "INNKEEPER_FAILPOINT"


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One harm: `at_seconds` after the load began, `kind` is what is done to `part`; some last `seconds`."""

    at_seconds: float
    kind: str
    part: str
    family: str = ""
    seconds: float = 0.0
    failpoint: str | None = None

    def __str__(self) -> str:
        lasting = f" for {self.seconds:.1f} s" if self.seconds else ""
        where = f" at {self.failpoint}" if self.failpoint else ""
        return f"{self.at_seconds:5.1f} s {self.family}: {self.kind} {self.part}{where}{lasting}"


@dataclass(frozen=True, kw_only=True)
class Dish:
    """A kind of fault, under its name in the design's table: the parts and failpoints that it may hit, and how long."""

    family: str
    kind: str
    parts: Sequence[str]
    seconds: tuple[float, float] = (0.0, 0.0)
    failpoints: Sequence[str] = ()

    def serve(self, chance: random.Random, at_seconds: float) -> Fault:
        """Return one fault of this kind."""
        return Fault(
            at_seconds=at_seconds,
            family=self.family,
            kind=self.kind,
            part=chance.choice(self.parts),
            seconds=round(chance.uniform(*self.seconds), 2),
            failpoint=f"{chance.choice(self.failpoints)}:{chance.randint(1, 5)}" if self.failpoints else None,
        )


RESERVATIONS: Final = ("reservations-1", "reservations-2")
MENU: Final = (
    Dish(family="F1", kind="failpoint", parts=["ingress"], failpoints=["ingress.before_produce", "ingress.after_ack"]),
    Dish(family="F1", kind="kill", parts=["ingress"]),
    Dish(
        family="F2",
        kind="failpoint",
        parts=RESERVATIONS,
        failpoints=["reservations.in_batch", "reservations.after_commit", "reservations.after_publish"],
    ),
    Dish(family="F2", kind="kill", parts=RESERVATIONS),
    Dish(
        family="F3",
        kind="failpoint",
        parts=["payments-1"],
        failpoints=["payments.before_call", "payments.after_call", "payments.after_record", "payments.after_produce"],
    ),
    Dish(
        family="F3",
        kind="failpoint",
        parts=["payments-1"],
        failpoints=["payments.in_batch", "payments.after_commit", "payments.after_publish"],
    ),
    Dish(family="F3", kind="kill", parts=["payments-1"]),
    Dish(family="F4", kind="kill", parts=["expiry-1"]),
    Dish(family="F5", kind="kill", parts=["projections-1"]),
    Dish(family="F6", kind="freeze", parts=RESERVATIONS, seconds=FREEZE_SECONDS),
    Dish(family="F6", kind="leave", parts=RESERVATIONS),
    Dish(family="F7", kind="away", parts=["kafka"], seconds=(0.0, 4.0)),
    Dish(family="F8", kind="sessions", parts=["postgres"]),
    Dish(family="F8", kind="restart", parts=["postgres"], seconds=(0.0, 2.0)),
    Dish(family="F8", kind="away", parts=["postgres"], seconds=(0.0, 2.0)),
    Dish(family="reconciliation", kind="kill", parts=["reconciliation-1"]),
    Dish(
        family="reconciliation",
        kind="failpoint",
        parts=["reconciliation-1"],
        failpoints=["reconciliation.after_produce"],
    ),
    Dish(family="coordination", kind="kill", parts=["coordination-1"]),
    Dish(
        family="coordination",
        kind="failpoint",
        parts=["coordination-1"],
        failpoints=["coordination.in_batch", "coordination.after_commit", "coordination.after_publish"],
    ),
)
#: How long after a fault of a family the next fault comes, at least: broker and database need a moment.
_PAUSE_SECONDS: Final = {"F7": 5.0, "F8": 2.5}
_FIRST_AT_SECONDS: Final = 1.5
_QUIET_END_SECONDS: Final = 1.0


def schedule(seed: int, seconds: float) -> list[Fault]:
    """Return the faults of a run: one of each family in any order, again and again while there is time."""
    chance = random.Random(seed)
    faults: list[Fault] = []
    at_seconds = _FIRST_AT_SECONDS
    while at_seconds < seconds - _QUIET_END_SECONDS:
        for dish in _one_of_each(chance):
            fault = dish.serve(chance, round(at_seconds, 2))
            if at_seconds + fault.seconds < seconds - _QUIET_END_SECONDS:
                faults.append(fault)
                at_seconds += _PAUSE_SECONDS.get(dish.family, 1.0) + chance.uniform(0.0, 1.5)
        at_seconds += 0.5
    return faults


def _one_of_each(chance: random.Random) -> list[Dish]:
    """Return a dish of each family in any order; the long freeze first, so that the others fall into it."""
    families = sorted({dish.family for dish in MENU})
    dishes = [chance.choice([dish for dish in MENU if dish.family == family]) for family in families]
    chance.shuffle(dishes)
    return sorted(dishes, key=lambda dish: dish.kind != "freeze")


async def inject(system: System, fault: Fault) -> None:
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


async def arm(system: System, name: str, failpoint: str) -> int:
    """Stop a part in order and start it again, so that it dies at a failpoint; return the process that will die."""
    await system.stop_part(name)
    _at_next_start(system, name, {_FAILPOINT: failpoint})
    await system.start_part(name)
    return system.pid(name)


async def inject_all(system: System, faults: Iterable[Fault]) -> None:
    """Carry out a schedule, counted from now; faults may overlap, but a server comes back before it goes again."""
    began = asyncio.get_running_loop().time()
    servers = {name: asyncio.Lock() for name in ("kafka", "postgres")}

    async def one(fault: Fault) -> None:
        await asyncio.sleep(began + fault.at_seconds - asyncio.get_running_loop().time())
        async with servers.get(fault.part, contextlib.nullcontext()):
            await inject(system, fault)

    async with asyncio.TaskGroup() as together:
        for fault in faults:
            together.create_task(one(fault))


async def end_sessions(system: System) -> int:
    """Terminate every session of the database but our own; return how many were."""
    with contextlib.suppress(psycopg.OperationalError):  # The server itself may be away.
        async with await psycopg.AsyncConnection.connect(system.database_url, autocommit=True) as connection:
            rows = await connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where pid <> pg_backend_pid() and datname = current_database()"
            )
            return sum(ended for (ended,) in await rows.fetchall())
    return 0


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


async def _running(service: ManagedProcess) -> int:
    """Return the id of the part's process, once it has one."""
    pid = await wait_until(lambda: service.running_pid, MAX_RESTART_SECONDS, f"{service.name} runs again")
    assert pid is not None
    return pid


def say(line: str) -> None:
    """Write a line to stderr, between the parts' own lines."""
    sys.stderr.write(f"{'chaos':<14} | {line}\n")
    sys.stderr.flush()
