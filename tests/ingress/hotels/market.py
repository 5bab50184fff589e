"""A market of hotels: decided by the real core, stored in the real tables, and applied by the real projection.

It is seeded, so that a failure can be repeated. Descriptions of hotels are changed with the ingress' own statements.
"""

from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import date, timedelta
from random import Random
from typing import Any, Final
from uuid import UUID

from psycopg import AsyncConnection

from ingress.hotels.search.models import HotelSearch, earliest_today
from storage.projections import room_nights
from storage.projections.room_nights import NightsEvent
from storage.settings import DatabaseSettings
from tests.support.hotels import HotelsInTables
from tests.support.scenario import Scenario
from topics.catalogue import BOOKING_EVENTS
from topics.messages.commands import (
    BlockNights,
    CancelBooking,
    ChangeInventory,
    Command,
    ConfirmPayment,
    ExpireHold,
    OpenInventory,
    ReleaseBlock,
    ReserveStay,
)
from topics.messages.events import Event
from topics.messages.values import BlockReason, Terms

TOPIC: Final = BOOKING_EVENTS.name
PARTITIONS: Final = 3
CITIES: Final = ("Porto", "porto", " Lisbon ", "LISBON", "Bern")
AMENITIES: Final = ("wifi", "Pool", "SPA", "bar")
ZONES: Final = ("UTC", "Europe/Lisbon", "Asia/Tokyo", "Etc/GMT+12", "Etc/GMT-14")
CURRENCIES: Final = ("EUR", "EUR", "EUR", "JPY", "KWD", "MGA", "ISK", "KPW")
#: Nights are on sale from the first day that it can be anywhere, and around the end of the horizon.
NIGHTS: Final = 30
HORIZON: Final = (360, 372)


