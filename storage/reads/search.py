"""The data of the ingress' search index: the nights of the projection, and the facts of hotels and rooms.

Nights are packed, many in one row, so that a million of them cost the reader little: byte strings of big-endian
numbers, with one entry a night. Money is integers in minor units.
"""

from collections.abc import Collection, Mapping
from datetime import date, datetime, time
from typing import Any, Final, NamedTuple

from sqlalchemy import Row, Select, Text, TextClause, cast, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.models import Hotel, Room, RoomSaleTerms
from storage.reads.terms import decode_terms
from topics.messages.sale import SaleTerms
from topics.messages.values import StayTimes

#: The projection that the nights come from.
CONSUMER: Final = "room_nights"


class IndexPosition(NamedTuple):
    """The position of one partition's nights: the sequence of the last event, in one generation of the topic.

    `table_id` is PostgreSQL's id of the table of the nights: a rebuild replaces the table.
    """

    generation: int
    broker_id: str
    table_id: int
    sequence: int


class PackedNights(NamedTuple):
    """Nights of any rooms: one number a night in each byte string.

    Room ids (int64), days from the first one asked for (int32), rooms free (int32), prices without their surge (int64),
    surges in thousandths (int32).
    """

    room_ids: bytes
    days: bytes
    free: bytes
    prices_minor: bytes
    surges_milli: bytes


class HotelFacts(NamedTuple):
    """The facts of a hotel. `listed`: guests may find it."""

    id: int
    listed: bool
    name: str
    city: str
    currency: str
    photos: list[str]
    amenities: list[str]
    stars: int | None
    latitude: float | None
    longitude: float | None
    time_zone: str
    check_in_time: time
    check_out_time: time

    @property
    def stay_times(self) -> StayTimes:
        """The hotel's clock as a booking keeps it."""
        return StayTimes(time_zone=self.time_zone, check_in_time=self.check_in_time, check_out_time=self.check_out_time)


class RoomTypeFacts(NamedTuple):
    """A room type of a hotel. `listed`: guests may find it."""

    id: int
    hotel_id: int
    listed: bool
    type: str
    capacity: int


async def begin_whole(connection: AsyncConnection) -> None:
    """Begin a transaction that reads one snapshot, and prevent that the nights are truncated meanwhile."""
    await connection.execute(text("set transaction isolation level repeatable read, read only"))
    await connection.execute(text("lock table room_night in access share mode"))


class Delta(NamedTuple):
    """The changes since some time: whether there are any, and the positions of the nights by partition.

    `time` is the present time of the database's clock.
    """

    time: datetime
    of_hotels: bool
    of_rooms: bool
    of_terms: bool
    nights: dict[int, IndexPosition]


async def delta(connection: AsyncConnection, topic: str, since: datetime) -> Delta:
    """Return the changes since a time, by one statement; `topic` is the events' name on the broker."""
    rows = (await connection.execute(_DELTA, {"consumer": CONSUMER, "topic": topic, "since": since})).all()
    # Of several generations of the topic the last one counts.
    nights = {
        row.partition: IndexPosition(row.generation, row.broker_id, row.table_id, row.sequence)
        for row in rows
        if row.partition is not None
    }
    return Delta(rows[0].time, rows[0].of_hotels, rows[0].of_rooms, rows[0].of_terms, nights)


_DELTA: Final = text("""
    select time, of_hotels, of_rooms, of_terms, partition, generation, broker_id, table_id, sequence
    from (select clock_timestamp() as time, cast(cast('room_night' as regclass) as bigint) as table_id,
                 exists (select from hotel where updated_at > :since) as of_hotels,
                 exists (select from room where updated_at > :since) as of_rooms,
                 exists (select from room_sale_terms where updated_at > :since) as of_terms) as described
    left join (select partition, generation, broker_id, sequence
               from log_cursor join topic_generation on id = generation
               where consumer = :consumer and log_cursor.topic = :topic) as cursors on true
    order by generation
""")


# A closed night has nothing free.
_PACKED: Final = """
    select string_agg(int8send(n.room_id), ''),
           string_agg(int4send(n.date - :first), ''),
           string_agg(int4send(case when closed then 0 else greatest(
               total_count + allowance_count - taken_count - blocked_count, 0) end), ''),
           string_agg(int8send(price_minor), ''),
           string_agg(int4send(surge_milli), '')
    from room_night n {}
"""
_WITHIN: Final = "n.date >= :first and n.date < :end"
_OF_ROOMS: Final = text(_PACKED.format(f"where {_WITHIN} and room_id = any(:rooms)"))
_OF_PAGES: Final = text(
    _PACKED.format(f"where {_WITHIN} and n.ctid >= cast(:from_page as tid) and n.ctid < cast(:to_page as tid)")
)
_CHANGED: Final = (
    "join room_night_change c on n.room_id = c.room_id and n.date >= c.first_night and n.date < c.end_night"
    f" where {_WITHIN} and ("
)


