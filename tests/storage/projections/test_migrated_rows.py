"""Rows that 0.1.0 wrote are taken over: a reported stay counts as estimated, and the ledger has its payment."""

from datetime import date
from uuid import UUID

import psycopg
import pytest
from alembic import command

from storage.migrate import migrations, upgrade
from storage.settings import DatabaseSettings
from tests.storage.projections.test_daily_report import apply
from topics.messages.events import BookingRefunded

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
