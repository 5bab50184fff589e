"""`hot` and `spread`: how many bookings a second are decided under a closed loop, beside the row locks.

Both use the same PostgreSQL server, and take turns. While the baseline runs, our worker and our ingress are stopped, so
that they cost it nothing.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Final

import psycopg

from benchmarks.cost import Meter, medians, resident_mb
from benchmarks.extent import Extent
from benchmarks.lines import Comparison, Figure, Line
from benchmarks.load import CLIENTS, Bodies, Load, put_load
from benchmarks.row_locks.__main__ import READY_LINE
from benchmarks.stage import HOTEL, STOCK, WORKER, BenchmarkFailed, Rooms, Stage, number, say, stage, token_of
from sandbox.ports import free_port
from sandbox.processes import Program

OUR_PARTS: Final = {"worker": WORKER, "ingress": "ingress", "kafka": "kafka", "postgres": "postgres"}
MOST_MEMORY_MB: Final = 120.0
_PATH: Final = "/v1/bookings/init"


async def hot(extent: Extent) -> AsyncIterator[Line]:
    """Compare where all clients want the same night of the same room."""
    async for line in _compare("hot", Rooms.on_sale(count=1, nights=30), extent):
        yield line


async def spread(extent: Extent) -> AsyncIterator[Line]:
    """Compare for stays of 1 to 3 nights in 200 rooms."""
    async for line in _compare("spread", Rooms.on_sale(count=200, nights=30), extent):
        yield line


async def _compare(name: str, rooms: Rooms, extent: Extent) -> AsyncIterator[Line]:
    """Yield the comparison, then what each part of each side cost for a booking."""
    async with stage(rooms, ingress=True) as ours, _row_locks(ours, rooms) as theirs:
        bodies = Bodies(ours.system.folder, rooms, one_night=name == "hot")
        our_runs, their_runs = [], []
        for turn in range(1, extent.runs + 1):
            our_runs.append(await _run_ours(ours, bodies, extent))
            say(f"{name}: run {turn}: {our_runs[-1].per_s:.0f} decided/s")
            async with _stopped(ours):
                their_runs.append(await _run_theirs(theirs, ours, bodies, extent))
            say(f"{name}: run {turn}: {their_runs[-1].per_s:.0f}/s by row locks")
        yield _comparison(name, our_runs, their_runs)
        for side, runs in (("cpu", our_runs), ("row_locks.cpu", their_runs)):
            for part, value in medians([run.microseconds for run in runs]).items():
                yield Figure(benchmark=f"{name}.{side}.{part}", value=round(value, 1), unit="us/booking")
        yield await _share_of_faust(name, ours, bodies, extent)


async def memory(extent: Extent) -> AsyncIterator[Line]:
    """Yield what one worker and one ingress hold after a hot run."""
    rooms = Rooms.on_sale(count=1, nights=30)
    async with stage(rooms, ingress=True) as ours:
        await _run_ours(ours, Bodies(ours.system.folder, rooms, one_night=True), extent)
        for told, part in (("worker", WORKER), ("ingress", "ingress")):
            held = round(resident_mb(ours.system.pid(part)), 1)
            yield Figure(benchmark=f"memory.{told}", value=held, unit="MB", target=MOST_MEMORY_MB)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Run:
    """One run of one side; `microseconds` of CPU for a booking, by part."""

    per_s: float
    load: Load
    microseconds: dict[str, float] = field(default_factory=dict)

    @classmethod
    def measured(cls, load: Load, bookings: int, ended: float, used: dict[str, float]) -> "_Run":
        """Return a run whose last booking was decided at `ended`."""
        costs = {part: value / bookings for part, value in used.items()}
        return cls(per_s=bookings / (ended - load.began), load=load, microseconds=costs)


async def _run_ours(ours: Stage, bodies: Bodies, extent: Extent) -> _Run:
    """Put load on the ingress and wait until all that it accepted is decided."""
    url, token = ours.system.url + _PATH, token_of(ours.system)
    await ours.ledger.execute("checkpoint")
    await put_load(url, token=token, bodies=bodies.for_next_run(), seconds=extent.warm_up_seconds)
    await ours.until_decided()
    before = await _sold(ours.ledger)
    meter = Meter.of(ours.system, OUR_PARTS)
    load = await put_load(url, token=token, bodies=bodies.for_next_run(), seconds=extent.seconds)
    decided_at = await ours.until_decided()
    used = meter.microseconds()
    bookings = await _sold(ours.ledger) - before
    if not 0 < load.requests <= bookings:
        raise BenchmarkFailed(f"{load.requests} bookings were accepted and {bookings} decided")
    # What was decided while wrk was still summing up was decided by the end of its load.
    return _Run.measured(load, bookings, max(decided_at, load.ended), used)


@dataclass(frozen=True, kw_only=True)
class _RowLocks:
    url: str
    ledger: psycopg.AsyncConnection[Any]
    pid: int


async def _run_theirs(theirs: _RowLocks, ours: Stage, bodies: Bodies, extent: Extent) -> _Run:
    """Put the same load on the baseline, whose answers are decisions."""
    token = token_of(ours.system)
    await ours.ledger.execute("checkpoint")
    await put_load(theirs.url, token=token, bodies=bodies.for_next_run(), seconds=extent.warm_up_seconds)
    before = await _sold(theirs.ledger)
    meter = Meter({"service": theirs.pid, "postgres": ours.system.pid("postgres"), "wrk": None})
    load = await put_load(theirs.url, token=token, bodies=bodies.for_next_run(), seconds=extent.seconds)
    used = meter.microseconds()
    bookings = await _sold(theirs.ledger) - before
    return _Run.measured(load, bookings, load.ended, used)


async def _sold(ledger: psycopg.AsyncConnection[Any]) -> int:
    """Return how many bookings hold a room.

    Raises:
        BenchmarkFailed: one was refused; every one should have sold.
    """
    refused = await number(ledger, "select count(*) from booking where status <> 'RESERVED'")
    if refused:
        raise BenchmarkFailed(f"{refused} bookings were refused")
    return await number(ledger, "select count(*) from booking")


def _comparison(name: str, our_runs: Sequence[_Run], their_runs: Sequence[_Run]) -> Comparison:
    ours = median(run.per_s for run in our_runs)
    theirs = median(run.per_s for run in their_runs)
    return Comparison(
        benchmark=name,
        clients=CLIENTS,
        ours_per_s=round(ours),
        row_locks_per_s=round(theirs),
        ratio=round(ours / theirs, 2),
        p50_ms=round(median(run.load.p50_ms for run in our_runs), 1),
        p99_ms=round(median(run.load.p99_ms for run in our_runs), 1),
    )


@asynccontextmanager
async def _row_locks(ours: Stage, rooms: Rooms) -> AsyncIterator[_RowLocks]:
    """Run the baseline on a database of its own on our server, with the same rooms on sale."""
    system = ours.system
    assert system.postgres is not None
    environment = {**system.environment(), "DATABASE_URL": await system.postgres.create_database("row_locks")}
    log = system.logs / "row-locks.log"
    await Program("migrate", [sys.executable, "-m", "storage", "migrate"], environment, log=log).finish()
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.row_locks", "--port", str(port)]
    async with (
        Program("row-locks", command, environment, ready_line=READY_LINE, log=log) as service,
        await psycopg.AsyncConnection.connect(environment["DATABASE_URL"], autocommit=True) as ledger,
    ):
        await ledger.execute(
            "insert into inventory (room_id, date, hotel_id, total_count, price_minor, currency)"
            " select room_id, %s::date + night, %s, %s, 10000, 'EUR'"
            " from generate_series(1, %s) as room_id, generate_series(0, %s) as night",
            (rooms.first_night, HOTEL, STOCK, rooms.count, rooms.nights - 1),
        )
        yield _RowLocks(url=f"http://127.0.0.1:{port}{_PATH}", ledger=ledger, pid=service.pid)


@asynccontextmanager
async def _stopped(ours: Stage) -> AsyncIterator[None]:
    """Keep our worker and our ingress down for a while."""
    parts = ("ingress", WORKER)
    for part in parts:
        await ours.system.stop_part(part)
    yield
    await asyncio.gather(*(ours.system.start_part(part) for part in parts))


async def _share_of_faust(name: str, ours: Stage, bodies: Bodies, extent: Extent) -> Line:
    """Put an agent that decides nothing in the worker's place, under the same load: what is left is Faust's.

    With its Kafka client and the transport. The runs that it gets are shorter than a busy worker's, so that this is the
    most that Faust can cost.
    """
    system = ours.system
    await system.stop_part(WORKER)
    command = [sys.executable, "-m", "benchmarks.empty_worker"]
    log = system.logs / "empty-worker.log"
    async with Program("empty-worker", command, system.environment(), ready_line="worker ready", log=log) as worker:
        url, token = system.url + _PATH, token_of(system)
        await put_load(url, token=token, bodies=bodies.for_next_run(), seconds=extent.warm_up_seconds)
        before = await ours.written()
        meter = Meter({"worker": worker.pid})
        await put_load(url, token=token, bodies=bodies.for_next_run(), seconds=extent.seconds)
        used = meter.microseconds()["worker"]
        commands = await ours.written() - before
    return Figure(benchmark=f"{name}.cpu.worker.faust", value=round(used / commands, 1), unit="us/booking")
