"""The same search as one SQL query over hotels, rooms and the ledger's inventory: the other side of the comparison.

It is written for speed: only the conditions that a search has, and an index for each of them. psycopg prepares it after
a few calls.
"""

from functools import cache
from typing import Any, Final

from sqlalchemy import Row, TextClause, text

from ingress.database import Database
from ingress.hotels.search.models import EARTH_RADIUS_M, Found, Hit, HotelSearch, SortPosition
from pricing.charges import CHARGEABLE
from pricing.conversion import RateTable
from pricing.currencies import CURRENCIES
from storage.reads.search import HotelFacts

#: The one index for it that the schema does not have.
INDEX: Final = "create index if not exists hotel_city_written_alike on hotel (lower(trim(city)))"

_QUERY: Final = """
    with offers as (
        select h.id as hotel_id, r.id as room_id, r.type as room_type, stay.per_room_minor, stay.free
        from hotel h
        join room r on r.hotel_id = h.id
        cross join lateral (
            select count(*) as nights,
                   sum((price_minor * surge_milli + 500 * {step}) / (1000 * {step}) * {step})::bigint as per_room_minor,
                   min(total_count + allowance_count - booked_count - reserved_count - blocked_count) as free
            from inventory i
            where i.room_id = r.id and i.date >= :check_in and i.date < :check_out and not i.closed
        ) as stay
        left join unnest(cast(:charged as text[]), cast(:leasts as bigint[]), cast(:mosts as bigint[]))
                  as charge (currency, least, most) on charge.currency = upper(h.currency)
        where h.active and h.deleted_at is null and not r.opening and r.deleted_at is null
          and :check_in >= (now() at time zone h.time_zone)::date
          and :check_in < (now() at time zone h.time_zone)::date + 365
          and {of_hotels_and_rooms}
          and stay.nights = :nights and stay.free >= :rooms_count
          and (per_room_minor = 0 or per_room_minor * :rooms_count between charge.least and charge.most)
    ), cheapest as (
        select distinct on (hotel_id) * from offers order by hotel_id, per_room_minor, room_id
    ), hits as (
        select h.id, h.name, h.city, h.currency, h.photos, h.amenities, h.stars, h.latitude, h.longitude, h.time_zone,
               h.check_in_time, h.check_out_time,
               room_id, room_type, free, per_room_minor * :rooms_count as total_minor,
               (2 * per_room_minor + :nights) / (2 * :nights) as average_minor,
               (2 * per_room_minor + :nights) / (2 * :nights)
               * case when h.currency = any(:whole) then 1000 when h.currency = any(:milli) then 1 else 10 end
               as price_milli,
               {distance_m} as distance_m
        from cheapest join hotel h on h.id = hotel_id
    ), sorted as (
        select *, {key} as key from hits
    )
    select * from sorted where {of_hits} order by key, id limit :limit offset :offset
"""
_WHOLE: Final = [code for code, digits in CURRENCIES.items() if digits == 0]
_MILLI: Final = [code for code, digits in CURRENCIES.items() if digits == 3]
#: The step of the prices in each currency.
_STEP: Final = """
    case when upper(h.currency) in ('BHD', 'JOD', 'KWD', 'OMR', 'TND') then 10
         when upper(h.currency) = 'MGA' then 100 else 1 end
"""
_DISTANCE_M: Final = f"""
    round(2 * {EARTH_RADIUS_M} * asin(sqrt(least(1, sin(radians(h.latitude - :latitude) / 2) ^ 2
    + cos(radians(:latitude)) * cos(radians(h.latitude)) * sin(radians(h.longitude - :longitude) / 2) ^ 2))))::bigint
"""
_SORT_KEYS: Final = {"price": "price_milli", "stars": "-coalesce(stars, 0)", "distance": "distance_m"}
#: The wishes that a search may have; null for one that it does not have. One statement for nearly all is prepared once.
_WISHES: Final = """
    (cast(:guests as int) is null or r.capacity * :rooms_count >= :guests)
    and (cast(:stars as int) is null or h.stars >= :stars)
    and (cast(:currency as text) is null or upper(h.currency) = :currency)
    and (cast(:amenities as text[]) is null
         or array(select lower(trim(a)) from unnest(h.amenities) as a) @> cast(:amenities as text[]))
"""
_PRICE_RANGE: Final = """
    (cast(:min_price as numeric) is null or price_milli >= :min_price * 1000)
    and (cast(:max_price as numeric) is null or price_milli <= :max_price * 1000)
"""
_CITY: Final = "lower(trim(h.city)) = lower(trim(:city))"
_WITHIN_KM: Final = f"{_DISTANCE_M} <= :km * 1000"
_AFTER: Final = "(key, id) > (:after_key, :after_id)"


class Reference:
    """Finds hotels by one query a search."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(
        self,
        wanted: HotelSearch,
        after: SortPosition | None,
        rates: RateTable | None = None,  # noqa: ARG002 - this search compares prices as numbers
    ) -> Found:
        """Return a page of hits; `after` is the last hit of the page before, if one is given."""
        query = _query(
            wanted.sort, by_city=wanted.city is not None, near=wanted.near is not None, after=after is not None
        )
        async with self._database.reading() as connection:
            rows = (await connection.execute(query, _parameters(wanted, after))).all()
        return Found([_hit(row) for row in rows[: wanted.limit]], more=len(rows) > wanted.limit)


@cache
def _query(sort: str, *, by_city: bool, near: bool, after: bool) -> TextClause:
    return text(
        _QUERY.format(
            of_hotels_and_rooms=" and ".join([_WISHES, *[_CITY] * by_city, *[_WITHIN_KM] * near]),
            step=_STEP,
            of_hits=" and ".join([_PRICE_RANGE, *[_AFTER] * after]),
            distance_m=_DISTANCE_M if near else "null::bigint",
            key=_SORT_KEYS[sort],
        )
    )


def _parameters(wanted: HotelSearch, after: SortPosition | None) -> dict[str, Any]:
    return {
        "city": wanted.city,
        "check_in": wanted.check_in_date,
        "check_out": wanted.check_out_date,
        "nights": wanted.nights,
        "rooms_count": wanted.rooms_count,
        "guests": wanted.guests,
        "stars": wanted.stars,
        "currency": wanted.currency,
        "amenities": [amenity.strip().lower() for amenity in wanted.amenities] or None,
        "min_price": wanted.min_price,
        "max_price": wanted.max_price,
        "whole": _WHOLE,
        "milli": _MILLI,
        "charged": list(CHARGEABLE),
        "leasts": [rules.least_minor for rules in CHARGEABLE.values()],
        "mosts": [rules.most_minor for rules in CHARGEABLE.values()],
        "limit": wanted.limit + 1,
        "offset": ((wanted.page or 1) - 1) * wanted.limit,
        **(wanted.near._asdict() if wanted.near else {}),
        **({"after_key": after.key, "after_id": after.hotel_id} if after else {}),
    }


def _hit(row: Row[Any]) -> Hit:
    hotel = HotelFacts(
        id=row.id,
        listed=True,
        name=row.name,
        city=row.city,
        currency=row.currency,
        photos=row.photos,
        amenities=row.amenities,
        stars=row.stars,
        latitude=row.latitude,
        longitude=row.longitude,
        time_zone=row.time_zone,
        check_in_time=row.check_in_time,
        check_out_time=row.check_out_time,
    )
    return Hit(
        hotel=hotel,
        room_id=row.room_id,
        room_type=row.room_type,
        average_minor=row.average_minor,
        total_minor=row.total_minor,
        rooms_left=row.free,
        distance_m=row.distance_m,
        key=row.key,
    )
