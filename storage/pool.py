"""A pool of a worker's connections, which gives none to a server that is silent or takes no writes."""

import asyncio
from typing import Any, Final, Self

import psycopg
from psycopg_pool import AsyncConnectionPool, PoolTimeout
from typing_extensions import override

from storage.database import Connection, worker_parameters
from storage.settings import DatabaseSettings

_LEND_SECONDS: Final = 5.0
#: The pool would try again at growing intervals for 5 minutes, and would not notice a database that is back. It gives
#: up soon instead, and the next caller that needs a connection makes it try at once.
_RECONNECT_SECONDS: Final = 1.0
#: The limit of the look at a connection before it is lent.
_CHECK_SECONDS: Final = 1.0


class WorkerPool(AsyncConnectionPool[Connection]):
    """Lends connections; a caller waits 5 s for one at most, and then gets the reason for which there is none."""

    def __init__(self, settings: DatabaseSettings, application_name: str, *, max_size: int) -> None:
        reasons = self._reasons = _Reasons()

        class Pooled(Connection):
            @classmethod
            @override
            async def connect(cls, *arguments: Any, **named: Any) -> Self:
                with reasons:
                    return await super().connect(*arguments, **named)

        super().__init__(
            connection_class=Pooled,
            kwargs=worker_parameters(settings, application_name),
            min_size=1,
            max_size=max_size,
            timeout=_LEND_SECONDS,
            reconnect_timeout=_RECONNECT_SECONDS,
            check=self._look_at,
            open=False,
        )

    @override
    async def getconn(self, timeout: float | None = None) -> Connection:
        """Lend a connection.

        Raises:
            psycopg.OperationalError: no connection can be made, with the reason of the last try.
            psycopg_pool.PoolTimeout: all of them are in use.
        """
        try:
            return await super().getconn(timeout)
        except PoolTimeout:
            if self._reasons.last is None:
                raise
            raise psycopg.OperationalError(str(self._reasons.last).strip()) from self._reasons.last

    async def _look_at(self, connection: Connection) -> None:
        """Raise unless the server answers at once and takes writes; another connection is lent then."""
        with self._reasons:
            try:
                async with asyncio.timeout(_CHECK_SECONDS):
                    await connection.execute("")
            except TimeoutError:
                raise psycopg.OperationalError(f"the database did not answer for {_CHECK_SECONDS:g} s") from None
            # The server reports it whenever it changes.
            if connection.info.parameter_status("in_hot_standby") == "on":
                await connection.close()
                raise psycopg.OperationalError("server is in hot standby mode")


class _Reasons:
    """The error of the last try to use the database; None after a success."""

    def __init__(self) -> None:
        self.last: psycopg.Error | None = None

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None or isinstance(error, psycopg.Error):
            self.last = error
