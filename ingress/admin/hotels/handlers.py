"""Operations of managers on their hotels, which are ordinary rows. A hotel with bookings to come cannot be deleted."""

import asyncio
from collections.abc import Mapping
from datetime import time
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncConnection

from ingress.admin.hotels.models import ContactChanges, ContactIn, HotelChanges, HotelIn, ManagedContact, ManagedHotel
from ingress.admin.nights import TRIES, Nights, NightsRefused, put_back_on_sale
from ingress.admin.resources import AnyContext, Resource, after_id
from ingress.database import Database
from ingress.http.models import NoBody, NoQuery, Problems
from ingress.http.paging import NEXT_PAGE, Paged
from ingress.http.problems import Problem
from ingress.http.responses import Response, no_content
from ingress.http.rollout import Rollout
from ingress.http.versions import ETAG_HEADER, IF_MATCH
from ingress.operations import Access, Example, RequestContext, ResponseSpec, Unversioned, operation
from ingress.stays import today_at
from storage import hotels, offers
from storage.hotels import HotelRow

#: Fields that keep their value if a whole description leaves them out, and the values that a new hotel has.
_KEPT_IF_LEFT_OUT: Final = {"currency": "USD", "on_full_refund": "cancel"}
_HOTEL_PATH: Final = {"hotel_id": 1}
_EXAMPLE_HOTEL: Final = {
    "name": "The Lighthouse",
    "city": "Lisbon",
    "photos": ["https://images.example/lighthouse.jpg"],
    "amenities": ["wifi", "sea view"],
    "contact_info": {"phone": "+351 21 000 0000", "email": "stay@lighthouse.example", "address": "Rua do Farol 1"},
    "stars": 4,
    "latitude": 38.71,
    "longitude": -9.14,
    "time_zone": "Europe/Lisbon",
    "currency": "EUR",
    "check_in_time": "15:00",
    "check_out_time": "11:00",
    "on_full_refund": "cancel",
    "legal_name": "Farol Hotels Lda.",
    "tax_id": "PT500000000",
}
_AFTER_ADD_HOTEL: Final = (
    "read_hotel",
    "replace_hotel",
    "change_hotel",
    "add_room",
    "list_rooms",
    "activate_hotel",
    "deactivate_hotel",
    "hotel_bookings",
    "report",
    "delete_hotel",
)


