"""The trace's totals are counted from the tables: bookings refused, kept and cancelled, and the money earned."""

from datetime import UTC, date, datetime
from uuid import UUID

from psycopg import AsyncConnection

from sandbox.trace_totals import totals
from storage.settings import DatabaseSettings

FIRST = date(2016, 2, 28)
LEAP_STAY_END = date(2016, 3, 2)

_BOOKING = """
insert into booking (id, hotel_id, room_id, check_in, check_out, rooms_count, status, terms, amount_minor, currency,
                     rejection, version, created_at, updated_at)
values (%s, 1, 1, %s, %s, 1, %s, 'at_hotel', %s, 'EUR', %s, 1, %s, %s)
"""


async def test_the_tables_have_the_counted_totals(database: DatabaseSettings) -> None:
    bookings: list[tuple[str, int, str | None]] = [
        ("CONFIRMED", 30_000, None),
        ("CONFIRMED", 1, None),
        ("CANCELLED", 500, None),
        ("REJECTED", 0, "no_nights"),
        ("REJECTED", 0, "negative_rate"),
        ("REJECTED", 0, "sold_out"),
        ("REJECTED", 0, "sold_out"),
    ]
    now = datetime(2016, 1, 1, tzinfo=UTC)
    async with await AsyncConnection.connect(database.conninfo()) as connection:
        assert set((await totals(connection)).values()) == {0}
        for number, (status, amount, rejection) in enumerate(bookings):
            row = (UUID(int=number), FIRST, LEAP_STAY_END, status, amount, rejection, now, now)
            await connection.execute(_BOOKING, row)
        await connection.execute(
            "insert into inventory (room_id, date, hotel_id, total_count, booked_count, price_minor, currency)"
            " values (1, %s, 1, 9, 2, 0, 'EUR')",
            (FIRST,),
        )

        assert await totals(connection) == {
            "refused_no_night": 1,
            "refused_negative_rate": 1,
            "sold_out": 2,
            "reserved": 3,
            "cancelled": 1,
            "kept": 2,
            "revenue_minor": 30_001,
            "fullest_night": 2,
            "room_nights": 6,
        }
