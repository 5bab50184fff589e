"""Hotels as their managers describe them: ordinary rows. A hotel with bookings to come cannot be deleted."""

import asyncio
from collections.abc import Mapping
from datetime import datetime, time
from functools import lru_cache
from typing import Annotated, Any, Final, Self
from zoneinfo import available_timezones

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from ingress.admin.money import KnownCurrency
from ingress.admin.nights import TRIES, Nights, NightsRefused, put_back_on_sale
from ingress.database import Database
from ingress.http.answers import Answer, answer, no_content
from ingress.http.models import (
    MAX_ID,
    Body,
    Changes,
    Email,
    HttpsUrl,
    Line,
    NoBody,
    NoQuery,
    Problems,
    Shown,
    left_out,
)
from ingress.http.paging import NEXT_PAGE, Cursors, Paged, first_page, link_to_next
from ingress.http.problems import Problem
from ingress.http.versions import ETAG_HEADER, IF_MATCH, etag, must_be_expected
from ingress.operations import Access, Asked, Example, Reply, operation
from ingress.stays import today_at
from storage import hotels
from storage.hotels import HotelRow

_USUAL_CURRENCY: Final = "USD"
_HOTEL: Final = {"hotel_id": 1}
_EXAMPLE: Final = {
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
}
_ITS_STEPS: Final = (
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
#: A place in a list by id.
cursors_by_id: Final = Cursors(tuple[Annotated[int, Field(ge=0, le=MAX_ID)]])


@lru_cache(1)
def _time_zones() -> frozenset[str]:
    # Two names of the machine's own that mean nothing elsewhere.
    return frozenset(available_timezones() - {"localtime", "Factory"})


def _known(time_zone: str) -> str:
    if time_zone not in _time_zones():
        raise ValueError("is no time zone of the IANA database, such as Europe/Lisbon")
    return time_zone


Photos = Annotated[list[HttpsUrl], Field(max_length=50, description="Web addresses, kept and shown, never fetched.")]
Amenities = Annotated[list[Annotated[Line, StringConstraints(max_length=100)]], Field(max_length=100)]
Phone = Annotated[Line, StringConstraints(max_length=50)]
Stars = Annotated[int, Field(ge=1, le=5)]
Latitude = Annotated[float, Field(ge=-90, le=90, allow_inf_nan=False)]
Longitude = Annotated[float, Field(ge=-180, le=180, allow_inf_nan=False)]
TimeZone = Annotated[str, StringConstraints(max_length=64), AfterValidator(_known), Field(examples=["Europe/Lisbon"])]
ClockTime = Annotated[str, StringConstraints(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$")]


class ContactWanted(Body):
    """How to reach a hotel."""

    phone: Phone | None = None
    email: Email | None = None
    address: Line | None = None


class _Placed(Body):
    """Something with a place on earth: both coordinates or none."""

    @model_validator(mode="after")
    def _has_both_or_none(self) -> Self:
        sent = {"latitude", "longitude"} & self.model_fields_set
        place = [getattr(self, "latitude", None), getattr(self, "longitude", None)]
        if len(sent) == 1 or place.count(None) == 1:
            raise ValueError("latitude and longitude come together")
        return self


class HotelWanted(_Placed):
    """A hotel, whole. Its currency stays what it is when it is left out; at first it is USD."""

    name: Line
    city: Line
    photos: Photos = Field(default_factory=list)
    amenities: Amenities = Field(default_factory=list)
    contact_info: ContactWanted | None = None
    stars: Stars | None = None
    latitude: Latitude | None = None
    longitude: Longitude | None = None
    time_zone: TimeZone = "UTC"
    currency: KnownCurrency | None = None
    check_in_time: ClockTime = "15:00"
    check_out_time: ClockTime = "11:00"


class ContactChanges(Changes):
    """What is to be different about how to reach a hotel; null takes it away."""

    phone: Phone | None = None
    email: Email | None = None
    address: Line | None = None


class HotelChanges(Changes, _Placed):
    """What is to be different about a hotel; null takes away what may be missing."""

    name: Line = left_out()
    city: Line = left_out()
    photos: Photos = left_out()
    amenities: Amenities = left_out()
    contact_info: ContactChanges | None = None
    stars: Stars | None = None
    latitude: Latitude | None = None
    longitude: Longitude | None = None
    time_zone: TimeZone = left_out()
    currency: KnownCurrency = left_out()
    check_in_time: ClockTime = left_out()
    check_out_time: ClockTime = left_out()


class ManagedContact(Shown):
    """How to reach a hotel."""

    phone: str | None
    email: str | None
    address: str | None


class ManagedHotel(Shown):
    """A hotel as its manager sees it. Guests see it when it is active."""

    id: int
    active: bool
    owner_id: int
    name: str
    city: str
    photos: list[str]
    amenities: list[str]
    contact_info: ManagedContact
    contact_phone: str | None
    contact_email: str | None
    contact_address: str | None
    stars: int | None
    latitude: float | None
    longitude: float | None
    time_zone: str
    currency: str
    check_in_time: str
    check_out_time: str
    created_at: datetime
    updated_at: datetime


class AdminHotels:
    """Answers managers about their hotels."""

    def __init__(self, database: Database, nights: Nights) -> None:
        self._database = database
        self._nights = nights

    @operation(
        "POST /admin/hotels",
        access=Access.MANAGER,
        summary="Add a hotel",
        answers={201: Reply(ManagedHotel, "Not active yet.", {"Location": "The hotel.", **ETAG_HEADER})},
        example=Example(status=201, body=_EXAMPLE),
        links={name: {"hotel_id": "$response.body#/id"} for name in _ITS_STEPS},
    )
    async def add_hotel(self, asked: Asked[HotelWanted, NoQuery]) -> Answer:
        """Describe a hotel. Nobody else sees it before it has a room and is activated."""
        fields = _fields(_whole(asked.body))
        async with self._database.writing() as connection:
            hotel = await hotels.add_hotel(connection, asked.caller.user_id, {"currency": _USUAL_CURRENCY} | fields)
        location = asked.link(f"/admin/hotels/{hotel.id}")
        return answer(201, _shown(hotel), {"Location": location, **etag(hotel.version)})

    @operation(
        "GET /admin/hotels",
        access=Access.MANAGER,
        summary="List one's hotels",
        answers={200: Reply(list[ManagedHotel], "By id.", NEXT_PAGE)},
        example=Example(query={"limit": 10}),
    )
    async def list_hotels(self, asked: Asked[NoBody, Paged]) -> Answer:
        """Tell one's hotels, active or not."""
        (after,) = cursors_by_id.read(asked.query.cursor) or (0,)
        limit = asked.query.limit
        async with self._database.reading() as connection:
            rows = await hotels.hotels_of(connection, asked.caller.user_id, limit=limit, after=after)
        page, last = first_page(rows, limit)
        shown = [_shown(hotel) for hotel in page]
        return answer(200, shown, link_to_next(asked.request, last, lambda hotel: cursors_by_id.write((hotel.id,))))

    @operation(
        "GET /admin/hotels/{hotel_id}",
        access=Access.MANAGER,
        summary="Read one's hotel",
        answers={200: Reply(ManagedHotel, headers=ETAG_HEADER)},
        example=Example(path=_HOTEL),
    )
    async def read_hotel(self, asked: Asked[NoBody, NoQuery]) -> Answer:
        """Tell how one's hotel is described."""
        async with self._database.reading() as connection:
            hotel = _found(await hotels.own_hotel(connection, asked.path["hotel_id"], asked.caller.user_id))
        return answer(200, _shown(hotel), etag(hotel.version))

    @operation(
        "PUT /admin/hotels/{hotel_id}",
        access=Access.MANAGER,
        summary="Describe a hotel anew",
        answers={
            200: Reply(ManagedHotel, headers=ETAG_HEADER),
            409: Reply(Problems, "There are rooms: the currency is fixed."),
        },
        example=Example(path=_HOTEL, body=_EXAMPLE),
        headers=[IF_MATCH],
    )
    async def replace_hotel(self, asked: Asked[HotelWanted, NoQuery]) -> Answer:
        """Replace the whole description: what is left out is empty then, but for the currency."""
        return await self._changed(asked, _whole(asked.body))

    @operation(
        "PATCH /admin/hotels/{hotel_id}",
        access=Access.MANAGER,
        summary="Change a hotel",
        answers={
            200: Reply(ManagedHotel, headers=ETAG_HEADER),
            409: Reply(Problems, "There are rooms: the currency is fixed."),
        },
        example=Example(path=_HOTEL, body={"stars": 5, "contact_info": {"phone": None}}),
        headers=[IF_MATCH],
    )
    async def change_hotel(self, asked: Asked[HotelChanges, NoQuery]) -> Answer:
        """Change what is sent; null takes away what may be missing."""
        return await self._changed(asked, asked.body.changed())

    @operation(
        "PATCH /admin/hotels/{hotel_id}/activate",
        access=Access.MANAGER,
        summary="Let guests see and book a hotel",
        answers={204: None, 409: Reply(Problems, "It has no room yet.")},
        example=Example(status=204, path=_HOTEL),
    )
    async def activate_hotel(self, asked: Asked[NoBody, NoQuery]) -> Answer:
        """Let a hotel be found and booked; it needs a room."""
        return await self._switched(asked, active=True)

    @operation(
        "PATCH /admin/hotels/{hotel_id}/deactivate",
        access=Access.MANAGER,
        summary="Hide a hotel from guests",
        answers={204: None},
        example=Example(status=204, path=_HOTEL),
    )
    async def deactivate_hotel(self, asked: Asked[NoBody, NoQuery]) -> Answer:
        """Take a hotel out of sight; it takes no new bookings, and those that it has stay."""
        return await self._switched(asked, active=False)

    @operation(
        "DELETE /admin/hotels/{hotel_id}",
        access=Access.MANAGER,
        summary="Delete a hotel",
        answers={204: None, 409: Reply(NightsRefused, "It has bookings to come; it can only be deactivated.")},
        example=Example(status=204, path=_HOTEL),
    )
    async def delete_hotel(self, asked: Asked[NoBody, NoQuery]) -> Answer:
        """Let a hotel be gone with all its rooms; refused when anything of their nights is sold or held.

        A booking that comes in between leaves the hotel deactivated and some of its rooms closed.
        """
        for _ in range(TRIES):
            await self._taken_off_sale(asked)
            if await self._is_deleted(asked):
                return no_content()
        raise put_back_on_sale()

    async def _taken_off_sale(self, asked: Asked[NoBody, NoQuery]) -> None:
        """Deactivate the hotel and close all nights to come of all its rooms."""
        hotel_id = asked.path["hotel_id"]
        async with self._database.writing() as connection:
            hotel = _found(await hotels.own_hotel(connection, hotel_id, asked.caller.user_id, lock=True))
            if await hotels.has_bookings_to_come(connection, hotel_id, today_at(hotel.time_zone)):
                raise Problem(409, "it has bookings to come", more={"reason": "bookings_to_come"})
            if hotel.active:
                await hotels.change_hotel(connection, hotel_id, {"active": False})
            rooms = await hotels.rooms_to_close(connection, hotel_id)
            last_nights = [await hotels.last_open_night(connection, room.id) for room in rooms]
        closing = [
            self._nights.take_off_sale(room, last_night, asked.request)
            for room, last_night in zip(rooms, last_nights, strict=True)
        ]
        for closed in await asyncio.gather(*closing, return_exceptions=True):
            if closed is not None:
                raise closed

    async def _is_deleted(self, asked: Asked[NoBody, NoQuery]) -> bool:
        """Delete the hotel, unless something of it was put on sale since it was taken off."""
        hotel_id = asked.path["hotel_id"]
        async with self._database.writing() as connection:
            hotel = _found(await hotels.own_hotel(connection, hotel_id, asked.caller.user_id, lock=True))
            # Whoever puts nights on sale looks for the room once more afterwards, and waits for this lock: either we
            # see the nights, or they see that the room is gone.
            rooms = await hotels.rooms_to_close(connection, hotel_id, lock=True)
            if await hotels.is_on_sale(connection, [room.id for room in rooms], today_at(hotel.time_zone)):
                return False
            await hotels.delete_hotel(connection, hotel_id)
        return True

    async def _changed(self, asked: Asked[Any, NoQuery], sent: Mapping[str, Any]) -> Answer:
        fields = _fields(sent)
        async with self._database.writing() as connection:
            hotel = await hotels.own_hotel(connection, asked.path["hotel_id"], asked.caller.user_id, lock=True)
            hotel = _found(hotel)
            must_be_expected(hotel.version, asked.request)
            if fields.get("currency", hotel.currency) != hotel.currency and await hotels.ever_had_rooms(
                connection, hotel.id
            ):
                raise Problem(
                    409, f"there are rooms; the currency stays {hotel.currency}", more={"reason": "currency_fixed"}
                )
            if fields:
                hotel = await hotels.change_hotel(connection, hotel.id, fields)
        return answer(200, _shown(hotel), etag(hotel.version))

    async def _switched(self, asked: Asked[NoBody, NoQuery], *, active: bool) -> Answer:
        hotel_id = asked.path["hotel_id"]
        async with self._database.writing() as connection:
            hotel = _found(await hotels.own_hotel(connection, hotel_id, asked.caller.user_id, lock=True))
            if active and not await hotels.has_room(connection, hotel_id):
                raise Problem(409, "the hotel has no room yet", more={"reason": "no_room"})
            if hotel.active != active:
                await hotels.change_hotel(connection, hotel_id, {"active": active})
        return no_content()


def _found(hotel: HotelRow | None) -> HotelRow:
    if hotel is None:
        raise Problem(404, "no such hotel")
    return hotel


def _whole(wanted: HotelWanted) -> dict[str, Any]:
    """Return all that a description says; of the contact what it leaves out as well."""
    said = {name: getattr(wanted, name) for name in type(wanted).model_fields}
    return {name: value for name, value in said.items() if not (name == "currency" and value is None)}


def _fields(sent: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns for what was sent."""
    fields = dict(sent)
    for name in ("check_in_time", "check_out_time"):
        if name in fields:
            fields[name] = time.fromisoformat(fields[name])
    if "contact_info" in fields:
        contact = fields.pop("contact_info") or ContactWanted()
        told = contact.changed() if isinstance(contact, ContactChanges) else contact.model_dump()
        fields |= {f"contact_{name}": value for name, value in told.items()}
    return fields


def _shown(hotel: HotelRow) -> ManagedHotel:
    return ManagedHotel(
        id=hotel.id,
        active=hotel.active,
        owner_id=hotel.owner_id,
        name=hotel.name,
        city=hotel.city,
        photos=hotel.photos,
        amenities=hotel.amenities,
        contact_info=ManagedContact(
            phone=hotel.contact_phone, email=hotel.contact_email, address=hotel.contact_address
        ),
        contact_phone=hotel.contact_phone,
        contact_email=hotel.contact_email,
        contact_address=hotel.contact_address,
        stars=hotel.stars,
        latitude=hotel.latitude,
        longitude=hotel.longitude,
        time_zone=hotel.time_zone,
        currency=hotel.currency,
        check_in_time=f"{hotel.check_in_time:%H:%M}",
        check_out_time=f"{hotel.check_out_time:%H:%M}",
        created_at=hotel.created_at,
        updated_at=hotel.updated_at,
    )
