"""The hotels and rooms that managers describe, and a room's nights from the ledger.

Every query for a hotel or a room names the owner: another owner's row is not found. A change locks its row first and
then compares the version; each change counts the version up. Money is integers in minor units; a surge is in
thousandths.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time
from typing import Any

from sqlalchemy import Select, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.models import Hotel, Inventory, Room


@dataclass(frozen=True, kw_only=True, slots=True)
class HotelDescription:
    """A hotel as it describes itself to everybody."""

    id: int
    name: str
    city: str
    currency: str
    photos: list[str]
    amenities: list[str]
    contact_phone: str | None
    contact_email: str | None
    contact_address: str | None
    stars: int | None
    latitude: float | None
    longitude: float | None
    time_zone: str
    check_in_time: time
    check_out_time: time


@dataclass(frozen=True, kw_only=True, slots=True)
class HotelRow(HotelDescription):
    """A hotel as its owner sees it."""

    owner_id: int
    active: bool
    on_full_refund: str
    legal_name: str | None
    tax_id: str | None
    version: int
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class RoomRow:
    """A room as its owner sees it, with its hotel's currency, time zone and city."""

    id: int
    hotel_id: int
    type: str
    base_price_minor: int
    total_count: int
    capacity: int
    photos: list[str]
    amenities: list[str]
    version: int
    created_at: datetime
    updated_at: datetime
    currency: str
    time_zone: str
    city: str


@dataclass(frozen=True, kw_only=True, slots=True)
class NightRow:
    """One night of a room that is on sale. The price is the one before the surge.

    At most `limit_count` rooms are booked, reserved and blocked together.
    """

    night: date
    total_count: int
    booked_count: int
    reserved_count: int
    price_minor: int
    surge_milli: int
    closed: bool
    currency: str
    allowance_count: int
    blocked_count: int

    @property
    def limit_count(self) -> int:
        """The most rooms that may be taken."""
        return self.total_count + self.allowance_count

    @property
    def free_count(self) -> int:
        """The number of rooms that can still be taken."""
        return self.limit_count - self.booked_count - self.reserved_count - self.blocked_count


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenNights:
    """The last night of a room that was put on sale, and whether any night to come has an allowance."""

    last: date | None
    have_allowance: bool


#: The columns of a `HotelDescription`.
DESCRIPTION_COLUMNS = [getattr(Hotel, name) for name in HotelDescription.__dataclass_fields__]
_HOTEL_COLUMNS = [getattr(Hotel, name) for name in HotelRow.__dataclass_fields__]
_FROM_HOTEL = {"currency", "time_zone", "city"}
_ROOM_COLUMNS = [getattr(Hotel if name in _FROM_HOTEL else Room, name) for name in RoomRow.__dataclass_fields__]
_NIGHT_COLUMNS = [getattr(Inventory, name).label(name) for name in NightRow.__dataclass_fields__]


async def hotels_of(connection: AsyncConnection, owner_id: int, *, limit: int, after: int) -> list[HotelRow]:
    """Return the owner's hotels by id, those following `after`, and one more than `limit` if there are more."""
    rows = await connection.execute(
        select(*_HOTEL_COLUMNS)
        .where(Hotel.owner_id == owner_id, Hotel.deleted_at.is_(None), Hotel.id > after)
        .order_by(Hotel.id)
        .limit(limit + 1)
    )
    return [HotelRow(**row) for row in rows.mappings()]


async def own_hotel(
    connection: AsyncConnection, hotel_id: int, owner_id: int, *, lock: bool = False
) -> HotelRow | None:
    """Return the owner's hotel, or None when this owner has none by that id; `lock` prevents other changes to it."""
    query = select(*_HOTEL_COLUMNS).where(Hotel.id == hotel_id, Hotel.owner_id == owner_id, Hotel.deleted_at.is_(None))
    row = (await connection.execute(_locking(query, Hotel) if lock else query)).mappings().first()
    return None if row is None else HotelRow(**row)


