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


#: Statements of 0.1.0, which knows none of the later columns.
NIGHT_OF_0_1_0 = """
    insert into inventory (room_id, date, hotel_id, total_count, booked_count, reserved_count, price_minor, surge_milli,
                           closed, currency)
    values (1, coalesce((select max(date) + 1 from inventory), '2027-01-01'), 10, 3, 2, 1, 9000, 1000, false, 'EUR')
"""
BOOKING_OF_0_1_0 = """
    insert into booking (id, hotel_id, room_id, check_in, check_out, rooms_count, status, terms, amount_minor, currency,
                         version, created_at, updated_at)
    values (gen_random_uuid(), 10, 1, '2027-01-01', '2027-01-02', 1, 'CONFIRMED', 'prepaid', 9000, 'EUR', 1, now(),
            now())
"""


@pytest.fixture
def before_sale_terms(
    database: DatabaseSettings, monkeypatch: pytest.MonkeyPatch
) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """Return a connection to a database with the schema before rate plans, with a night and a confirmed booking."""
    monkeypatch.setenv("DATABASE_URL", database.database_url.get_secret_value())
    command.downgrade(migrations(), "0008")
    with psycopg.connect(database.conninfo()) as connection:
        connection.execute(NIGHT_OF_0_1_0)
        connection.execute(BOOKING_OF_0_1_0)
        connection.commit()
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


@pytest.mark.parametrize("table", ["inventory", "booking", "room_night", "daily_report", "reported_stay"])
def test_rate_plans_give_up_where_somebody_keeps_a_table(
    table: str, before_sale_terms: psycopg.Connection[tuple[object, ...]]
) -> None:
    before_sale_terms.execute(f"select * from {table}".encode())

    with pytest.raises(OperationalError, match="lock timeout"):
        upgrade(max_seconds_for_locks=0)
    before_sale_terms.rollback()

    assert schema(before_sale_terms) == "0008"
    assert before_sale_terms.execute("select to_regclass('room_sale_terms')").fetchone() == (None,)


@pytest.mark.parametrize("table", ["hotel", "room"])
def test_rate_plans_give_up_where_somebody_writes_a_table_that_they_refer_to(
    table: str, before_sale_terms: psycopg.Connection[tuple[object, ...]]
) -> None:
    before_sale_terms.execute(f"update {table} set id = id".encode())

    with pytest.raises(OperationalError, match="lock timeout"):
        upgrade(max_seconds_for_locks=0)
    before_sale_terms.rollback()

    assert schema(before_sale_terms) == "0008"
    assert upgrade().was == "0008"


def test_the_release_before_writes_nights_and_bookings_beside_rate_plans(
    before_sale_terms: psycopg.Connection[tuple[object, ...]],
) -> None:
    connection = before_sale_terms
    upgrade()

    connection.execute(NIGHT_OF_0_1_0)
    connection.execute(BOOKING_OF_0_1_0)
    connection.execute("update inventory set reserved_count = 0")

    assert connection.execute("select distinct allowance_count, blocked_count from inventory").fetchall() == [(0, 0)]
    assert connection.execute("select distinct sale::text, policy from booking").fetchall() == [(None, None)]
    with pytest.raises(psycopg.errors.CheckViolation, match="never_oversold"):
        connection.execute("update inventory set booked_count = 4")


def test_the_checks_of_rate_plans_count_for_the_rows_from_before(
    before_sale_terms: psycopg.Connection[tuple[object, ...]],
) -> None:
    upgrade("0009")
    assert unchecked(before_sale_terms) == ["allowed_and_blocked", "never_oversold", "status"]

    upgrade()

    assert unchecked(before_sale_terms) == []


def unchecked(connection: psycopg.Connection[tuple[object, ...]]) -> list[object]:
    """Return the checks that were not validated."""
    rows = connection.execute(
        "select conname from pg_constraint where contype = 'c' and not convalidated order by conname"
    ).fetchall()
    connection.commit()
    return [name for (name,) in rows]


def test_a_night_has_no_more_rooms_taken_and_blocked_than_there_are_and_allowed(
    before_sale_terms: psycopg.Connection[tuple[object, ...]],
) -> None:
    upgrade()
    columns = ("booked", "reserved", "blocked", "allowance")
    for *counts, fits in (
        (4, 0, 0, 0, False),
        (4, 1, 0, 2, True),
        (2, 0, 1, 0, True),
        (2, 1, 1, 0, False),
        (2, 1, 1, 1, True),
        (0, 0, -1, 0, False),
        (0, 0, 0, -1, False),
    ):
        change = ", ".join(f"{name}_count = {count}" for name, count in zip(columns, counts, strict=True))
        try:
            before_sale_terms.execute(f"update inventory set {change}".encode())
        except psycopg.errors.CheckViolation:
            assert not fits, change
        else:
            assert fits, change
        before_sale_terms.rollback()


def test_the_schema_before_rate_plans_keeps_what_was_sold_and_blocked(
    before_sale_terms: psycopg.Connection[tuple[object, ...]],
) -> None:
    connection = before_sale_terms
    upgrade()
    connection.execute(NIGHT_OF_0_1_0)
    connection.execute(
        "update inventory set booked_count = 4, reserved_count = 0, allowance_count = 2 where date = '2027-01-01'"
    )
    connection.execute("update inventory set reserved_count = 0, blocked_count = 1 where date = '2027-01-02'")
    for status in ("CHECKED_IN", "CHECKED_OUT", "NO_SHOW"):
        connection.execute(BOOKING_OF_0_1_0.replace("CONFIRMED", status).encode())
    connection.commit()

    command.downgrade(migrations(), "0008")

    # Rooms that were blocked stay off sale, and those that an allowance sold exist.
    nights = connection.execute("select total_count, booked_count from inventory order by date").fetchall()
    assert nights == [(5, 4), (2, 2)]
    assert connection.execute("select status, count(*) from booking group by 1").fetchall() == [("CONFIRMED", 4)]
    connection.commit()
    assert upgrade().was == "0008"


_TYPES_OF_JSON = """
    select column_name, data_type from information_schema.columns
    where table_name = 'booking' and column_name in ('sale', 'stay_times')
"""


def test_sales_that_were_stored_as_jsonb_become_json(
    connection: psycopg.Connection[tuple[object, ...]], database: DatabaseSettings
) -> None:
    upgrade("0021")
    connection.execute("alter table booking alter column sale type jsonb, alter column stay_times type jsonb")
    connection.execute(BOOKING_OF_0_1_0)
    connection.execute("""update booking set sale = '{"plan_id": "standard"}'""")
    connection.commit()

    upgrade()

    assert connection.execute("select sale, stay_times from booking").fetchall() == [({"plan_id": "standard"}, None)]
    assert set(connection.execute(_TYPES_OF_JSON).fetchall()) == {("sale", "json"), ("stay_times", "json")}


def test_bookings_of_0_1_0_are_not_written_anew(connection: psycopg.Connection[tuple[object, ...]]) -> None:
    def file() -> object:
        found = connection.execute("select pg_relation_filenode('booking')").fetchone()
        connection.commit()
        return found

    before = file()
    upgrade()
    assert file() == before
