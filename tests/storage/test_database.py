"""Connections of tools and of workers."""

import asyncio
import ctypes
import os
import signal
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import conninfo, sql
from sqlalchemy import text

from sandbox.ports import free_port
from storage.database import (
    TOOL_LIMITS,
    Connection,
    NoAnswer,
    connect,
    connect_sync,
    connect_worker,
    parameters,
    request_limits,
)
from storage.engines import async_engine, engine
from storage.failures import Reason, reason_of
from storage.pool import WorkerPool
from storage.settings import DatabaseSettings
from tests.support.waiting import wait_until

#: No machine freezes for as long; a test that waits for it fails by the limit of the whole test.
NEVER_SECONDS = 3600.0
#: Linux' socket option for a filter of arriving packets, and the filter's instruction to keep so many bytes of each
#: (asm-generic/socket.h, linux/filter.h; read 2026-11).
_SO_ATTACH_FILTER = 26
_BPF_RETURN = 0x06


async def test_a_connection_has_its_name_and_the_settings_of_its_session(database: DatabaseSettings) -> None:
    async with await connect(database, "innkeeper test", options={"lock_timeout": 3000, "jit": "off"}) as connection:
        shown = [
            await (await connection.execute(b"show " + name)).fetchone()
            for name in (b"application_name", b"lock_timeout", b"jit", b"statement_timeout")
        ]
        assert connection.autocommit

    assert shown == [("innkeeper test",), ("3s",), ("off",), ("0",)]


def test_a_connection_without_an_event_loop_is_the_same(database: DatabaseSettings) -> None:
    with connect_sync(database, "innkeeper test", autocommit=False) as connection:
        assert connection.execute("show application_name").fetchone() == ("innkeeper test",)
        assert not connection.autocommit


async def test_a_frozen_worker_blocks_its_successor_only_for_as_long_as_the_settings_allow(
    database: DatabaseSettings,
) -> None:
    settings = database.model_copy(
        update={"lock_timeout_ms": 1500, "idle_in_transaction_timeout_ms": 2500, "database_statement_seconds": 3.5}
    )
    async with await connect_worker(settings, "innkeeper worker") as connection:
        lock = await (await connection.execute("show lock_timeout")).fetchone()
        idle = await (await connection.execute("show idle_in_transaction_session_timeout")).fetchone()
        statement = await (await connection.execute("show statement_timeout")).fetchone()

    assert (lock, idle, statement) == (("1500ms",), ("2500ms",), ("3500ms",))


async def test_every_connection_gives_a_dead_peer_up(database: DatabaseSettings) -> None:
    async with await connect(database, "innkeeper test") as tool, await connect_worker(database, "worker") as worker:
        with connect_sync(database, "innkeeper test") as without_loop:
            for connection in (tool, worker, without_loop):
                found = connection.info.get_parameters()
                assert (found["keepalives_idle"], found["keepalives_interval"], found["keepalives_count"]) == (
                    "5",
                    "2",
                    "3",
                )
                assert found["tcp_user_timeout"] == "10000"


async def test_the_server_gives_a_dead_client_up_on_every_connection(database: DatabaseSettings) -> None:
    shown = await on_every_connection(
        database,
        "select current_setting('tcp_keepalives_idle'), current_setting('tcp_keepalives_interval'),"
        " current_setting('tcp_keepalives_count'), current_setting('tcp_user_timeout')",
        of_replica=database.conninfo(),
    )

    assert shown == dict.fromkeys(shown, ("5", "2", "3", "10000"))


@pytest.mark.long
async def test_a_session_whose_client_cannot_be_reached_any_more_ends(database: DatabaseSettings) -> None:
    async with await connect(database, "innkeeper test") as another:
        lost = await connect(database, "innkeeper test")
        await lost.execute("select pg_advisory_lock(7)")
        drop_all_packets_to(lost)

        async def is_gone() -> bool:
            locks = "select count(*) from pg_locks where locktype = 'advisory' and pid = %s"
            return await (await another.execute(locks, (lost.info.backend_pid,))).fetchone() == (0,)

        await wait_until(is_gone, message="the session has ended, and its lock is free")
        assert lost.info.transaction_status is psycopg.pq.TransactionStatus.IDLE
        lost.pgconn.finish()


