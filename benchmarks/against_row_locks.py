"""`hot` and `spread`: how many bookings a second are decided under a closed loop, beside the row locks.

Both use the same PostgreSQL server, and take turns. While the baseline runs, our worker and our ingress are stopped, so
that they cost it nothing.
"""

import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

import psycopg

from benchmarks.closed_loop import OURS, PATH, Run, run_ours, sold, stopped
from benchmarks.cost import Meter, medians, resident_mb
from benchmarks.extent import Extent
from benchmarks.lines import Comparison, Figure, Line
from benchmarks.load import CLIENTS, Bodies, put_load
from benchmarks.row_locks.__main__ import READY_LINE
from benchmarks.stage import HOTEL, STOCK, WORKER, Rooms, Stage, progress, stage, token_of
from sandbox.ports import free_port
from sandbox.processes import Program

MAX_MEMORY_MB: Final = 120.0


async def hot(extent: Extent) -> AsyncIterator[Line]:
    """Compare where all clients want the same night of the same room."""
    async for line in _compare("hot", Rooms.on_sale(count=1, nights=30), extent):
        yield line


async def spread(extent: Extent) -> AsyncIterator[Line]:
    """Compare for stays of 1 to 3 nights in 200 rooms."""
    async for line in _compare("spread", Rooms.on_sale(count=200, nights=30), extent):
        yield line


async def _compare(name: str, rooms: Rooms, extent: Extent) -> AsyncIterator[Line]:
    """Yield the comparison, then the cost of a booking by part of each side."""
    if extent.alone:
        async for line in _costs_alone(name, rooms, extent):
            yield line
        return
    async with stage(rooms, ingress=1) as ours, _row_locks(ours, rooms) as theirs:
        bodies = Bodies(ours.system.folder, rooms, one_night=name == "hot")
        our_runs, their_runs = [], []
        for turn in range(1, extent.runs + 1):
            our_runs.append(await run_ours(ours, bodies, extent))
            progress(f"{name}: run {turn}: {our_runs[-1].per_s:.0f} decided/s")
            async with stopped(ours, OURS):
                their_runs.append(await _run_theirs(theirs, ours, bodies, extent))
            progress(f"{name}: run {turn}: {their_runs[-1].per_s:.0f}/s by row locks")
        yield _comparison(name, our_runs, their_runs)
        for side, runs in (("cpu", our_runs), ("row_locks.cpu", their_runs)):
            for line in _costs(f"{name}.{side}", runs):
                yield line
        yield await _share_of_faust(name, ours, bodies, extent)


async def _costs_alone(name: str, rooms: Rooms, extent: Extent) -> AsyncIterator[Line]:
    """Yield the cost of a booking by part of ours, without the baseline."""
    async with stage(rooms, ingress=1) as ours:
        bodies = Bodies(ours.system.folder, rooms, one_night=name == "hot")
        runs = [await run_ours(ours, bodies, extent) for _ in range(extent.runs)]
        for line in _costs(f"{name}.cpu", runs):
            yield line


def _costs(start: str, runs: Sequence[Run]) -> Iterator[Figure]:
    for part, value in medians([run.microseconds for run in runs]).items():
        yield Figure(benchmark=f"{start}.{part}", value=round(value, 1), unit="us/booking")


async def memory(extent: Extent) -> AsyncIterator[Line]:
    """Yield the memory of one worker and one ingress after a hot run."""
    rooms = Rooms.on_sale(count=1, nights=30)
    async with stage(rooms, ingress=1) as ours:
        await run_ours(ours, Bodies(ours.system.folder, rooms, one_night=True), extent)
        for name, part in (("worker", WORKER), ("ingress", "ingress")):
            used = round(resident_mb(ours.system.pid(part)), 1)
            yield Figure(benchmark=f"memory.{name}", value=used, unit="MB", target=MAX_MEMORY_MB)


@dataclass(frozen=True, kw_only=True)
class _RowLocks:
    url: str
    database: psycopg.AsyncConnection[Any]
    pid: int


async def _run_theirs(theirs: _RowLocks, ours: Stage, bodies: Bodies, extent: Extent) -> Run:
    """Put the same load on the baseline, whose responses are decisions."""
    token = token_of(ours.system)
    await ours.database.execute("checkpoint")
    await put_load(theirs.url, token=token, bodies=bodies.for_next_run(), seconds=extent.warm_up_seconds)
    before = await sold(theirs.database)
    meter = Meter({"service": theirs.pid, "postgres": ours.system.pid("postgres"), "wrk": None})
    load = await put_load(theirs.url, token=token, bodies=bodies.for_next_run(), seconds=extent.seconds)
    used = meter.microseconds()
    bookings = await sold(theirs.database) - before
    return Run.measured(load, bookings, load.ended, used)


def _comparison(name: str, our_runs: Sequence[Run], their_runs: Sequence[Run]) -> Comparison:
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
        await psycopg.AsyncConnection.connect(environment["DATABASE_URL"], autocommit=True) as database,
    ):
        await database.execute(
            "insert into inventory (room_id, date, hotel_id, total_count, price_minor, currency)"
            " select room_id, %s::date + night, %s, %s, 10000, 'EUR'"
            " from generate_series(1, %s) as room_id, generate_series(0, %s) as night",
            (rooms.first_night, HOTEL, STOCK, rooms.count, rooms.nights - 1),
        )
        yield _RowLocks(url=f"http://127.0.0.1:{port}{PATH}", database=database, pid=service.pid)


async def _share_of_faust(name: str, ours: Stage, bodies: Bodies, extent: Extent) -> Line:
    """Run an agent that decides nothing in the worker's place, under the same load; return the cost of Faust.

    Its Kafka client and the transport are part of it. The batches of an idle agent are smaller than a busy worker's, so
    that this is the most that Faust can cost.
    """
    system = ours.system
    await system.stop_part(WORKER)
    command = [sys.executable, "-m", "benchmarks.empty_worker"]
    log = system.logs / "empty-worker.log"
    async with Program("empty-worker", command, system.environment(), ready_line="worker ready", log=log) as worker:
        url, token = system.url + PATH, token_of(system)
        await put_load(url, token=token, bodies=bodies.for_next_run(), seconds=extent.warm_up_seconds)
        before = await ours.written()
        meter = Meter({"worker": worker.pid})
        await put_load(url, token=token, bodies=bodies.for_next_run(), seconds=extent.seconds)
        used = meter.microseconds()["worker"]
        commands = await ours.written() - before
    return Figure(benchmark=f"{name}.cpu.worker.faust", value=round(used / commands, 1), unit="us/booking")