class Projection:
    """Applies events to the read model of nights as the worker does: with its cursor, in one transaction."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
        self._sequences = [0] * PARTITIONS

    async def begin(self) -> None:
        """Begin a generation of the topic."""
        await self._connection.execute(
            "insert into topic_generation (topic, broker_id) values (%s, 'the broker')", (TOPIC,)
        )

    async def apply(self, events: Sequence[Event]) -> None:
        """Apply events in their order."""
        positioned = []
        for event in events:
            partition = event.key % PARTITIONS
            self._sequences[partition] += 1
            positioned.append(NightsEvent(event, partition, self._sequences[partition]))
        async with self._connection.transaction():
            await room_nights.apply_to_nights(self._connection, positioned)
            for partition, sequence in enumerate(self._sequences):
                await self._connection.execute(
                    """
                    insert into log_cursor (consumer, topic, partition, generation, sequence)
                    values ('room_nights', %s, %s, (select max(id) from topic_generation), %s)
                    on conflict (consumer, topic, partition, generation) do update set sequence = excluded.sequence
                    """,
                    (TOPIC, partition, sequence),
                )

    async def empty(self) -> None:
        """Delete everything, as a rebuild of the read model does; the log is applied from its start."""
        await self._connection.execute("truncate room_night, room_night_change, hotel_min_price")
        await self._connection.execute("delete from log_cursor where consumer = 'room_nights'")
        self._sequences = [0] * PARTITIONS


class Market:
    """Hotels 1 to `hotels`, with one to three room types each."""

    def __init__(self, connection: AsyncConnection, seed: int, hotels: int) -> None:
        self.connection = connection
        self.chance = Random(seed)
        self.first = earliest_today()
        self.currency_of: dict[int, str] = {}
        self.hotel_of: dict[int, int] = {}
        self._story = Scenario()
        self._hotels = hotels
        self._projection = Projection(connection)
        self._tables = HotelsInTables(connection)
        self._bookings: list[UUID] = []
        self._blocks: list[dict[str, Any]] = []

    # Descriptions of hotels.

    async def describe(self) -> None:
        """Insert hotels and rooms; guests cannot find some of them."""
        await self._projection.begin()
        chance = self.chance
        for hotel_id in range(1, self._hotels + 1):
            self.currency_of[hotel_id] = chance.choice(CURRENCIES)
            await self._tables.insert("hotel", self._hotel(hotel_id))
            for _ in range(chance.randint(1, 3)):
                room_id = len(self.hotel_of) + 1
                self.hotel_of[room_id] = hotel_id
                await self._tables.insert("room", self._room(hotel_id))

    async def describe_anew(self) -> None:
        """Change the descriptions of one hotel and one room, and add a room."""
        hotel_id, room_id = self.chance.choice(list(self.currency_of)), self.chance.choice(list(self.hotel_of))
        update = "update {} set ({{}}) = row({{}}), updated_at = now() where id = {}"
        await self._write(update.format("hotel", hotel_id), self._hotel(hotel_id))
        await self._write(update.format("room", room_id), self._room(self.hotel_of[room_id]))
        self.hotel_of[len(self.hotel_of) + 1] = hotel_id
        await self._tables.insert("room", self._room(hotel_id))

    def _hotel(self, hotel_id: int) -> dict[str, Any]:
        chance = self.chance
        away = chance.random() < 0.2
        return {
            "name": f"Hotel {chance.randint(1, 99)}",
            "city": chance.choice(CITIES),
            "currency": self.currency_of[hotel_id],
            "active": chance.random() < 0.9,
            "photos": ["https://example.com/a.jpg"] * chance.randint(0, 1),
            "amenities": chance.sample(AMENITIES, chance.randint(0, 4)),
            "stars": chance.choice([None, 1, 3, 4, 5]),
            "latitude": None if away else chance.uniform(38, 42),
            "longitude": None if away else chance.uniform(-10, 8),
            "time_zone": chance.choice(ZONES),
            "deleted_at": "2026-01-01T00:00:00Z" if chance.random() < 0.05 else None,
        }

    def _room(self, hotel_id: int) -> dict[str, Any]:
        chance = self.chance
        return {
            "hotel_id": hotel_id,
            "type": chance.choice(["single", "double", "suite"]),
            "base_price_minor": 1,
            "total_count": 1,
            "capacity": chance.randint(1, 4),
            "opening": chance.random() < 0.05,
            "deleted_at": "2026-01-01T00:00:00Z" if chance.random() < 0.05 else None,
        }

    async def _write(self, statement: str, row: dict[str, Any]) -> None:
        names, places = ", ".join(row), ", ".join(["%s"] * len(row))
        await self.connection.execute(statement.format(names, places).encode(), list(row.values()))

    # Commands.

    async def open(self) -> None:
        """Put some nights of every room on sale."""
        await self._decide(self._open(room_id) for room_id in self.hotel_of)

    async def happen(self, commands: int) -> None:
        """Decide this many commands, then apply their events."""
        await self._decide(self._command() for _ in range(commands))

    async def _decide(self, commands: Iterable[Command]) -> None:
        events: list[Event] = []
        for command in commands:
            self._story.when(command, at=self._story.now + timedelta(minutes=1))
            events += self._story.answer
        await self._keep({event.key for event in events})
        await self._projection.apply(events)

    def _command(self) -> Command:
        chance = self.chance
        if self._bookings and chance.random() < 0.4:
            return self._about(chance.choice(self._bookings))
        room_id = chance.choice(list(self.hotel_of))
        return chance.choice([self._open, self._change, self._block, self._reserve, self._reserve])(room_id)

    def _open(self, room_id: int) -> Command:
        hotel_id = self.hotel_of[room_id]
        begin, end = self.chance.choice([(0, NIGHTS), HORIZON, sorted(self.chance.sample(range(NIGHTS), 2))])
        return OpenInventory(
            room_id=room_id,
            hotel_id=hotel_id,
            first_night=self._day(begin),
            end_night=self._day(end),
            total_count=self.chance.randint(0, 5),
            # Few prices, so that some are the same.
            price_minor=self.chance.choice([0, 9_999, 10_000, 10_001, 12_345]),
            currency=self.currency_of[hotel_id],
        )

    def _change(self, room_id: int) -> Command:
        chance = self.chance
        begin = chance.randint(0, NIGHTS - 1)
        end = begin + chance.choice([1, 2, 10])
        return ChangeInventory(
            room_id=room_id,
            first_night=self._day(begin),
            end_night=self._day(end),
            price_minor=chance.choice([None, 7_777, 10_000]),
            surge_milli=chance.choice([None, 1_000, 1_333, 2_500]),
            closed=chance.choice([None, None, None, True, False]),
            total_count=chance.choice([None, None, 0, 2, 5]),
            allowance_count=chance.choice([None, None, 0, 2]),
        )

    def _block(self, room_id: int) -> Command:
        chance = self.chance
        if self._blocks and chance.random() < 0.3:
            return ReleaseBlock(**chance.choice(self._blocks))
        begin = chance.randint(0, NIGHTS - 1)
        self._blocks.append({"room_id": room_id, "block_id": UUID(int=len(self._blocks) + 1)})
        return BlockNights(
            **self._blocks[-1],
            first_night=self._day(begin),
            end_night=self._day(begin + chance.choice([1, 3])),
            rooms_count=chance.choice([1, 2]),
            reason=BlockReason.OWNER_USE,
        )

    def _reserve(self, room_id: int) -> Command:
        begin = self.chance.randint(0, NIGHTS - 2)
        booking_id = UUID(int=len(self._bookings) + 1)
        self._bookings.append(booking_id)
        return ReserveStay(
            room_id=room_id,
            booking_id=booking_id,
            user_id=7,
            hotel_id=self.hotel_of[room_id],
            check_in=self._day(begin),
            check_out=self._day(begin + self.chance.randint(1, 4)),
            rooms_count=self.chance.choice([1, 1, 2]),
            hold_seconds=self.chance.choice([60, 100_000]),
            terms=self.chance.choice([Terms.PREPAID, Terms.AT_HOTEL]),
        )

    def _about(self, booking_id: UUID) -> Command:
        booking = self._story.bookings[booking_id]
        about: dict[str, Any] = {"room_id": booking.room_id, "booking_id": booking_id}
        paid = ConfirmPayment(
            **about,
            session_id="cs_1",
            payment_intent=f"pi_{self.chance.random()}",
            amount_minor=booking.amount_minor,
            currency=booking.currency,
        )
        return self.chance.choice([CancelBooking(**about, user_id=7), ExpireHold(**about), paid, paid])

    def _day(self, number: int) -> date:
        return self.first + timedelta(days=number)

    # The ledger.

    async def _keep(self, room_ids: Collection[int]) -> None:
        """Write the core's nights and bookings of rooms into the ledger."""
        nights = [
            (
                room_id,
                day,
                night.hotel_id,
                night.total_count,
                night.booked_count,
                night.reserved_count,
                night.price_minor,
                night.surge_milli,
                night.closed,
                night.currency,
                night.allowance_count,
                night.blocked_count,
            )
            for room_id in room_ids
            for day, night in self._story.nights[room_id].items()
        ]
        async with self.connection.transaction(), self.connection.cursor() as cursor:
            # In one statement: there are thousands.
            await cursor.execute(
                """
                insert into inventory
                select * from unnest(%s::bigint[], %s::date[], %s::bigint[], %s::int[], %s::int[], %s::int[],
                                     %s::bigint[], %s::int[], %s::bool[], %s::text[], %s::int[], %s::int[])
                on conflict (room_id, date) do update
                set total_count = excluded.total_count, booked_count = excluded.booked_count,
                    reserved_count = excluded.reserved_count, price_minor = excluded.price_minor,
                    surge_milli = excluded.surge_milli, closed = excluded.closed,
                    allowance_count = excluded.allowance_count, blocked_count = excluded.blocked_count
                """,
                [list(column) for column in zip(*nights, strict=True)],
            )
            await cursor.executemany(
                """
                insert into booking (id, hotel_id, room_id, check_in, check_out, rooms_count, status, terms,
                                     amount_minor, currency, version, created_at, updated_at)
                values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, 1, now(), now())
                on conflict (id) do update set status = excluded.status
                """,
                [
                    (
                        booking.id,
                        booking.hotel_id,
                        booking.room_id,
                        booking.check_in,
                        booking.check_out,
                        booking.rooms_count,
                        booking.status,
                        booking.terms,
                        booking.amount_minor,
                        booking.currency,
                    )
                    for booking in self._story.bookings.values()
                    if booking.room_id in room_ids
                ],
            )

    # Searches.

    def search(self) -> HotelSearch:
        """Return a random search that an ingress would answer, read from its query."""
        chance = self.chance
        begin = chance.choice([0, 1, 2, *(chance.randint(0, NIGHTS) for _ in range(4)), chance.randint(358, 366)])
        near = f"{chance.uniform(38, 42):.6f},{chance.uniform(-10, 8):.6f},{10 ** chance.uniform(2, 3.2):.3f}"

        def seldom(*values: object) -> object:
            return chance.choice(values) if chance.random() < 0.25 else None

        by_city, by_map = chance.choice([(True, False), (True, False), (True, True), (False, True)])
        query = {
            "city": chance.choice([*CITIES, "PORTO", "bern ", "Nowhere"]) if by_city else None,
            "near": near if by_map else None,
            "check_in_date": str(self._day(begin)),
            "check_out_date": str(self._day(begin + chance.choice([1, 2, 3, 7]))),
            "rooms_count": chance.choice(["1", "1", "1", "2", "3"]),
            "guests": seldom("2", "5"),
            "min_price": seldom("90", "100.01"),
            "max_price": seldom("0", "100", "12345"),
            "amenities": seldom("wifi", "Wifi,spa", ["pool", "BAR"]),
            "stars": seldom("3", "5"),
            "currency": seldom("EUR", "JPY"),
            "sort": chance.choice(["price", "price", "stars", "distance" if by_map else "price"]),
            "limit": chance.choice(["2", "5", "100"]),
        }
        return HotelSearch.model_validate({name: value for name, value in query.items() if value is not None})


@asynccontextmanager
async def open_market(database: DatabaseSettings, seed: int, hotels: int) -> AsyncIterator[Market]:
    """Open a market whose hotels are described and have something on sale."""
    async with await AsyncConnection.connect(database.conninfo(), autocommit=True) as connection:
        market = Market(connection, seed, hotels)
        await market.describe()
        await market.open()
        yield market
