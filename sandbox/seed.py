"""Two hotels to try the system with: described by plain SQL, their nights put on sale through the log."""

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final

import bcrypt
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from storage import engines
from storage.database import connect
from storage.models import AppUser, Hotel, Room
from storage.settings import DatabaseSettings
from topics.catalogue import BOOKING_COMMANDS
from topics.envelope import Outgoing, command_record
from topics.kafka.producer import open_producer
from topics.kafka.settings import KafkaSettings
from topics.messages.commands import OpenInventory

SOURCE: Final = "innkeeper/seed"
NIGHTS: Final = timedelta(days=365)
OPEN_WITHIN_SECONDS: Final = 120.0
OWNER_EMAIL: Final = "owner@example.com"
OWNER_PASSWORD: Final = "two inns and a lighthouse"  # noqa: S105 - of the sandbox alone, for all to try
_SEED_POLL_SECONDS: Final = 0.05


@dataclass(frozen=True, kw_only=True)
class RoomToSeed:
    """A room type and how many of it there are."""

    type: str
    price_minor: int
    total_count: int
    capacity: int
    amenities: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class HotelToSeed:
    """A hotel with its rooms. Prices are in minor units of its currency."""

    name: str
    city: str
    currency: str
    time_zone: str
    stars: int
    latitude: float
    longitude: float
    amenities: Sequence[str]
    rooms: Sequence[RoomToSeed]


@dataclass(frozen=True, kw_only=True)
class SeededRoom:
    """A room as the database has it. The price of a night is in minor units."""

    id: int
    hotel_id: int
    hotel_name: str
    city: str
    type: str
    price_minor: int
    currency: str
    total_count: int


HOTELS: Final[Sequence[HotelToSeed]] = (
    HotelToSeed(
        name="The Lighthouse",
        city="Lisbon",
        currency="EUR",
        time_zone="Europe/Lisbon",
        stars=4,
        latitude=38.6979,
        longitude=-9.4215,
        amenities=("breakfast", "sea view", "wifi"),
        rooms=(
            RoomToSeed(
                type="double with sea view", price_minor=12_900, total_count=40, capacity=2, amenities=("balcony",)
            ),
            RoomToSeed(type="family room", price_minor=18_500, total_count=15, capacity=4, amenities=("kitchen",)),
        ),
    ),
    HotelToSeed(
        name="Old Mill Inn",
        city="Bergen",
        currency="NOK",
        time_zone="Europe/Oslo",
        stars=3,
        latitude=60.3913,
        longitude=5.3221,
        amenities=("breakfast", "sauna", "wifi"),
        rooms=(
            RoomToSeed(type="single", price_minor=99_000, total_count=25, capacity=1, amenities=()),
            RoomToSeed(type="double", price_minor=149_000, total_count=30, capacity=2, amenities=("desk",)),
        ),
    ),
)


class NotOpened(RuntimeError):
    """The nights were not put on sale in time."""


async def seed(kafka: KafkaSettings, database: DatabaseSettings) -> Sequence[SeededRoom]:
    """Describe the hotels unless they are there, open a year of nights from today, and return their rooms.

    Repeatable: nights that are on sale already stay as they are. When it returns they can be searched, too.

    Raises:
        NotOpened: no reservations worker opened the nights in time, or no projections worker read their events.
    """
    rooms = await asyncio.to_thread(_describe, database)
    first_night = datetime.now(UTC).date()
    async with open_producer(kafka, client_id="innkeeper-seed") as producer:
        await producer.send_all(_opening(kafka, room, first_night) for room in rooms)
    await _until_open(database, rooms, first_night)
    return rooms


def _describe(database: DatabaseSettings) -> Sequence[SeededRoom]:
    """Insert the hotels and rooms that are missing and return all rooms."""
    engine = engines.engine(database, "innkeeper sandbox")
    try:
        with Session(engine) as session, session.begin():
            owner = _owner(session)
            return [room for wanted in HOTELS for room in _rooms(session, _hotel(session, owner, wanted))]
    finally:
        engine.dispose()


