"""The ingress' connections to PostgreSQL: many short reads, few short writes.

No wait is endless: each connection has the limits of `storage.database.request_limits`, the pool those below, and each
request its own for all its waits together (`ingress/http/deadlines.py`). A connection on which no answer comes is
closed at once, without a message to a server that may be silent, and leaves the pool.
"""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from time import monotonic
from types import TracebackType
from typing import Any, Final, TypeVar, cast
from uuid import UUID

import psycopg
from sqlalchemy import ExceptionContext, QueuePool, event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from ingress.http.deadlines import current
from ingress.metrics import measure_statements
from ingress.replicas import LeftOut, Replicas, Work
from storage import installation
from storage.database import Connection, Limits, request_limits
from storage.engines import async_engine
from storage.failures import Reason, reason_of
from storage.settings import DatabaseSettings

_POOL_SECONDS: Final = 3.0
#: How long an idle connection may take to answer before it is replaced by a new one.
_PING_SECONDS: Final = 1.0
#: A failure of changes is reported for so long: no probe makes a change to find out whether it is over.
_REPORTED_SECONDS: Final = 30.0
_OF_CHANGES: Final = frozenset({Reason.FULL, Reason.NO_RIGHT, Reason.READ_ONLY})
_BEGIN_SNAPSHOT: Final = text("begin isolation level repeatable read, read only")
_END_SNAPSHOT: Final = text("commit")
T = TypeVar("T")


