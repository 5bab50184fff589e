"""The ingress's connections to PostgreSQL."""

import asyncio
from urllib.parse import urlsplit

import psutil
import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from ingress.database import Database, snapshot
from storage.settings import DatabaseSettings


async def test_a_connection_that_nobody_waits_for_any_longer_is_not_left_half_open(database: DatabaseSettings) -> None:
    pool = Database(database, pool_size=10)
    open_before = sockets_to(database)
    given_up: list[BaseException | None] = []

    async def read() -> None:
        async with pool.reading():
            pass

    for turns in range(20):
        reading = asyncio.create_task(read())
        for _ in range(turns):
            await asyncio.wait([reading], timeout=0)
        reading.cancel()
        # Kept with their tracebacks, as by code that reports them later.
        given_up += await asyncio.gather(reading, return_exceptions=True)
    await pool.close()

    assert any(isinstance(error, asyncio.CancelledError) for error in given_up)
    assert sockets_to(database) == open_before


async def test_a_process_that_freezes_in_the_middle_of_writing_keeps_nobody_waiting(database: DatabaseSettings) -> None:
    pool = Database(database.model_copy(update={"idle_in_transaction_timeout_ms": 500}), pool_size=1)
    async with await psycopg.AsyncConnection.connect(database.conninfo(), autocommit=True) as another:
        await another.execute("create table note as select 0 as number")
        has_written = False

        async def write() -> None:
            nonlocal has_written
            async with pool.writing() as frozen:
                await frozen.execute(text("update note set number = 1"))
                has_written = True
                await another.execute("update note set number = 2")
                await frozen.execute(text("update note set number = 3"))

        # On a machine that is frozen itself the transaction may end before it has locked a row.
        while not has_written:
            with pytest.raises(DBAPIError) as lost:
                await write()

        found = await another.execute("select number from note")
        assert await found.fetchone() == (2,)
    assert lost.value.connection_invalidated
    await pool.close()


async def test_a_snapshot_is_of_one_moment_and_leaves_no_transaction_open(database: DatabaseSettings) -> None:
    pool = Database(database, pool_size=1)
    number = text("select number from note")
    async with await psycopg.AsyncConnection.connect(database.conninfo(), autocommit=True) as another:
        await another.execute("create table note as select 0 as number")

        async def read_twice(connection: AsyncConnection) -> list[int]:
            first = (await connection.execute(number)).scalar_one()
            await another.execute("update note set number = number + 1")
            return [first, (await connection.execute(number)).scalar_one()]

        async def give_up() -> None:
            async with pool.reading() as connection, snapshot(connection):
                await read_twice(connection)
                raise LookupError

        async with pool.reading() as connection, snapshot(connection):
            assert await read_twice(connection) == [0, 0]
        async with pool.reading() as connection:
            assert await read_twice(connection) == [1, 2]
        with pytest.raises(LookupError):
            await give_up()
        # The pool has one connection, so it is the same.
        async with pool.reading() as connection:
            assert await read_twice(connection) == [3, 4]
    await pool.close()


def sockets_to(database: DatabaseSettings) -> int:
    port = urlsplit(database.conninfo()).port
    return sum(bool(one.raddr) and one.raddr.port == port for one in psutil.Process().net_connections("tcp"))


async def test_a_load_has_a_limit_of_its_own_which_is_a_setting(database: DatabaseSettings) -> None:
    settings = database.model_copy(update={"database_request_seconds": 0.1, "database_load_seconds": 1.5})
    pool = Database(settings, pool_size=1)
    async with pool.loading() as connection:
        assert (await connection.execute(text("show statement_timeout"))).scalar_one() == "1500ms"
        await connection.execute(text("select pg_sleep(1)"))
        with pytest.raises(DBAPIError, match="statement timeout"):
            await connection.execute(text("select pg_sleep(60)"))
    async with pool.reading() as connection:
        assert (await connection.execute(text("show statement_timeout"))).scalar_one() == "100ms"
    await pool.close()


async def test_a_load_outlasts_the_limit_of_a_requests_transaction(database: DatabaseSettings) -> None:
    settings = database.model_copy(update={"database_request_seconds": 0.3})
    pool = Database(settings, pool_size=1)
    async with pool.loading() as connection:
        await connection.execute(text("select pg_sleep(1.2)"))
        assert (await connection.execute(text("show transaction_timeout"))).scalar_one() == "0"
    async with pool.writing() as connection:
        assert (await connection.execute(text("show transaction_timeout"))).scalar_one() == "900ms"
    await pool.close()
