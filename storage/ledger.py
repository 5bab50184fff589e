"""The bulk reads and writes of a room's owner: bookings and inventory, hundreds at a time in a few statements.

Written with psycopg directly: binary COPY for new rows and UPDATE ... FROM unnest for changed ones are several times
faster than an ORM here. There is no ON CONFLICT and no row lock: the cursor row that the caller holds is the fence.
"""

from collections.abc import Iterable, Sequence
from datetime import date, datetime
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.types.json import Jsonb

BookingRow = tuple[Any, ...]
NightRow = tuple[int, date, int, int, int, int, int, int, bool, str]

#: Columns of `booking` in the order of a `BookingRow`, with the types that binary COPY needs.
BOOKING_COLUMNS = {
    "id": "uuid",
    "user_id": "int8",
    "hotel_id": "int8",
    "room_id": "int8",
    "check_in": "date",
    "check_out": "date",
    "rooms_count": "int4",
    "status": "text",
    "terms": "text",
    "amount_minor": "int8",
    "currency": "text",
    "rejection": "text",
    "hold_expires_at": "timestamptz",
    "payment_attempt": "int4",
    "session_id": "text",
    "payments": "jsonb",
    "failure": "text",
    "cancel_reason": "text",
    "version": "int4",
}
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
_CHANGING = (
    "status",
    "hold_expires_at",
    "payment_attempt",
    "session_id",
    "payments",
    "failure",
    "cancel_reason",
    "version",
)

_BOOKINGS = (
    "select {}, array(select guest_id from booking_guest g where g.booking_id = b.id order by guest_id)"
    " from booking b where id = any(%b)".format(", ".join(BOOKING_COLUMNS))
)
_NIGHTS = (
    "select {} from inventory join unnest(%b::int8[], %b::date[]) as wanted (room_id, date)"
    " using (room_id, date)".format(", ".join(NIGHT_COLUMNS))
)


async def bookings(connection: AsyncConnection, ids: Iterable[UUID]) -> list[BookingRow]:
    """Return the bookings that exist among `ids`, each with its guests' ids (a list, sorted) as one more column."""
    return await (await connection.execute(_BOOKINGS, (list(ids),))).fetchall()


async def nights(connection: AsyncConnection, wanted: Iterable[tuple[int, date]]) -> list[NightRow]:
    """Return the open nights among the wanted (room, night)s."""
    pairs = list(wanted)
    found = await connection.execute(_NIGHTS, ([room for room, _ in pairs], [day for _, day in pairs]))
    return await found.fetchall()


async def add_bookings(
    connection: AsyncConnection,
    rows: Sequence[BookingRow],
    times: Sequence[datetime],
    *,
    updated: Sequence[datetime] | None = None,
) -> None:
    """Insert new bookings, each made at the log's time beside it, and last changed then unless `updated` says when."""
    columns = {**BOOKING_COLUMNS, "created_at": "timestamptz", "updated_at": "timestamptz"}
    together = zip(rows, times, times if updated is None else updated, strict=True)
    await _copy(connection, "booking", columns, ((*row, made, changed) for row, made, changed in together))


async def add_nights(connection: AsyncConnection, rows: Sequence[NightRow]) -> None:
    """Insert nights that were opened."""
    await _copy(connection, "inventory", NIGHT_COLUMNS, rows)


async def _copy(
    connection: AsyncConnection, table: str, columns: dict[str, str], rows: Iterable[tuple[Any, ...]]
) -> None:
    statement = f"copy {table} ({', '.join(columns)}) from stdin (format binary)"
    async with connection.cursor() as cursor, cursor.copy(statement) as copy:
        copy.set_types(list(columns.values()))
        for row in rows:
            await copy.write_row(row)


_CHANGE_BOOKINGS = """
    update booking as b set {assignments}, updated_at = n.updated_at
    from unnest(%b::uuid[], {arrays}, %b::timestamptz[]) as n (id, {names}, updated_at) where b.id = n.id
""".format(
    assignments=", ".join(f"{name} = n.{name}" for name in _CHANGING),
    arrays=", ".join(f"%b::{BOOKING_COLUMNS[name]}[]" for name in _CHANGING),
    names=", ".join(_CHANGING),
)


async def change_bookings(connection: AsyncConnection, rows: Sequence[BookingRow], times: Sequence[datetime]) -> None:
    """Write the present state of bookings that exist, each changed at the log's time beside it."""
    positions = [list(BOOKING_COLUMNS).index(name) for name in ("id", *_CHANGING)]
    columns = [[row[position] for row in rows] for position in positions]
    await connection.execute(_CHANGE_BOOKINGS, (*columns, list(times)))


async def name_guests(connection: AsyncConnection, guests: dict[UUID, Sequence[int]]) -> None:
    """Write who stays; replaces those named before."""
    pairs = [(booking_id, guest_id) for booking_id, ids in guests.items() for guest_id in ids]
    await connection.execute("delete from booking_guest where booking_id = any(%b)", (list(guests),))
    await connection.execute(
        "insert into booking_guest (booking_id, guest_id) select * from unnest(%b::uuid[], %b::int8[])",
        ([booking_id for booking_id, _ in pairs], [guest_id for _, guest_id in pairs]),
    )


_COUNT = """
    update inventory as i set booked_count = n.booked, reserved_count = n.reserved
    from unnest(%b::int8[], %b::date[], %b::int4[], %b::int4[]) as n (room_id, date, booked, reserved)
    where i.room_id = n.room_id and i.date = n.date
"""


async def count_nights(connection: AsyncConnection, rows: Sequence[NightRow]) -> None:
    """Write how many rooms are taken; the hot path, which changes nothing else of a night."""
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
    """Write what a manager changed, with the counts: written apart, total and counts would be at odds in between."""
    columns = [[row[position] for row in rows] for position in (0, 1, 3, 4, 5, 6, 7, 8)]
    await connection.execute(_CHANGE_NIGHTS, columns)


def as_json(value: Any) -> Jsonb | None:
    """Wrap a value for a jsonb column; empty is NULL."""
    return Jsonb(value) if value else None
