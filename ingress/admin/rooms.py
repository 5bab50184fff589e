"""A hotel's rooms as their manager describes them. What is on sale of them is asked of their owner on the log.

A request that needs both sends its command first and writes the row after it, and can be sent again.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Final

from pydantic import Field
from sqlalchemy.ext.asyncio import AsyncConnection

from ingress.admin.hotels import Amenities, Photos, cursors_by_id
from ingress.admin.money import price_minor
from ingress.admin.nights import TRIES, Nights, NightsRefused, put_back_on_sale
from ingress.database import Database, snapshot
from ingress.http.answers import Answer, answer, no_content
from ingress.http.models import (
    Body,
    Changes,
    Line,
    MoneyIn,
    MoneyOut,
    NoBody,
    NoQuery,
    Shown,
    left_out,
)
from ingress.http.paging import NEXT_PAGE, Paged, first_page, link_to_next
from ingress.http.problems import Problem
from ingress.http.versions import ETAG_HEADER, IF_MATCH, etag, must_be_expected
from ingress.operations import Access, Asked, Example, Reply, operation
from ingress.stays import today_at
from pricing.currencies import decimal
from storage import hotels
from storage.hotels import RoomRow
from topics.messages.values import MAX_ROOMS

MAX_GUESTS: Final = 100

TotalCount = Annotated[int, Field(ge=1, le=MAX_ROOMS)]
Capacity = Annotated[int, Field(ge=1, le=MAX_GUESTS, description="How many guests one such room has place for.")]

_HOTEL: Final = {"hotel_id": 1}
_ROOM: Final = {"hotel_id": 1, "room_id": 1}
_THE_NEW_ONE: Final = {"hotel_id": "$response.body#/hotel_id", "room_id": "$response.body#/id"}
_EXAMPLE: Final = {
    "type": "double",
    "base_price": "120.00",
    "photos": ["https://images.example/double.jpg"],
    "amenities": ["sea view"],
    "total_count": 10,
    "capacity": 2,
}


class RoomWanted(Body):
    """A room type, whole. Its `base_price` is that of nights opened from now on."""

    type: Line
    base_price: MoneyIn
    photos: Photos = Field(default_factory=list)
    amenities: Amenities = Field(default_factory=list)
    total_count: TotalCount
    capacity: Capacity


class RoomChanges(Changes):
    """What is to be different about a room type. `total_count` is that of all nights to come."""

    type: Line = left_out()
    base_price: MoneyIn = left_out()
    photos: Photos = left_out()
    amenities: Amenities = left_out()
    total_count: TotalCount = left_out()
    capacity: Capacity = left_out()


class ManagedRoom(Shown):
    """A room type as its manager sees it."""

    id: int
    hotel_id: int
    type: str
    base_price: MoneyOut
    currency: str
    photos: list[str]
    amenities: list[str]
    total_count: int
    capacity: int
    created_at: datetime
    updated_at: datetime


class AdminRooms:
    """Answers managers about their hotels' rooms."""

    def __init__(self, database: Database, nights: Nights) -> None:
        self._database = database
        self._nights = nights

    @operation(
        "POST /admin/hotels/{hotel_id}/rooms",
        access=Access.MANAGER,
        summary="Add a room type and put it on sale",
        answers={201: Reply(ManagedRoom, "On sale for a year.", {"Location": "The room.", **ETAG_HEADER})},
        example=Example(status=201, path=_HOTEL, body=_EXAMPLE),
        links=dict.fromkeys(("read_room", "replace_room", "change_room", "delete_room"), _THE_NEW_ONE)
        | {name: {"room_id": "$response.body#/id"} for name in ("read_nights", "change_nights")}
        | {name: {"hotel_id": "$response.body#/hotel_id"} for name in ("activate_hotel", "info")},
    )
    async def add_room(self, asked: Asked[RoomWanted, NoQuery]) -> Answer:
        """Describe a room type and put its nights on sale for 365 days.

        Nobody sees it before they are. If that takes too long (503), the same request goes on with the same room.
        """
        async with self._database.writing() as connection:
            hotel = await hotels.own_hotel(connection, asked.path["hotel_id"], asked.caller.user_id, lock=True)
            if hotel is None:
                raise Problem(404, "no such hotel")
            fields = _fields(asked.body.model_dump(), hotel.currency)
            room = await hotels.begin_room(connection, hotel.id, fields)
        if not await self._nights.open_all(room, asked.request):
            await self._make_as_described(room, asked)
        async with self._database.writing() as connection:
            finished = await hotels.finish_room(connection, room.id)
            last_night = await hotels.last_open_night(connection, room.id)
        if finished is None:
            await self._nights.take_off_sale(room, last_night, asked.request)
            raise Problem(404, "no such hotel")
        location = asked.link(f"/admin/hotels/{finished.hotel_id}/rooms/{finished.id}")
        return answer(201, _shown(finished), {"Location": location, **etag(finished.version)})

    @operation(
        "GET /admin/hotels/{hotel_id}/rooms",
        access=Access.MANAGER,
        summary="List a hotel's room types",
        answers={200: Reply(list[ManagedRoom], "By id.", NEXT_PAGE)},
        example=Example(path=_HOTEL),
    )
    async def list_rooms(self, asked: Asked[NoBody, Paged]) -> Answer:
        """Tell the room types of one's hotel."""
        (after,) = cursors_by_id.read(asked.query.cursor) or (0,)
        async with self._database.reading() as connection, snapshot(connection):
            hotel = await hotels.own_hotel(connection, asked.path["hotel_id"], asked.caller.user_id)
            if hotel is None:
                raise Problem(404, "no such hotel")
            rows = await hotels.rooms_of(connection, hotel.id, limit=asked.query.limit, after=after)
        page, last = first_page(rows, asked.query.limit)
        return answer(200, [_shown(room) for room in page], link_to_next(asked.request, last, _cursor))

    @operation(
        "GET /admin/hotels/{hotel_id}/rooms/{room_id}",
        access=Access.MANAGER,
        summary="Read a room type",
        answers={200: Reply(ManagedRoom, headers=ETAG_HEADER)},
        example=Example(path=_ROOM),
    )
    async def read_room(self, asked: Asked[NoBody, NoQuery]) -> Answer:
        """Tell how a room type of one's hotel is described."""
        async with self._database.reading() as connection:
            room = await _own(connection, asked)
        return answer(200, _shown(room), etag(room.version))

    @operation(
        "PUT /admin/hotels/{hotel_id}/rooms/{room_id}",
        access=Access.MANAGER,
        summary="Describe a room type anew",
        answers={
            200: Reply(ManagedRoom, headers=ETAG_HEADER),
            409: Reply(NightsRefused, "More rooms are sold of the nights named than there would be."),
        },
        example=Example(path=_ROOM, body=_EXAMPLE),
        headers=[IF_MATCH],
    )
    async def replace_room(self, asked: Asked[RoomWanted, NoQuery]) -> Answer:
        """Replace the description. A `total_count` that is another than before becomes that of all nights to come."""
        return await self._changed(asked, asked.body.model_dump())

    @operation(
        "PATCH /admin/hotels/{hotel_id}/rooms/{room_id}",
        access=Access.MANAGER,
        summary="Change a room type",
        answers={
            200: Reply(ManagedRoom, headers=ETAG_HEADER),
            409: Reply(NightsRefused, "More rooms are sold of the nights named than there would be."),
        },
        example=Example(path=_ROOM, body={"base_price": "135.50"}),
        headers=[IF_MATCH],
    )
    async def change_room(self, asked: Asked[RoomChanges, NoQuery]) -> Answer:
        """Change what is sent. `base_price` is that of nights opened later, `total_count` that of all nights to come.

        The price of nights that are open is changed by `PATCH /admin/inventory/rooms/{room_id}`.
        """
        return await self._changed(asked, asked.body.changed())

    @operation(
        "DELETE /admin/hotels/{hotel_id}/rooms/{room_id}",
        access=Access.MANAGER,
        summary="Delete a room type",
        answers={204: None, 409: Reply(NightsRefused, "It has bookings to come; it can only be closed.")},
        example=Example(status=204, path=_ROOM),
    )
    async def delete_room(self, asked: Asked[NoBody, NoQuery]) -> Answer:
        """Take all nights to come off sale and let the room be gone; refused when anything of them is sold or held."""
        for _ in range(TRIES):
            async with self._database.reading() as connection:
                room = await _own(connection, asked)
                last_night = await hotels.last_open_night(connection, room.id)
            await self._nights.take_off_sale(room, last_night, asked.request)
            async with self._database.writing() as connection:
                room = await _own(connection, asked, lock=True)
                if not await hotels.is_on_sale(connection, [room.id], today_at(room.time_zone)):
                    await hotels.delete_room(connection, room.id)
                    return no_content()
        raise put_back_on_sale()

    async def _changed(self, asked: Asked[Any, NoQuery], sent: Mapping[str, Any]) -> Answer:
        """Write what was sent; a total goes to the room's owner first."""
        async with self._database.writing() as connection:
            room = await _own(connection, asked, lock=True)
            must_be_expected(room.version, asked.request)
            fields = _fields(sent, room.currency)
            is_told = _is_told(asked, fields, room)
            # Also where the rest comes later the version is another from now on: of two requests that insist on the
            # same one, only one gets beyond this.
            room = await hotels.change_room(connection, room.id, {} if is_told else fields) if fields else room
        if is_told:
            room = await self._changed_with_total(asked, room, fields)
        return answer(200, _shown(room), etag(room.version))

    async def _changed_with_total(self, asked: Asked[Any, NoQuery], room: RoomRow, fields: dict[str, Any]) -> RoomRow:
        async with self._database.reading() as connection:
            last_night = await hotels.last_open_night(connection, room.id)
        total_count = fields["total_count"]
        try:
            event = await self._nights.change_all_to_come(room, last_night, asked.request, total_count=total_count)
        except Problem as problem:
            problem.headers = {**(problem.headers or {}), **etag(room.version)}
            raise
        async with self._database.writing() as connection:
            await _own(connection, asked, lock=True)
            # Of two totals at once the row takes the one that was decided last.
            if event.nights:
                (night,) = await hotels.nights_of_room(connection, room.id, event.nights[-1], event.nights[-1])
                fields["total_count"] = night.total_count
            return await hotels.change_room(connection, room.id, fields)

    async def _make_as_described(self, room: RoomRow, asked: Asked[RoomWanted, NoQuery]) -> None:
        """Give nights that were open already, from a request that was cut off, the price and total of this one."""
        async with self._database.reading() as connection:
            room = await hotels.described_room(connection, room.id)
            last_night = await hotels.last_open_night(connection, room.id)
        await self._nights.change_all_to_come(
            room, last_night, asked.request, total_count=room.total_count, price_minor=room.base_price_minor
        )


