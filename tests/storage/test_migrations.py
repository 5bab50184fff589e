"""A migration goes on beside processes that use the tables: it waits for none of them long, and can be repeated."""

import asyncio
import os
import sys
from collections.abc import Iterator
from functools import partial

import psycopg
import pytest
from alembic import command
from sqlalchemy.exc import OperationalError

from storage.migrate import migrations, upgrade
from storage.settings import DatabaseSettings
from tests.support.locks import somebody_waits
from tests.support.waiting import wait_until


@pytest.fixture
def connection(
    database: DatabaseSettings, monkeypatch: pytest.MonkeyPatch
) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """Return a connection to a database with the schema of 0.1.0."""
    monkeypatch.setenv("DATABASE_URL", database.database_url.get_secret_value())
    command.downgrade(migrations(), "0006")
    with psycopg.connect(database.conninfo()) as connection:
        yield connection


def schema(connection: psycopg.Connection[tuple[object, ...]]) -> object:
    (version,) = connection.execute("select version_num from alembic_version").fetchone() or (None,)
    connection.commit()
    return version


async def nobody_waits(database: DatabaseSettings) -> bool:
    return not await somebody_waits(database)


@pytest.mark.parametrize("table", ["booking", "checkout_session", "reported_stay", "hotel", "refund"])
def test_a_migration_gives_up_where_somebody_keeps_a_table(
    table: str, connection: psycopg.Connection[tuple[object, ...]]
) -> None:
    connection.execute(f"select * from {table}".encode())

    with pytest.raises(OperationalError, match="lock timeout"):
        upgrade(max_seconds_for_locks=0)
    connection.rollback()

    assert schema(connection) == "0006"
    assert upgrade().was == "0006"


async def test_a_migration_is_tried_again_until_the_table_is_free(
    connection: psycopg.Connection[tuple[object, ...]], database: DatabaseSettings
) -> None:
    connection.execute("select * from refund")
    migrating = asyncio.create_task(asyncio.to_thread(upgrade))
    # It waits, gives up, and waits again.
    for condition in (somebody_waits, nobody_waits, somebody_waits):
        await wait_until(partial(condition, database))
    connection.rollback()

    migrated = await migrating

    assert (migrated.was, migrated.now) == ("0006", schema(connection))


def test_an_index_that_a_broken_run_left_is_made_again(connection: psycopg.Connection[tuple[object, ...]]) -> None:
    upgrade("0007")
    connection.execute("create index booking_unpaid on booking (id)")
    connection.commit()

    upgrade()

    (definition,) = connection.execute("select pg_get_indexdef('booking_unpaid'::regclass)").fetchone() or (None,)
    assert "(user_id, room_id)" in str(definition)


async def test_two_migrations_at_once_take_turns(
    connection: psycopg.Connection[tuple[object, ...]], database: DatabaseSettings
) -> None:
    environment = {**os.environ, "DATABASE_URL": database.database_url.get_secret_value()}
    both = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-m", "operators", "migrate", env=environment, stderr=asyncio.subprocess.PIPE
        )
        for _ in range(2)
    ]
    ended = [(await process.communicate())[1].decode() for process in both]

    assert [process.returncode for process in both] == [0, 0], ended
    assert sorted(sentence.split()[2:4] for sentence in ended) == [["was", "brought"], ["was", "the"]]
    assert str(schema(connection)) in ended[0]
