"""The two builders of hotels: over HTTP as a manager makes them, and straight into the tables."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import date
from typing import Any

from psycopg import AsyncConnection
from psycopg.rows import scalar_row

from tests.support.client import Answer

HOTEL: Mapping[str, Any] = {
    "name": "The Lighthouse",
    "city": "Lisbon",
    "photos": ["https://images.example/1.jpg"],
    "amenities": ["wifi", "sea view"],
    "contact_info": {"phone": "+351 21", "email": "stay@lighthouse.example", "address": "Rua do Farol 1"},
    "stars": 4,
    "latitude": 38.71,
    "longitude": -9.14,
    "time_zone": "UTC",
    "currency": "EUR",
    "check_in_time": "14:30",
    "check_out_time": "10:00",
}
ROOM: Mapping[str, Any] = {
    "type": "double",
    "base_price": "120.00",
    "photos": ["https://images.example/double.jpg"],
    "amenities": ["bath"],
    "total_count": 5,
    "capacity": 2,
}
NIGHT: dict[str, Any] = {"total_count": 10, "price_minor": 12_000, "surge_milli": 1000, "currency": "EUR"}


class HotelsOverHttp:
    """Makes hotels and rooms as a manager does; `ask` sends a request of the manager's."""

    def __init__(self, ask: Callable[[str, str, Any], Awaitable[Answer]]) -> None:
        self._ask = ask

    async def hotel(self, **changes: Any) -> int:
        """Add a hotel, which is not active yet; return its id."""
        return int((await self._made("/v1/admin/hotels", {**HOTEL, **changes}))["id"])

    async def room(self, hotel_id: int, **changes: Any) -> int:
        """Add a room type and put its nights on sale; return its id."""
        return int((await self._made(f"/v1/admin/hotels/{hotel_id}/rooms", {**ROOM, **changes}))["id"])

    async def activate(self, hotel_id: int) -> None:
        """Let guests see and book a hotel."""
        answer = await self._ask("PATCH", f"/v1/admin/hotels/{hotel_id}/activate", None)
        assert answer.status == 204, answer

    async def _made(self, path: str, body: Mapping[str, Any]) -> Any:
        answer = await self._ask("POST", path, body)
        assert answer.status == 201, answer
        return answer.body


class HotelsInTables:
    """Writes hotels, rooms and nights into their tables; `connection` commits each statement or is in a transaction."""

    def __init__(self, connection: AsyncConnection[Any]) -> None:
        self.connection = connection

    async def hotel(self, **columns: Any) -> int:
        """Insert a hotel, which is active; return its id."""
        return await self.insert(
            "hotel", {"name": "Mill", "city": "Porto", "currency": "EUR", "active": True} | columns
        )

    async def room(self, hotel_id: int, **columns: Any) -> int:
        """Insert a room type without nights; return its id."""
        described = {"type": "double", "base_price_minor": 12_000, "total_count": 10, "capacity": 2}
        return await self.insert("room", {"hotel_id": hotel_id} | described | columns)

    async def night(self, hotel_id: int, room_id: int, night: date, **columns: Any) -> None:
        """Insert a night that is on sale."""
        await self.insert("inventory", {"hotel_id": hotel_id, "room_id": room_id, "date": night} | NIGHT | columns)

    async def nights(self, hotel_id: int, room_id: int, first_night: date, end_night: date, **columns: Any) -> None:
        """Insert the nights of [first_night, end_night), which are on sale, in one statement."""
        row = {"hotel_id": hotel_id, "room_id": room_id} | NIGHT | columns
        names, values = ", ".join(row), ", ".join(["%s"] * len(row))
        days = "generate_series(%s::date, %s::date - 1, '1 day') as day"
        statement = f"insert into inventory ({names}, date) select {values}, day from {days}"
        await self.connection.execute(statement.encode(), [*row.values(), first_night, end_night])

    async def insert(self, table: str, row: Mapping[str, Any]) -> int:
        """Insert a row; return its id, 0 for a table that has none."""
        names, places = ", ".join(row), ", ".join(["%s"] * len(row))
        returned = "id" if table != "inventory" else "0"
        statement = f"insert into {table} ({names}) values ({places}) returning {returned}"
        async with self.connection.cursor(row_factory=scalar_row) as cursor:
            await cursor.execute(statement.encode(), list(row.values()))
            return int(await cursor.fetchone() or 0)
