"""The bulk reads and writes of bookings: hundreds at a time in a few statements.

Written with psycopg directly: binary COPY for new rows and UPDATE ... FROM unnest for changed ones are several times
faster than an ORM here. There is no ON CONFLICT and no row lock: the cursor row that the caller holds is the fence.
"""

from collections.abc import Iterable, Sequence
from datetime import date, datetime
from typing import Any, NamedTuple
from uuid import UUID

from psycopg import AsyncConnection

from storage.copying import copy_rows
from storage.predicates import UNPAID

BookingRow = tuple[Any, ...]

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
    "guest_list_id": "uuid",
    "earlier_guest_list_ids": "jsonb",
    "night_amounts_minor": "int8[]",
    "stay_times": "json",
    "freed_from": "date",
    "sale": "json",
    "policy": "jsonb",
    "pending_change": "jsonb",
    "earlier_stays": "jsonb",
    "ended_change_ids": "jsonb",
    "accepted_terms": "text",
    "legs": "jsonb",
    "trip_id": "uuid",
    "trip_room_id": "int8",
    "request_hash": "text",
    "version": "int4",
}
#: The columns that a change of the stay changes; they are written apart, as few bookings are changed.
STAY_COLUMNS = (
    "check_in",
    "check_out",
    "rooms_count",
    "amount_minor",
    "night_amounts_minor",
    "sale",
    "pending_change",
    "earlier_stays",
    "ended_change_ids",
    "currency",
    "rejection",
    "legs",
)
#: Every other column that an event can change after the booking was made.
CHANGING_COLUMNS = (
    "status",
    "hold_expires_at",
    "payment_attempt",
    "session_id",
    "payments",
    "failure",
    "cancel_reason",
    "guest_list_id",
    "earlier_guest_list_ids",
    "freed_from",
    "policy",
    "version",
)

_LOAD_BOOKINGS = (
    "select {}, array(select guest_id from booking_guest g where g.booking_id = b.id order by guest_id)"
    " from booking b where id = any(%b)".format(", ".join(BOOKING_COLUMNS))
)


async def load_bookings(connection: AsyncConnection, ids: Iterable[UUID]) -> list[BookingRow]:
    """Return the bookings that exist among `ids`, each with its guests' ids (a list, sorted) as the last column."""
    return await (await connection.execute(_LOAD_BOOKINGS, (list(ids),))).fetchall()


class UnpaidSearch(NamedTuple):
    """The unpaid bookings and changes of one user in one room that have a night of [first, end)."""

    user_id: int
    room_id: int
    first: date
    end: date


# The first predicate is that of the index `booking_unpaid`, word for word, so that the index serves it. Of the bookings
# that are paid, those with a change that is not have a deadline.
_LOAD_UNPAID = f"""
    with n as (
        select * from unnest(%b::int8[], %b::int8[], %b::date[], %b::date[])
        as n (user_id, room_id, first_night, end_night)
    )
    select b.user_id, b.room_id, b.id, b.check_in, b.check_out, b.rooms_count
    from n join booking b on b.user_id = n.user_id and b.room_id = n.room_id
    where ({UNPAID}) and b.check_in < n.end_night and b.check_out > n.first_night
    union all
    select b.user_id, b.room_id, b.id, held.first_night, held.end_night, held.rooms_count
    from n join booking b on b.user_id = n.user_id and b.room_id = n.room_id
    cross join jsonb_to_recordset(b.pending_change -> 'held')
        as held (first_night date, end_night date, rooms_count int)
    where b.status = 'CONFIRMED' and b.hold_expires_at is not null
    and held.first_night < n.end_night and held.end_night > n.first_night
"""


async def load_unpaid(connection: AsyncConnection, searches: Iterable[UnpaidSearch]) -> list[BookingRow]:
    """Return the rooms found, each as (user id, room id, booking id, first night, end of the nights, number)."""
    columns = [list(column) for column in zip(*searches, strict=True)]
    return await (await connection.execute(_LOAD_UNPAID.encode(), columns)).fetchall()


async def add_bookings(
    connection: AsyncConnection,
    rows: Sequence[BookingRow],
    times: Sequence[datetime],
    updated: Sequence[datetime] | None = None,
) -> None:
    """Insert new bookings with the log's times at which each was made and, in `updated`, last changed."""
    columns = {**BOOKING_COLUMNS, "created_at": "timestamptz", "updated_at": "timestamptz"}
    together = zip(rows, times, times if updated is None else updated, strict=True)
    await copy_rows(connection, "booking", columns, ((*row, made, changed) for row, made, changed in together))


_CHANGE_BOOKINGS = """
    update booking as b set {assignments}, updated_at = n.updated_at
    from unnest(%b::uuid[], {arrays}, %b::timestamptz[]) as n (id, {names}, updated_at) where b.id = n.id
""".format(
    assignments=", ".join(f"{name} = n.{name}" for name in CHANGING_COLUMNS),
    arrays=", ".join(f"%b::{BOOKING_COLUMNS[name]}[]" for name in CHANGING_COLUMNS),
    names=", ".join(CHANGING_COLUMNS),
)
_CHANGE_POSITIONS = [list(BOOKING_COLUMNS).index(name) for name in ("id", *CHANGING_COLUMNS)]
# PostgreSQL has no arrays of arrays of several lengths, so amounts by night travel as text.
_CHANGE_STAYS = """
    update booking as b set {assignments}
    from unnest(%b::uuid[], {arrays}) as n (id, {names}) where b.id = n.id
""".format(
    assignments=", ".join(f"{name} = n.{name}::{BOOKING_COLUMNS[name]}" for name in STAY_COLUMNS),
    arrays=", ".join(
        f"%b::{'text' if name == 'night_amounts_minor' else BOOKING_COLUMNS[name]}[]" for name in STAY_COLUMNS
    ),
    names=", ".join(STAY_COLUMNS),
)
_STAY_POSITIONS = [list(BOOKING_COLUMNS).index(name) for name in ("id", *STAY_COLUMNS)]
_AMOUNTS_POSITION = list(BOOKING_COLUMNS).index("night_amounts_minor")


async def change_bookings(connection: AsyncConnection, rows: Sequence[BookingRow], times: Sequence[datetime]) -> None:
    """Write the present state of bookings that exist, with the log's time at which each was changed."""
    columns = [[row[position] for row in rows] for position in _CHANGE_POSITIONS]
    await connection.execute(_CHANGE_BOOKINGS, (*columns, list(times)))


async def change_stays(connection: AsyncConnection, rows: Sequence[BookingRow]) -> None:
    """Write the stays of bookings whose stay was changed, and the changes that are not paid."""
    columns = [[row[position] for row in rows] for position in _STAY_POSITIONS]
    columns[_STAY_POSITIONS.index(_AMOUNTS_POSITION)] = [
        None if amounts is None else f"{{{','.join(map(str, amounts))}}}"
        for amounts in (row[_AMOUNTS_POSITION] for row in rows)
    ]
    await connection.execute(_CHANGE_STAYS.encode(), columns)


async def name_guests(connection: AsyncConnection, guests: dict[UUID, Sequence[int]]) -> None:
    """Write the guests of bookings, in place of those named before."""
    pairs = [(booking_id, guest_id) for booking_id, ids in guests.items() for guest_id in ids]
    await connection.execute("delete from booking_guest where booking_id = any(%b)", (list(guests),))
    await connection.execute(
        "insert into booking_guest (booking_id, guest_id) select * from unnest(%b::uuid[], %b::int8[])",
        ([booking_id for booking_id, _ in pairs], [guest_id for _, guest_id in pairs]),
    )
