"""Opens every connection to PostgreSQL: `connect` for tools, `connect_worker` for workers, engines for SQLAlchemy.

No wait for the database is endless. The kernel gives a connection up on which nothing is acknowledged any more
(keepalives, `tcp_user_timeout`), also where a statement may take hours. The server's kernel does so too: else the
session of a client that was cut off would keep its locks and its place for 2 hours. A kind of caller with limits
(`Limits`) also has the server end its long statements and its waits for locks, and closes the connection to a server
that is silent though its kernel acknowledges (a frozen one). A new connection resolves the host's name anew.

The server ends a transaction at a limit, too, from PostgreSQL 17 on: behind a proxy, whose kernel acknowledges, the
session of a client that was lost in the middle of a pipeline counts as busy, and would keep its locks for ever.
"""

import asyncio
import logging
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self, TypeVar

import psycopg
from psycopg import AsyncConnection, pq, waiting
from psycopg.abc import PQGen

from storage import addresses
from storage.settings import CONNECT_SECONDS, DatabaseSettings

#: A dead peer is noticed after this: 5 s of idleness, and 3 probes without an answer.
_KEEPALIVES: Final[Mapping[str, int]] = {
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    # In milliseconds: sent bytes that nobody acknowledges.
    "tcp_user_timeout": 10_000,
}
#: The same for the server's side. Any role may set them; over a socket in a folder PostgreSQL ignores them
#: (postgresql.org/docs/current/runtime-config-connection.html, read 2026-11).
_SERVER_KEEPALIVES: Final[Mapping[str, object]] = {
    "tcp_keepalives_idle": _KEEPALIVES["keepalives_idle"],
    "tcp_keepalives_interval": _KEEPALIVES["keepalives_interval"],
    "tcp_keepalives_count": _KEEPALIVES["keepalives_count"],
    "tcp_user_timeout": _KEEPALIVES["tcp_user_timeout"],
}
#: The server has so much longer than its own limit of a statement before the client gives the connection up.
_ANSWER_MARGIN_SECONDS: Final = 0.5
#: The server's limit of a transaction. PostgreSQL 16 refuses a connection that names it.
_TRANSACTION_TIMEOUT: Final = "transaction_timeout"
#: The servers, by their hosts and ports, that refused such a connection to this process.
_without_transaction_timeout: set[tuple[object, object]] = set()
#: How long psycopg sleeps before it looks at a connection again on which nothing came.
_LOOK_SECONDS: Final = 0.1

T = TypeVar("T")
log = logging.getLogger(__name__)


class NoAnswer(psycopg.OperationalError):
    """The server was silent for longer than this caller waits; the connection is closed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """How long one kind of caller waits for the database. None: as long as it takes.

    `connect_seconds` is for each host. `statement_seconds` and `lock_seconds` are the server's limits of a statement
    and of one wait for a lock; a silent server loses the connection shortly after `statement_seconds`.
    `idle_in_transaction_seconds`: a frozen caller loses its transaction. `transaction_seconds`: from PostgreSQL 17 on a
    transaction loses its session, also while the caller sends; the server disregards a longer `statement_seconds`.
    """

    connect_seconds: int = CONNECT_SECONDS
    statement_seconds: float | None = None
    lock_seconds: float | None = None
    idle_in_transaction_seconds: float | None = None
    transaction_seconds: float | None = None

    @property
    def answer_seconds(self) -> float | None:
        """How long the server may be silent while a statement runs."""
        return None if self.statement_seconds is None else self.statement_seconds + _ANSWER_MARGIN_SECONDS

    @property
    def options(self) -> Mapping[str, object]:
        """The settings of the session, in milliseconds, that every server has."""
        seconds = {
            "statement_timeout": self.statement_seconds,
            "lock_timeout": self.lock_seconds,
            "idle_in_transaction_session_timeout": self.idle_in_transaction_seconds,
        }
        return {name: _milliseconds(limit) for name, limit in seconds.items() if limit is not None}


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))


#: Tools of operators, whose statements and transactions may take hours.
TOOL_LIMITS: Final = Limits()
#: A request's transaction has few statements, and lasts no longer than so many of the longest.
_STATEMENTS_OF_A_REQUEST: Final = 3


def worker_limits(settings: DatabaseSettings) -> Limits:
    """Return the limits of a worker's connections."""
    return Limits(
        connect_seconds=settings.database_connect_seconds,
        statement_seconds=settings.database_statement_seconds,
        lock_seconds=settings.lock_timeout_ms / 1000,
        idle_in_transaction_seconds=settings.idle_in_transaction_timeout_ms / 1000,
        transaction_seconds=settings.database_transaction_seconds or None,
    )