class AdminHotels:
    """The operations of managers on their hotels."""

    def __init__(self, database: Database, nights: Nights, rollout: Rollout) -> None:
        self._database = database
        self._nights = nights
        self._rollout = rollout

    @operation(
        "POST /admin/hotels",
        access=Access.MANAGER,
        summary="Add a hotel",
        responses={201: ResponseSpec(ManagedHotel, "Not active yet.", {"Location": "The hotel.", **ETAG_HEADER})},
        example=Example(status=201, body=_EXAMPLE_HOTEL),
        links={name: {"hotel_id": "$response.body#/id"} for name in _AFTER_ADD_HOTEL},
    )
    async def add_hotel(self, context: RequestContext[HotelIn, NoQuery]) -> Response:
        """Describe a hotel. Nobody else sees it before it has a room and is activated."""
        fields = _KEPT_IF_LEFT_OUT | _fields(_whole(context.body))
        self._rollout.must_be_charged_right(fields["currency"])
        async with self._database.writing() as connection:
            hotel = await hotels.add_hotel(connection, context.caller.user_id, fields)
        return _hotels.created(hotel, context.link(f"/admin/hotels/{hotel.id}"))

    @operation(
        "GET /admin/hotels",
        access=Access.MANAGER,
        summary="List one's hotels",
        responses={200: ResponseSpec(list[ManagedHotel], "By id.", NEXT_PAGE)},
        example=Example(query={"limit": 10}),
    )
    async def list_hotels(self, context: RequestContext[NoBody, Paged]) -> Response:
        """List one's hotels, active or not."""
        after, limit = after_id(context), context.query.limit
        async with self._database.reading() as connection:
            rows = await hotels.hotels_of(connection, context.caller.user_id, limit=limit, after=after)
        return _hotels.page(context, rows)

    @operation(
        "GET /admin/hotels/{hotel_id}",
        access=Access.MANAGER,
        summary="Read one's hotel",
        responses={200: ResponseSpec(ManagedHotel, headers=ETAG_HEADER)},
        example=Example(path=_HOTEL_PATH),
    )
    async def read_hotel(self, context: RequestContext[NoBody, NoQuery]) -> Response:
        """Read the description of one's hotel."""
        async with self._database.reading() as connection:
            hotel = await _hotels.find(connection, context)
        return _hotels.response(hotel)

    @operation(
        "PUT /admin/hotels/{hotel_id}",
        access=Access.MANAGER,
        summary="Replace a hotel's description",
        responses={
            200: ResponseSpec(ManagedHotel, headers=ETAG_HEADER),
            409: ResponseSpec(Problems, "There are rooms or sale terms: the currency is fixed."),
        },
        example=Example(path=_HOTEL_PATH, body=_EXAMPLE_HOTEL),
        headers=[IF_MATCH],
        unversioned=Unversioned(by="change_hotel"),
    )
    async def replace_hotel(self, context: RequestContext[HotelIn, NoQuery]) -> Response:
        """Replace the whole description. A field left out becomes empty, but for `currency` and `on_full_refund`."""
        return await self._change(context, _whole(context.body))

    @operation(
        "PATCH /admin/hotels/{hotel_id}",
        access=Access.MANAGER,
        summary="Change a hotel",
        responses={
            200: ResponseSpec(ManagedHotel, headers=ETAG_HEADER),
            409: ResponseSpec(Problems, "There are rooms or sale terms: the currency is fixed."),
        },
        example=Example(path=_HOTEL_PATH, body={"stars": 5, "contact_info": {"phone": None}}),
        headers=[IF_MATCH],
    )
    async def change_hotel(self, context: RequestContext[HotelChanges, NoQuery]) -> Response:
        """Change the fields that are sent; null clears a field that may be empty."""
        return await self._change(context, context.body.changed())

    @operation(
        "PATCH /admin/hotels/{hotel_id}/activate",
        access=Access.MANAGER,
        summary="Let guests see and book a hotel",
        responses={204: None, 409: ResponseSpec(Problems, "It has no room yet.")},
        example=Example(status=204, path=_HOTEL_PATH),
    )
    async def activate_hotel(self, context: RequestContext[NoBody, NoQuery]) -> Response:
        """Let a hotel be found and booked; it needs a room."""
        return await self._switch(context, active=True)

    @operation(
        "PATCH /admin/hotels/{hotel_id}/deactivate",
        access=Access.MANAGER,
        summary="Hide a hotel from guests",
        responses={204: None},
        example=Example(status=204, path=_HOTEL_PATH),
    )
    async def deactivate_hotel(self, context: RequestContext[NoBody, NoQuery]) -> Response:
        """Hide a hotel; it takes no new bookings, and keeps those that it has."""
        return await self._switch(context, active=False)

    @operation(
        "DELETE /admin/hotels/{hotel_id}",
        access=Access.MANAGER,
        summary="Delete a hotel",
        responses={
            204: None,
            409: ResponseSpec(NightsRefused, "It has bookings or blocks to come: only deactivate it."),
        },
        example=Example(status=204, path=_HOTEL_PATH),
    )
    async def delete_hotel(self, context: RequestContext[NoBody, NoQuery]) -> Response:
        """Delete a hotel with all its rooms; refused when any of their nights is sold or held.

        A booking that comes in between leaves the hotel deactivated and some of its rooms closed.
        """
        for _ in range(TRIES):
            await self._take_off_sale(context)
            if await self._is_deleted(context):
                return no_content()
        raise put_back_on_sale()

    async def _take_off_sale(self, context: RequestContext[NoBody, NoQuery]) -> None:
        """Deactivate the hotel and close all nights to come of all its rooms."""
        hotel_id = context.path["hotel_id"]
        async with self._database.writing() as connection:
            hotel = await _hotels.find(connection, context, lock=True)
            if await hotels.has_bookings_to_come(connection, hotel_id, today_at(hotel.time_zone)):
                raise Problem(409, "it has bookings to come", more={"reason": "bookings_to_come"})
            if hotel.active:
                await hotels.change_hotel(connection, hotel_id, {"active": False})
            rooms = await hotels.rooms_to_close(connection, hotel_id)
            open_nights = [await hotels.open_nights(connection, room.id, today_at(room.time_zone)) for room in rooms]
        closing = [self._nights.take_off_sale(room, nights) for room, nights in zip(rooms, open_nights, strict=True)]
        for closed in await asyncio.gather(*closing, return_exceptions=True):
            if closed is not None:
                raise closed

    async def _is_deleted(self, context: RequestContext[NoBody, NoQuery]) -> bool:
        """Delete the hotel, unless something of it was put on sale since it was taken off."""
        hotel_id = context.path["hotel_id"]
        async with self._database.writing() as connection:
            hotel = await _hotels.find(connection, context, lock=True)
            # A request that puts nights on sale looks for the room once more afterwards, and waits for this lock:
            # either this transaction sees the nights, or that request sees that the room is gone.
            rooms = await hotels.rooms_to_close(connection, hotel_id, lock=True)
            if await hotels.is_on_sale(connection, [room.id for room in rooms], today_at(hotel.time_zone)):
                return False
            await hotels.delete_hotel(connection, hotel_id)
        return True

    async def _change(self, context: RequestContext[Any, NoQuery], sent: Mapping[str, Any]) -> Response:
        fields = _fields(sent)
        async with self._database.writing() as connection:
            hotel = await _hotels.lock_to_change(connection, context)
            currency = fields.get("currency", hotel.currency)
            if currency != hotel.currency:
                await self._must_take(connection, hotel, currency)
            if fields:
                hotel = await hotels.change_hotel(connection, hotel.id, fields)
        return _hotels.response(hotel)

    async def _must_take(self, connection: AsyncConnection, hotel: HotelRow, currency: str) -> None:
        """Check that a hotel can change to a currency.

        Raises:
            Problem: 409 if it has rooms or sale terms, whose amounts are in its currency; 503 during a rollout.
        """
        if await hotels.ever_had_rooms(connection, hotel.id):
            raise Problem(
                409, f"there are rooms; the currency stays {hotel.currency}", more={"reason": "currency_fixed"}
            )
        if (await offers.hotel_terms(connection, hotel.id)).version:
            raise Problem(
                409, f"there are sale terms; the currency stays {hotel.currency}", more={"reason": "currency_fixed"}
            )
        self._rollout.must_be_charged_right(currency)

    async def _switch(self, context: RequestContext[NoBody, NoQuery], *, active: bool) -> Response:
        hotel_id = context.path["hotel_id"]
        async with self._database.writing() as connection:
            hotel = await _hotels.find(connection, context, lock=True)
            if active and not await hotels.has_room(connection, hotel_id):
                raise Problem(409, "the hotel has no room yet", more={"reason": "no_room"})
            if hotel.active != active:
                await hotels.change_hotel(connection, hotel_id, {"active": active})
        return no_content()


