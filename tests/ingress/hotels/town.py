"""A town with hotels whose every detail a test sets, on sale through the real projection."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date, timedelta
from typing import Any, Final
from uuid import UUID

import msgspec
from psycopg import AsyncConnection
from psycopg.types.json import Jsonb

from storage.sale_terms import save_sale_terms
from storage.settings import DatabaseSettings
from tests.ingress.hotels.market import Projection
from tests.ingress.house import TODAY
from tests.support.hotels import HotelsInTables
from topics.messages.events import BookingReserved, InventoryChanged, InventoryOpened, NightsBlocked, night_ranges
from topics.messages.sale import RatePlan, SaleTerms
from topics.messages.values import BlockReason

#: Nights are numbered from this day on, which is neither past nor far away for any hotel.
FIRST: Final = TODAY + timedelta(days=30)


def day(number: int) -> date:
    """Return the day of a night."""
    return FIRST + timedelta(days=number)


class Town(HotelsInTables):
    """Hotels and rooms, and the events that open and change their nights."""

    def __init__(self, connection: AsyncConnection) -> None:
        super().__init__(connection)
        self.projection = Projection(connection)
        self._hotel_of: dict[int, int] = {}
        self._currency_of: dict[int, str] = {}
        self._stays = 0

    async def room(self, hotel_id: int, **columns: Any) -> int:
        """Insert a room type without nights; return its id."""
        room_id = await super().room(hotel_id, **{"base_price_minor": 1, "total_count": 1} | columns)
        self._hotel_of[room_id] = hotel_id
        return room_id

    async def hotel(self, **columns: Any) -> int:
        """Insert a hotel; return its id."""
        hotel_id = await super().hotel(**columns)
        self._currency_of[hotel_id] = columns.get("currency", "EUR")
        return hotel_id

    async def rooms(self, hotel_id: int, price_minor: int, nights: int = 10, total: int = 3, **facts: Any) -> int:
        """Describe a room type whose first nights are on sale; return its id."""
        room_id = await self.room(hotel_id, **facts)
        await self.open(room_id, price_minor, nights=nights, total=total)
        return room_id

    async def open(self, room_id: int, price_minor: int, *, first: int = 0, nights: int = 10, total: int = 3) -> None:
        """Put nights on sale."""
        await self.projection.apply(
            [
                InventoryOpened(
                    room_id=room_id,
                    hotel_id=self._hotel_of[room_id],
                    first_night=day(first),
                    end_night=day(first + nights),
                    total_count=total,
                    price_minor=price_minor,
                    currency=self._currency_of[self._hotel_of[room_id]],
                )
            ]
        )

    async def change(self, room_id: int, *nights: int, **values: Any) -> None:
        """Change nights as a manager does."""
        changed = InventoryChanged(room_id=room_id, ranges=night_ranges(map(day, nights)), **values)
        await self.projection.apply([changed])

    async def sell(self, room_id: int, first: int = 0, nights: int = 1, rooms_count: int = 1) -> None:
        """Reserve a stay."""
        self._stays += 1
        reserved = BookingReserved(
            room_id=room_id,
            booking_id=UUID(int=self._stays),
            hotel_id=self._hotel_of[room_id],
            check_in=day(first),
            check_out=day(first + nights),
            rooms_count=rooms_count,
            amount_minor=1,
            currency="EUR",
        )
        await self.projection.apply([reserved])

    async def sell_by(self, room_id: int, *plans: RatePlan, version: int = 1, **terms: Any) -> None:
        """Set the sale terms of a room, as the reservations workers do."""
        new = SaleTerms(version=version, plans=plans, **terms)
        async with self.connection.transaction():
            await save_sale_terms(self.connection, [(room_id, version, Jsonb(msgspec.to_builtins(new)))])

    async def block(self, room_id: int, first: int = 0, nights: int = 1, rooms_count: int = 1) -> None:
        """Take rooms off sale."""
        blocked = NightsBlocked(
            room_id=room_id,
            block_id=UUID(int=room_id),
            first_night=day(first),
            end_night=day(first + nights),
            rooms_count=rooms_count,
            reason=BlockReason.MAINTENANCE,
        )
        await self.projection.apply([blocked])

    async def describe(self, table: str, id: int, **facts: Any) -> None:
        """Change the description of a hotel or a room."""
        assignments = ", ".join(f"{name} = %s" for name in facts)
        statement = f"update {table} set {assignments}, updated_at = now() where id = %s"
        await self.connection.execute(statement.encode(), [*facts.values(), id])


@asynccontextmanager
async def open_town(database: DatabaseSettings) -> AsyncIterator[Town]:
    """Open a town without hotels."""
    async with await AsyncConnection.connect(database.conninfo(), autocommit=True) as connection:
        town = Town(connection)
        await town.projection.begin()
        yield town
