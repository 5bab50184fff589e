"""Replicas of the database, for reads: each is used while it keeps up with the primary, and left out otherwise.

No read is older than its request. Before each read the primary is asked for the end of its log (one query for all
requests that wait for it), and the replica must have replayed that much. So clients read their own writes, whichever
process took them, and no status goes back.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import Final, TypeVar

from psycopg.errors import QueryCanceled
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

log = logging.getLogger(__name__)

_LOOK_AGAIN_SECONDS: Final = 0.5
_FIRST_CHECK_SECONDS: Final = 0.002
#: Every visible commit is in the primary's log, and flushed.
_REACHES: Final = text("select (pg_current_wal_flush_lsn() - '0/0')::bigint")
#: Null once the replica has become a primary itself: then it may lack writes of the other.
_HAS: Final = text("select case when pg_is_in_recovery() then (pg_last_wal_replay_lsn() - '0/0')::bigint end")
T = TypeVar("T")
Work = Callable[[AsyncConnection], Awaitable[T]]


class LeftOut(Exception):
    """No replica can answer this read: the primary does."""


class Replicas:
    """All replicas of one primary. `limit_seconds`: how long a read waits for a replica before it is left out."""

    def __init__(self, primary: AsyncEngine, replicas: Sequence[AsyncEngine], *, limit_seconds: float) -> None:
        self._end_of_log = _EndOfLog(primary)
        self._replicas = [_Replica(engine, number) for number, engine in enumerate(replicas, 1)]
        self._limit_seconds = limit_seconds
        self._turn = 0

    @property
    def in_words(self) -> str | None:
        """How many are in use, None when there are none at all."""
        if not self._replicas:
            return None
        return f"{sum(replica.keeps_up for replica in self._replicas)} of {len(self._replicas)} in use"

    async def read(self, work: Work[T]) -> T:
        """Run a read on one of them; it may have begun on one that failed.

        Raises:
            LeftOut: none of them keeps up.
            sqlalchemy.exc.SQLAlchemyError: the primary is away, or a statement took longer than it may. The primary
                would not be faster, and the replica is sound.
        """
        keeping_up = [replica for replica in self._replicas if replica.keeps_up]
        if not keeping_up:
            raise LeftOut
        self._turn += 1
        replica = keeping_up[self._turn % len(keeping_up)]
        position = await self._end_of_log.now()
        try:
            async with AsyncExitStack() as stack:
                async with asyncio.timeout(_LOOK_AGAIN_SECONDS + self._limit_seconds):
                    connection = await stack.enter_async_context(replica.engine.connect())
                    await self._catch_up(connection, position)
                return await work(connection)
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            if isinstance(error, DBAPIError) and isinstance(error.orig, QueryCanceled):
                raise
            replica.leave_out(error)
            raise LeftOut from error

    async def run(self) -> None:
        """Check those that are left out, until the process ends, and use them again once they keep up."""
        await asyncio.gather(*(self._look_after(replica) for replica in self._replicas))

    async def close(self) -> None:
        """Close every connection."""
        for replica in self._replicas:
            await replica.engine.dispose()

    async def _look_after(self, replica: "_Replica") -> None:
        while True:
            if not replica.keeps_up:
                try:
                    position = await self._end_of_log.now()
                    async with asyncio.timeout(_LOOK_AGAIN_SECONDS + self._limit_seconds):
                        async with replica.engine.connect() as connection:
                            await self._catch_up(connection, position)
                except (SQLAlchemyError, OSError, TimeoutError) as error:
                    replica.still_left_out(error)
                else:
                    replica.use()
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)

    async def _catch_up(self, connection: AsyncConnection, position: int) -> None:
        """Wait until the replica has all of the primary's log up to a position.

        Raises:
            TimeoutError: it takes longer than the limit.
        """
        pause_seconds = _FIRST_CHECK_SECONDS
        async with asyncio.timeout(self._limit_seconds):
            while True:
                has = (await connection.execute(_HAS)).scalar_one()
                if has is None:
                    raise ConnectionError("it is no replica any more")
                if has >= position:
                    return
                await asyncio.sleep(pause_seconds)
                pause_seconds *= 2


class _Replica:
    """One replica; it is used only after it has shown that it keeps up."""

    def __init__(self, engine: AsyncEngine, number: int) -> None:
        self.engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self.keeps_up = False
        self._name = f"replica {number} ({engine.url.host}:{engine.url.port})"
        self._reported = False

    def use(self) -> None:
        log.info("%s keeps up: reads go to it", self._name)
        self.keeps_up, self._reported = True, False

    def leave_out(self, error: Exception) -> None:
        if self.keeps_up:
            log.warning("%s is left out of reads: %s", self._name, _short(error))
        self.keeps_up, self._reported = False, True

    def still_left_out(self, error: Exception) -> None:
        if not self._reported:
            log.warning("%s is not used for reads yet: %s", self._name, _short(error))
        self._reported = True


class _EndOfLog:
    """Asks the primary for the end of its log: one query at a time, shared by all calls that precede it."""

    def __init__(self, primary: AsyncEngine) -> None:
        self._primary = primary.execution_options(isolation_level="AUTOCOMMIT")
        self._running: asyncio.Task[int] | None = None
        self._next: asyncio.Task[int] | None = None

    async def now(self) -> int:
        """Return a position of the log after everything that was committed before this call."""
        if self._next is None:
            # A query that is under way may have been answered already, and may miss the latest commits.
            self._next = asyncio.create_task(self._ask_after(self._running))
            self._next.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(self._next)

    async def _ask_after(self, earlier: "asyncio.Task[int] | None") -> int:
        if earlier is not None:
            await asyncio.wait([earlier])
        self._running, self._next = self._next, None
        async with self._primary.connect() as connection:
            position: int = (await connection.execute(_REACHES)).scalar_one()
        return position


def _short(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "it is behind"
    return str(error).strip().partition("\n")[0] or type(error).__name__