async def _find(connection: AsyncConnection, context: AnyContext, *, lock: bool) -> HotelRow | None:
    return await hotels.own_hotel(connection, context.path["hotel_id"], context.caller.user_id, lock=lock)


def _whole(description: HotelIn) -> dict[str, Any]:
    """Return all fields of a description, those that were left out too, but for those that keep their value then."""
    fields = {name: getattr(description, name) for name in type(description).model_fields}
    return {name: value for name, value in fields.items() if value is not None or name not in _KEPT_IF_LEFT_OUT}


def _fields(sent: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns for the fields that were sent."""
    fields = dict(sent)
    for name in ("check_in_time", "check_out_time"):
        if name in fields:
            fields[name] = time.fromisoformat(fields[name])
    if "contact_info" in fields:
        contact = fields.pop("contact_info") or ContactIn()
        changed = contact.changed() if isinstance(contact, ContactChanges) else contact.model_dump()
        fields |= {f"contact_{name}": value for name, value in changed.items()}
    return fields


def _describe(row: HotelRow) -> ManagedHotel:
    return ManagedHotel(
        id=row.id,
        active=row.active,
        owner_id=row.owner_id,
        name=row.name,
        city=row.city,
        photos=row.photos,
        amenities=row.amenities,
        contact_info=ManagedContact(phone=row.contact_phone, email=row.contact_email, address=row.contact_address),
        contact_phone=row.contact_phone,
        contact_email=row.contact_email,
        contact_address=row.contact_address,
        stars=row.stars,
        latitude=row.latitude,
        longitude=row.longitude,
        time_zone=row.time_zone,
        currency=row.currency,
        check_in_time=f"{row.check_in_time:%H:%M}",
        check_out_time=f"{row.check_out_time:%H:%M}",
        on_full_refund=row.on_full_refund,
        legal_name=row.legal_name,
        tax_id=row.tax_id,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


_hotels: Final = Resource("hotel", _find, _describe)
