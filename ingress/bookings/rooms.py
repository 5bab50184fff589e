"""The facts of rooms that the acceptance of a booking needs, cached for a few seconds."""

import asyncio
import time
from collections.abc import Mapping
from typing import Final

from ingress.database import Database
from storage.reads import bookings
from storage.reads.bookings import RoomFacts

_MAX_ROOMS_REMEMBERED: Final = 10_000


class Rooms:
    """Caches the facts of rooms for a few seconds, so that a booking's acceptance costs no query.

    The first request after that reads all rooms that were needed again, in one query; other requests wait for it.
    """

    def __init__(self, database: Database, *, seconds: float) -> None:
        self._database = database
        self._seconds = seconds
        self._facts: dict[int, RoomFacts | None] = {}
        self._good_until = 0.0
        self._needed: set[int] = set()
        self._reading: asyncio.Task[None] | None = None

    async def facts(self, room_id: int) -> RoomFacts | None:
        """Return a room's facts, None for a room that does not exist."""
        while True:
            # Each time: a read removes its rooms from the set, and on a slow machine its result may be too old by now.
            self._needed.add(room_id)
            if time.monotonic() < self._good_until and room_id in self._facts:
                return self._facts[room_id]
            await self._read()

    async def _read(self) -> None:
        # A finished reading may lack this room, and to wait for it would not let other tasks run.
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read_needed())
            # The time of every request that waits for it may be over by then.
            self._reading.add_done_callback(lambda done: done.cancelled() or done.exception())
        # All requests share the reading: one that is cancelled must not end it.
        await asyncio.shield(self._reading)

    async def _read_needed(self) -> None:
        fresh = time.monotonic() < self._good_until
        needed = self._needed - self._facts.keys() if fresh else self._needed.copy()
        async with self._database.reading() as connection:
            found = await bookings.room_facts(connection, needed)
        self._remember({room_id: found.get(room_id) for room_id in needed}, fresh=fresh)

    def _remember(self, read: Mapping[int, RoomFacts | None], *, fresh: bool) -> None:
        if fresh and len(self._facts) < _MAX_ROOMS_REMEMBERED:
            self._facts.update(read)
            return
        # The next reading has only the rooms that are needed from now on.
        self._facts = dict(read)
        self._needed = self._needed - read.keys()
        self._good_until = time.monotonic() + self._seconds
