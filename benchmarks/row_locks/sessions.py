"""Ten sessions with PostgreSQL, each with its statement prepared, and no more Python for a call than there must be.

psycopg's own pool and cursors cost several times as much as the call itself; a baseline that spent its time there would
be beaten too easily. This drives libpq directly: parameters as text, one watcher a socket for the session's life.
"""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Final, Self

from psycopg import AsyncConnection
from psycopg.pq import DiagnosticField, ExecStatus
from psycopg.pq.abc import PGconn, PGresult

# Scans by the key alone: so every transaction locks the nights of a stay in the order of their dates.
_KEY_SCANS_ONLY: Final = "-c enable_seqscan=off -c enable_bitmapscan=off"
_NAME: Final = b"statement"


class StatementFailed(Exception):
    """PostgreSQL refused a call; `sqlstate` is the reason."""

    def __init__(self, sqlstate: str, message: str) -> None:
        super().__init__(f"{sqlstate}: {message}")
        self.sqlstate = sqlstate


class Sessions:
    """A pool: calls wait for a session, the one used last first."""

    def __init__(self, conninfo: str, statement: str, size: int) -> None:
        self._conninfo = conninfo
        self._statement = statement
        self._size = size
        self._idle: asyncio.LifoQueue[_Session] = asyncio.LifoQueue()
        self._stack = AsyncExitStack()

    async def call(self, parameters: Sequence[bytes]) -> bytes | None:
        """Run the statement in a transaction of its own; return the first column of its first row.

        Raises:
            StatementFailed: PostgreSQL refused it; nothing of it is stored.
        """
        session = await self._idle.get()
        try:
            result = await session.call(parameters)
        finally:
            self._idle.put_nowait(session)
        if result.status != ExecStatus.TUPLES_OK:
            sqlstate = (result.error_field(DiagnosticField.SQLSTATE) or b"").decode()
            raise StatementFailed(sqlstate, result.error_message.decode(errors="replace"))
        return result.get_value(0, 0)

    async def __aenter__(self) -> Self:
        for _ in range(self._size):
            connection = await AsyncConnection.connect(self._conninfo, autocommit=True, options=_KEY_SCANS_ONLY)
            await self._stack.enter_async_context(connection)
            connection.pgconn.prepare(_NAME, self._statement.encode())
            session = _Session(connection.pgconn)
            self._stack.callback(session.close)
            self._idle.put_nowait(session)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()


class _Session:
    def __init__(self, connection: PGconn) -> None:
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._answer: asyncio.Future[PGresult] | None = None
        self._result: PGresult | None = None
        connection.nonblocking = 1
        self._loop.add_reader(connection.socket, self._readable)

    def call(self, parameters: Sequence[bytes]) -> asyncio.Future[PGresult]:
        self._connection.send_query_prepared(_NAME, parameters)
        self._connection.flush()
        self._answer = self._loop.create_future()
        return self._answer

    def close(self) -> None:
        self._loop.remove_reader(self._connection.socket)

    def _readable(self) -> None:
        self._connection.consume_input()
        while not self._connection.is_busy():
            result = self._connection.get_result()
            if result is not None:
                # An error of the commit would come after the row.
                self._result = result
                continue
            # The transaction is over only now.
            answer, self._answer = self._answer, None
            if answer is not None and self._result is not None and not answer.done():
                answer.set_result(self._result)
            return
