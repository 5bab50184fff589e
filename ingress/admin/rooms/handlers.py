"""Operations of managers on their hotels' rooms. The number of rooms on sale and their prices go through the log.

A request that needs both sends its command first and writes the row after it, and can be sent again.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncConnection

from ingress.admin.money import price_minor
from ingress.admin.nights import TRIES, Nights, NightsRefused, put_back_on_sale
from ingress.admin.resources import AnyContext, Resource, after_id
from ingress.admin.rooms.models import ManagedRoom, RoomChanges, RoomIn
from ingress.admin.sale_terms.sending import SaleTermsSender
from ingress.database import Database, snapshot
from ingress.http.models import NoBody, NoQuery
from ingress.http.paging import NEXT_PAGE, Paged
from ingress.http.problems import Problem, existing, no_such
from ingress.http.responses import Response, no_content
from ingress.http.versions import ETAG_HEADER, IF_MATCH, etag
from ingress.operations import Access, Example, RequestContext, ResponseSpec, Unversioned, operation
from ingress.stays import today_at
from pricing.currencies import decimal
from storage import hotels, offers
from storage.hotels import HotelRow, RoomRow
from topics.messages.commands import SetSaleTerms

_HOTEL_PATH: Final = {"hotel_id": 1}
_ROOM_PATH: Final = {"hotel_id": 1, "room_id": 1}
_THE_NEW_ONE: Final = {"hotel_id": "$response.body#/hotel_id", "room_id": "$response.body#/id"}
_EXAMPLE_ROOM: Final = {
    "type": "double",
    "base_price": "120.00",
    "photos": ["https://images.example/double.jpg"],
    "amenities": ["sea view"],
    "total_count": 10,
    "capacity": 2,
}


class AdminRooms:
    """The operations of managers on their hotels' rooms."""

    def __init__(self, database: Database, nights: Nights, sender: SaleTermsSender) -> None:
        self._database = database
        self._nights = nights
        self._sender = sender

    @operation(
        "POST /admin/hotels/{hotel_id}/rooms",
        access=Access.MANAGER,
        summary="Add a room type and put it on sale",
        responses={201: ResponseSpec(ManagedRoom, "On sale for a year.", {"Location": "The room.", **ETAG_HEADER})},
        example=Example(status=201, path=_HOTEL_PATH, body=_EXAMPLE_ROOM),
        links=dict.fromkeys(("read_room", "replace_room", "change_room", "delete_room"), _THE_NEW_ONE)
        | {name: {"room_id": "$response.body#/id"} for name in ("read_nights", "change_nights")}
        | {name: {"hotel_id": "$response.body#/hotel_id"} for name in ("activate_hotel", "info")},
    )
    async def add_room(self, context: RequestContext[RoomIn, NoQuery]) -> Response:
        """Describe a room type and put its nights on sale for 365 days.

        Nobody sees it before they are on sale, by the hotel's sale terms if it has any. If that takes too long (503),
        send the same request again: it continues with the same room.
        """
        async with self._database.writing() as connection:
            hotel = await _own_hotel(connection, context, lock=True)
            fields = _fields(context.body.model_dump(), hotel.currency)
            await self._must_be_sellable(connection, hotel.id)
            room = await hotels.begin_room(connection, hotel.id, fields)
        if not await self._nights.open_all(room):
            await self._make_as_described(room)
        await self._send_terms(context, room)
        async with self._database.writing() as connection:
            finished = await hotels.finish_room(connection, room.id)
            nights = await hotels.open_nights(connection, room.id, today_at(room.time_zone))
        if finished is None:
            await self._nights.take_off_sale(room, nights)
            raise no_such("hotel")
        return _rooms.created(finished, context.link(f"/admin/hotels/{finished.hotel_id}/rooms/{finished.id}"))

    @operation(
        "GET /admin/hotels/{hotel_id}/rooms",
        access=Access.MANAGER,
        summary="List a hotel's room types",
        responses={200: ResponseSpec(list[ManagedRoom], "By id.", NEXT_PAGE)},
        example=Example(path=_HOTEL_PATH),
    )
    async def list_rooms(self, context: RequestContext[NoBody, Paged]) -> Response:
        """List the room types of one's hotel."""
        after = after_id(context)
        async with self._database.reading() as connection, snapshot(connection):
            hotel = await _own_hotel(connection, context)
            rows = await hotels.rooms_of(connection, hotel.id, limit=context.query.limit, after=after)
        return _rooms.page(context, rows)

    @operation(
        "GET /admin/hotels/{hotel_id}/rooms/{room_id}",
        access=Access.MANAGER,
        summary="Read a room type",
        responses={200: ResponseSpec(ManagedRoom, headers=ETAG_HEADER)},
        example=Example(path=_ROOM_PATH),
    )
    async def read_room(self, context: RequestContext[NoBody, NoQuery]) -> Response:
        """Read the description of a room type of one's hotel."""
        async with self._database.reading() as connection:
            room = await _rooms.find(connection, context)
        return _rooms.response(room)

    @operation(
        "PUT /admin/hotels/{hotel_id}/rooms/{room_id}",
        access=Access.MANAGER,
        summary="Replace a room type's description",
        responses={
            200: ResponseSpec(ManagedRoom, headers=ETAG_HEADER),
            409: ResponseSpec(NightsRefused, "More rooms are sold of the nights named than there would be."),
        },
        example=Example(path=_ROOM_PATH, body=_EXAMPLE_ROOM),
        headers=[IF_MATCH],
        unversioned=Unversioned(by="change_room"),
    )
    async def replace_room(self, context: RequestContext[RoomIn, NoQuery]) -> Response:
        """Replace the description. A `total_count` that differs from the present one becomes that of nights to come."""
        return await self._change(context, context.body.model_dump())

    @operation(
        "PATCH /admin/hotels/{hotel_id}/rooms/{room_id}",
        access=Access.MANAGER,
        summary="Change a room type",
        responses={
            200: ResponseSpec(ManagedRoom, headers=ETAG_HEADER),
            409: ResponseSpec(NightsRefused, "More rooms are sold of the nights named than there would be."),
        },
        example=Example(path=_ROOM_PATH, body={"base_price": "135.50"}),
        headers=[IF_MATCH],
    )
    async def change_room(self, context: RequestContext[RoomChanges, NoQuery]) -> Response:
        """Change the fields that are sent: `base_price` of nights opened later, `total_count` of all nights to come.

        The price of nights that are open is changed by `PATCH /admin/inventory/rooms/{room_id}`.
        """
        return await self._change(context, context.body.changed())

    @operation(
        "DELETE /admin/hotels/{hotel_id}/rooms/{room_id}",
        access=Access.MANAGER,
        summary="Delete a room type",
        responses={
            204: None,
            409: ResponseSpec(NightsRefused, "It has bookings or blocks to come: only close it."),
        },
        example=Example(status=204, path=_ROOM_PATH),
    )
    async def delete_room(self, context: RequestContext[NoBody, NoQuery]) -> Response:
        """Take all nights to come off sale and delete the room; refused when any of them is sold or held."""
        for _ in range(TRIES):
            async with self._database.reading() as connection:
                room = await _rooms.find(connection, context)
                nights = await hotels.open_nights(connection, room.id, today_at(room.time_zone))
            await self._nights.take_off_sale(room, nights)
            async with self._database.writing() as connection:
                room = await _rooms.find(connection, context, lock=True)
                if not await hotels.is_on_sale(connection, [room.id], today_at(room.time_zone)):
                    await hotels.delete_room(connection, room.id)
                    return no_content()
        raise put_back_on_sale()

    async def _change(self, context: RequestContext[Any, NoQuery], sent: Mapping[str, Any]) -> Response:
        """Write the fields that were sent; a new total is decided on the log first."""
        commands: Sequence[SetSaleTerms] = ()
        async with self._database.writing() as connection:
            hotel = await self._hotel_of_terms(connection, context, sent)
            room = await _rooms.lock_to_change(connection, context)
            fields = _fields(sent, room.currency)
            changes_total = _changes_total(context, fields, room)
            # The version counts up now, also where the fields are written later: of two requests that insist on the
            # same version, only one gets beyond this.
            changed = await hotels.change_room(connection, room.id, {} if changes_total else fields) if fields else room
            if hotel is not None and not changes_total:
                commands = await self._commands(connection, hotel, room, changed)
        if changes_total:
            changed, commands = await self._change_with_total(context, changed, fields)
        await self._sender.send(commands, 0, changed.version)
        return _rooms.response(changed)

    async def _change_with_total(
        self, context: RequestContext[Any, NoQuery], room: RoomRow, fields: dict[str, Any]
    ) -> tuple[RoomRow, Sequence[SetSaleTerms]]:
        async with self._database.reading() as connection:
            last_night = await hotels.last_open_night(connection, room.id)
        total_count = fields["total_count"]
        try:
            event = await self._nights.change_all_to_come(room, last_night, total_count=total_count)
        except Problem as problem:
            problem.headers = {**(problem.headers or {}), **etag(room.version)}
            raise
        async with self._database.writing() as connection:
            hotel = await self._hotel_of_terms(connection, context, fields)
            before = await _rooms.find(connection, context, lock=True)
            # Of two totals at once the row gets the one that was decided last.
            if event.nights:
                (night,) = await hotels.nights_of_room(connection, room.id, event.nights[-1], event.nights[-1])
                fields["total_count"] = night.total_count
            changed = await hotels.change_room(connection, room.id, fields)
            return changed, () if hotel is None else await self._commands(connection, hotel, before, changed)

    async def _must_be_sellable(self, connection: AsyncConnection, hotel_id: int) -> None:
        """Check that a room of the hotel can be sold by its sale terms, if it has any. Raises `Problem` 503."""
        if (await offers.hotel_terms(connection, hotel_id)).version:
            self._sender.must_be_decidable(hotel_id)

    async def _send_terms(self, context: RequestContext[Any, NoQuery], room: RoomRow) -> None:
        """Send a new room its hotel's sale terms; a stay that anybody asks for later comes behind them on the log."""
        async with self._database.writing() as connection:
            hotel = await hotels.own_hotel(connection, room.hotel_id, context.caller.user_id, lock=True)
            if hotel is None:
                return
            commands = await self._sender.commands_after_change(connection, hotel, changed=True)
        await self._sender.send(commands, 0, room.version)

    async def _hotel_of_terms(
        self, connection: AsyncConnection, context: AnyContext, sent: Mapping[str, Any]
    ) -> HotelRow | None:
        """Return the caller's hotel, locked before the room is, if the request may change the room's sale terms.

        Raises:
            Problem: 503 during a rollout for a hotel that has sale terms.
        """
        if "capacity" not in sent:
            return None
        hotel = await hotels.own_hotel(connection, context.path["hotel_id"], context.caller.user_id, lock=True)
        if hotel is not None:
            await self._must_be_sellable(connection, hotel.id)
        return hotel

    async def _commands(
        self, connection: AsyncConnection, hotel: HotelRow, before: RoomRow, now: RoomRow
    ) -> Sequence[SetSaleTerms]:
        changed = before.capacity != now.capacity
        return await self._sender.commands_after_change(connection, hotel, changed=changed)

    async def _make_as_described(self, room: RoomRow) -> None:
        """Give nights that an earlier, interrupted request opened the price and the total of this one."""
        async with self._database.reading() as connection:
            room = await hotels.read_room(connection, room.id)
            last_night = await hotels.last_open_night(connection, room.id)
        await self._nights.change_all_to_come(
            room, last_night, total_count=room.total_count, price_minor=room.base_price_minor
        )


