"""Makes a read model anew from the log while the old one serves: `innkeeper rebuild`.

Reads `booking.events` from the beginning and, of the ledger, what the projections themselves read; writes tables of its
own and in the end puts them in the place of those that serve, in one transaction. On failure nothing has changed.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Final

import psycopg

from operators.rebuild.log import EventLog, NotWhole, open_log
from storage import operator_log
from storage.projections.positioned_event import Heard
from storage.projections.rebuildable import PROJECTIONS, Projection
from storage.projections.shadow import Busy, Compared, Difference, NeverKept, Shadow, open_shadow, sweep
from storage.settings import DatabaseSettings
from topics.catalogue import BOOKING_EVENTS
from topics.kafka.settings import KafkaSettings

__all__ = [
    "PROJECTIONS",
    "Busy",
    "Compared",
    "Difference",
    "InUse",
    "NeverKept",
    "NotWhole",
    "Rebuilt",
    "rebuild",
    "sweep",
]

#: So few events are folded while the tables are compared or the consumer is held.
_FEW: Final = 1000
#: How long guests who read the tables may be kept waiting at a time, and how often, before the swap is given up.
_SWAP_PATIENCE_MS: Final = 1000
_MAX_SWAPS: Final = 60
_PAUSE_SECONDS: Final = 0.5


class InUse(Exception):
    """Somebody uses the tables without a pause, so that they cannot be replaced."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rebuilt:
    """What came of it. `events` were read in `seconds`; the consumer was held for `held_seconds` (0: not swapped)."""

    projection: str
    events: int
    seconds: float
    tables: tuple[Compared, ...]
    swapped: bool
    held_seconds: float

    @property
    def different(self) -> int:
        """How many rows were not the same."""
        return sum(table.different for table in self.tables)


Progress = Callable[[int, int], None]


async def rebuild(
    kafka: KafkaSettings,
    database: DatabaseSettings,
    name: str,
    *,
    who: str,
    swap: bool,
    told: Callable[[tuple[Compared, ...]], None] = lambda _: None,
    progress: Progress = lambda _, __: None,
) -> Rebuilt:
    """Make the read model anew, compare it with the one that serves, and put it in its place if `swap`.

    Args:
        kafka: where `booking.events` is.
        database: where the read model is.
        name: one of `PROJECTIONS`.
        who: the operator, for the record.
        swap: whether the new tables take the place of the old ones.
        told: called with the comparison, before anything is swapped.
        progress: called with the events folded and those there are.

    Raises:
        Busy: somebody else is rebuilding it.
        NeverKept: no worker keeps it.
        NotWhole: the log does not have all the events that the read model is made of.
        InUse: the tables could not be replaced.
        psycopg.Error: the database cannot be used.
        aiokafka.errors.KafkaError: the broker cannot be reached.
    """
    topic = kafka.topic(BOOKING_EVENTS)
    projection = PROJECTIONS[name]
    async with open_shadow(database, projection, topic) as shadow, open_log(kafka, topic, projection.takes) as log:
        making = _Making(shadow, log, projection, progress)
        began = time.monotonic()
        await making.follow()
        await shadow.analyze()
        seconds = time.monotonic() - began
        tables = tuple(await making.compare())
        told(tables)
        held_seconds = await making.swap(who, tables) if swap else 0.0
    return Rebuilt(
        projection=name,
        events=log.events,
        seconds=seconds,
        tables=tables,
        swapped=swap,
        held_seconds=held_seconds,
    )


class _Making:
    """One read model on its way from nothing to the place of the old one."""

    def __init__(self, shadow: Shadow, log: EventLog, projection: Projection, progress: Progress) -> None:
        self._shadow = shadow
        self._log = log
        self._projection = projection
        self._progress = progress

    async def follow(self) -> None:
        """Fold the log until only a few events are missing; the consumer goes on meanwhile."""
        while True:
            sequences = await self._shadow.sequences()
            await self._fold_until(sequences, together=False)
            if self._log.behind(await self._shadow.sequences()) <= _FEW:
                return

    async def compare(self) -> list[Compared]:
        """Compare both at one moment, at the same cursors."""
        async with self._shadow.connection.transaction():
            await self._shadow.connection.execute("set transaction isolation level repeatable read")
            await self._fold_until(await self._shadow.sequences(), together=True)
            return await self._shadow.compare()

    async def swap(self, who: str, tables: tuple[Compared, ...]) -> float:
        """Replace the old tables and return for how many seconds the consumer was held."""
        for _ in range(_MAX_SWAPS):
            await self.follow()
            began = time.monotonic()
            try:
                async with self._shadow.connection.transaction():
                    await self._shadow.swap(self._catch_up, _SWAP_PATIENCE_MS)
                    await self._record(who, tables)
            except psycopg.errors.LockNotAvailable:
                # Whoever came after us waits behind us: let them pass before the next try.
                await asyncio.sleep(_PAUSE_SECONDS)
            else:
                return time.monotonic() - began
        raise InUse(f"the tables of {self._projection.name} are in use without a pause; try again later")

    async def _catch_up(self, sequences: dict[int, int]) -> None:
        await self._fold_until(sequences, together=True)

    async def _fold_until(self, sequences: dict[int, int], *, together: bool) -> None:
        """Fold the events up to these sequences; `together` in the caller's transaction, else in many."""
        folding: asyncio.Task[None] | None = None
        try:
            async for heard in self._log.until(sequences):
                # While the database works on these, the next are read.
                if folding is not None:
                    await folding
                folding = asyncio.create_task(self._fold(heard, sequences, together=together))
            if folding is not None:
                await folding
        finally:
            if folding is not None and not folding.done():
                folding.cancel()
                await asyncio.wait([folding])

    async def _fold(self, heard: list[Heard], sequences: dict[int, int], *, together: bool) -> None:
        connection = self._shadow.connection
        async with nullcontext() if together else connection.transaction():
            await self._projection.fold(connection, heard)
        self._progress(self._log.events, self._log.events + self._log.behind(sequences))

    async def _record(self, who: str, tables: tuple[Compared, ...]) -> None:
        details = {"events": self._log.events, "different": {table.table: table.different for table in tables}}
        await operator_log.record(
            self._shadow.connection, who=who, action="rebuild", target=self._projection.name, details=details
        )