def request_limits(settings: DatabaseSettings) -> Limits:
    """Return the limits of the ingress' connections, for requests that a client waits for."""
    return Limits(
        connect_seconds=settings.database_connect_seconds,
        statement_seconds=settings.database_request_seconds,
        lock_seconds=min(settings.lock_timeout_ms / 1000, settings.database_request_seconds / 2),
        idle_in_transaction_seconds=settings.idle_in_transaction_timeout_ms / 1000,
        transaction_seconds=min(
            settings.database_transaction_seconds, _STATEMENTS_OF_A_REQUEST * settings.database_request_seconds
        )
        or None,
    )


class Connection(AsyncConnection[Any]):
    """A connection that waits for no silent server.

    With `answer_seconds` it closes its socket when the server is silent for so long, or when the caller is cancelled
    in the middle of a statement. psycopg would ask the server to cancel the statement first, and wait up to 10 s for
    a dead one. The server ends the statement by itself, at the limit that it has.
    """

    answer_seconds: float | None = None
    #: Whether the server ends a transaction of this session that takes too long.
    has_transaction_timeout: bool = False
    #: How long a worker keeps records in the outbox after they were published.
    outbox_kept_seconds: float = 0.0

    @classmethod
    async def connect(  # type: ignore[override]  # One more parameter, which psycopg's own would take as libpq's.
        cls,
        conninfo: str = "",
        *,
        answer_seconds: float | None = None,
        transaction_seconds: float | None = None,
        **parameters: Any,
    ) -> Self:
        """Open a connection. All waits for hosts and for the resolver of names together have a limit.

        Only a server that refuses the limit of transactions, which it does not know, costs a second connection, and
        only for the first of a process.

        Raises:
            psycopg.OperationalError: no host can be used.
        """
        server = (parameters.get("host"), parameters.get("port"))
        if transaction_seconds is None or server in _without_transaction_timeout:
            connection = await cls._open(conninfo, parameters)
        else:
            limit = f"-c {_TRANSACTION_TIMEOUT}={_milliseconds(transaction_seconds)}"
            options = " ".join(part for part in (parameters.get("options"), limit) if part)
            try:
                connection = await cls._open(conninfo, {**parameters, "options": options})
                connection.has_transaction_timeout = True
            except psycopg.OperationalError as error:
                # The server's language may be any; the name is the same in all of them.
                if _TRANSACTION_TIMEOUT not in str(error):
                    raise
                log.info("the database has no limit of transactions: PostgreSQL has it from version 17 on")
                _without_transaction_timeout.add(server)
                connection = await cls._open(conninfo, parameters)
        connection.answer_seconds = answer_seconds
        return connection

    @property
    def options_without_end(self) -> Mapping[str, object]:
        """The settings with which a transaction of this session lasts for as long as it does."""
        return {_TRANSACTION_TIMEOUT: 0} if self.has_transaction_timeout else {}

    @classmethod
    async def _open(cls, conninfo: str, parameters: Mapping[str, Any]) -> Self:
        # Each host may have two addresses, and its name is resolved before.
        each = int(parameters.get("connect_timeout", CONNECT_SECONDS))
        limit = each * (1 + 2 * addresses.count_of_hosts(parameters))
        try:
            async with asyncio.timeout(limit):
                return await super().connect(conninfo, **parameters)
        except TimeoutError as error:
            _close_half_open(error.__cause__)
            raise psycopg.errors.ConnectionTimeout(f"no connection within {limit} s") from None
        except asyncio.CancelledError as error:
            _close_half_open(error)
            raise

    async def wait(
        self,
        gen: PQGen[T],
        interval: float = _LOOK_SECONDS,
        timeout: float | None = None,  # noqa: ASYNC109 - psycopg's parameter
    ) -> T:
        """Wait for the end of an operation on the connection; every statement, commit and copy comes through here."""
        if self.answer_seconds is None or timeout is not None:
            return await super().wait(gen, interval, timeout)
        try:
            return await waiting.wait_async(
                _until_silent(gen, self.answer_seconds), self.pgconn.socket, interval=interval
            )
        except (asyncio.CancelledError, KeyboardInterrupt, SystemExit):
            if self.pgconn.transaction_status == pq.TransactionStatus.ACTIVE:
                self.pgconn.finish()
            raise
        except NoAnswer:
            self.pgconn.finish()
            raise