class Database:
    """A pool of connections; the first request for one connects."""

    def __init__(self, settings: DatabaseSettings, *, pool_size: int) -> None:
        self._engine = _engine(None, settings, pool_size)
        # Each statement is a transaction of its own, without round trips to begin and end it.
        self._reads = self._engine.execution_options(isolation_level="AUTOCOMMIT")
        self._replicas = Replicas(
            self._engine,
            [_engine(address, settings, pool_size) for address in settings.read_addresses],
            limit_seconds=settings.database_read_lag_ms / 1000,
        )
        self._load_limits = Limits(statement_seconds=settings.database_load_seconds)
        self._installation_id: UUID | None = None
        self._answered_at = 0.0
        self._change_failed: tuple[Reason, float] | None = None
        event.listen(self._engine.sync_engine, "after_cursor_execute", self._note_answer)

    def reading(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """Lend a connection for reading."""
        return self._reads.connect()

    def writing(self, *, is_note: bool = False) -> AbstractAsyncContextManager[AsyncConnection]:
        """Lend a connection for one transaction, which is committed at the end of the block.

        `is_note`: it only prepares what the request does later, and a failure after it leaves nothing done.
        """
        return _Writing(self._engine.begin(), is_note=is_note)

    @asynccontextmanager
    async def loading(self) -> AsyncIterator[AsyncConnection]:
        """Lend a connection for statements that read whole tables, in one transaction.

        Each may take `DATABASE_LOAD_SECONDS`: no request waits for them.
        """
        async with self._engine.begin() as connection:
            raw = cast("Connection", (await connection.get_raw_connection()).driver_connection)
            limit, raw.answer_seconds = raw.answer_seconds, self._load_limits.answer_seconds
            try:
                # By SQLAlchemy: it knows then that a cancelled statement has closed the connection.
                for name, value in {**raw.options_without_end, **self._load_limits.options}.items():
                    await connection.execute(text(f"set local {name} = {value}"))
                yield connection
            finally:
                raw.answer_seconds = limit

    async def read(self, work: Work[T]) -> T:
        """Run a read, on a replica if one has everything that the primary has now.

        When a replica fails, `work` runs again on the primary.
        """
        with suppress(LeftOut):
            return await self._replicas.read(work)
        async with self.reading() as connection:
            return await work(connection)

    async def installation_id(self) -> UUID:
        """Return the id of this installation, which is read once.

        Raises:
            NoInstallation: a restore left it out.
        """
        if self._installation_id is None:
            async with self.reading() as connection:
                raw = (await connection.get_raw_connection()).driver_connection
                self._installation_id = await installation.read(cast("psycopg.AsyncConnection", raw))
        return self._installation_id

    @property
    def replicas(self) -> str | None:
        """How many replicas are in use, in words; None without replicas."""
        return self._replicas.in_words

    @property
    def used(self) -> tuple[int, int]:
        """How many connections to the primary are lent, and the most that may be."""
        pool = cast("QueuePool", self._engine.pool)
        return pool.checkedout(), pool.size()

    def reason_of(self, error: BaseException | None) -> Reason | None:
        """Return why the database cannot be used, by an error that it caused; None for an error of another kind.

        The error None is a request that waited for too long. A pool of which no connection is free is `busy` only if
        its connections get answers.
        """
        if error is None or isinstance(error, PoolTimeout):
            used, most = self.used
            is_served = monotonic() - self._answered_at < _POOL_SECONDS
            return Reason.BUSY if used >= most and is_served else Reason.AWAY
        found = reason_of(error)
        if found is None and isinstance(error, DBAPIError) and error.connection_invalidated:
            found = Reason.AWAY
        if found in _OF_CHANGES:
            self._change_failed = found, monotonic()
        return found

    @property
    def failure_of_changes(self) -> Reason | None:
        """Why a change failed in the last half minute, though the database answers."""
        if self._change_failed is None:
            return None
        reason, at = self._change_failed
        return reason if monotonic() - at < _REPORTED_SECONDS else None

    async def run(self) -> None:
        """Watch the replicas until the process ends."""
        await self._replicas.run()

    async def close(self) -> None:
        """Close every connection."""
        await self._replicas.close()
        await self._engine.dispose()

    def _note_answer(self, *_: Any) -> None:
        self._answered_at = monotonic()


class _Writing(AbstractAsyncContextManager[AsyncConnection]):
    """A transaction whose request knows while its commit may have happened and is not confirmed, and once it is."""

    __slots__ = ("_is_note", "_transaction")

    def __init__(self, transaction: AbstractAsyncContextManager[AsyncConnection], *, is_note: bool) -> None:
        self._transaction = transaction
        self._is_note = is_note

    async def __aenter__(self) -> AsyncConnection:
        return await self._transaction.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        deadline = current() if kind is None else None
        if deadline is None:
            return await self._transaction.__aexit__(kind, error, traceback)
        deadline.is_committing = True
        result = await self._transaction.__aexit__(kind, error, traceback)
        deadline.is_committing = False
        deadline.has_done = deadline.has_done or not self._is_note
        return result


@asynccontextmanager
async def snapshot(connection: AsyncConnection) -> AsyncIterator[None]:
    """Read in one snapshot, taken at the first statement of the block, on a connection that was lent for reading.

    After an error the connection goes back to the pool with its transaction open: the pool ends it.
    """
    await connection.execute(_BEGIN_SNAPSHOT)
    yield
    await connection.execute(_END_SNAPSHOT)


def _engine(address: str | None, settings: DatabaseSettings, pool_size: int) -> AsyncEngine:
    """Return an engine for the primary (None) or for a replica."""
    engine = async_engine(
        settings,
        "innkeeper-ingress",
        request_limits(settings),
        address=address,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=_POOL_SECONDS,
        # A connection that broke while it was idle is replaced instead of failing a request.
        pool_pre_ping=True,
    )
    _limit_pings(engine)
    event.listen(engine.sync_engine, "handle_error", _leave_standby)
    measure_statements(engine.sync_engine)
    return engine


def _leave_standby(failed: ExceptionContext) -> None:
    """Drop all connections to a server that takes no changes: another one may be the primary by now."""
    if reason_of(failed.original_exception) is Reason.READ_ONLY:
        failed.is_disconnect = True


def _limit_pings(engine: AsyncEngine) -> None:
    """Replace a connection soon on which nothing comes back when it is lent: a statement may take longer."""
    dialect: Any = engine.sync_engine.dialect
    ping = dialect.do_ping

    def do_ping(adapted: Any) -> bool:
        connection: Connection = adapted.driver_connection
        limit, connection.answer_seconds = connection.answer_seconds, _PING_SECONDS
        try:
            answered: bool = ping(adapted)
            return answered
        finally:
            connection.answer_seconds = limit

    dialect.do_ping = do_ping
