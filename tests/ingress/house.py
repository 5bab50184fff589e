"""A client of the ingress under test, and a stand-in for the worker that decides its commands."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Any
from uuid import UUID, uuid4

import aiohttp
import psycopg
from aiohttp import web
from aiokafka import AIOKafkaConsumer, TopicPartition

from ingress.application import TOKENS
from storage.settings import DatabaseSettings
from tests.support.client import Answer, Client
from tests.support.hotels import HotelsInTables
from tests.support.waiting import MAX_WAIT_SECONDS
from topics.catalogue import BOOKING_COMMANDS, BOOKING_EVENTS, Topic
from topics.envelope import (
    Envelope,
    Outgoing,
    decode_envelope,
    decode_value,
    encode_headers,
    encode_value,
)
from topics.kafka.producer import Producer, open_producer
from topics.kafka.settings import KafkaSettings
from topics.messages.events import BookingEvent, Event
from topics.messages.message import Message
from topics.messages.values import StayTimes

_NOW = datetime.now(UTC)
TODAY = _NOW.date()
#: A time zone where it is noon, so that tests which begin today do not end tomorrow.
NOON = f"Etc/GMT{_NOW.hour - 12:+d}"
#: The times of hotel 1.
STAY_TIMES = StayTimes(time_zone=NOON, check_in_time=time(15), check_out_time=time(11))
#: The longest wait that a request may ask for: the decision comes long before, even on a slow machine.
WAIT = {"Prefer": "wait=30"}
STAY = {
    "hotel_id": 1,
    "room_id": 1,
    "check_in_date": str(TODAY + timedelta(days=10)),
    "check_out_date": str(TODAY + timedelta(days=12)),
}


@dataclass(frozen=True)
class LoggedCommand:
    """A command as it is on the log."""

    envelope: Envelope
    message: Message
    key: bytes
    partition: int


class House(Client):
    """A client of one ingress that can be any user, with the ingress' application at hand."""

    def __init__(self, session: aiohttp.ClientSession, app: web.Application) -> None:
        super().__init__(session)
        self.app = app

    @property
    def address(self) -> str:
        """The ingress' own address."""
        return str(self.session._base_url).rstrip("/")

    def user_header(self, user_id: int) -> dict[str, str]:
        """Return the header of a user who has logged in."""
        return self.header_of(user_id, "GUEST")

    def manager_header(self, user_id: int) -> dict[str, str]:
        """Return the header of a hotel manager who has logged in."""
        return self.header_of(user_id, "GUEST", "HOTEL_MANAGER")

    def header_of(self, user_id: int, *roles: str) -> dict[str, str]:
        """Return the header of a user with these roles who has logged in."""
        return {"Authorization": f"Bearer {self.app[TOKENS].issue(user_id, roles)}"}

    async def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        user: int | None = None,
        headers: Mapping[str, str] | None = None,
        **options: Any,
    ) -> Answer:
        """Send one request, as a user if one is given."""
        sent = dict(headers or {}) | ({} if user is None else self.user_header(user))
        return await super().ask(method, path, body, headers=sent, **options)

    async def is_ready(self) -> bool:
        """Whether the ingress reports that it can take bookings."""
        return (await self.get("/health/ready")).status == 200


class StandInWorker:
    """Stands in for the reservations worker: reads commands, writes bookings, and publishes the events of a test."""

    def __init__(
        self,
        settings: KafkaSettings,
        consumer: AIOKafkaConsumer,
        producer: Producer,
        connection: psycopg.AsyncConnection,
    ) -> None:
        self._settings = settings
        self._consumer = consumer
        self._producer = producer
        self.connection = connection
        self._sequence = 0

    async def next_command(self) -> LoggedCommand:
        """Return the next command that the log has."""
        record = await self._consumer.getone()
        envelope = decode_envelope(record.headers)
        return LoggedCommand(envelope, decode_value(envelope.type, record.value), record.key, record.partition)

    async def publish(self, command: LoggedCommand, event: Event) -> None:
        """Publish an event that answers this command, to the partition of the command's number."""
        self._sequence += 1
        envelope = Envelope(
            id=f"{command.envelope.id}:{self._sequence}",
            type=event.message_type,
            source="innkeeper/reservations",
            subject=str(event.booking_id) if isinstance(event, BookingEvent) else event.subject,
            time=datetime.now(UTC),
            causation=command.envelope.id,
            correlation=command.envelope.correlation,
            sequence=self._sequence,
        )
        await self._producer.send(
            Outgoing(
                self._settings.topic(BOOKING_EVENTS),
                command.key,
                encode_value(event),
                encode_headers(envelope),
                command.partition,
            )
        )

    async def write_booking(self, booking_id: UUID, user_id: int | None, status: str, **columns: Any) -> None:
        """Write a booking into the ledger."""
        row = {
            "id": booking_id,
            "user_id": user_id,
            "hotel_id": 1,
            "room_id": 1,
            "check_in": STAY["check_in_date"],
            "check_out": STAY["check_out_date"],
            "rooms_count": 1,
            "status": status,
            "terms": "prepaid",
            "amount_minor": 24000,
            "currency": "EUR",
            "version": 1,
            "created_at": datetime.now(UTC),
            "updated_at": datetime.now(UTC),
        } | columns
        names, values = ", ".join(row), ", ".join(f"%({name})s" for name in row)
        await self.connection.execute(f"insert into booking ({names}) values ({values})".encode(), row)

    async def add_booking(self, user_id: int, status: str = "RESERVED", **columns: Any) -> UUID:
        """Write a booking of this user without a command; return its id."""
        booking_id = uuid4()
        await self.write_booking(booking_id, user_id, status, **columns)
        return booking_id


@asynccontextmanager
async def open_stand_in_worker(settings: KafkaSettings, database: DatabaseSettings) -> AsyncIterator[StandInWorker]:
    """Stand in for the reservations worker for as long as the block lasts."""
    consumer = await open_reader(settings, BOOKING_COMMANDS)
    try:
        async with (
            open_producer(settings, client_id="test-worker", request_timeout_seconds=MAX_WAIT_SECONDS) as producer,
            await psycopg.AsyncConnection.connect(database.conninfo(), autocommit=True) as connection,
        ):
            yield StandInWorker(settings, consumer, producer, connection)
    finally:
        await consumer.stop()


async def open_reader(settings: KafkaSettings, topic: Topic) -> AIOKafkaConsumer:
    """Return a consumer at the beginning of a topic."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.kafka_url, auto_offset_reset="earliest", fetch_max_wait_ms=50
    )
    await consumer.start()
    name = settings.topic(topic)
    consumer.assign([TopicPartition(name, number) for number in range(settings.topic_partitions)])
    await consumer.seek_to_beginning()
    return consumer


async def open_hotel(database: DatabaseSettings) -> None:
    """Write users 1 and 2, hotel 1 with room 1 (two guests), and hotel 2, which is not active, with room 2."""
    async with await psycopg.AsyncConnection.connect(database.conninfo(), autocommit=True) as connection:
        await connection.execute(
            "insert into app_user (email, password_hash) values ('one@example.com', 'x'), ('two@example.com', 'x')"
        )
        hotels = HotelsInTables(connection)
        for name, active in (("Inn", True), ("Closed", False)):
            await hotels.hotel(name=name, city="Bern", active=active, time_zone=NOON)
        await hotels.room(1)
        await hotels.room(2, type="single", base_price_minor=8_000, capacity=1)
        for number, price_minor in ((10, 12_000), (11, 11_001)):
            await hotels.night(1, 1, TODAY + timedelta(days=number), price_minor=price_minor, surge_milli=1500)
