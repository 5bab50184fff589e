"""A manager's requests, and a reservations worker that decides with its own core and writes the ledger."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import date
from typing import Any
from uuid import UUID, uuid4

import psycopg

from storage.settings import DatabaseSettings
from tests.ingress.house import NOON, House, open_reader
from tests.support import hotels
from tests.support.client import Answer
from tests.support.log import all_partitions, open_log, open_processor
from tests.support.waiting import wait_until
from topics.catalogue import BOOKING_COMMANDS
from topics.kafka.settings import KafkaSettings
from topics.messages.commands import CancelBooking, Command, ReserveStay
from topics.messages.values import CancelReason, Terms
from workers.reservations import handler

#: The hotel of tests that begin today: it is noon there.
HOTEL = {**hotels.HOTEL, "time_zone": NOON}
ROOM = dict(hotels.ROOM)


class Manager:
    """An account that has hotels. The test's users are 1 and 2."""

    def __init__(self, house: House, user_id: int = 1) -> None:
        self._house = house
        self._hotels = hotels.HotelsOverHttp(self._ask)
        self.user_id = user_id

    async def ask(self, method: str, path: str, body: Any = None, *, if_match: str | None = None) -> Answer:
        """Send one request to the managers' operations."""
        headers = {} if if_match is None else {"If-Match": if_match}
        return await self._ask(method, f"/v1/admin{path}", body, headers)

    async def _ask(self, method: str, path: str, body: Any, headers: Mapping[str, str] | None = None) -> Answer:
        sent = self._house.manager_header(self.user_id) | dict(headers or {})
        return await self._house.ask(method, path, body, headers=sent)

    async def hotel(self, **changes: Any) -> int:
        """Add a hotel; return its id."""
        return await self._hotels.hotel(**{"time_zone": NOON} | changes)

    async def room(self, hotel_id: int, **changes: Any) -> int:
        """Add a room; return its id."""
        return await self._hotels.room(hotel_id, **changes)


class Worker:
    """A running reservations worker: its rows, and commands that do not come from the ingress."""

    def __init__(self, connection: psycopg.AsyncConnection, send: Any) -> None:
        self.connection = connection
        self._send = send

    async def rows(self, query: str, *parameters: object) -> Sequence[tuple[Any, ...]]:
        """Read."""
        return await (await self.connection.execute(query.encode(), parameters)).fetchall()

    async def sell(self, room_id: int, first: date, end: date, rooms: int = 1) -> UUID:
        """Sell rooms for the nights of [first, end), as a trusted writer."""
        ((hotel_id,),) = await self.rows("select hotel_id from room where id = %s", room_id)
        booking_id = uuid4()
        await self._decide(
            ReserveStay(
                room_id=room_id,
                booking_id=booking_id,
                hotel_id=hotel_id,
                check_in=first,
                check_out=end,
                rooms_count=rooms,
                terms=Terms.AT_HOTEL,
            ),
            booking_id,
            "CONFIRMED",
        )
        return booking_id

    async def cancel(self, room_id: int, booking_id: UUID) -> None:
        """Cancel a stay, as a trusted writer."""
        command = CancelBooking(room_id=room_id, booking_id=booking_id, reason=CancelReason.BY_HOTEL)
        await self._decide(command, booking_id, "CANCELLED")

    async def _decide(self, command: Command, booking_id: UUID, status: str) -> None:
        await self._send(command)

        async def is_decided() -> bool:
            return await self.rows("select status from booking where id = %s", booking_id) == [(status,)]

        await wait_until(is_decided)


@asynccontextmanager
async def open_worker(kafka: KafkaSettings, database: DatabaseSettings) -> AsyncIterator[Worker]:
    """Run the reservations worker for as long as the block lasts."""
    role = handler.build(kafka, database)
    consumer = await open_reader(kafka, BOOKING_COMMANDS)
    try:
        async with (
            open_log(kafka) as log,
            open_processor(role, log, database) as processor,
            await psycopg.AsyncConnection.connect(database.conninfo(), autocommit=True) as connection,
        ):
            await processor.on_assigned(all_partitions(role, kafka))

            async def decide() -> None:
                while True:
                    fetched = await consumer.getmany(timeout_ms=200)
                    if fetched:
                        await processor.process(list(fetched.values()))

            task = asyncio.create_task(decide())
            try:
                yield Worker(connection, log.send)
            finally:
                task.cancel()
                (end,) = await asyncio.gather(task, return_exceptions=True)
                assert isinstance(end, asyncio.CancelledError), end
    finally:
        await consumer.stop()