async def test_the_options_of_the_address_arrive_on_every_connection(database: DatabaseSettings) -> None:
    theirs = "-c search_path=theirs"
    of_replica = conninfo.make_conninfo(database.conninfo(), options=theirs)

    shown = await on_every_connection(changed(database, options=theirs), "show search_path", of_replica=of_replica)

    assert shown == dict.fromkeys(shown, ("theirs",))


async def test_a_limit_of_ours_has_precedence_over_that_of_the_address(database: DatabaseSettings) -> None:
    settings = changed(database, options="-c statement_timeout=0 -c work_mem=5MB", connect_timeout="600")
    async with await connect_worker(settings, "innkeeper test") as connection:
        assert await (await connection.execute("show statement_timeout")).fetchone() == ("10s",)
        assert await (await connection.execute("show work_mem")).fetchone() == ("5MB",)
        assert connection.info.get_parameters()["connect_timeout"] == "3"


async def test_a_host_that_is_away_is_passed_over(database: DatabaseSettings) -> None:
    settings = with_host_before(database, free_port())

    assert await whether_it_serves(settings) == {"tool", "worker", "without a loop", "pool", "engine", "async engine"}


async def test_a_host_that_is_silent_is_passed_over(database: DatabaseSettings) -> None:
    async with silent_server() as port:
        settings = with_host_before(database, port).model_copy(update={"database_connect_seconds": 2})
        async with await connect_worker(settings, "innkeeper test") as connection:
            assert await (await connection.execute("select 1")).fetchone() == (1,)


