"""Keeps the index that searches are answered from: loads it in the background, refreshes it for searches."""

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
from ingress.hotels.search.models import Found, HotelSearch, IndexOutdated, SortPosition
from ingress.http.problems import Problem
from pricing.conversion import RateTable
from telemetry import metrics
from topics.backoff import Backoff

if TYPE_CHECKING:
    from ingress.hotels.search.index import SearchIndex

log = logging.getLogger(__name__)

#: Every search finds all changes that were committed this long ago.
FRESH_SECONDS: Final = 0.05
#: A process that has just started loads the index a little later, unless there is a search.
START_SECONDS: Final = 1.0
#: How long a search waits for an index that is being loaded.
LOAD_SECONDS: Final = 3.0
_FIRST_PAUSE_SECONDS: Final = 0.2
_MAX_RETRY_SECONDS: Final = 5.0
#: The tables are small and many processes share the cores: the libraries below numpy start no threads.
_ONE_THREAD: Final = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")


class Freshness:
    """Provides an index that is fresh enough; `run` loads it. Without searches nothing is read."""

    def __init__(self, database: Database, topic: str) -> None:
        """Load nothing yet; `topic` is the name of the events on the broker."""
        self._database = database
        self._topic = topic
        self._index: SearchIndex | None = None
        self._as_of = 0.0
        self._loaded = asyncio.Event()
        self._needed = asyncio.Event()
        self._refreshing: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Load the index, and again whenever it can no longer be refreshed, until the process ends."""
        try:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._needed.wait(), START_SECONDS)
            self._needed.set()
            await self._keep_loaded()
        finally:
            if self._refreshing is not None:
                self._refreshing.cancel()

    @property
    def loaded(self) -> bool:
        """Whether searches are answered at once."""
        return self._loaded.is_set()

    async def _keep_loaded(self) -> None:
        backoff = Backoff(
            "searches wait for the database", first_seconds=_FIRST_PAUSE_SECONDS, max_seconds=_MAX_RETRY_SECONDS
        )
        while True:
            await self._needed.wait()
            try:
                await self._load()
                backoff.reset()
            except (SQLAlchemyError, OSError) as error:
                await backoff.wait(error)

    async def find(self, query: HotelSearch, after: SortPosition | None, rates: RateTable | None = None) -> Found:
        """Return a page of hits from the index. Raises as `index`."""
        return await (await self.index()).find(query, after, rates)

    async def index(self) -> "SearchIndex":
        """Return the index with everything that was committed until `FRESH_SECONDS` ago.

        Raises:
            Problem: 503, it is still being loaded.
            sqlalchemy.exc.SQLAlchemyError: the database is away.
        """
        needed = time.monotonic() - FRESH_SECONDS
        while (index := await self._present()) is not None and self._as_of < needed:
            await self._refresh(index)
        if index is None:
            raise Problem(503, "the hotels are still being read; try again", headers={"Retry-After": "2"})
        return index

    async def _present(self) -> "SearchIndex | None":
        """Return the present index; wait a while for one that is being loaded."""
        if self._index is not None and self._index.nearly_over:
            self._needed.set()
            if not self._index.covers_today:
                self._drop()
        if self._index is None:
            self._needed.set()
            try:
                async with asyncio.timeout(LOAD_SECONDS):
                    await self._loaded.wait()
            except TimeoutError:
                return None
        return self._index

    def _drop(self) -> None:
        self._index = None
        self._loaded.clear()

    async def _load(self) -> None:
        began = time.monotonic()
        make: Callable[[str], SearchIndex] = (await asyncio.to_thread(_index_module)).SearchIndex
        index = make(self._topic)
        async with self._database.loading() as connection:
            await index.load(connection)
        log.info("the search index was loaded in %.1f s", time.monotonic() - began)
        self._index, self._as_of = index, began
        self._needed.clear()
        self._loaded.set()

    async def _refresh(self, index: "SearchIndex") -> None:
        """Wait for a refresh that all share: one request that goes away must not end it."""
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.create_task(self._read(index))
            # Every request that waits for it may be gone by then.
            self._refreshing.add_done_callback(lambda done: done.cancelled() or done.exception())
        await asyncio.shield(self._refreshing)

    async def _read(self, index: "SearchIndex") -> None:
        began = time.monotonic()
        try:
            # In one snapshot: else a stay could get a price that it had neither before nor after a change.
            async with self._database.reading() as connection, snapshot(connection):
                await index.refresh(connection)
        except IndexOutdated:
            log.warning("the nights in the database do not continue the search index: it is loaded again")
            if self._index is index:
                self._drop()
        else:
            metrics.SEARCH_REFRESH_SECONDS.of().observe(time.monotonic() - began)
            if self._index is index:
                self._as_of = began


def _index_module() -> Any:
    """Import the module that needs numpy, which takes time and memory that a process without searches saves."""
    for name in _ONE_THREAD:
        os.environ.setdefault(name, "1")
    return importlib.import_module("ingress.hotels.search.index")
