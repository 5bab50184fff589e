"""Rows that 0.1.0 wrote are taken over: a reported stay counts as estimated, and the ledger has its payment."""

from datetime import date
from uuid import UUID

import psycopg
import pytest
from alembic import command

from storage.migrate import migrations, upgrade
from storage.projections.rebuildable import PROJECTIONS
from storage.projections.shadow import open_shadow
from storage.settings import DatabaseSettings
from tests.storage.projections import log
from tests.storage.projections.test_daily_report import apply
from tests.storage.projections.test_timeline import IN_TWO_PARTITIONS
from topics.catalogue import BOOKING_EVENTS
from topics.messages.events import BookingRefunded
from workers.projections.positioned_events import positioned_events

_BOOKING = """
insert into booking (id, hotel_id, room_id, check_in, check_out, rooms_count, status, terms, amount_minor, currency,
                     payments, version, created_at, updated_at)
values (%(id)s, 10, 1, '2027-03-01', '2027-03-03', 1, 'CONFIRMED', 'prepaid', 100, 'EUR', %(payments)s, 1, now(), now())
"""
_REPORTED_STAY = """
insert into reported_stay (booking_id, hotel_id, check_in, check_out, rooms_count, amount_minor, currency)
values (%(id)s, 10, '2027-03-01', '2027-03-03', 1, 100, 'EUR')
"""


_DAILY_REPORT = """
insert into daily_report (hotel_id, date, arrivals, staying, nights, revenue_minor, currency)
values (10, '2027-03-01', 2, 2, 2, 100, 'EUR'), (10, '2027-03-02', 0, 2, 2, 100, 'EUR')
"""


async def test_a_reported_stay_of_0_1_0_gets_its_payment(
    database: DatabaseSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", database.database_url.get_secret_value())
    command.downgrade(migrations(), "0006")
    paid = '[{"payment_intent": "pi_2", "state": "refunded"}, {"payment_intent": "pi_1", "state": "kept"}]'
    with psycopg.connect(database.conninfo(), autocommit=True) as connection:
        for number, payments in ((1, paid), (2, None)):
            values = {"id": UUID(int=number), "payments": payments}
            connection.execute(_BOOKING, values)
            connection.execute(_REPORTED_STAY, values)
        connection.execute(_DAILY_REPORT)

    upgrade()
    for number in (1, 2):
        refunded = BookingRefunded(
            room_id=1,
            booking_id=UUID(int=number),
            payment_intent="pi_1",
            refund_id=f"re_{number}",
            amount_minor=10,
            by_hand=True,
        )
        await apply(database, [refunded])

    with psycopg.connect(database.conninfo()) as connection:
        rows = connection.execute(
            "select payment_intent, check_in from reported_stay where night_amounts_minor is null order by booking_id"
        ).fetchall()
    assert rows == [("pi_1", date(2027, 3, 1)), (None, date(2027, 3, 1))]


#: The statement of 0.1.0, but for columns that are not the key's.
_APPEND_OF_0_1_0 = """
insert into booking_timeline (booking_id, sequence, event_id, type, time, event, partition)
values (%s, 7, 'e', 'booking.expired.v1', now(), '{}', 1)
on conflict (booking_id, sequence) do nothing
"""
_CURSOR = "insert into log_cursor (consumer, topic, partition, generation) values (%s, %s, 1, 1)"


def keys(connection: psycopg.Connection[tuple[object, ...]], table: str) -> str:
    query = "select pg_get_constraintdef(oid) from pg_constraint where contype = 'p' and conrelid = %s::regclass"
    (definition,) = connection.execute(query, (table,)).fetchone() or (None,)
    return str(definition)


async def test_a_timeline_that_0_1_0_writes_keeps_its_key_until_it_is_rebuilt(
    database: DatabaseSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", database.database_url.get_secret_value())
    command.downgrade(migrations(), "0006")
    projection = PROJECTIONS["booking_timeline"]
    consumer = log.consumers()[projection.name]
    received = log.on_the_log(IN_TWO_PARTITIONS)
    with psycopg.connect(database.conninfo(), autocommit=True) as connection:
        connection.execute(_CURSOR, (projection.name, BOOKING_EVENTS.name))

        upgrade()

        assert keys(connection, "booking_timeline") == "PRIMARY KEY (booking_id, sequence)"
        for _ in range(2):
            connection.execute(_APPEND_OF_0_1_0, (UUID(int=2),))
        await log.apply(database, [received])

        async with open_shadow(database, projection, BOOKING_EVENTS.name) as shadow, shadow.connection.transaction():

            async def catch_up(_: dict[int, int]) -> None:
                batches = [log.partition_batch(consumer, *each) for each in received.items()]
                await projection.apply(shadow.connection, positioned_events(batches))

            await shadow.swap(catch_up, 1000)

        assert keys(connection, "booking_timeline") == "PRIMARY KEY (booking_id, partition, sequence)"
        found = connection.execute("select partition, sequence from booking_timeline order by time").fetchall()
    assert found == [(1, 2), (2, 2), (1, 3)]


def test_movements_from_between_releases_are_made_again(
    database: DatabaseSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", database.database_url.get_secret_value())
    command.downgrade(migrations(), "0022")
    with psycopg.connect(database.conninfo(), autocommit=True) as connection:
        connection.execute(
            "insert into money_movement (booking_id, sequence, time, kind, payment_intent, object_id, amount_minor,"
            " change_minor, currency) values (gen_random_uuid(), 1, now(), 'payment', 'pi_1', 'pi_1', 1, 1, 'EUR')"
        )
        for consumer in ("money_movements", "daily_report"):
            connection.execute(_CURSOR, (consumer, BOOKING_EVENTS.name))

        upgrade()

        assert connection.execute("select * from money_movement").fetchall() == []
        assert connection.execute("select consumer from log_cursor").fetchall() == [("daily_report",)]


async def test_a_downgrade_keeps_the_first_of_two_events_of_one_sequence(
    database: DatabaseSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", database.database_url.get_secret_value())
    await log.apply(database, log.in_one_batch(IN_TWO_PARTITIONS))

    command.downgrade(migrations(), "0022")

    with psycopg.connect(database.conninfo()) as connection:
        assert keys(connection, "booking_timeline") == "PRIMARY KEY (booking_id, sequence)"
        assert keys(connection, "money_movement") == "PRIMARY KEY (booking_id, sequence)"
        found = connection.execute("select type, sequence from booking_timeline order by sequence").fetchall()
    assert found == [("booking.reserved.v1", 2), ("booking.guests_added.v1", 3)]
