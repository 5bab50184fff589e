"""`GET /hotels/{hotel_id}/info`: the public description of a hotel, and the price of a stay there."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncConnection

from ingress.database import Database, snapshot
from ingress.hotels.models import Contact, HotelOut, NightOut, RoomOut, Stay
from ingress.http.bodies import refused_field
from ingress.http.models import NoBody
from ingress.http.problems import existing
from ingress.http.responses import Response, json_response
from ingress.operations import Access, Example, RequestContext, operation
from ingress.stays import accept_stay, today_at
from pricing.charges import can_be_charged
from pricing.currencies import decimal
from pricing.stays import stay_amount_minor
from storage.reads import bookings
from storage.reads.bookings import HotelOffer, NightOffer, RoomOffer

PRICES_AHEAD: Final = timedelta(days=90)


class Hotels:
    """The operation that describes a hotel to everybody."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @operation(
        "GET /hotels/{hotel_id}/info",
        access=Access.ANYBODY,
        summary="Read a hotel",
        responses={200: HotelOut},
        example=Example(path={"hotel_id": 1}, query={"check_in_date": "2026-12-24", "check_out_date": "2026-12-27"}),
        links={"init": {"hotel_id": "$response.body#/id", "room_id": "$response.body#/rooms/0/id"}},
    )
    async def info(self, context: RequestContext[NoBody, Stay]) -> Response:
        """Read an active hotel with its rooms, and the price of a stay in each of them, from the ledger."""
        stay, hotel_id = context.query, context.path["hotel_id"]
        first_night = today_at("UTC")

        async def describe(connection: AsyncConnection) -> HotelOut:
            async with snapshot(connection):
                found = await bookings.hotel_offer(connection, hotel_id, first_night, first_night + PRICES_AHEAD)
                hotel = existing(found, "hotel")
                nights = None
                if (dates := _dates(stay, hotel)) is not None:
                    nights = await bookings.nights_on_offer(connection, hotel_id, *dates)
            return _hotel_out(hotel, stay, nights)

        return json_response(200, await self._database.read(describe))


def _dates(stay: Stay, hotel: HotelOffer) -> tuple[date, date] | None:
    """Return the stay's dates, None when there are none.

    Raises:
        Problem: 422, with the rule that they break.
    """
    check_in, check_out = stay.check_in_date, stay.check_out_date
    if check_in is None and check_out is None:
        return None
    if check_in is None:
        raise refused_field("check_in_date", "is needed with check_out_date")
    if check_out is None:
        raise refused_field("check_out_date", "is needed with check_in_date")
    accept_stay(check_in, check_out, today_at(hotel.time_zone))
    return check_in, check_out


def _hotel_out(hotel: HotelOffer, stay: Stay, nights: Sequence[NightOffer] | None) -> HotelOut:
    by_room: defaultdict[int, list[NightOffer]] = defaultdict(list)
    for night in nights or ():
        by_room[night.room_id].append(night)
    rooms = [
        _room_out(room, hotel.currency, {} if nights is None else _stay_fields(by_room[room.id], stay, hotel.currency))
        for room in hotel.rooms
    ]
    return HotelOut(
        id=hotel.id,
        name=hotel.name,
        city=hotel.city,
        currency=hotel.currency,
        photos=hotel.photos,
        amenities=hotel.amenities,
        contact=Contact(phone=hotel.contact_phone, email=hotel.contact_email, address=hotel.contact_address),
        contact_phone=hotel.contact_phone,
        contact_email=hotel.contact_email,
        stars=hotel.stars,
        latitude=hotel.latitude,
        longitude=hotel.longitude,
        time_zone=hotel.time_zone,
        check_in_time=f"{hotel.check_in_time:%H:%M}",
        check_out_time=f"{hotel.check_out_time:%H:%M}",
        rooms=rooms,
    )


def _room_out(room: RoomOffer, currency: str, stay: Mapping[str, Any]) -> RoomOut:
    cheapest = room.price_from_minor
    return RoomOut(
        id=room.id,
        type=room.type,
        capacity=room.capacity,
        total_count=room.total_count,
        base_price=decimal(room.base_price_minor, currency),
        price_from=None if cheapest is None else decimal(cheapest, currency),
        photos=room.photos,
        amenities=room.amenities,
        **stay,
    )


def _stay_fields(nights: Sequence[NightOffer], stay: Stay, currency: str) -> dict[str, Any]:
    """Return the fields of a room type that depend on a stay."""
    assert stay.check_in_date is not None
    assert stay.check_out_date is not None
    nights_count = (stay.check_out_date - stay.check_in_date).days
    available = min(night.free_count for night in nights) if len(nights) == nights_count else 0
    total_minor = stay_amount_minor((night.price_minor for night in nights), stay.rooms_count)
    bookable = available >= stay.rooms_count and can_be_charged(total_minor, currency)
    return {
        "nights": [
            NightOut(date=night.night, price=decimal(night.price_minor, currency), available=night.free_count)
            for night in nights
        ],
        "available": available,
        "total": decimal(total_minor, currency) if bookable else None,
    }
