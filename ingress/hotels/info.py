"""`GET /hotels/{hotel_id}/info`: what everybody may know about a hotel, and what a stay there costs."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncConnection

from ingress.database import Database, snapshot
from ingress.http.answers import Answer, answer
from ingress.http.bodies import refused_field
from ingress.http.models import Day, MoneyOut, NoBody, Query, Shown
from ingress.http.problems import Problem
from ingress.operations import Access, Asked, Example, operation
from ingress.stays import RoomsCount, accept_stay, today_at
from pricing.currencies import decimal
from pricing.stays import stay_amount_minor
from storage.reads import bookings
from storage.reads.bookings import HotelOffer, NightOffer, RoomOffer

PRICES_AHEAD: Final = timedelta(days=90)


class NightShown(Shown):
    """A night that was put on sale: its price with surge, and how many rooms are free."""

    date: date
    price: MoneyOut
    available: int


class RoomShown(Shown):
    """A room type of a hotel; `price_from` is its cheapest night within three months.

    Only for a stay that was asked about: its nights that are on sale, how many rooms are `available` in all of them,
    and the `total` of what was asked for, as a booking would cost now; null when it cannot be booked.
    """

    id: int
    type: str
    capacity: int
    total_count: int
    base_price: MoneyOut
    price_from: MoneyOut | None
    photos: list[str]
    amenities: list[str]
    nights: list[NightShown] | None = None
    available: int | None = None
    total: MoneyOut | None = None


class Contact(Shown):
    """How to reach a hotel."""

    phone: str | None
    email: str | None
    address: str | None


class HotelShown(Shown):
    """A hotel with its rooms. Times are the hotel's own."""

    id: int
    name: str
    city: str
    currency: str
    photos: list[str]
    amenities: list[str]
    contact: Contact
    stars: int | None
    latitude: float | None
    longitude: float | None
    time_zone: str
    check_in_time: str
    check_out_time: str
    rooms: list[RoomShown]


class Stay(Query):
    """A stay to tell the prices of; without dates, none."""

    check_in_date: Day | None = None
    check_out_date: Day | None = None
    rooms_count: RoomsCount = 1


class Hotels:
    """Answers what everybody may know about a hotel."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @operation(
        "GET /hotels/{hotel_id}/info",
        access=Access.ANYBODY,
        summary="Read a hotel",
        answers={200: HotelShown},
        example=Example(path={"hotel_id": 1}, query={"check_in_date": "2026-12-24", "check_out_date": "2026-12-27"}),
        links={"init": {"hotel_id": "$response.body#/id", "room_id": "$response.body#/rooms/0/id"}},
    )
    async def info(self, asked: Asked[NoBody, Stay]) -> Answer:
        """Tell an active hotel with its rooms, and what a stay in each of them costs, as the ledger has it."""
        stay, hotel_id = asked.query, asked.path["hotel_id"]
        first_night = today_at("UTC")

        async def shown(connection: AsyncConnection) -> HotelShown:
            async with snapshot(connection):
                hotel = await bookings.hotel_offer(connection, hotel_id, first_night, first_night + PRICES_AHEAD)
                if hotel is None:
                    raise Problem(404, "no such hotel")
                nights = None
                if (dates := _dates(stay, hotel)) is not None:
                    nights = await bookings.nights_on_offer(connection, hotel_id, *dates)
            return _hotel_shown(hotel, stay, nights)

        return answer(200, await self._database.read(shown))


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


def _hotel_shown(hotel: HotelOffer, stay: Stay, nights: Sequence[NightOffer] | None) -> HotelShown:
    by_room: defaultdict[int, list[NightOffer]] = defaultdict(list)
    for night in nights or ():
        by_room[night.room_id].append(night)
    rooms = [
        _room_shown(room, hotel.currency, {} if nights is None else _stay_shown(by_room[room.id], stay, hotel.currency))
        for room in hotel.rooms
    ]
    return HotelShown(
        id=hotel.id,
        name=hotel.name,
        city=hotel.city,
        currency=hotel.currency,
        photos=hotel.photos,
        amenities=hotel.amenities,
        contact=Contact(phone=hotel.contact_phone, email=hotel.contact_email, address=hotel.contact_address),
        stars=hotel.stars,
        latitude=hotel.latitude,
        longitude=hotel.longitude,
        time_zone=hotel.time_zone,
        check_in_time=f"{hotel.check_in_time:%H:%M}",
        check_out_time=f"{hotel.check_out_time:%H:%M}",
        rooms=rooms,
    )


def _room_shown(room: RoomOffer, currency: str, stay: Mapping[str, Any]) -> RoomShown:
    cheapest = room.price_from_minor
    return RoomShown(
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


def _stay_shown(nights: Sequence[NightOffer], stay: Stay, currency: str) -> dict[str, Any]:
    """Return what a room type has for a stay, and what that costs."""
    assert stay.check_in_date is not None
    assert stay.check_out_date is not None
    wanted = (stay.check_out_date - stay.check_in_date).days
    available = min(night.free_count for night in nights) if len(nights) == wanted else 0
    total_minor = stay_amount_minor((night.price_minor for night in nights), stay.rooms_count)
    return {
        "nights": [
            NightShown(date=night.night, price=decimal(night.price_minor, currency), available=night.free_count)
            for night in nights
        ],
        "available": available,
        "total": decimal(total_minor, currency) if available >= stay.rooms_count else None,
    }
