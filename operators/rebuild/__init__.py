"""Rebuilds a read model from the log while the old one serves: `innkeeper rebuild`.

Reads `booking.events` from the beginning, and from the ledger the rows that the projections themselves read; fills
tables of its own, and in the end swaps them with those that serve, in one transaction. A failure changes nothing.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Final

import psycopg

from operators.rebuild.log import EventLog, EventsMissing, open_log, replacements
from storage import operator_log
from storage.projections.positioned_event import PositionedEvent
from storage.projections.rebuildable import PROJECTIONS, Projection
from storage.projections.shadow import Busy, Compared, Difference, NoCursor, Shadow, open_shadow, sweep
from storage.settings import DatabaseSettings
from topics.catalogue import BOOKING_EVENTS
from topics.kafka.replaced_events import EventsReplaced, Replacements
from topics.kafka.settings import KafkaSettings
from topics.messages.releases import Release

__all__ = [
    "PROJECTIONS",
    "Busy",
    "Compared",
    "Difference",
    "EventsMissing",
    "InUse",
    "NoCursor",
    "Rebuilt",
    "StillWritten",
    "rebuild",
    "sweep",
]

#: At most so many events are left when the tables are compared or the consumer is stopped.
_MAX_LEFT: Final = 1000
#: A swap makes readers of the tables wait at most so long at a time, and is given up after so many tries.
_MAX_SWAP_WAIT_MS: Final = 1000
_MAX_SWAPS: Final = 60
_SWAP_RETRY_SECONDS: Final = 0.5
#: 0.1.0 writes these by a key that the new tables do not have.
_KEYS_CHANGED: Final = frozenset({"booking_timeline"})


class InUse(Exception):
    """The tables are in use without a pause, so that they cannot be replaced."""


class StillWritten(Exception):
    """A release before this one writes the tables, and could not write the new ones."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rebuilt:
    """The outcome: `events` were read in `seconds`; the consumer was stopped for `held_seconds` (0: not swapped)."""

    projection: str
    events: int
    seconds: float
    tables: tuple[Compared, ...]
    swapped: bool
    held_seconds: float

    @property
    def different(self) -> int:
        """How many rows differed."""
        return sum(table.different for table in self.tables)


Progress = Callable[[int, int], None]


async def rebuild(
    kafka: KafkaSettings,
    database: DatabaseSettings,
    name: str,
    *,
    operator: str,
    swap: bool,
    on_compared: Callable[[tuple[Compared, ...]], None] = lambda _: None,
    progress: Progress = lambda _, __: None,
) -> Rebuilt:
    """Rebuild the read model, compare it with the one that serves, and put it in its place if `swap`.

    Args:
        kafka: where `booking.events` is.
        database: where the read model is.
        name: one of `PROJECTIONS`.
        operator: the operator's name, for the operator log.
        swap: whether the new tables take the place of the old ones.
        on_compared: called with the comparison, before anything is swapped.
        progress: called with the number of events applied and of all events.

    Raises:
        Busy: another process is rebuilding it.
        NoCursor: no worker has written it yet.
        StillWritten: a release that `LOG_READABLE_BY` names could not write the new tables.
        EventsMissing: the log does not have all the events that the read model is made of.
        InUse: the tables could not be replaced.
        psycopg.Error: the database cannot be used.
        aiokafka.errors.KafkaError: the broker cannot be reached.
    """
    topic = kafka.topic(BOOKING_EVENTS)
    projection = PROJECTIONS[name]
    if swap and name in _KEYS_CHANGED and kafka.log_readable_by is Release.V0_1_0:
        raise StillWritten(
            f"projections of {kafka.log_readable_by} could not write the new table; when none of them runs any more,"
            " remove LOG_READABLE_BY (--compare-only works now, too)"
        )
    replaced: Replacements = {}
    while True:
        try:
            async with (
                open_shadow(database, projection, topic) as shadow,
                open_log(kafka, topic, projection.event_types, replaced) as log,
            ):
                return await _rebuilt(_Rebuild(shadow, log, projection, progress), operator, on_compared, swap=swap)
        except EventsReplaced:
            replaced = await replacements(kafka, topic)


async def _rebuilt(
    work: "_Rebuild", operator: str, on_compared: Callable[[tuple[Compared, ...]], None], *, swap: bool
) -> Rebuilt:
    began = time.monotonic()
    await work.follow()
    await work.shadow.analyze()
    seconds = time.monotonic() - began
    tables = tuple(await work.compare())
    on_compared(tables)
    held_seconds = await work.swap(operator, tables) if swap else 0.0
    return Rebuilt(
        projection=work.projection.name,
        events=work.log.events,
        seconds=seconds,
        tables=tables,
        swapped=swap,
        held_seconds=held_seconds,
    )


class _Rebuild:
    """The rebuild of one read model."""

    def __init__(self, shadow: Shadow, log: EventLog, projection: Projection, progress: Progress) -> None:
        self.shadow = shadow
        self.log = log
        self.projection = projection
        self._progress = progress

    async def follow(self) -> None:
        """Apply the log until only a few events are left; the consumer continues meanwhile."""
        while True:
            sequences = await self.shadow.sequences()
            await self._apply_until(sequences, together=False)
            if self.log.behind(await self.shadow.sequences()) <= _MAX_LEFT:
                return

    async def compare(self) -> list[Compared]:
        """Compare both at one moment, at the same cursors."""
        async with self.shadow.connection.transaction():
            await self.shadow.connection.execute("set transaction isolation level repeatable read")
            await self._apply_until(await self.shadow.sequences(), together=True)
            return await self.shadow.compare()

    async def swap(self, operator: str, tables: tuple[Compared, ...]) -> float:
        """Replace the old tables and return for how many seconds the consumer was stopped."""
        for _ in range(_MAX_SWAPS):
            await self.follow()
            began = time.monotonic()
            try:
                async with self.shadow.connection.transaction():
                    await self.shadow.swap(self._catch_up, _MAX_SWAP_WAIT_MS)
                    await self._record(operator, tables)
            except psycopg.errors.LockNotAvailable:
                # Readers that came later wait behind this lock request: they pass before the next try.
                await asyncio.sleep(_SWAP_RETRY_SECONDS)
            else:
                return time.monotonic() - began
        raise InUse(f"the tables of {self.projection.name} are in use without a pause; try again later")

    async def _catch_up(self, sequences: dict[int, int]) -> None:
        await self._apply_until(sequences, together=True)

    async def _apply_until(self, sequences: dict[int, int], *, together: bool) -> None:
        """Apply the events up to these sequences; `together`: in the caller's transaction, else in many."""
        applying: asyncio.Task[None] | None = None
        try:
            async for events in self.log.until(sequences):
                # The next events are read while the database applies these.
                if applying is not None:
                    await applying
                applying = asyncio.create_task(self._apply(events, sequences, together=together))
            if applying is not None:
                await applying
        finally:
            if applying is not None and not applying.done():
                applying.cancel()
                await asyncio.wait([applying])

    async def _apply(self, events: list[PositionedEvent], sequences: dict[int, int], *, together: bool) -> None:
        connection = self.shadow.connection
        async with nullcontext() if together else connection.transaction():
            await self.projection.apply(connection, events)
        self._progress(self.log.events, self.log.events + self.log.behind(sequences))

    async def _record(self, operator: str, tables: tuple[Compared, ...]) -> None:
        details = {"events": self.log.events, "different": {table.table: table.different for table in tables}}
        await operator_log.record(
            self.shadow.connection, who=operator, action="rebuild", target=self.projection.name, details=details
        )