async def add_hotel(connection: AsyncConnection, owner_id: int, fields: Mapping[str, Any]) -> HotelRow:
    """Insert a hotel, which is not active yet, and return it."""
    rows = await connection.execute(insert(Hotel).values(owner_id=owner_id, **fields).returning(*_HOTEL_COLUMNS))
    return HotelRow(**rows.mappings().one())


async def change_hotel(connection: AsyncConnection, hotel_id: int, fields: Mapping[str, Any]) -> HotelRow:
    """Write fields of a hotel that the caller has locked, and return it."""
    rows = await connection.execute(
        update(Hotel)
        .values(**fields, version=Hotel.version + 1, updated_at=func.now())
        .where(Hotel.id == hotel_id)
        .returning(*_HOTEL_COLUMNS)
    )
    return HotelRow(**rows.mappings().one())


async def ever_had_rooms(connection: AsyncConnection, hotel_id: int) -> bool:
    """Return whether the hotel ever had a room: its nights and bookings are in the hotel's currency."""
    return (await connection.execute(select(Room.id).where(Room.hotel_id == hotel_id).limit(1))).first() is not None


async def has_room(connection: AsyncConnection, hotel_id: int) -> bool:
    """Return whether the hotel has a room that was put on sale."""
    found = await connection.execute(
        select(Room.id).where(Room.hotel_id == hotel_id, ~Room.opening, Room.deleted_at.is_(None)).limit(1)
    )
    return found.first() is not None


async def has_bookings_to_come(connection: AsyncConnection, hotel_id: int, today: date) -> bool:
    """Return whether any of the hotel's nights from `today` on is booked or held."""
    found = await connection.execute(
        select(Inventory.night)
        .join(Room, Room.id == Inventory.room_id)
        .where(
            Room.hotel_id == hotel_id,
            Inventory.night >= today,
            Inventory.booked_count + Inventory.reserved_count > 0,
        )
        .limit(1)
    )
    return found.first() is not None


async def is_on_sale(connection: AsyncConnection, room_ids: Collection[int], today: date) -> bool:
    """Return whether any night of these rooms from `today` on is not closed."""
    found = await connection.execute(
        select(Inventory.night)
        .where(Inventory.room_id.in_(room_ids), Inventory.night >= today, ~Inventory.closed)
        .limit(1)
    )
    return found.first() is not None


async def delete_hotel(connection: AsyncConnection, hotel_id: int) -> None:
    """Mark a hotel and its rooms as deleted. The rows stay, because bookings refer to them."""
    deleted = {"deleted_at": func.now(), "updated_at": func.now()}
    await connection.execute(update(Room).values(**deleted).where(Room.hotel_id == hotel_id, Room.deleted_at.is_(None)))
    await connection.execute(update(Hotel).values(**deleted, active=False).where(Hotel.id == hotel_id))


async def rooms_of(connection: AsyncConnection, hotel_id: int, *, limit: int, after: int) -> list[RoomRow]:
    """Return a hotel's rooms by id, those following `after`, and one more than `limit` if there are more."""
    rows = await connection.execute(
        _rooms().where(Room.hotel_id == hotel_id, ~Room.opening, Room.id > after).order_by(Room.id).limit(limit + 1)
    )
    return [RoomRow(**row) for row in rows.mappings()]


async def rooms_to_close(connection: AsyncConnection, hotel_id: int, *, lock: bool = False) -> list[RoomRow]:
    """Return all rooms of a hotel, also those that are being put on sale."""
    query = _rooms().where(Room.hotel_id == hotel_id).order_by(Room.id)
    rows = await connection.execute(_locking(query, Room) if lock else query)
    return [RoomRow(**row) for row in rows.mappings()]


async def own_room(
    connection: AsyncConnection, room_id: int, owner_id: int, *, hotel_id: int | None = None, lock: bool = False
) -> RoomRow | None:
    """Return the owner's room, or None when this owner (this hotel, if it is named) has none by that id."""
    query = _rooms().where(Room.id == room_id, Hotel.owner_id == owner_id, ~Room.opening)
    if hotel_id is not None:
        query = query.where(Room.hotel_id == hotel_id)
    row = (await connection.execute(_locking(query, Room) if lock else query)).mappings().first()
    return None if row is None else RoomRow(**row)


