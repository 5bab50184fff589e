"""One run of the whole system under a closed loop: 64 clients that book as fast as they get answers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import psycopg

from benchmarks.cost import Meter
from benchmarks.extent import Extent
from benchmarks.load import Bodies, Load, put_load
from benchmarks.stage import WORKER, BenchmarkFailed, Stage, number, token_of

PATH: Final = "/v1/bookings/init"


@dataclass(frozen=True, kw_only=True, slots=True)
class Ours:
    """The ingress and the worker that take part."""

    ingress: str
    worker: str

    @property
    def parts(self) -> dict[str, str]:
        """The parts whose CPU time counts, by the names in the output."""
        return {"worker": self.worker, "ingress": self.ingress, "kafka": "kafka", "postgres": "postgres"}


OURS: Final = Ours(ingress="ingress", worker=WORKER)


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One run of one side; `microseconds` of CPU for a booking, by part."""

    per_s: float
    load: Load
    microseconds: dict[str, float] = field(default_factory=dict)

    @classmethod
    def measured(cls, load: Load, bookings: int, ended: float, used: dict[str, float]) -> "Run":
        """Return a run whose last booking was decided at `ended`."""
        costs = {part: value / bookings for part, value in used.items()}
        return cls(per_s=bookings / (ended - load.began), load=load, microseconds=costs)


async def run_ours(ours: Stage, bodies: Bodies, extent: Extent, taking_part: Ours = OURS) -> Run:
    """Put load on the ingress and wait until all that it accepted is decided."""
    system = ours.system
    url = dict(zip(system.ingress_names, system.urls, strict=True))[taking_part.ingress] + PATH
    token = token_of(system)
    await ours.database.execute("checkpoint")
    await put_load(url, token=token, bodies=bodies.for_next_run(), seconds=extent.warm_up_seconds)
    await ours.until_decided()
    before = await sold(ours.database)
    meter = Meter.of(system, taking_part.parts)
    load = await put_load(url, token=token, bodies=bodies.for_next_run(), seconds=extent.seconds)
    decided_at = await ours.until_decided()
    used = meter.microseconds()
    bookings = await sold(ours.database) - before
    if not 0 < load.requests <= bookings:
        raise BenchmarkFailed(f"{load.requests} bookings were accepted and {bookings} decided")
    # A booking that was decided while wrk still summed up counts as decided at the end of its load.
    return Run.measured(load, bookings, max(decided_at, load.ended), used)


async def sold(connection: psycopg.AsyncConnection[Any]) -> int:
    """Return how many bookings hold a room.

    Raises:
        BenchmarkFailed: one was refused; every one should have sold.
    """
    refused = await number(connection, "select count(*) from booking where status <> 'RESERVED'")
    if refused:
        raise BenchmarkFailed(f"{refused} bookings were refused")
    return await number(connection, "select count(*) from booking")


@asynccontextmanager
async def stopped(stage: Stage, taking_part: Ours) -> AsyncIterator[None]:
    """Stop an ingress and a worker while the block runs."""
    parts = (taking_part.ingress, taking_part.worker)
    for part in parts:
        await stage.system.stop_part(part)
    yield
    await asyncio.gather(*(stage.system.start_part(part) for part in parts))
