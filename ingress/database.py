"""The ingress' connections to PostgreSQL: many short reads, few short writes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any, Final, TypeVar, cast
from uuid import UUID

import psycopg
from sqlalchemy import QueuePool, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from ingress.metrics import measure_statements
from ingress.replicas import LeftOut, Replicas, Work
from storage import installation
from storage.settings import DatabaseSettings, sqlalchemy_url

_POOL_CONNECT_SECONDS: Final = 3
_POOL_SECONDS: Final = 3.0
_BEGIN_SNAPSHOT: Final = text("begin isolation level repeatable read, read only")
_END_SNAPSHOT: Final = text("commit")
T = TypeVar("T")


class Database:
    """A pool of connections; the first request for one connects."""

    def __init__(self, settings: DatabaseSettings, *, pool_size: int) -> None:
        self._engine = _engine(settings.conninfo(), settings, pool_size)
        # Each statement is a transaction of its own, without round trips to begin and end it.
        self._reads = self._engine.execution_options(isolation_level="AUTOCOMMIT")
        self._replicas = Replicas(
            self._engine,
            [_engine(address, settings, pool_size) for address in settings.read_addresses],
            limit_seconds=settings.database_read_lag_ms / 1000,
        )
        self._installation_id: UUID | None = None

    def reading(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """Lend a connection for reading."""
        return self._reads.connect()

    def writing(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """Lend a connection for one transaction, which is committed at the end of the block."""
        return self._engine.begin()

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

    async def run(self) -> None:
        """Watch the replicas until the process ends."""
        await self._replicas.run()

    async def close(self) -> None:
        """Close every connection."""
        await self._replicas.close()
        await self._engine.dispose()


@asynccontextmanager
async def snapshot(connection: AsyncConnection) -> AsyncIterator[None]:
    """Read in one snapshot, taken at the first statement of the block, on a connection that was lent for reading.

    After an error the connection goes back to the pool with its transaction open: the pool ends it.
    """
    await connection.execute(_BEGIN_SNAPSHOT)
    yield
    await connection.execute(_END_SNAPSHOT)


def _engine(address: str, settings: DatabaseSettings, pool_size: int) -> AsyncEngine:
    engine = create_async_engine(
        sqlalchemy_url(address),
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=_POOL_SECONDS,
        # A connection that broke while it was idle is replaced instead of failing a request.
        pool_pre_ping=True,
        hide_parameters=True,
        connect_args={
            "connect_timeout": _POOL_CONNECT_SECONDS,
            "application_name": "innkeeper-ingress",
            # A process that is frozen in the middle of a transaction does not lock its rows for long.
            "options": f"-c idle_in_transaction_session_timeout={settings.idle_in_transaction_timeout_ms}",
            "async_creator_fn": _connect,
        },
    )
    measure_statements(engine.sync_engine)
    return engine


async def _connect(*arguments: Any, **named: Any) -> psycopg.AsyncConnection[Any]:
    """Open a connection. When it is cancelled it closes the connection, which the server would keep for a minute."""
    opening = asyncio.ensure_future(psycopg.AsyncConnection.connect(*arguments, **named))
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        with suppress(psycopg.Error):
            await (await opening).close()
        raise