async def begin_room(connection: AsyncConnection, hotel_id: int, fields: Mapping[str, Any]) -> RoomRow:
    """Insert a room that is hidden until `finish_room`; the caller has locked the hotel.

    A room of the same type that was begun and not finished is continued instead.
    """
    begun = await connection.execute(
        update(Room)
        .values(**fields, version=Room.version + 1, updated_at=func.now())
        .where(
            Room.id
            == select(func.min(Room.id))
            .where(Room.hotel_id == hotel_id, Room.type == fields["type"], Room.opening, Room.deleted_at.is_(None))
            .scalar_subquery()
        )
        .returning(Room.id)
    )
    room_id = begun.scalar()
    if room_id is None:
        inserted = await connection.execute(
            insert(Room).values(hotel_id=hotel_id, opening=True, **fields).returning(Room.id)
        )
        room_id = inserted.scalar_one()
    return await read_room(connection, room_id)


async def finish_room(connection: AsyncConnection, room_id: int) -> RoomRow | None:
    """Show a room whose nights are on sale, and return it; None when its hotel was deleted meanwhile."""
    finished = await connection.execute(
        update(Room)
        .values(opening=False, updated_at=func.now())
        .where(Room.id == room_id, Room.deleted_at.is_(None))
        .returning(Room.id)
    )
    return None if finished.scalar() is None else await read_room(connection, room_id)


async def change_room(connection: AsyncConnection, room_id: int, fields: Mapping[str, Any]) -> RoomRow:
    """Write fields of a room that the caller has locked, and return it."""
    await connection.execute(
        update(Room).values(**fields, version=Room.version + 1, updated_at=func.now()).where(Room.id == room_id)
    )
    return await read_room(connection, room_id)


async def delete_room(connection: AsyncConnection, room_id: int) -> None:
    """Mark a room as deleted. The row stays, because bookings refer to it."""
    await connection.execute(
        update(Room).values(deleted_at=func.now(), updated_at=func.now()).where(Room.id == room_id)
    )


async def read_room(connection: AsyncConnection, room_id: int) -> RoomRow:
    """Return a room of any owner, hidden or not."""
    rows = await connection.execute(
        select(*_ROOM_COLUMNS).join(Hotel, Hotel.id == Room.hotel_id).where(Room.id == room_id)
    )
    return RoomRow(**rows.mappings().one())


async def last_open_night(connection: AsyncConnection, room_id: int) -> date | None:
    """Return the last night of a room that is on sale, or None."""
    found = await connection.execute(select(func.max(Inventory.night)).where(Inventory.room_id == room_id))
    night: date | None = found.scalar()
    return night


async def open_nights(connection: AsyncConnection, room_id: int, today: date) -> OpenNights:
    """Return what is known of all nights of a room from `today` on."""
    found = await connection.execute(
        select(
            func.max(Inventory.night),
            func.bool_or((Inventory.night >= today) & (Inventory.allowance_count > 0)),
        ).where(Inventory.room_id == room_id)
    )
    last, have_allowance = found.one()
    return OpenNights(last=last, have_allowance=bool(have_allowance))


async def nights_of_room(connection: AsyncConnection, room_id: int, first: date, last: date) -> list[NightRow]:
    """Return the nights from `first` to `last`, both included, that are or were on sale."""
    rows = await connection.execute(
        select(*_NIGHT_COLUMNS)
        .where(Inventory.room_id == room_id, Inventory.night.between(first, last))
        .order_by(Inventory.night)
    )
    return [NightRow(**row) for row in rows.mappings()]


def _rooms() -> Select[Any]:
    return (
        select(*_ROOM_COLUMNS)
        .join(Hotel, Hotel.id == Room.hotel_id)
        .where(Room.deleted_at.is_(None), Hotel.deleted_at.is_(None))
    )


def _locking(query: Select[Any], table: type[Hotel | Room]) -> Select[Any]:
    # Rows that refer to this one can still be written.
    return query.with_for_update(of=table, key_share=True)