def _owner(session: Session) -> AppUser:
    owner = session.scalar(select(AppUser).where(func.lower(AppUser.email) == OWNER_EMAIL))
    if owner is None:
        password_hash = bcrypt.hashpw(OWNER_PASSWORD.encode(), bcrypt.gensalt(4)).decode()
        roles = ["GUEST", "HOTEL_MANAGER"]
        owner = AppUser(email=OWNER_EMAIL, password_hash=password_hash, name="Ada Owner", roles=roles)
        session.add(owner)
        session.flush()
    return owner


def _hotel(session: Session, owner: AppUser, wanted: HotelToSeed) -> Hotel:
    ours = select(Hotel).where(Hotel.owner_id == owner.id, Hotel.name == wanted.name)
    hotel = session.scalar(ours)
    if hotel is None:
        hotel = Hotel(
            owner_id=owner.id,
            name=wanted.name,
            city=wanted.city,
            currency=wanted.currency,
            time_zone=wanted.time_zone,
            stars=wanted.stars,
            latitude=wanted.latitude,
            longitude=wanted.longitude,
            amenities=list(wanted.amenities),
            active=True,
        )
        session.add(hotel)
        session.flush()
        session.add_all(_room(hotel, room) for room in wanted.rooms)
    return hotel


def _room(hotel: Hotel, wanted: RoomToSeed) -> Room:
    return Room(
        hotel_id=hotel.id,
        type=wanted.type,
        base_price_minor=wanted.price_minor,
        total_count=wanted.total_count,
        capacity=wanted.capacity,
        amenities=list(wanted.amenities),
    )


def _rooms(session: Session, hotel: Hotel) -> Sequence[SeededRoom]:
    return [
        SeededRoom(
            id=room.id,
            hotel_id=hotel.id,
            hotel_name=hotel.name,
            city=hotel.city,
            type=room.type,
            price_minor=room.base_price_minor,
            currency=hotel.currency,
            total_count=room.total_count,
        )
        for room in session.scalars(select(Room).where(Room.hotel_id == hotel.id).order_by(Room.id))
    ]


def _opening(kafka: KafkaSettings, room: SeededRoom, first_night: date) -> Outgoing:
    command = OpenInventory(
        room_id=room.id,
        hotel_id=room.hotel_id,
        first_night=first_night,
        end_night=first_night + NIGHTS,
        total_count=room.total_count,
        price_minor=room.price_minor,
        currency=room.currency,
    )
    # Another day's seeding is another command: it opens the nights that have come within reach.
    command_id = f"seed:{room.id}:{secrets.token_hex(8)}"
    topic = kafka.topic(BOOKING_COMMANDS)
    return command_record(topic, command, id=command_id, source=SOURCE, time=datetime.now(UTC))


async def _until_open(database: DatabaseSettings, rooms: Sequence[SeededRoom], first_night: date) -> None:
    """Wait until every night of every room is in the ledger and in the read model of searches; raises NotOpened."""
    expected = len(rooms) * NIGHTS.days
    nights = "select count(*) from {} where room_id = any(%(rooms)s) and date >= %(first)s and date < %(end)s"
    count = f"select ({nights.format('inventory')}), ({nights.format('room_night')})"
    parameters = {"rooms": [room.id for room in rooms], "first": first_night, "end": first_night + NIGHTS}
    try:
        async with (
            asyncio.timeout(OPEN_WITHIN_SECONDS),
            await connect(database, "sandbox seed") as connection,
        ):
            while await (await connection.execute(count, parameters)).fetchone() != (expected, expected):
                await asyncio.sleep(_SEED_POLL_SECONDS)
    except TimeoutError:
        raise NotOpened(f"the nights are not on sale after {OPEN_WITHIN_SECONDS:.0f} s") from None
