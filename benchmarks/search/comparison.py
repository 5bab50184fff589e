"""The searches of 64 clients, answered by our ingress and by one SQL query each: same database, same run, in turns."""

import asyncio
import itertools
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from statistics import median
from typing import Any, Final

import aiohttp
import psycopg

from benchmarks.cost import Meter, medians, resident_mb
from benchmarks.extent import Extent
from benchmarks.lines import Figure, Line, SearchComparison, percentile
from benchmarks.load import CLIENTS, Load, run_wrk
from benchmarks.search.data import PROBES, Size, fill
from benchmarks.search.queries import PATH, searches, write_searches
from benchmarks.search.service import READY_LINE
from benchmarks.search.visible import CHANGES_PER_S, changes_seen
from benchmarks.stage import SWITCHED_OFF, BenchmarkFailed, folder_of_its_own, kafka_of, progress
from ingress.hotels.search.models import latest_today
from sandbox.ports import free_port
from sandbox.processes import Program
from sandbox.system import Plan, System

MAX_VISIBLE_MS: Final = 200.0
_COMPARED_SEARCHES: Final = 300
_MAX_INDEX_LOAD_SECONDS: Final = 120.0


@dataclass(frozen=True, kw_only=True, slots=True)
class _Run:
    """One run of one side; `microseconds` of CPU for a search, by part."""

    per_s: float
    load: Load
    microseconds: dict[str, float]


async def compare(extent: Extent, size: Size) -> AsyncIterator[Line]:
    """Yield the comparison, the cost of a search by part of each side, and the seconds until changes are visible."""
    async with _system() as system, _put_on_sale(system, size) as first, _sql(system) as theirs:
        yield await _start_ingress(system)
        await _refuse_differences(system.url, theirs.url, size, first)
        file = write_searches(system.folder, size, first)
        our_runs, their_runs = [], []
        for turn in range(1, extent.runs + 1):
            ours = {"ingress": system.pid("ingress"), "postgres": system.pid("postgres"), "wrk": None}
            our_runs.append(await _run(system.url, ours, file, extent))
            progress(f"search: run {turn}: {our_runs[-1].per_s:.0f} searches/s")
            sql = {"service": theirs.pid, "postgres": system.pid("postgres"), "wrk": None}
            their_runs.append(await _run(theirs.url, sql, file, extent))
            progress(f"search: run {turn}: {their_runs[-1].per_s:.0f}/s by SQL")
        yield _comparison(our_runs, their_runs)
        for side, runs in (("cpu", our_runs), ("sql.cpu", their_runs)):
            for part, value in medians([run.microseconds for run in runs]).items():
                yield Figure(benchmark=f"search.{side}.{part}", value=round(value, 1), unit="us/search")
        memory = round(resident_mb(system.pid("ingress")), 1)
        yield Figure(benchmark="search.memory.ingress", value=memory, unit="MB")
        waits = await changes_seen(kafka_of(system), system.url, PROBES + size.hotels, first, extent.seconds)
        for share, target in ((0.5, None), (0.99, MAX_VISIBLE_MS)):
            value = round(percentile(waits, share) * 1000, 1)
            name = f"search.visible_ms.{CHANGES_PER_S}_per_s.p{share * 100:.0f}"
            yield Figure(benchmark=name, value=value, unit="ms", target=target)


async def _run(url: str, pids: dict[str, int | None], file: Path, extent: Extent) -> _Run:
    await run_wrk(url, str(file), seconds=extent.warm_up_seconds)
    meter = Meter(pids)
    load = await run_wrk(url, str(file), seconds=extent.seconds)
    costs = {part: used / load.requests for part, used in meter.microseconds().items()}
    return _Run(per_s=load.requests / (load.ended - load.began), load=load, microseconds=costs)


