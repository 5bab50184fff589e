"""The database of the sandbox is a real PostgreSQL that keeps what it has committed."""

from pathlib import Path

import psycopg
import pytest

from sandbox.postgres import Postgres

DURABLE = ("fsync", "full_page_writes", "synchronous_commit")


async def one_value(url: str, query: str) -> object:
    async with await psycopg.AsyncConnection.connect(url) as connection:
        row = await (await connection.execute(query)).fetchone()
        return row[0] if row else None


async def execute(url: str, *statements: str) -> None:
    async with await psycopg.AsyncConnection.connect(url) as connection:
        for statement in statements:
            await connection.execute(statement)


async def test_a_commit_survives_a_kill_and_a_stop(tmp_path: Path) -> None:
    async with Postgres(tmp_path) as postgres:
        url = postgres.url
        await execute(url, "CREATE TABLE room (id int)", "INSERT INTO room VALUES (1)")

        await postgres.kill()
        await postgres.start()
        await execute(url, "INSERT INTO room VALUES (2)")
        await postgres.stop()
        await postgres.start()

        assert postgres.url == url
        assert await one_value(url, "SELECT count(*) FROM room") == 2


async def test_nothing_of_its_safety_is_switched_off(tmp_path: Path) -> None:
    async with Postgres(tmp_path) as postgres:
        assert {await one_value(postgres.url, f"SHOW {name}") for name in DURABLE} == {"on"}


async def test_a_stop_does_not_wait_for_clients_that_stay(tmp_path: Path) -> None:
    async with Postgres(tmp_path) as postgres:
        guest = await psycopg.AsyncConnection.connect(postgres.url)

        await postgres.stop()

        with pytest.raises(psycopg.OperationalError):
            await guest.execute("SELECT 1")
        await guest.close()


async def test_a_test_gets_a_database_of_its_own_as_a_copy(tmp_path: Path) -> None:
    async with Postgres(tmp_path) as postgres:
        await execute(postgres.url, "CREATE TABLE room (id int)", "INSERT INTO room VALUES (7)")

        copy = await postgres.create_database("copy", template="innkeeper")
        await execute(copy, "DELETE FROM room")
        await postgres.drop_database("copy")

        assert await one_value(postgres.url, "SELECT id FROM room") == 7
        with pytest.raises(psycopg.OperationalError, match="does not exist"):
            await psycopg.AsyncConnection.connect(copy)


async def test_a_stranger_does_not_get_in(tmp_path: Path) -> None:
    async with Postgres(tmp_path) as postgres:
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            await psycopg.AsyncConnection.connect(postgres.url, password="guess")


def test_a_fixture_may_start_it_without_an_event_loop(tmp_path: Path) -> None:
    with Postgres(tmp_path) as postgres, psycopg.connect(postgres.url) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
