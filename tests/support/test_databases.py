"""A database that is used again is as empty as a new one; one that a test changed is not used again."""

from collections.abc import Iterator

import psycopg
import pytest

from tests.support.databases import Databases
from tests.support.stack import Server, name_of

ROWS = """
insert into app_user (email, password_hash) values ('one@example.com', 'x');
insert into hotel (name, city, currency, owner_id) values ('Inn', 'Bern', 'EUR', 1);
insert into room (hotel_id, type, base_price_minor, total_count, capacity) values (1, 'double', 12000, 10, 2);
"""


@pytest.fixture
def lender(postgres: Server, migrated: str) -> Iterator[Databases]:
    databases = Databases(postgres.url, migrated)
    yield databases
    databases.drop()


def test_a_database_is_used_again_and_has_no_rows_and_the_first_ids(lender: Databases) -> None:
    with lender.lend() as first, psycopg.connect(first) as connection:
        connection.execute(ROWS)
    with lender.lend() as again, psycopg.connect(again) as connection:
        for table in ("app_user", "hotel", "room"):
            assert connection.execute(f"select count(*) from {table}").fetchone() == (0,)
        connection.execute(ROWS)
        assert connection.execute("select id, hotel_id from room").fetchone() == (1, 1)
    assert again == first


def test_two_at_once_are_two(lender: Databases) -> None:
    with lender.lend() as one, lender.lend() as other:
        assert one != other


def test_the_locks_of_a_forgotten_session_are_released(lender: Databases) -> None:
    with lender.lend() as url:
        forgotten = psycopg.connect(url)
        forgotten.execute(ROWS)
        forgotten.execute("select pg_advisory_lock(7)")
    with lender.lend() as again, psycopg.connect(again) as connection:
        assert again == url
        assert connection.execute("select pg_try_advisory_lock(7)").fetchone() == (True,)
        assert connection.execute("select count(*) from app_user").fetchone() == (0,)
        with pytest.raises(psycopg.OperationalError):
            forgotten.execute("select 1")
    forgotten.close()


@pytest.mark.parametrize(
    "change",
    [
        "alter table hotel add column pool boolean",
        "drop index booking_hold",
        "create table guest_book (line text)",
        "create function seven() returns int language sql as 'select 7'",
        "alter table booking alter column status drop not null",
        "do $$ begin execute format('alter database %I set work_mem = ''8MB''', current_database()); end $$",
    ],
)
def test_a_database_whose_schema_was_changed_is_not_used_again(lender: Databases, change: str) -> None:
    with lender.lend() as url, psycopg.connect(url) as connection:
        connection.execute(change)
    with lender.lend() as other:
        assert other != url
    with psycopg.connect(lender.server_url) as server:
        found = server.execute("select 1 from pg_database where datname = %s", (name_of(url),)).fetchone()
    assert found is None


def test_a_database_that_grew_is_not_used_again(lender: Databases) -> None:
    with lender.lend() as url, psycopg.connect(url) as connection:
        connection.execute(
            "insert into app_user (email, password_hash)"
            " select n || '@example.com', repeat('x', 400) from generate_series(1, 30000) as n"
        )
    with lender.lend() as other:
        assert other != url
