"""The payments desk of a test: a real database and log, the stand-in for Stripe, and callers that come and go."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID, uuid4

import aiohttp
import msgspec
import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from sandbox.stripe import Running
from storage import installation
from storage.cursors import Cursor, CursorKey
from storage.settings import DatabaseSettings
from tests.support.log import Log
from tests.support.waiting import MAX_WAIT_SECONDS, wait_until
from topics.catalogue import BOOKING_COMMANDS, BOOKING_EVENTS, STRIPE_WEBHOOKS, Topic
from topics.envelope import Envelope, Outgoing, decode_envelope, decode_value
from topics.messages.events import (
    BookingEvent,
    ChangeEnded,
    PaymentRequested,
    RefundFailed,
    RefundRequested,
    StayBefore,
    StayChanged,
)
from topics.messages.message import Message
from topics.messages.values import ChangeEnd, RefundReason
from workers.decisions import Payment, RefundMade
from workers.payments.caller import IN_PRODUCTION, Caller, CallerDependencies
from workers.payments.consumer import Payments
from workers.payments.gateway import open_gateway
from workers.payments.pending_calls import CallContext, calls_for
from workers.payments.settings import PaymentSettings
from workers.runtime.role import PartitionBatch, Received
from workers.stripe.marks import Marks
from workers.stripe.objects import BookingRef

ROOM = 7
CHANGE_ID = UUID(int=99)
GOOD_CARD = "4242424242424242"


@dataclass
class Written:
    """A record as the Kafka client would hand it over."""

    value: bytes | None
    topic: str = "test"
    partition: int = 0
    offset: int = 0
    timestamp: int = 0
    key: bytes | None = None
    headers: Sequence[tuple[str, bytes]] = ()


@dataclass
class Clock:
    """A clock that a test moves, in seconds."""

    now: float = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds


@dataclass
class Desk:
    """One test's payments, on both sides of Stripe's counter."""

    log: Log
    database: DatabaseSettings
    connection: psycopg.AsyncConnection[dict[str, Any]]
    stand_in: Running
    settings: PaymentSettings
    http: aiohttp.ClientSession
    marks: Marks
    clock: Clock = field(default_factory=Clock)
    """The clock of the callers' circuit breakers."""
    consumer: Payments = field(init=False)

    def __post_init__(self) -> None:
        self.consumer = Payments(self.log.settings, self.settings)

    # The log's side.

    async def read_events(self, *events: BookingEvent, at: datetime | None = None) -> None:
        """Hand events to the consumer in one transaction."""
        assert await self._handle(BOOKING_EVENTS, [_received(event, at or datetime.now(UTC)) for event in events]) == []

    async def webhooks(self, *bodies: bytes | None) -> list[tuple[Envelope, Message]]:
        """Hand webhooks to the consumer in one transaction; return the commands that it asks to publish."""
        now = datetime.now(UTC)
        received = [Received(None, None, Written(body, offset=at), now) for at, body in enumerate(bodies)]
        return [_read(record.headers, record.value) for record in await self._handle(STRIPE_WEBHOOKS, received)]

    async def _handle(self, topic: Topic, received: list[Received]) -> list[Outgoing]:
        cursor = Cursor(CursorKey("payments", topic.name, 0, 1), -1, -1, 0, None, None)
        run = PartitionBatch(topic=topic, partition=0, cursor=cursor, received=received)
        async with (
            await psycopg.AsyncConnection.connect(self.database.conninfo(), autocommit=True) as connection,
            connection.transaction(),
        ):
            (outgoing,) = await self.consumer.handle(connection, [run])
            return list(outgoing)

    async def commands(self) -> list[tuple[Envelope, Message]]:
        """Return the records of `booking.commands`."""
        places = await self.log.read(BOOKING_COMMANDS)
        return [_read(record.headers, record.value) for records in places.values() for record in records]

    async def sent(self, kind: type[Message]) -> dict[str, Message]:
        """Return the commands of one kind by their ids: one that was sent twice is there once."""
        return {envelope.id: command for envelope, command in await self.commands() if isinstance(command, kind)}

    # Our side of the counter.

    @asynccontextmanager
    async def caller(self, count: int = 1, dependencies: CallerDependencies = IN_PRODUCTION) -> AsyncIterator[Caller]:
        """Let callers work for as long as the block lasts; yield one of them."""
        callers = [
            Caller(self.log.settings, self.database, self.settings, clock=self.clock, dependencies=dependencies)
            for _ in range(count)
        ]
        tasks = [asyncio.create_task(caller.run()) for caller in callers]
        try:
            yield callers[0]
        finally:
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(isinstance(end, asyncio.CancelledError) for end in ended), ended

    async def sessions(self, booking_id: UUID | None = None) -> list[dict[str, Any]]:
        """Return our rows of sessions, of all bookings or one, by attempt."""
        return await self._rows("checkout_session", "attempt", booking_id)

    async def refunds(self, booking_id: UUID | None = None) -> list[dict[str, Any]]:
        """Return our rows of refunds."""
        return await self._rows("refund", "payment_intent", booking_id)

    async def refund_objects(self, booking_id: UUID | None = None) -> list[dict[str, Any]]:
        """Return our rows of refunds at Stripe, the oldest first."""
        return await self._rows("payment_refund", "created_at, refund_id", booking_id)

    async def disputes(self, booking_id: UUID | None = None) -> list[dict[str, Any]]:
        """Return our rows of disputes."""
        return await self._rows("payment_dispute", "dispute_id", booking_id)

    async def kept(self) -> int:
        """Return how many objects wait for their payment to become known."""
        return len(await (await self.connection.execute("select from unattributed_object")).fetchall())

    async def refunds_are_due_now(self) -> None:
        """Let the time until the next call of refunds pass, unless a caller works on them."""
        await self.connection.execute("update refund set next_attempt_at = now() where next_attempt_at is not null")

    async def add_to_ledger(self, booking_id: UUID, *payments: Payment, hotel: str = "Sea View") -> None:
        """Add a booking of room 7 with its hotel, or replace the booking's payments."""
        await self.connection.execute(
            "insert into hotel (id, name, city, currency) overriding system value values (3, %s, 'Lisbon', 'EUR')"
            " on conflict do nothing",
            (hotel,),
        )
        await self.connection.execute(
            "insert into room (id, hotel_id, type, base_price_minor, total_count, capacity) overriding system value"
            " values (%s, 3, 'Double room', 8000, 5, 2) on conflict do nothing",
            (ROOM,),
        )
        await self.connection.execute(
            "insert into booking (id, room_id, hotel_id, user_id, check_in, check_out, rooms_count, status, terms,"
            " amount_minor, currency, payment_attempt, payments, version, created_at, updated_at)"
            " values (%s, %s, 3, 1, '2030-12-24', '2030-12-27', 2, 'CONFIRMED', 'prepaid', 24000, 'EUR', 1, %s, 1,"
            " now(), now()) on conflict (id) do update set payments = excluded.payments",
            (booking_id, ROOM, Jsonb(msgspec.to_builtins(payments))),
        )

    async def add_trip(self, trip_id: UUID, *leg_ids: UUID) -> None:
        """Add a trip to the ledger, with a leg for each id."""
        for booking_id in (trip_id, *leg_ids):
            await self.add_to_ledger(booking_id)
        legs = [{"booking_id": str(leg_id), "room_id": ROOM, "rooms_count": 2} for leg_id in leg_ids]
        await self.connection.execute(
            "update booking set legs = %s, rooms_count = 0, amount_minor = %s where id = %s",
            (Jsonb(legs), 24_000 * len(legs), trip_id),
        )

    async def hold_change(self, booking_id: UUID, attempt: int | None) -> None:
        """Let a booking of the ledger have a change that waits to be paid in an attempt; None: it has ended."""
        stay = {
            "check_in": "2030-12-24",
            "check_out": "2030-12-28",
            "rooms_count": 2,
            "amount_minor": 32_000,
            "night_amounts_minor": [8_000] * 4,
            "sale": None,
        }
        change = {"id": str(CHANGE_ID), "stay": stay, "extra_minor": 8_000, "attempt": attempt}
        await self.connection.execute(
            "update booking set pending_change = %s where id = %s",
            (None if attempt is None else Jsonb(change), booking_id),
        )

    async def _rows(self, table: str, order: str, booking_id: UUID | None) -> list[dict[str, Any]]:
        query = f"select * from {table} where %s::uuid is null or booking_id = %s order by {order}"
        return await (await self.connection.execute(query, (booking_id, booking_id))).fetchall()

    async def until_session(self, status: str, booking_id: UUID, seconds: float = MAX_WAIT_SECONDS) -> dict[str, Any]:
        """Wait until the booking's last session has this status and no pending call; return its row."""
        return await self._until(status, lambda: self.sessions(booking_id), seconds)

    async def until_refund(self, status: str, booking_id: UUID, seconds: float = MAX_WAIT_SECONDS) -> dict[str, Any]:
        """Wait until the booking's refund has this status and no pending call; return its row."""
        return await self._until(status, lambda: self.refunds(booking_id), seconds)

    async def _until(
        self, status: str, rows: Callable[[], Awaitable[list[dict[str, Any]]]], seconds: float
    ) -> dict[str, Any]:
        async def settled() -> dict[str, Any]:
            row = (await rows())[-1]
            assert (row["status"], row["next_attempt_at"]) == (status, None)
            return row

        return await wait_until(settled, seconds)

    # Stripe's side of it.

    async def plan(self, *rules: dict[str, Any]) -> None:
        """Add to the stand-in's fault plan."""
        async with self.http.post(f"{self.stand_in.url}/_sandbox/faults", json=list(rules)) as answer:
            assert answer.status == 201, await answer.text()

    async def end_of_faults(self) -> None:
        """Forget the fault plan."""
        async with self.http.delete(f"{self.stand_in.url}/_sandbox/faults") as answer:
            assert answer.status < 300, await answer.text()

    async def pay(self, session_id: str, card: str = GOOD_CARD) -> dict[str, Any]:
        """Pay a session as its guest; return the session."""
        url = f"{self.stand_in.url}/_sandbox/sessions/{session_id}/pay"
        async with self.http.post(url, json={"card": card}) as answer:
            paid: dict[str, Any] = await answer.json()
            return paid

    async def at_stripe(self, path: str) -> list[dict[str, Any]]:
        """List objects of the API, the oldest first."""
        url, key = f"{self.stand_in.url}/v1/{path}", self.settings.stripe_api_key.get_secret_value()
        async with self.http.get(url, params={"limit": 100}, headers={"Authorization": f"Bearer {key}"}) as answer:
            return list(reversed((await answer.json())["data"]))

    async def events(self) -> list[bytes]:
        """Return the events that Stripe would have posted so far, the oldest first."""
        return [json.dumps(event).encode() for event in await self.at_stripe("events")]

    async def paid_booking(self) -> tuple[UUID, str]:
        """Return a booking that was paid at Stripe, and its payment intent; no webhook reports it."""
        booking_id = uuid4()
        params: dict[str, Any] = (await self._params_of(booking_id)) | {
            "expires_at": int(self.stand_in.clock.now()) + 40 * 60
        }
        async with open_gateway(self.settings) as gateway:
            session = await gateway._sessions.create_async(params, {"idempotency_key": str(uuid4())})  # type: ignore[arg-type]
        return booking_id, (await self.pay(session.id))["payment_intent"]

    async def at_bank(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Do what a person or a bank does at Stripe; return the object."""
        async with self.http.post(f"{self.stand_in.url}/_sandbox/{path}", json=body or {}) as answer:
            assert answer.status == 200, await answer.text()
            changed: dict[str, Any] = await answer.json()
            return changed

    async def refund_by_hand(self, payment_intent: str, amount_minor: int) -> str:
        """Refund a part of a payment in Stripe's dashboard; return the refund's id."""
        refund = await self.at_bank(f"payment_intents/{payment_intent}/refund", {"amount_minor": amount_minor})
        return str(refund["id"])

    async def left_stripe(self, payment_intent: str) -> int:
        """Return the sum that went back to the guest, as the stand-in's books count it."""
        async with self.http.get(f"{self.stand_in.url}/_sandbox/ledger") as answer:
            payments = (await answer.json())["payment_intents"]
        return next(int(each["refunded_minor"]) for each in payments if each["payment_intent"] == payment_intent)

    def metadata(self, booking_id: UUID, attempt: int = 0) -> dict[str, str]:
        """Return the metadata of our objects about a booking."""
        return BookingRef(booking_id, ROOM, attempt).metadata(self.marks)

    def context(self) -> CallContext:
        """Return what goes into the parameters of our calls."""
        return CallContext(marks=self.marks, frontend_url=self.settings.frontend_url)

    async def _params_of(self, booking_id: UUID) -> dict[str, Any]:
        event = payment_requested(booking_id)
        received = _received(event, datetime.now(UTC))
        assert received.envelope is not None
        _, session = calls_for(event, received.envelope, received.time, context=self.context())
        return session.params  # type: ignore[union-attr]


@asynccontextmanager
async def open_desk(
    log: Log, database: DatabaseSettings, stand_in: Running, settings: PaymentSettings
) -> AsyncIterator[Desk]:
    """Open a test's desk."""
    async with (
        await psycopg.AsyncConnection.connect(database.conninfo(), autocommit=True, row_factory=dict_row) as connection,
        aiohttp.ClientSession() as http,
    ):
        async with await psycopg.AsyncConnection.connect(database.conninfo()) as reader:
            marks = Marks(settings.payment_mark_key.get_secret_value(), await installation.read(reader))
        yield Desk(log, database, connection, stand_in, settings, http, marks)


def payment_requested(booking_id: UUID, attempt: int = 1, amount_minor: int = 24_000) -> PaymentRequested:
    """The guest wants to pay."""
    return PaymentRequested(
        room_id=ROOM, booking_id=booking_id, attempt=attempt, amount_minor=amount_minor, currency="EUR"
    )


def refund_requested(
    booking_id: UUID, payment_intent: str, amount_minor: int = 24_000, total_minor: int | None = None
) -> RefundRequested:
    """The money goes back."""
    return RefundRequested(
        room_id=ROOM,
        booking_id=booking_id,
        session_id="cs_1",
        payment_intent=payment_intent,
        amount_minor=amount_minor,
        currency="EUR",
        reason=RefundReason.NIGHTS_GONE,
        total_minor=total_minor,
    )


def refund_failed(booking_id: UUID, payment_intent: str, refund: RefundMade) -> RefundFailed:
    """The room has recorded that the refund failed."""
    return RefundFailed(
        room_id=ROOM,
        booking_id=booking_id,
        payment_intent=payment_intent,
        refund_id=refund.refund_id,
        amount_minor=refund.amount_minor,
        failure="declined",
        by_hand=refund.by_hand,
    )


def change_ended(booking_id: UUID) -> ChangeEnded:
    """The change of the stay does not take place."""
    return ChangeEnded(room_id=ROOM, booking_id=booking_id, change_id=CHANGE_ID, reason=ChangeEnd.EXPIRED)


def stay_changed(booking_id: UUID, session_id: str | None = None, payment_intent: str | None = None) -> StayChanged:
    """The stay is a night longer, which a payment paid or which costs nothing."""
    nights: dict[str, Any] = {"check_in": date(2030, 12, 24), "rooms_count": 2}
    return StayChanged(
        room_id=ROOM,
        booking_id=booking_id,
        change_id=CHANGE_ID,
        **nights,
        check_out=date(2030, 12, 28),
        amount_minor=32_000,
        currency="EUR",
        night_amounts_minor=(8_000,) * 4,
        before=StayBefore(**nights, check_out=date(2030, 12, 27), amount_minor=24_000),
        extra_minor=0 if payment_intent is None else 8_000,
        session_id=session_id,
        payment_intent=payment_intent,
    )


def _received(event: BookingEvent, at: datetime) -> Received:
    envelope = Envelope(
        id=f"{uuid4()}:0",
        type=event.message_type,
        source="innkeeper/reservations",
        subject=str(event.booking_id),
        time=at,
        correlation=f"request of {event.booking_id}",
    )
    return Received(envelope, event, Written(None), at)


def _read(headers: Sequence[tuple[str, bytes]], value: bytes | None) -> tuple[Envelope, Message]:
    envelope = decode_envelope(headers)
    return envelope, decode_value(envelope.type, value)