async def nights_of_rooms(
    connection: AsyncConnection, room_ids: Collection[int], first: date, end: date
) -> PackedNights:
    """Return the nights of these rooms within [first, end)."""
    return await _packed(connection, _OF_ROOMS, first, end, rooms=list(room_ids))


async def pages_of_nights(connection: AsyncConnection) -> int:
    """Return how many pages of the database's files the nights are in."""
    size = await connection.execute(
        text("select pg_relation_size('room_night') / current_setting('block_size')::bigint")
    )
    return int(size.scalar_one())


async def nights_of_pages(
    connection: AsyncConnection, from_page: int, to_page: int, first: date, end: date
) -> PackedNights:
    """Return the nights within [first, end) that are in these pages, [from_page, to_page).

    To read pages in the order of the file is many times faster than room by room.
    """
    return await _packed(connection, _OF_PAGES, first, end, from_page=f"({from_page},0)", to_page=f"({to_page},0)")


async def nights_changed(
    connection: AsyncConnection, positions: Mapping[int, tuple[int, int]], first: date, end: date
) -> PackedNights:
    """Return the nights within [first, end) that events changed beyond one position and up to another.

    `positions` are these two, by partition. Some nights may come twice.
    """
    # Each partition is named by itself, so that the planner can estimate how few rows there are.
    numbered = list(enumerate(positions.items()))
    between = " or ".join(f"c.partition = :p{n} and position > :s{n} and position <= :e{n}" for n, _ in numbered)
    positions_by_name = {
        name: value
        for n, (partition, (beyond, up_to)) in numbered
        for name, value in ((f"p{n}", partition), (f"s{n}", beyond), (f"e{n}", up_to))
    }
    return await _packed(connection, text(_PACKED.format(f"{_CHANGED}{between})")), first, end, **positions_by_name)


async def _packed(
    connection: AsyncConnection, query: TextClause, first: date, end: date, **parameters: object
) -> PackedNights:
    row = (await connection.execute(query, {"first": first, "end": end, **parameters})).one()
    return PackedNights(*(column or b"" for column in row))


async def hotels_after(connection: AsyncConnection, hotel_id: int, limit: int) -> list[HotelFacts]:
    """Return the next hotels by id."""
    rows = await connection.execute(_HOTEL_FACTS.where(Hotel.id > hotel_id).order_by(Hotel.id).limit(limit))
    return [HotelFacts(*row) for row in rows]


async def hotels_changed_since(connection: AsyncConnection, time: datetime) -> list[HotelFacts]:
    """Return the hotels that were changed after a time of the database's clock."""
    rows = await connection.execute(_HOTEL_FACTS.where(Hotel.updated_at > time))
    return [HotelFacts(*row) for row in rows]


async def rooms_after(connection: AsyncConnection, room_id: int, limit: int) -> list[RoomTypeFacts]:
    """Return the next rooms by id."""
    rows = await connection.execute(_ROOM_FACTS.where(Room.id > room_id).order_by(Room.id).limit(limit))
    return [RoomTypeFacts(*row) for row in rows]


async def rooms_changed_since(connection: AsyncConnection, time: datetime) -> list[RoomTypeFacts]:
    """Return the rooms that were changed after a time of the database's clock."""
    rows = await connection.execute(_ROOM_FACTS.where(Room.updated_at > time))
    return [RoomTypeFacts(*row) for row in rows]


async def terms_after(connection: AsyncConnection, room_id: int, limit: int) -> dict[int, SaleTerms]:
    """Return the sale terms of the next rooms that have some, in the order of the rooms' ids."""
    return await _terms(
        connection,
        _TERMS.where(RoomSaleTerms.room_id > room_id).order_by(RoomSaleTerms.room_id).limit(limit),
    )


async def terms_changed_since(connection: AsyncConnection, time: datetime) -> dict[int, SaleTerms]:
    """Return the sale terms that were changed after a time of the database's clock, by room."""
    return await _terms(connection, _TERMS.where(RoomSaleTerms.updated_at > time))


async def _terms(connection: AsyncConnection, query: Select[int, str]) -> dict[int, SaleTerms]:
    return dict(map(_decoded, await connection.execute(query)))


def _decoded(row: Row[int, str]) -> tuple[int, SaleTerms]:
    return row[0], decode_terms(row[1])


#: As text, which is decoded once.
_TERMS: Final = select(RoomSaleTerms.room_id, cast(RoomSaleTerms.terms, Text))
_HOTEL_FACTS: Final[Select[*tuple[Any, ...]]] = select(
    Hotel.id,
    Hotel.active & Hotel.deleted_at.is_(None),
    Hotel.name,
    Hotel.city,
    Hotel.currency,
    Hotel.photos,
    Hotel.amenities,
    Hotel.stars,
    Hotel.latitude,
    Hotel.longitude,
    Hotel.time_zone,
    Hotel.check_in_time,
    Hotel.check_out_time,
)
_ROOM_FACTS: Final = select(Room.id, Room.hotel_id, ~Room.opening & Room.deleted_at.is_(None), Room.type, Room.capacity)