async def _own(connection: AsyncConnection, asked: Asked[Any, Any], *, lock: bool = False) -> RoomRow:
    room = await hotels.own_room(
        connection, asked.path["room_id"], asked.caller.user_id, hotel_id=asked.path["hotel_id"], lock=lock
    )
    if room is None:
        raise Problem(404, "no such room")
    return room


def _is_told(asked: Asked[Any, NoQuery], fields: Mapping[str, Any], room: RoomRow) -> bool:
    """Tell whether the room's owner is told a total.

    Nights whose total was set one by one keep it when a description is replaced by one with the same total.
    """
    if "total_count" not in fields:
        return False
    return isinstance(asked.body, RoomChanges) or bool(fields["total_count"] != room.total_count)


def _fields(sent: Mapping[str, Any], currency: str) -> dict[str, Any]:
    """Return the columns for what was sent."""
    fields = dict(sent)
    if "base_price" in fields:
        fields["base_price_minor"] = price_minor("base_price", fields.pop("base_price"), currency)
    return fields


def _shown(room: RoomRow) -> ManagedRoom:
    return ManagedRoom(
        id=room.id,
        hotel_id=room.hotel_id,
        type=room.type,
        base_price=decimal(room.base_price_minor, room.currency),
        currency=room.currency,
        photos=room.photos,
        amenities=room.amenities,
        total_count=room.total_count,
        capacity=room.capacity,
        created_at=room.created_at,
        updated_at=room.updated_at,
    )


def _cursor(room: RoomRow) -> str:
    return cursors_by_id.write((room.id,))
