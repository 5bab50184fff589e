"""The bulk reads and writes of inventory: hundreds of nights at a time, in the way of `storage.bookings`."""

from collections.abc import Iterable, Sequence
from datetime import date

from psycopg import AsyncConnection

from storage.copying import copy_rows

NightRow = tuple[int, date, int, int, int, int, int, int, bool, str]

#: Columns of `inventory` in the order of a `NightRow`.
NIGHT_COLUMNS = {
    "room_id": "int8",
    "date": "date",
    "hotel_id": "int8",
    "total_count": "int4",
    "booked_count": "int4",
    "reserved_count": "int4",
    "price_minor": "int8",
    "surge_milli": "int4",
    "closed": "bool",
    "currency": "text",
}
_NIGHTS = (
    "select {} from inventory join unnest(%b::int8[], %b::date[]) as wanted (room_id, date)"
    " using (room_id, date)".format(", ".join(NIGHT_COLUMNS))
)


async def load_nights(connection: AsyncConnection, wanted: Iterable[tuple[int, date]]) -> list[NightRow]:
    """Return the open nights among the wanted pairs of room and night."""
    pairs = list(wanted)
    found = await connection.execute(_NIGHTS, ([room for room, _ in pairs], [day for _, day in pairs]))
    return await found.fetchall()


async def add_nights(connection: AsyncConnection, rows: Sequence[NightRow]) -> None:
    """Insert nights that were opened."""
    await copy_rows(connection, "inventory", NIGHT_COLUMNS, rows)


_COUNT = """
    update inventory as i set booked_count = n.booked, reserved_count = n.reserved
    from unnest(%b::int8[], %b::date[], %b::int4[], %b::int4[]) as n (room_id, date, booked, reserved)
    where i.room_id = n.room_id and i.date = n.date
"""


async def count_nights(connection: AsyncConnection, rows: Sequence[NightRow]) -> None:
    """Write the counts of taken rooms, and nothing else of a night: the hot path."""
    await connection.execute(
        _COUNT,
        ([row[0] for row in rows], [row[1] for row in rows], [row[4] for row in rows], [row[5] for row in rows]),
    )


_CHANGE_NIGHTS = """
    update inventory as i
    set total_count = n.total, booked_count = n.booked, reserved_count = n.reserved,
        price_minor = n.price, surge_milli = n.surge, closed = n.closed
    from unnest(%b::int8[], %b::date[], %b::int4[], %b::int4[], %b::int4[], %b::int8[], %b::int4[], %b::bool[])
         as n (room_id, date, total, booked, reserved, price, surge, closed)
    where i.room_id = n.room_id and i.date = n.date
"""


async def change_nights(connection: AsyncConnection, rows: Sequence[NightRow]) -> None:
    """Write a manager's changes together with the counts: written apart, they could break the check on their sum."""
    columns = [[row[position] for row in rows] for position in (0, 1, 3, 4, 5, 6, 7, 8)]
    await connection.execute(_CHANGE_NIGHTS, columns)
