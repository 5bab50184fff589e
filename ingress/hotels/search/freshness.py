"""Keeps the copy that searches are answered from: loads it in the background, and refreshes it while anybody asks."""

import asyncio
import importlib
import logging
import os
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy.exc import SQLAlchemyError

from ingress.database import Database, snapshot
from ingress.hotels.search.words import Found, HotelSearch, InOrder, StartedAnew
from ingress.http.problems import Problem
from telemetry import metrics

if TYPE_CHECKING:
    from ingress.hotels.search.copy import Copy

log = logging.getLogger(__name__)

#: What was committed so long ago is found by every search.
FRESH_SECONDS: Final = 0.05
#: A process that has just started has better things to do than to load the copy, unless somebody searches.
START_SECONDS: Final = 1.0
#: How long a search waits for a copy that is being loaded.
LOAD_SECONDS: Final = 3.0
_FIRST_PAUSE_SECONDS: Final = 0.2
_MAX_RETRY_SECONDS: Final = 5.0
#: Our tables are small and many processes share the cores: the libraries below numpy are to start no threads.
_ONE_THREAD: Final = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")


class Freshness:
    """Hands out the copy, as fresh as promised; `run` loads it. While nobody searches nothing is read."""

    def __init__(self, database: Database, topic: str) -> None:
        """Load nothing yet; `topic` is the name of the events on the broker."""
        self._database = database
        self._topic = topic
        self._copy: Copy | None = None
        self._as_of = 0.0
        self._loaded = asyncio.Event()
        self._wanted = asyncio.Event()
        self._refreshing: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Load the copy, and again whenever it cannot be refreshed any longer, for as long as the process lives."""
        try:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wanted.wait(), START_SECONDS)
            self._wanted.set()
            await self._keep_loaded()
        finally:
            if self._refreshing is not None:
                self._refreshing.cancel()

    @property
    def loaded(self) -> bool:
        """Whether searches are answered at once."""
        return self._loaded.is_set()

    async def _keep_loaded(self) -> None:
        pause_seconds = _FIRST_PAUSE_SECONDS
        while True:
            await self._wanted.wait()
            try:
                await self._load()
                pause_seconds = _FIRST_PAUSE_SECONDS
            except (SQLAlchemyError, OSError) as error:
                log.warning("searches wait for the database (%s); next try in %.1f s", _short(error), pause_seconds)
                await asyncio.sleep(pause_seconds)
                pause_seconds = min(2 * pause_seconds, _MAX_RETRY_SECONDS)

    async def find(self, wanted: HotelSearch, after: InOrder | None) -> Found:
        """Return a page of hits from the copy. Raises as `copy`."""
        return (await self.copy()).find(wanted, after)

    async def copy(self) -> "Copy":
        """Return the copy with all that was committed until `FRESH_SECONDS` ago.

        Raises:
            Problem: 503, it is still being loaded.
            sqlalchemy.exc.SQLAlchemyError: the database is away.
        """
        needed = time.monotonic() - FRESH_SECONDS
        while (copy := await self._present()) is not None and self._as_of < needed:
            await self._refresh(copy)
        if copy is None:
            raise Problem(503, "the hotels are still being read; try again", headers={"Retry-After": "2"})
        return copy

    async def _present(self) -> "Copy | None":
        """Return the copy there is; wait a while for one that is being loaded."""
        if self._copy is not None and self._copy.nearly_over:
            self._wanted.set()
            if not self._copy.covers_today:
                self._drop()
        if self._copy is None:
            self._wanted.set()
            try:
                async with asyncio.timeout(LOAD_SECONDS):
                    await self._loaded.wait()
            except TimeoutError:
                return None
        return self._copy

    def _drop(self) -> None:
        self._copy = None
        self._loaded.clear()

    async def _load(self) -> None:
        began = time.monotonic()
        make: Callable[[str], Copy] = (await asyncio.to_thread(_module_of_copies)).Copy
        copy = make(self._topic)
        async with self._database.writing() as connection:
            await copy.load(connection)
        log.info("searches are answered from a copy that was loaded in %.1f s", time.monotonic() - began)
        self._copy, self._as_of = copy, began
        self._wanted.clear()
        self._loaded.set()

    async def _refresh(self, copy: "Copy") -> None:
        """Wait for a refresh that all share: one request that goes away must not end it."""
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.create_task(self._read(copy))
            # Nobody may be left to hear of a failure.
            self._refreshing.add_done_callback(lambda done: done.cancelled() or done.exception())
        await asyncio.shield(self._refreshing)

    async def _read(self, copy: "Copy") -> None:
        began = time.monotonic()
        try:
            # Of one moment: else a stay could cost what it did neither before nor after a change.
            async with self._database.reading() as connection, snapshot(connection):
                await copy.refresh(connection)
        except StartedAnew:
            log.warning("the nights in the database begin anew: they are copied again")
            if self._copy is copy:
                self._drop()
        else:
            metrics.SEARCH_REFRESH_SECONDS.of().observe(time.monotonic() - began)
            if self._copy is copy:
                self._as_of = began


def _module_of_copies() -> Any:
    """Import what needs numpy, which takes a moment, and takes memory from those who never search."""
    for name in _ONE_THREAD:
        os.environ.setdefault(name, "1")
    return importlib.import_module("ingress.hotels.search.copy")


def _short(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
