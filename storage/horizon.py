"""The rooms with too few nights on sale ahead, for the timer that opens more."""

from collections.abc import Mapping
from datetime import date, datetime
from typing import Final, NamedTuple

from psycopg import AsyncConnection

BATCH: Final = 1000
HORIZON_NIGHTS: Final = 365
"""The number of nights on sale from today on, by the hotel's own calendar."""


class ShortRoom(NamedTuple):
    """A room whose nights of [first_night, end_night) are to be put on sale, at a price in minor units."""

    room_id: int
    hotel_id: int
    total_count: int
    base_price_minor: int
    currency: str
    first_night: date
    end_night: date


_TIME_ZONES: Final = "select now(), array(select distinct time_zone from hotel where deleted_at is null)"

# The last night of each room is one look into the primary key of `inventory`.
_SHORT_ROOMS: Final = """
    select room.id, hotel.id, room.total_count, room.base_price_minor, hotel.currency,
        greatest(today, last_night + 1), today + %(nights)s
    from room join hotel on hotel.id = room.hotel_id
    join unnest(%(time_zones)s::text[], %(todays)s::date[]) as calendar (time_zone, today) using (time_zone)
    cross join lateral (select max(date) as last_night from inventory where room_id = room.id) as sale
    where room.id > %(after)s and not room.opening and room.deleted_at is null and hotel.deleted_at is null
    and (last_night is null or last_night < today + %(nights)s - 1)
    order by room.id limit %(limit)s
"""


async def time_zones(connection: AsyncConnection) -> tuple[datetime, list[str]]:
    """Return the database's time and the time zones in which hotels are."""
    found = await connection.execute(_TIME_ZONES)
    row = await found.fetchone()
    assert row is not None, "a select without a table returns one row"
    return row[0], row[1]


async def short_rooms(connection: AsyncConnection, todays: Mapping[str, date], after_room_id: int) -> list[ShortRoom]:
    """Return at most `BATCH` rooms that are short of nights, by their ids, following `after_room_id`.

    `todays` maps each time zone to its present day; a hotel in another time zone is left out.
    """
    found = await connection.execute(
        _SHORT_ROOMS,
        {
            "time_zones": list(todays),
            "todays": list(todays.values()),
            "after": after_room_id,
            "nights": HORIZON_NIGHTS,
            "limit": BATCH,
        },
    )
    return [ShortRoom(*row) for row in await found.fetchall()]
