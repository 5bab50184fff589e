"""The ingress's connections to PostgreSQL."""

import asyncio
from urllib.parse import urlsplit

import psutil
import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from ingress.database import Database
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
        # Kept, with all that they were about, as by somebody who goes on to tell of them.
        given_up += await asyncio.gather(reading, return_exceptions=True)
    await pool.close()

    assert any(isinstance(error, asyncio.CancelledError) for error in given_up)
    assert sockets_to(database) == open_before


async def test_who_stands_still_in_the_middle_of_writing_keeps_nobody_waiting(database: DatabaseSettings) -> None:
    pool = Database(database.model_copy(update={"idle_in_transaction_timeout_ms": 500}), pool_size=1)
    async with await psycopg.AsyncConnection.connect(database.conninfo(), autocommit=True) as another:
        await another.execute("create table note as select 0 as number")

        async def write() -> None:
            async with pool.writing() as frozen:
                await frozen.execute(text("update note set number = 1"))
                await another.execute("update note set number = 2")
                await frozen.execute(text("update note set number = 3"))

        with pytest.raises(DBAPIError) as lost:
            await write()

        found = await another.execute("select number from note")
        assert await found.fetchone() == (2,)
    assert lost.value.connection_invalidated
    await pool.close()


def sockets_to(database: DatabaseSettings) -> int:
    port = urlsplit(database.conninfo()).port
    return sum(bool(one.raddr) and one.raddr.port == port for one in psutil.Process().net_connections("tcp"))
