"""Holds a role back while an operator says so: the gate that its runs go through, and who asks whether it is open.

Reads `paused_role`. What runs at the moment comes to its end; no run after it begins. A worker that stands still stays
a member of its group with all its partitions, and so nobody else is given them.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

import psycopg

from storage import pauses
from storage.database import connect_worker
from storage.pauses import Pause
from storage.settings import DatabaseSettings
from topics.backoff import Backoff

#: How often each process asks, on a connection of its own: a pause must be felt within a second.
ASK_SECONDS: Final = 0.5

log = logging.getLogger(__name__)


class PauseGate:
    """Whether the role may begin something new; shut until the ledger was asked for the first time.

    `holding`: there was a pause, so that runs read before it are dropped, until the log is read anew from the cursors.
    """

    def __init__(self) -> None:
        self.holding = False
        self._opened = asyncio.Event()
        self._shut = asyncio.Event()
        self._shut.set()

    @property
    def shut(self) -> bool:
        """Whether nothing new may begin."""
        return self._shut.is_set()

    def hear(self, role: str, pause: Pause | None) -> None:
        """Take over what the ledger says of the role."""
        if pause is None:
            if self.holding and self.shut:
                log.warning("%s goes on", role)
            self._shut.clear()
            self._opened.set()
        elif not (self.holding and self.shut):
            self.holding = True
            self._opened.clear()
            self._shut.set()
            log.warning("%s", pause)

    async def run_while_open(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do endless work whenever the gate is open; a pause cancels it, and afterwards it begins anew."""
        while True:
            await self._opened.wait()
            working = asyncio.ensure_future(work())
            shutting = asyncio.ensure_future(self._shut.wait())
            try:
                await asyncio.wait([working, shutting], return_when=asyncio.FIRST_COMPLETED)
                if working.done():
                    return await working
            finally:
                shutting.cancel()
                working.cancel()
                await asyncio.wait([working, shutting])


async def watch(database: DatabaseSettings, role: str, gate: PauseGate) -> None:
    """Tell the gate what the ledger says, until cancelled. While the ledger is away it stays as it is."""
    backoff = Backoff(f"{role} cannot ask whether it is paused")
    while True:
        try:
            async with await connect_worker(database, f"innkeeper {role} pauses") as connection:
                while True:
                    gate.hear(role, await pauses.of(connection, role))
                    backoff.reset()
                    await asyncio.sleep(ASK_SECONDS)
        except (psycopg.Error, OSError) as error:
            await backoff.wait(error)