async def _own_hotel(connection: AsyncConnection, context: AnyContext, *, lock: bool = False) -> HotelRow:
    hotel_id, user_id = context.path["hotel_id"], context.caller.user_id
    return existing(await hotels.own_hotel(connection, hotel_id, user_id, lock=lock), "hotel")


async def _find(connection: AsyncConnection, context: AnyContext, *, lock: bool) -> RoomRow | None:
    return await hotels.own_room(
        connection, context.path["room_id"], context.caller.user_id, hotel_id=context.path["hotel_id"], lock=lock
    )


def _changes_total(context: RequestContext[Any, NoQuery], fields: Mapping[str, Any], room: RoomRow) -> bool:
    """Whether the request changes the total of the nights to come.

    A PUT with the same total as before does not: nights whose total was set one by one keep it.
    """
    if "total_count" not in fields:
        return False
    return context.request.method == "PATCH" or bool(fields["total_count"] != room.total_count)


def _fields(sent: Mapping[str, Any], currency: str) -> dict[str, Any]:
    """Return the columns for the fields that were sent."""
    fields = dict(sent)
    if "base_price" in fields:
        fields["base_price_minor"] = price_minor("base_price", fields.pop("base_price"), currency)
    return fields


def _describe(row: RoomRow) -> ManagedRoom:
    return ManagedRoom(
        id=row.id,
        hotel_id=row.hotel_id,
        type=row.type,
        base_price=decimal(row.base_price_minor, row.currency),
        currency=row.currency,
        photos=row.photos,
        amenities=row.amenities,
        total_count=row.total_count,
        capacity=row.capacity,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


_rooms: Final = Resource("room", _find, _describe)
