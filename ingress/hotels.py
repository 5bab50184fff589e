"""Hotels: what is told about them, and what the acceptance of a booking has to know of their rooms."""

import asyncio
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Final

from ingress.acceptance import today_at
from ingress.answers import Answer, answer
from ingress.database import Database
from ingress.models import MoneyOut, NoBody, NoQuery, Shown
from ingress.money import decimal
from ingress.operations import Access, Asked, Example, operation
from ingress.problems import Problem
from storage import reads
from storage.reads import HotelOffer, RoomFacts, RoomOffer

PRICES_AHEAD: Final = timedelta(days=90)
_MOST_ROOMS_REMEMBERED: Final = 10_000


class Rooms:
    """Remembers the facts of rooms for a few seconds, so that a booking's acceptance costs no query.

    Rooms that were asked for are read again together, in one query, by whichever request comes first; the others wait
    for it.
    """

    def __init__(self, database: Database, *, seconds: float) -> None:
        self._database = database
        self._seconds = seconds
        self._facts: dict[int, RoomFacts | None] = {}
        self._good_until = 0.0
        self._wanted: set[int] = set()
        self._reading: asyncio.Task[None] | None = None

    async def facts(self, room_id: int) -> RoomFacts | None:
        """Return a room's facts, None for a room that does not exist."""
        self._wanted.add(room_id)
        while time.monotonic() >= self._good_until or room_id not in self._facts:
            await self._read()
        return self._facts[room_id]

    async def _read(self) -> None:
        # One that is done may be of no use to us; and to wait for it would let nobody else run.
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read_wanted())
        # The reading is everybody's: one request that goes away must not end it.
        await asyncio.shield(self._reading)

    async def _read_wanted(self) -> None:
        fresh = time.monotonic() < self._good_until
        wanted = self._wanted - self._facts.keys() if fresh else self._wanted.copy()
        async with self._database.reading() as connection:
            found = await reads.room_facts(connection, wanted)
        self._remember({room_id: found.get(room_id) for room_id in wanted}, fresh=fresh)

    def _remember(self, read: Mapping[int, RoomFacts | None], *, fresh: bool) -> None:
        if fresh and len(self._facts) < _MOST_ROOMS_REMEMBERED:
            self._facts.update(read)
            return
        # Only what is asked for from now on will be read again next time.
        self._facts = dict(read)
        self._wanted = self._wanted - read.keys()
        self._good_until = time.monotonic() + self._seconds


class RoomShown(Shown):
    """A room type of a hotel; `price_from` is its cheapest night within three months."""

    id: int
    type: str
    capacity: int
    total_count: int
    base_price: MoneyOut
    price_from: MoneyOut | None
    photos: list[str]
    amenities: list[str]


class Contact(Shown):
    """How to reach a hotel."""

    phone: str | None
    email: str | None
    address: str | None


class HotelShown(Shown):
    """A hotel with its rooms."""

    id: int
    name: str
    city: str
    currency: str
    photos: list[str]
    amenities: list[str]
    contact: Contact
    rooms: list[RoomShown]


class Hotels:
    """Answers what everybody may know about a hotel."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @operation(
        "GET /hotels/{hotel_id}/info",
        access=Access.ANYBODY,
        summary="Read a hotel",
        answers={200: HotelShown},
        example=Example(path={"hotel_id": 1}),
    )
    async def info(self, asked: Asked[NoBody, NoQuery]) -> Answer:
        """Tell an active hotel with its rooms and what they cost."""
        hotel = await self._offer(asked.path["hotel_id"])
        if hotel is None:
            raise Problem(404, "no such hotel")
        return answer(200, HotelShown.model_validate(_hotel_in_words(hotel)))

    async def _offer(self, hotel_id: int) -> HotelOffer | None:
        first_night = today_at("UTC")
        async with self._database.reading() as connection:
            return await reads.hotel_offer(connection, hotel_id, first_night, first_night + PRICES_AHEAD)


def _hotel_in_words(hotel: HotelOffer) -> dict[str, object]:
    return {
        "id": hotel.id,
        "name": hotel.name,
        "city": hotel.city,
        "currency": hotel.currency,
        "photos": hotel.photos,
        "amenities": hotel.amenities,
        "contact": {
            "phone": hotel.contact_phone,
            "email": hotel.contact_email,
            "address": hotel.contact_address,
        },
        "rooms": [_room_in_words(room, hotel.currency) for room in hotel.rooms],
    }


def _room_in_words(room: RoomOffer, currency: str) -> dict[str, object]:
    cheapest = room.price_from_minor
    return {
        "id": room.id,
        "type": room.type,
        "capacity": room.capacity,
        "total_count": room.total_count,
        "base_price": decimal(room.base_price_minor, currency),
        "price_from": None if cheapest is None else decimal(cheapest, currency),
        "photos": room.photos,
        "amenities": room.amenities,
    }