def _comparison(our_runs: Sequence[_Run], their_runs: Sequence[_Run]) -> SearchComparison:
    ours, theirs = (median(run.per_s for run in runs) for runs in (our_runs, their_runs))
    return SearchComparison(
        benchmark="search",
        clients=CLIENTS,
        ours_per_s=round(ours),
        sql_per_s=round(theirs),
        ratio=round(ours / theirs, 2),
        p50_ms=round(median(run.load.p50_ms for run in our_runs), 1),
        p99_ms=round(median(run.load.p99_ms for run in our_runs), 1),
        sql_p50_ms=round(median(run.load.p50_ms for run in their_runs), 1),
        sql_p99_ms=round(median(run.load.p99_ms for run in their_runs), 1),
    )


# The measured service, and the check that both sides give the same answers.


async def _refuse_differences(ours: str, theirs: str, size: Size, first: date) -> None:
    """Ask both the same questions.

    Raises:
        BenchmarkFailed: they do not find the same, or hardly ever find anything.
    """
    found = 0
    async with aiohttp.ClientSession() as session:
        for path in itertools.islice(searches(size, first, seed=2), _COMPARED_SEARCHES):
            answers = [await _answer(session, url + path) for url in (ours, theirs)]
            if answers[0] != answers[1]:
                raise BenchmarkFailed(f"{path}: ours finds {answers[0]!r}, and SQL {answers[1]!r}")
            found += bool(answers[0])
    progress(f"search: {_COMPARED_SEARCHES} searches, {found} of which found something, are answered the same by both")
    if found < _COMPARED_SEARCHES / 2:
        raise BenchmarkFailed("most searches find nothing")


async def _answer(session: aiohttp.ClientSession, url: str) -> Any:
    async with session.get(url) as response:
        if response.status != 200:
            raise BenchmarkFailed(f"{url}: {response.status} {await response.text()}")
        return await response.json()


@asynccontextmanager
async def _system() -> AsyncIterator[System]:
    """Start a system with a worker of each role that a search depends on."""
    with folder_of_its_own() as folder:
        plan = Plan(
            folder=folder,
            workers={"reservations": 1, "projections": 1},
            stripe=False,
            own_servers=True,
            quiet=True,
            environment=dict(SWITCHED_OFF.values()),
        )
        async with System(plan) as system:
            yield system


@asynccontextmanager
async def _put_on_sale(system: System, size: Size) -> AsyncIterator[date]:
    """Put everything on sale while there is no ingress; yield the first night."""
    await system.stop_part("ingress")
    began = time.monotonic()
    async with await psycopg.AsyncConnection.connect(system.database_url, autocommit=True) as connection:
        first = await fill(connection, size)
    progress(
        f"search: {size.hotels} hotels are on sale for {size.nights} nights, after {time.monotonic() - began:.0f} s"
    )
    yield first


async def _start_ingress(system: System) -> Line:
    """Start the ingress; return how long it takes until its search index is loaded and it answers a search."""
    await system.start_part("ingress")
    began = time.monotonic()
    day = latest_today()
    query = f"city=none&check_in_date={day}&check_out_date={day + timedelta(days=1)}"
    async with aiohttp.ClientSession() as session:
        while time.monotonic() < began + _MAX_INDEX_LOAD_SECONDS:
            async with session.get(f"{system.url}{PATH}?{query}") as response:
                if response.status == 200:
                    seconds = round(time.monotonic() - began, 1)
                    return Figure(benchmark="search.index_loaded", value=seconds, unit="s")
            await asyncio.sleep(0.05)
    raise BenchmarkFailed(f"the ingress does not answer a search within {_MAX_INDEX_LOAD_SECONDS:.0f} s")


@dataclass(frozen=True, kw_only=True)
class _Sql:
    url: str
    pid: int


@asynccontextmanager
async def _sql(system: System) -> AsyncIterator[_Sql]:
    """Run the same operation, answered by SQL, on our database."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.search.service", "--port", str(port)]
    log = system.logs / "sql.log"
    async with Program("sql", command, system.environment(), ready_line=READY_LINE, log=log) as service:
        yield _Sql(url=f"http://127.0.0.1:{port}", pid=service.pid)
