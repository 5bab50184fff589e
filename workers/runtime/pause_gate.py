"""Holds a role back while an operator has paused it.

Reads `paused_role`. A batch that is being processed is finished; none begins after it. A paused worker stays a member
of its group with all its partitions, so that no other worker is given them. The connection that polls is open as long
as the process runs, so it registers the process's name too.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

import psycopg

from storage import pauses, process_names
from storage.database import connect_worker
from storage.failures import reason_of
from storage.pauses import Pause
from storage.settings import DatabaseSettings
from topics.backoff import Backoff

#: Each process reads `paused_role` so often, on a connection of its own: a pause must take effect within a second.
PAUSE_POLL_SECONDS: Final = 0.5

log = logging.getLogger(__name__)


class PauseGate:
    """Whether the role may begin new work; paused until `paused_role` was read for the first time.

    `draining`: there was a pause, so fetched records are dropped until the log is read again from the cursors.
    """

    def __init__(self) -> None:
        self.draining = False
        self._resumed = asyncio.Event()
        self._paused = asyncio.Event()
        self._paused.set()

    @property
    def paused(self) -> bool:
        """Whether nothing new may begin."""
        return self._paused.is_set()

    def update(self, role: str, pause: Pause | None) -> None:
        """Set the gate by the role's row of `paused_role`; None: there is none."""
        if pause is None:
            if self.draining and self.paused:
                log.warning("%s is resumed", role)
            self._paused.clear()
            self._resumed.set()
        elif not (self.draining and self.paused):
            self.draining = True
            self._resumed.clear()
            self._paused.set()
            log.warning("%s", pause)

    async def run_while_resumed(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do endless work while the role is not paused; a pause cancels it, and after the pause it begins anew."""
        while True:
            await self._resumed.wait()
            working = asyncio.ensure_future(work())
            pausing = asyncio.ensure_future(self._paused.wait())
            try:
                await asyncio.wait([working, pausing], return_when=asyncio.FIRST_COMPLETED)
                if working.done():
                    return await working
            finally:
                pausing.cancel()
                working.cancel()
                await asyncio.wait([working, pausing])


async def keep_updated(database: DatabaseSettings, role: str, gate: PauseGate, name: str | None = None) -> None:
    """Set the gate by `paused_role` until cancelled. While the database cannot be reached the gate stays as it is.

    The session counts this process among those that have its `name`.
    """
    backoff = Backoff(f"{role} cannot read whether it is paused")
    while True:
        try:
            async with await connect_worker(database, f"innkeeper {role} pauses") as connection:
                if name is not None:
                    await process_names.register(connection, role, name)
                while True:
                    gate.update(role, await pauses.of(connection, role))
                    backoff.reset()
                    await asyncio.sleep(PAUSE_POLL_SECONDS)
        except (psycopg.Error, OSError) as error:
            await backoff.wait(error, reason_of(error))
