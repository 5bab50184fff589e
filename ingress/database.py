"""The ingress's connections to PostgreSQL: many short reads, few short writes."""

import asyncio
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any, Final

import psycopg
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from storage.settings import DatabaseSettings

_CONNECT_SECONDS: Final = 3
_POOL_SECONDS: Final = 3.0


class Database:
    """A pool of connections; nothing is connected before the first is asked for."""

    def __init__(self, settings: DatabaseSettings, *, pool_size: int) -> None:
        self._engine = create_async_engine(
            settings.sqlalchemy_url(),
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=_POOL_SECONDS,
            # A connection that died while nobody used it is replaced instead of failing a request.
            pool_pre_ping=True,
            hide_parameters=True,
            connect_args={
                "connect_timeout": _CONNECT_SECONDS,
                "application_name": "innkeeper-ingress",
                "async_creator_fn": _connect,
            },
        )
        # Each statement by itself: no round trips to begin and end what changes nothing.
        self._reads = self._engine.execution_options(isolation_level="AUTOCOMMIT")

    def reading(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """Lend a connection for reading."""
        return self._reads.connect()

    def writing(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """Lend a connection for one transaction, which is committed at the end of the block."""
        return self._engine.begin()

    async def close(self) -> None:
        """Close every connection."""
        await self._engine.dispose()


async def _connect(*arguments: Any, **named: Any) -> psycopg.AsyncConnection[Any]:
    """Open a connection. Who gives up waiting for it leaves none half open: the server keeps those for a minute."""
    opening = asyncio.ensure_future(psycopg.AsyncConnection.connect(*arguments, **named))
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        with suppress(psycopg.Error):
            await (await opening).close()
        raise
