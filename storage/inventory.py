"""The bulk reads and writes of inventory: hundreds of nights at a time, in the way of `storage.bookings`."""

from collections.abc import Iterable, Sequence
from datetime import date

from psycopg import AsyncConnection

from storage.copying import copy_rows

NightKey = tuple[int, date]
NightRow = tuple[int, date, int, int, int, int, int, int, bool, str, int, int]

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
    "allowance_count": "int4",
    "blocked_count": "int4",
}
#: The primary key, with which a `NightRow` begins.
KEY_COLUMNS = ("room_id", "date")
#: The columns that bookings change.
COUNT_COLUMNS = ("booked_count", "reserved_count")
#: Every column that changes after a night was opened, by a booking or by a manager.
CHANGING_COLUMNS = (
    *COUNT_COLUMNS,
    "total_count",
    "price_minor",
    "surge_milli",
    "closed",
    "allowance_count",
    "blocked_count",
)
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


def _positions(names: Iterable[str]) -> list[int]:
    """Return the positions of columns in a `NightRow`."""
    order = list(NIGHT_COLUMNS)
    return [order.index(name) for name in names]


def _update(changing: Sequence[str]) -> str:
    """Return the statement that writes these columns of many nights; its parameters are the keys, then the columns."""
    names = (*KEY_COLUMNS, *changing)
    return (
        "update inventory as i set {assignments} from unnest({arrays}) as n ({names})"
        " where i.room_id = n.room_id and i.date = n.date"
    ).format(
        assignments=", ".join(f"{name} = n.{name}" for name in changing),
        arrays=", ".join(f"%b::{NIGHT_COLUMNS[name]}[]" for name in names),
        names=", ".join(names),
    )


_COUNT_NIGHTS = _update(COUNT_COLUMNS)
_COUNT_POSITIONS = _positions((*KEY_COLUMNS, *COUNT_COLUMNS))
_CHANGE_NIGHTS = _update(CHANGING_COLUMNS)
_CHANGE_POSITIONS = _positions((*KEY_COLUMNS, *CHANGING_COLUMNS))


async def count_nights(connection: AsyncConnection, rows: Sequence[NightRow]) -> None:
    """Write the counts of taken rooms, and nothing else of a night: the hot path."""
    await connection.execute(_COUNT_NIGHTS, [[row[position] for row in rows] for position in _COUNT_POSITIONS])


async def change_nights(connection: AsyncConnection, rows: Sequence[NightRow]) -> None:
    """Write a manager's changes together with the counts: written apart, they could break the check on their sum."""
    await connection.execute(_CHANGE_NIGHTS, [[row[position] for row in rows] for position in _CHANGE_POSITIONS])