async def test_a_resolver_of_names_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(*_: object, **__: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", hang)
    monkeypatch.setattr("storage.addresses.count_of_hosts", lambda _: 0)
    with pytest.raises(psycopg.errors.ConnectionTimeout, match="no connection within 1 s"):
        await Connection.connect(host="nowhere.example", connect_timeout=1)


async def test_a_folder_of_a_socket_is_a_host(database: DatabaseSettings) -> None:
    # The sandbox's server has no socket: the error shows where libpq looked for it.
    address = "postgresql://u:p@%2Fno%2Fsuch%2Ffolder:5433/name"
    settings = DatabaseSettings(_env_file=None, database_url=address)
    with pytest.raises(psycopg.OperationalError, match=r"/no/such/folder/\.s\.PGSQL\.5433"):
        await connect_worker(settings, "innkeeper test")
    many = async_engine(settings, "innkeeper test", TOOL_LIMITS)
    with pytest.raises(Exception, match=r"/no/such/folder/\.s\.PGSQL\.5433"):
        await many.connect()


async def test_a_server_that_is_frozen_loses_a_worker_though_its_kernel_acknowledges(
    database: DatabaseSettings,
) -> None:
    settings = database.model_copy(update={"database_statement_seconds": 0.3})
    connection = await connect_worker(settings, "innkeeper test")
    with frozen(connection):
        with pytest.raises(NoAnswer) as lost:
            await connection.execute("select 1")

        assert connection.closed
        assert reason_of(lost.value) is Reason.AWAY
        # A new one is served at once: only one session is frozen here.
        async with await connect_worker(settings, "innkeeper test") as another:
            assert await (await another.execute("select 1")).fetchone() == (1,)


async def test_an_answer_that_comes_in_many_parts_is_no_silence(database: DatabaseSettings) -> None:
    settings = database.model_copy(update={"database_statement_seconds": 0.5})
    async with await connect_worker(settings, "innkeeper test") as connection:
        await connection.execute("set statement_timeout = 0")
        rows = await connection.execute(
            "select number, repeat('x', 20000), pg_sleep(0.1) from generate_series(1, 20) as number"
        )
        assert len(await rows.fetchall()) == 20


async def test_a_statement_that_is_too_long_is_ended_by_the_server(database: DatabaseSettings) -> None:
    settings = database.model_copy(update={"database_request_seconds": 0.1})
    many = async_engine(settings, "innkeeper test", request_limits(settings), pool_size=1)
    async with many.connect() as connection:
        with pytest.raises(Exception, match="statement timeout") as ended:
            await connection.execute(text("select pg_sleep(60)"))
        assert reason_of(ended.value) is Reason.AWAY
    await many.dispose()


async def test_a_client_that_is_lost_in_the_middle_of_a_pipeline_loses_its_transaction(
    database: DatabaseSettings,
) -> None:
    """The server waits for the rest of the pipeline, and counts no idleness: a proxy keeps the connection alive."""
    settings = database.model_copy(
        update={
            "idle_in_transaction_timeout_ms": 100,
            "database_transaction_seconds": 0.5,
            "database_request_seconds": 9,
        }
    )
    of_request = parameters(settings, "innkeeper test", request_limits(settings))
    async with await connect(database, "innkeeper test") as another:
        for lost in (await connect_worker(settings, "innkeeper test"), await Connection.connect(**of_request)):
            await lost.execute("begin")
            take_lock_without_sync(lost, 7)

            async def is_free() -> bool:
                locks = "select count(*) from pg_locks where locktype = 'advisory'"
                return await (await another.execute(locks)).fetchone() == (0,)

            await wait_until(is_free, message="the server has ended the transaction, and the lock is free")
            lost.pgconn.finish()


async def test_each_kind_of_caller_has_its_own_limit_of_a_transaction(database: DatabaseSettings) -> None:
    shown = await on_every_connection(database, "show transaction_timeout", of_replica=database.conninfo())

    requests = dict.fromkeys(("primary", "replica"), ("12s",))
    assert shown == dict.fromkeys(shown, ("0",)) | dict.fromkeys(("worker", "pool"), ("30s",)) | requests
    without = database.model_copy(update={"database_transaction_seconds": 0.0})
    shown = await on_every_connection(without, "show transaction_timeout", of_replica=database.conninfo())
    assert shown == dict.fromkeys(shown, ("0",))


async def test_a_transaction_that_takes_too_long_ends_as_if_the_database_were_away(database: DatabaseSettings) -> None:
    settings = database.model_copy(update={"database_transaction_seconds": 0.2})
    async with await connect_worker(settings, "innkeeper test") as connection:
        with pytest.raises(psycopg.errors.TransactionTimeout) as raised:
            await connection.execute("select pg_sleep(60)")

    assert reason_of(raised.value) is Reason.AWAY


async def test_a_server_without_a_limit_of_transactions_is_asked_for_it_once(
    database: DatabaseSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL 16 refuses a connection that names a setting which it does not know, as this server does, too."""
    monkeypatch.setattr("storage.database._TRANSACTION_TIMEOUT", "limit_of_a_later_version")
    monkeypatch.setattr("storage.database._without_transaction_timeout", set())
    opened: list[str] = []
    connect_as_libpq = psycopg.AsyncConnection.connect.__func__  # type: ignore[attr-defined]

    async def note(cls: type[Connection], conninfo: str = "", /, **given: Any) -> psycopg.AsyncConnection[Any]:
        opened.append(given["options"])
        connection: psycopg.AsyncConnection[Any] = await connect_as_libpq(cls, conninfo, **given)
        return connection

    monkeypatch.setattr(psycopg.AsyncConnection, "connect", classmethod(note))
    for _ in range(2):
        async with await connect_worker(database, "innkeeper test") as connection:
            assert isinstance(connection, Connection)
            assert await (await connection.execute("show statement_timeout")).fetchone() == ("10s",)
            assert connection.options_without_end == {}

    assert ["limit_of_a_later_version" in options for options in opened] == [True, False, False]


async def test_a_cancelled_statement_does_not_wait_for_a_frozen_server(
    database: DatabaseSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*_: object, **__: object) -> None:
        raise AssertionError("the server was asked to cancel a statement")

    monkeypatch.setattr(psycopg.AsyncConnection, "cancel_safe", never)
    settings = database.model_copy(update={"database_statement_seconds": NEVER_SECONDS})
    connection = await connect_worker(settings, "innkeeper test")
    with frozen(connection):
        waiting = asyncio.create_task(connection.execute("select pg_sleep(0)"))
        await wait_until(lambda: connection.info.transaction_status is psycopg.pq.TransactionStatus.ACTIVE)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert connection.closed


async def test_a_pool_gives_no_connection_to_a_frozen_server_and_makes_another(database: DatabaseSettings) -> None:
    async with WorkerPool(database, "innkeeper test", max_size=1) as pool:
        async with pool.connection() as first:
            pass
        with frozen(first):
            async with pool.connection() as second:
                assert await (await second.execute("select 1")).fetchone() == (1,)
            assert first.closed


async def test_a_pool_names_the_reason_for_which_it_has_no_connection(
    database: DatabaseSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.pool._LEND_SECONDS", 0.5)
    away = changed(database, port=str(free_port()))
    async with WorkerPool(away, "innkeeper test", max_size=1) as pool:
        with pytest.raises(psycopg.OperationalError) as none:
            await pool.getconn()
        assert reason_of(none.value) is Reason.AWAY
    async with WorkerPool(database, "innkeeper test", max_size=1) as pool, pool.connection():
        with pytest.raises(psycopg.OperationalError) as full:
            await pool.getconn()
        assert reason_of(full.value) is Reason.BUSY


async def test_a_database_that_is_back_is_used_by_the_next_who_asks_the_pool(
    database: DatabaseSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.pool._LEND_SECONDS", 0.5)
    port = free_port()
    async with AsyncExitStack() as opened:
        pool = WorkerPool(changed(database, port=str(port)), "innkeeper test", max_size=1)
        await pool.open()
        for _ in range(3):
            with pytest.raises(psycopg.OperationalError):
                await pool.getconn()
        await opened.enter_async_context(forwarding(port, database))
        opened.push_async_callback(pool.close)
        while True:
            try:
                async with pool.connection() as connection:
                    assert await (await connection.execute("select 1")).fetchone() == (1,)
                break
            except psycopg.OperationalError:
                continue


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("set role {stranger}; select * from note", Reason.NO_RIGHT),
        ("begin read only; delete from note", Reason.READ_ONLY),
        ("do $$ begin raise exception sqlstate '53100'; end $$", Reason.FULL),
        ("do $$ begin raise exception sqlstate '53200'; end $$", Reason.FULL),
        ("do $$ begin raise exception sqlstate '53300'; end $$", Reason.BUSY),
        ("set statement_timeout = 10; select pg_sleep(60)", Reason.AWAY),
        ("set lock_timeout = 10; lock table held", Reason.LOCKED),
        ("select pg_terminate_backend(pg_backend_pid())", Reason.AWAY),
        ("select 1 / 0", None),
        ("select * from nothing", None),
    ],
)
async def test_each_state_of_the_database_has_its_name(
    database: DatabaseSettings, statement: str, reason: Reason | None
) -> None:
    stranger = f"stranger_{uuid4().hex}"
    async with await connect(database, "innkeeper test") as connection:
        tables = "create table note (number int); create table held ()"
        await connection.execute(f"create role {stranger}; {tables}".encode())
        async with connection.transaction():
            await connection.execute("lock table held")
            async with await connect(database, "innkeeper test") as another:
                with pytest.raises(psycopg.Error) as raised:
                    await another.execute(statement.format(stranger=stranger).encode())
        await connection.execute(f"drop role {stranger}".encode())

    assert reason_of(raised.value) is reason


async def test_a_connection_that_is_refused_names_its_reason_too(database: DatabaseSettings) -> None:
    stranger = f"stranger_{uuid4().hex}"
    name = sql.Identifier(str(conninfo.conninfo_to_dict(database.conninfo())["dbname"]))
    found = {}
    async with await connect(database, "innkeeper test") as connection:
        await connection.execute(f"create role {stranger} login password 'x' connection limit 0".encode())
        await connection.execute(sql.SQL("alter database {} set default_transaction_read_only = on").format(name))
        for state, parameters in {
            "password": {"password": "wrong"},
            "connections": {"user": stranger, "password": "x"},
            "read-write": {"target_session_attrs": "read-write"},
            "no server": {"port": str(free_port())},
        }.items():
            with pytest.raises(psycopg.OperationalError) as raised:
                await connect(changed(database, **parameters), "innkeeper test")
            found[state] = reason_of(raised.value)
        await connection.execute(sql.SQL("alter database {} reset default_transaction_read_only").format(name))
        await connection.execute(f"drop role {stranger}".encode())

    assert found == {
        "password": Reason.NO_RIGHT,
        "connections": Reason.BUSY,
        "read-write": Reason.READ_ONLY,
        "no server": Reason.AWAY,
    }


def test_an_error_of_anything_else_is_none_of_the_databases_states() -> None:
    assert reason_of(OSError("a socket of the broker's")) is None


def changed(database: DatabaseSettings, **parameters: str) -> DatabaseSettings:
    return DatabaseSettings(_env_file=None, database_url=conninfo.make_conninfo(database.conninfo(), **parameters))


def with_host_before(database: DatabaseSettings, port: int) -> DatabaseSettings:
    """Return settings with another port of this machine before the server's."""
    own = conninfo.conninfo_to_dict(database.conninfo())
    return changed(database, host=f"127.0.0.1,{own['host']}", port=f"{port},{own['port']}")


async def on_every_connection(settings: DatabaseSettings, query: str, *, of_replica: str) -> dict[str, object]:
    """Return the row that a query has on each kind of connection, and on one to a replica's address."""
    shown: dict[str, object] = {}

    async def ask(kind: str, connection: psycopg.AsyncConnection[Any]) -> None:
        shown[kind] = await (await connection.execute(query.encode())).fetchone()

    async with await connect(settings, "a") as tool, await connect_worker(settings, "b") as worker:
        await ask("tool", tool)
        await ask("worker", worker)
    async with await connect(settings, "c", options={"jit": "off"}) as with_options:
        await ask("tool with options", with_options)
    async with WorkerPool(settings, "d", max_size=1) as pool, pool.connection() as pooled:
        await ask("pool", pooled)
    with connect_sync(settings, "e", options={"jit": "off"}) as without_loop:
        shown["without a loop"] = without_loop.execute(query.encode()).fetchone()
    one = engine(settings, "f")
    with one.connect() as connection:
        shown["engine"] = connection.execute(text(query)).fetchone()
    one.dispose()
    for name, address in (("primary", None), ("replica", of_replica)):
        many = async_engine(settings, "g", request_limits(settings), address=address)
        async with many.connect() as asynchronous:
            shown[name] = (await asynchronous.execute(text(query))).fetchone()
        await many.dispose()
    return shown


def drop_all_packets_to(connection: psycopg.AsyncConnection[Any]) -> None:
    """Let the kernel drop what arrives for this client, before it acknowledges: as if the network were cut."""
    drop_all = ctypes.create_string_buffer(struct.pack("HBBI", _BPF_RETURN, 0, 0, 0))
    program = struct.pack("HP", 1, ctypes.addressof(drop_all))
    with socket.socket(fileno=os.dup(connection.fileno())) as client:
        # The client's kernel would give up first, and reset the connection: the server would get that.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 0)
        client.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


def take_lock_without_sync(connection: psycopg.AsyncConnection[Any], number: int) -> None:
    """Take an advisory lock in a pipeline that is not ended; return when the server has answered."""
    pgconn = connection.pgconn
    pgconn.enter_pipeline_mode()
    pgconn.send_query_params(b"select pg_advisory_xact_lock($1::bigint)", [b"%d" % number])
    pgconn.send_flush_request()
    pgconn.nonblocking = 0
    pgconn.flush()
    # It waits for the answer, which is a moment.
    result = pgconn.get_result()
    assert result is not None
    assert result.status == psycopg.pq.ExecStatus.TUPLES_OK


async def whether_it_serves(settings: DatabaseSettings) -> set[str]:
    """Return the kinds of connections that an address serves."""
    found = set()
    async with await connect(settings, "a"), await connect_worker(settings, "b"):
        found |= {"tool", "worker"}
    with connect_sync(settings, "c"):
        found.add("without a loop")
    async with WorkerPool(settings, "d", max_size=1) as pool, pool.connection():
        found.add("pool")
    one = engine(settings, "e")
    with one.connect():
        found.add("engine")
    one.dispose()
    many = async_engine(settings, "f", request_limits(settings))
    async with many.connect():
        found.add("async engine")
    await many.dispose()
    return found


@contextmanager
def frozen(connection: psycopg.AsyncConnection[Any]) -> Iterator[None]:
    """Freeze the server's process of one session for as long as the block lasts."""
    pid = connection.info.backend_pid
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@asynccontextmanager
async def silent_server() -> AsyncIterator[int]:
    """Yield a port that takes connections, and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


@asynccontextmanager
async def forwarding(port: int, database: DatabaseSettings) -> AsyncIterator[None]:
    """Forward a port to the database for as long as the block lasts."""
    own = conninfo.conninfo_to_dict(database.conninfo())

    forwarded: set[asyncio.Task[object] | None] = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        forwarded.add(asyncio.current_task())
        there, back = await asyncio.open_connection(str(own["host"]), int(str(own["port"])))
        await asyncio.gather(pump(reader, back), pump(there, writer), return_exceptions=True)

    server = await asyncio.start_server(forward, "127.0.0.1", port)
    try:
        yield
    finally:
        server.close()
        await asyncio.gather(*filter(None, forwarded))
