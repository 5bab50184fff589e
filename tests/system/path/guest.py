"""A guest of the whole system, who sees what any client sees, and the system behind HTTP."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import uuid4

import aiohttp
import psycopg
from psycopg.rows import dict_row

from sandbox.system import System
from tests.support.client import Answer, Client
from tests.support.hotels import HotelsInTables
from tests.support.waiting import MAX_WAIT_SECONDS, wait_until
from topics.catalogue import BOOKING_COMMANDS
from topics.envelope import command_record
from topics.kafka.producer import Producer, open_producer
from topics.kafka.settings import KafkaSettings
from topics.messages.commands import Command, OpenInventory

GOOD_CARD = "4242424242424242"
PASSWORD = "a password that nobody guesses 71"
#: It ends a request that hangs; a slow machine may take nearly as long.
_MAX_REQUEST_SECONDS = 120


@dataclass(frozen=True)
class Room:
    """A room type on sale from today on."""

    hotel_id: int
    id: int


class Guest(Client):
    """One account, logged in."""

    async def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        wait: bool = True,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
        json: Any = None,
        **options: Any,
    ) -> Answer:
        """Send one request until it gets an answer; `wait` asks for the decision, `key` is its Idempotency-Key."""
        body = json if body is None else body
        return await self.ask_until_answered(method, path, body, wait=wait, key=key, headers=headers, **options)

    async def book(self, room: Room, first: int = 10, nights: int = 2, **options: Any) -> Answer:
        """Ask for a stay that begins `first` days from now."""
        return await self.ask("POST", "/v1/bookings/init", json=stay(room, first, nights), **options)

    async def booked(self, room: Room, first: int = 10, nights: int = 2) -> str:
        """Book and return the booking's id."""
        answer = await self.book(room, first, nights)
        assert answer.status == 201, answer
        return str(answer.body["id"])

    async def checkout(self, booking_id: str) -> str:
        """Name a guest, ask for payment and return the hosted page's address."""
        guest = await self.ask("POST", "/v1/users/guests", json={"name": "Ana", "age": 33})
        added = await self.ask("POST", f"/v1/bookings/{booking_id}/addGuests", json=[guest.body["id"]])
        assert added.status == 200, added
        payment = await self.ask("POST", f"/v1/bookings/{booking_id}/payments")
        assert payment.status in {200, 202}, payment
        return payment.body["session_url"] if payment.status == 200 else await self.page(booking_id)

    async def page(self, booking_id: str) -> str:
        """Return the hosted page's address, once it is there: where a machine is slow the answer came before it."""

        async def there() -> str | None:
            url: str | None = (await self.ask("GET", f"/v1/bookings/{booking_id}")).body.get("session_url")
            return url

        return str(await wait_until(there, message=f"booking {booking_id} can be paid"))

    async def pay(self, page: str, card: str = GOOD_CARD) -> int:
        """Pay on the hosted page as a browser would; return the page's status."""
        async with self.session.post(page, data={"card": card}, allow_redirects=False) as response:
            return response.status

    async def status(self, booking_id: str) -> str:
        """Return the booking's status."""
        return str((await self.ask("GET", f"/v1/bookings/{booking_id}/status")).body["booking_status"])

    async def becomes(self, booking_id: str, status: str, seconds: float = MAX_WAIT_SECONDS) -> None:
        """Wait until the booking has this status."""

        async def there() -> bool:
            return await self.status(booking_id) == status

        await wait_until(there, seconds, f"booking {booking_id} becomes {status}")