def _close_half_open(cancelled: BaseException | None) -> None:
    """Close the connection that was being opened: it is a local variable of a frame, and open while that exists."""
    if cancelled is not None:
        traceback.clear_frames(cancelled.__traceback__)


def _until_silent(gen: PQGen[T], seconds: float) -> PQGen[T]:
    """Pass an operation on until its socket was silent for some seconds.

    psycopg resumes the operation with nothing after every interval without an event.
    """
    try:
        wanted = next(gen)
        answered_at = time.monotonic()
        while True:
            ready = yield wanted
            if ready:
                answered_at = time.monotonic()
            elif time.monotonic() - answered_at >= seconds:
                raise NoAnswer(f"the database did not answer for {seconds:g} s")
            wanted = gen.send(ready)
    except StopIteration as end:
        result: T = end.value
        return result


async def connect(
    settings: DatabaseSettings,
    application_name: str,
    *,
    autocommit: bool = True,
    connect_seconds: int = CONNECT_SECONDS,
    limits: Limits | None = None,
    options: Mapping[str, object] | None = None,
) -> AsyncConnection:
    """Open a connection; PostgreSQL shows `application_name` in `pg_stat_activity`.

    Without `limits` a statement may take as long as it does. `options` are settings of the session, for instance
    `{"lock_timeout": 3000}`. Raises psycopg.OperationalError when no host of the database answers within
    `connect_seconds`.
    """
    return await Connection.connect(
        autocommit=autocommit,
        **parameters(settings, application_name, limits or Limits(connect_seconds=connect_seconds), options),
    )


def connect_sync(
    settings: DatabaseSettings,
    application_name: str,
    *,
    autocommit: bool = True,
    connect_seconds: int = CONNECT_SECONDS,
    options: Mapping[str, object] | None = None,
) -> psycopg.Connection:
    """As `connect`, for code without an event loop. No statement has a limit."""
    found = sync_parameters(settings, application_name, Limits(connect_seconds=connect_seconds), options)
    return psycopg.connect(autocommit=autocommit, **found)


async def connect_worker(settings: DatabaseSettings, application_name: str) -> AsyncConnection:
    """Open a worker's connection, on which no frozen process can block its successor for long."""
    connection = await Connection.connect(**worker_parameters(settings, application_name))
    connection.outbox_kept_seconds = settings.outbox_kept_hours * 3600
    return connection


def worker_parameters(settings: DatabaseSettings, application_name: str) -> dict[str, Any]:
    """Return the parameters of a worker's connections, for `connect_worker` and for pools of `Connection`."""
    # Statements are prepared once, maybe while the tables are empty: a plan that reads all rows must not be kept.
    options = {"enable_seqscan": "off"}
    return {"autocommit": True, **parameters(settings, application_name, worker_limits(settings), options)}


def parameters(
    settings: DatabaseSettings,
    application_name: str,
    limits: Limits,
    options: Mapping[str, object] | None = None,
    *,
    address: str | None = None,
) -> dict[str, Any]:
    """Return the parameters of `Connection.connect`: those of an address, with our limits and keepalives.

    `address` is that of a replica; None: that of the primary. The options of the address are kept; where ours name the
    same setting, ours are later, and PostgreSQL takes the last.
    """
    found: dict[str, Any] = dict(settings.parameters() if address is None else addresses.parse(address))
    ours = {**limits.options, **_SERVER_KEEPALIVES, **(options or {})}
    own = " ".join(f"-c {name}={value}" for name, value in ours.items())
    return {
        **found,
        **_KEEPALIVES,
        "options": " ".join(part for part in (found.get("options"), own) if part),
        "application_name": application_name,
        "connect_timeout": limits.connect_seconds,
        "answer_seconds": limits.answer_seconds,
        "transaction_seconds": limits.transaction_seconds,
    }


def sync_parameters(
    settings: DatabaseSettings, application_name: str, limits: Limits, options: Mapping[str, object] | None = None
) -> dict[str, Any]:
    """Return the parameters of psycopg's own connections, of which a silent server and a transaction have no limit."""
    found = parameters(settings, application_name, limits, options)
    return {name: value for name, value in found.items() if name not in {"answer_seconds", "transaction_seconds"}}
