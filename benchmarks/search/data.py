"""Ten thousand hotels on sale for a year: written in bulk, to the ledger and to the read model alike."""

from dataclasses import dataclass
from datetime import date
from typing import Any, Final

import psycopg

from benchmarks.search.reference import INDEX
from ingress.hotels.search.models import earliest_today

#: Hotels that are alone in their cities: a search for such a city shows when a change is visible.
PROBES: Final = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    """The number of hotels, cities, nights and bookings. Every twentieth hotel has two room types."""

    hotels: int = 10_000
    cities: int = 100
    nights: int = 365
    bookings: int = 100_000

    @classmethod
    def small(cls) -> "Size":
        """Return a size that is made in a moment."""
        return cls(hotels=500, cities=5, nights=60, bookings=2_000)


_INSERT_HOTELS: Final = """
insert into hotel (name, city, currency, active, amenities, photos, stars, latitude, longitude)
select 'Hotel ' || n, case when n <= %(probes)s then 'Probe ' || n else 'City ' || n %% %(cities)s end, 'EUR', true,
       (array['wifi', 'pool', 'spa', 'bar', 'parking'])[1:1 + n / %(cities)s %% 5],
       array['https://example.com/' || n || '.jpg'], 1 + n / %(cities)s %% 5,
       36 + n %% %(cities)s / 5.0 + random() / 10, -9 + n %% %(cities)s / 4.0 + random() / 10
from generate_series(1, %(probes)s + %(hotels)s) as n
"""
_INSERT_ROOMS: Final = """
insert into room (hotel_id, type, base_price_minor, total_count, capacity)
select id, case number when 1 then 'double' else 'suite' end, 5000 + (id * 7919) %% 20000 * number, 1 + id %% 4,
       2 * number
from hotel, generate_series(1, case when id %% 20 = 0 then 2 else 1 end) as number
"""
_INSERT_BOOKINGS: Final = """
insert into booking (id, hotel_id, room_id, check_in, check_out, rooms_count, status, terms, amount_minor, currency,
                     version, created_at, updated_at)
select gen_random_uuid(), hotel_id, room.id, check_in, check_in + 1 + n %% 4, 1, 'CONFIRMED', 'at_hotel', 0, 'EUR', 2,
       now(), now()
from (select n, 1 + %(probes)s + floor(random() * (%(rooms)s - %(probes)s))::int as room_id,
             %(first)s + floor(random() * (%(nights)s - 4))::int as check_in
      from generate_series(1, %(bookings)s) as n) as stays
join room on room.id = stays.room_id
"""
_SOLD: Final = """
create temporary table sold as
select room_id, date::date, count(*)::int as booked
from booking cross join lateral generate_series(check_in, check_out - 1, interval '1 day') as date
group by room_id, date
"""
#: No night is sold beyond its rooms: a room type that is booked more has more rooms.
_ENOUGH: Final = """
update room set total_count = greatest(total_count, most)
from (select room_id, max(booked) as most from sold group by room_id) as wanted where wanted.room_id = room.id
"""
_INVENTORY: Final = """
insert into inventory (room_id, date, hotel_id, total_count, booked_count, price_minor, surge_milli, closed, currency)
select room.id, night, hotel_id, total_count, coalesce(booked, 0),
       base_price_minor + extract(dow from night)::int * 100,
       case when extract(dow from night) in (5, 6) then 1250 else 1000 end,
       (room.id + extract(doy from night)::int) %% 97 = 0, 'EUR'
from room
cross join lateral (select %(first)s + n as night from generate_series(0, %(nights)s - 1) as n) as nights
left join sold on sold.room_id = room.id and sold.date = night
"""
#: As if the projection had written it all before the first event of its log.
_ROOM_NIGHTS: Final = """
insert into room_night (room_id, date, hotel_id, total_count, taken_count, price_minor, surge_milli, closed, currency)
select room_id, date, hotel_id, total_count, booked_count, price_minor, surge_milli, closed, currency
from inventory
"""


async def fill(connection: psycopg.AsyncConnection[Any], size: Size) -> date:
    """Put everything on sale; return the first night."""
    first = earliest_today()
    values = {
        "hotels": size.hotels,
        "cities": size.cities,
        "probes": PROBES,
        "nights": size.nights,
        "bookings": size.bookings,
        "first": first,
    }
    await connection.execute("select setseed(0.5)")
    for statement in (_INSERT_HOTELS, _INSERT_ROOMS):
        await connection.execute(statement.encode(), values)
    rooms = await (await connection.execute("select count(*) from room")).fetchone()
    assert rooms is not None
    for statement in (_INSERT_BOOKINGS, _SOLD, _ENOUGH, _INVENTORY, _ROOM_NIGHTS, INDEX):
        await connection.execute(statement.encode(), values | {"rooms": rooms[0]})
    for statement in ("vacuum analyze", "checkpoint"):
        await connection.execute(statement.encode())
    return first