class House:
    """The system's other side: hotels, the log, the database, and the money at Stripe."""

    def __init__(
        self, system: System, session: aiohttp.ClientSession, producer: Producer, kafka: KafkaSettings
    ) -> None:
        self.system = system
        self.session = session
        self.kafka = kafka
        self._producer = producer

    async def guest(self, url: str | None = None) -> Guest:
        """Sign up and log in."""
        account = {"email": f"{uuid4().hex}@example.org", "password": PASSWORD}
        base = url or self.system.url
        client = Client(self.session, base)
        for path in ("signup", "login"):
            answer = await client.ask_until_answered("POST", f"/v1/auth/{path}", account)
            assert 200 <= answer.status < 300, answer
        return Guest(self.session, base, answer.body["access_token"])

    async def room(self, total: int = 10, price_minor: int = 12_000) -> Room:
        """Describe a hotel with one room type and open its nights for sale."""
        async with await self.connect() as connection:
            hotels = HotelsInTables(connection)
            hotel_id = await hotels.hotel()
            room_id = await hotels.room(hotel_id, base_price_minor=price_minor, total_count=total)
        room = Room(hotel_id, room_id)
        today = datetime.now(UTC).date()
        await self.send(
            OpenInventory(
                room_id=room.id,
                hotel_id=hotel_id,
                first_night=today,
                end_night=today + timedelta(days=365),
                total_count=total,
                price_minor=price_minor,
                currency="EUR",
            )
        )
        await self.eventually("select count(*) >= 365 as so from inventory where room_id = %s", room.id)
        return room

    async def send(self, *commands: Command) -> None:
        """Put commands on the log, as a trusted writer."""
        topic = self.kafka.topic(BOOKING_COMMANDS)
        now = datetime.now(UTC)
        await self._producer.send_all(
            command_record(topic, command, id=str(uuid4()), source="test", time=now) for command in commands
        )

    async def rows(self, query: str, *parameters: object) -> list[dict[str, Any]]:
        """Read the database."""
        async with await self.connect() as connection:
            return await (await connection.execute(query, parameters)).fetchall()

    async def eventually(self, query: str, *parameters: object, seconds: float = MAX_WAIT_SECONDS) -> None:
        """Wait until the query's one value `so` is true."""

        async def so() -> bool:
            [row] = await self.rows(query, *parameters)
            return bool(row["so"])

        await wait_until(so, seconds, query)

    async def payments_are_up_to_date(self) -> None:
        """Wait until the payments worker has applied every event so far; there may be many."""
        await self.eventually(
            """
            select count(*) = %s as so
            from log_cursor decided join log_cursor applied using (partition)
            where decided.consumer = 'reservations' and decided.topic = 'booking.commands'
              and applied.consumer = 'payments' and applied.topic = 'booking.events'
              and applied.sequence >= decided.sequence
            """,
            self.kafka.topic_partitions,
            seconds=2 * MAX_WAIT_SECONDS,
        )

    async def connect(self) -> psycopg.AsyncConnection[dict[str, Any]]:
        """Open a connection to the database."""
        return await psycopg.AsyncConnection.connect(self.system.database_url, autocommit=True, row_factory=dict_row)

    async def stripe(self, method: str, path: str, json: Any = None) -> Any:
        """Send a request to the control interface of the stand-in for Stripe."""
        async with self.session.request(method, self.system.stripe_url + path, json=json) as response:
            return await response.json() if response.content_type == "application/json" else None

    async def money(self, booking_id: str) -> tuple[int, int]:
        """Return the amounts captured and refunded for the booking, in minor units, from the stand-in for Stripe."""
        entries = (await self.stripe("GET", "/_sandbox/ledger"))["payment_intents"]
        mine = [entry for entry in entries if entry["metadata"].get("booking_id") == booking_id]
        return sum(entry["captured_minor"] for entry in mine), sum(entry["refunded_minor"] for entry in mine)


@asynccontextmanager
async def open_house(system: System) -> AsyncIterator[House]:
    """Open a client and a producer for a running system."""
    partitions = system.plan.partitions or 12
    kafka = KafkaSettings(_env_file=None, kafka_url=system.kafka_url, topic_partitions=partitions)
    connector = aiohttp.TCPConnector(limit=0)
    async with (
        aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(_MAX_REQUEST_SECONDS)) as session,
        open_producer(kafka, client_id="test", request_timeout_seconds=MAX_WAIT_SECONDS) as producer,
    ):
        yield House(system, session, producer, kafka)


def stay(room: Room, first: int, nights: int) -> dict[str, Any]:
    """Return the body of a request for a stay."""
    check_in: date = datetime.now(UTC).date() + timedelta(days=first)
    return {
        "hotel_id": room.hotel_id,
        "room_id": room.id,
        "check_in_date": check_in.isoformat(),
        "check_out_date": (check_in + timedelta(days=nights)).isoformat(),
    }


async def together(*requests: Any) -> list[Any]:
    """Send requests at once."""
    return await asyncio.gather(*requests)
