"""Paid bookings: rooms, payments and the stand-in for Stripe, with a database that can be lost."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import aiohttp
import psycopg
from psycopg.rows import dict_row
from pydantic import SecretStr

from sandbox.stripe import Running, running_stripe
from storage.settings import DatabaseSettings
from tests.operators.decided_log import FIRST, LAST, PRICE, stay
from tests.support.log import Log, open_processor, process_all
from tests.support.waiting import wait_until
from topics.catalogue import BOOKING_COMMANDS, STRIPE_WEBHOOKS
from topics.envelope import Outgoing
from topics.messages.commands import AddGuests, Command, OpenInventory, RequestPayment
from workers import coordination, payments
from workers.payments.caller import Caller
from workers.payments.settings import PaymentSettings
from workers.reservations import handler

ROOM = 1
AMOUNT = 2 * PRICE


@dataclass
class PaidBookings:
    """Room 1 and its payments. `database` is the one to which the workers write now."""

    log: Log
    database: DatabaseSettings
    settings: PaymentSettings
    stand_in: Running
    http: aiohttp.ClientSession

    async def work(self, *commands: Command) -> None:
        """Let rooms and payments process the whole log, and these commands."""
        if commands:
            await self.log.send(*commands)
        for role in (
            handler.build(self.log.settings, self.database),
            payments.build(self.log.settings, self.database, self.settings),
            handler.build(self.log.settings, self.database),
        ):
            async with open_processor(role, self.log, self.database) as processor:
                await process_all(processor, role, self.log)

    async def open(self) -> None:
        """Put the room on sale."""
        await self.work(
            OpenInventory(
                room_id=ROOM,
                hotel_id=1,
                first_night=FIRST,
                end_night=LAST,
                total_count=10,
                price_minor=PRICE,
                currency="EUR",
            )
        )

    async def checkout(self, *bookings: UUID) -> None:
        """Let guests come as far as an open page at Stripe."""
        for booking in bookings:
            await self.log.send(
                stay(booking),
                AddGuests(room_id=ROOM, booking_id=booking, user_id=7, guest_ids=(71,)),
                RequestPayment(room_id=ROOM, booking_id=booking, user_id=7),
            )
        await self.work()
        await self.call()
        await self.work()

    async def move(self, *commands: Command) -> None:
        """Let rooms process these commands about a stay and other rooms, and all that follows in other partitions."""
        await self.work(*commands)
        coordinating = coordination.build(self.log.settings, self.database)
        sent = -1
        while sent != (sent := await self._commands_count()):
            async with open_processor(coordinating, self.log, self.database) as processor:
                await process_all(processor, coordinating, self.log)
            await self.work()

    async def _commands_count(self) -> int:
        return sum(map(len, (await self.log.read(BOOKING_COMMANDS)).values()))

    async def call(self) -> None:
        """Let payments make every call that is due."""
        caller = asyncio.create_task(Caller(self.log.settings, self.database, self.settings).run())

        async def nothing_due() -> bool:
            return not await self.rows(
                "select 1 as due from checkout_session where next_attempt_at is not null"
                " union all select 1 from refund where next_attempt_at is not null"
            )

        try:
            await wait_until(nothing_due, message="nothing is due to Stripe")
        finally:
            caller.cancel()
            await asyncio.gather(caller, return_exceptions=True)

    async def pay(self, booking: UUID) -> str:
        """Let the guest pay the newest session, without a webhook. Return the payment intent."""
        newest = "select session_id from checkout_session where booking_id = %s order by attempt desc limit 1"
        (row,) = await self.rows(newest, booking)
        url = f"{self.stand_in.url}/_sandbox/sessions/{row['session_id']}/pay"
        async with self.http.post(url, json={"card": "4242424242424242"}) as answer:
            assert answer.status == 200
            return str((await answer.json())["payment_intent"])

    async def deliver_webhooks(self) -> None:
        """Deliver all webhooks of Stripe, again if they were delivered before, and let them be processed."""
        bodies = [json.dumps(event).encode() for event in await self.at_stripe("events")]
        topic = self.log.settings.topic(STRIPE_WEBHOOKS)
        await self.log.write(*(Outgoing(topic, b"%d" % ROOM, body, []) for body in bodies))
        await self.work()

    async def refund_by_hand(self, payment: str, amount_minor: int | None = None) -> str:
        """Refund a payment, or a part of it, as in Stripe's own dashboard; return the refund's id."""
        body = {} if amount_minor is None else {"amount_minor": amount_minor}
        return str((await self.act(f"payment_intents/{payment}/refund", body))["id"])

    async def dispute(self, payment: str, **body: Any) -> str:
        """Let the guest's bank dispute a payment; return the dispute's id."""
        return str((await self.act(f"payment_intents/{payment}/dispute", body))["id"])

    async def act(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Act at Stripe as a person or a bank does; return the object."""
        async with self.http.post(f"{self.stand_in.url}/_sandbox/{path}", json=body or {}) as answer:
            assert answer.status == 200, await answer.text()
            found: dict[str, Any] = await answer.json()
            return found

    async def create_at_stripe(self, path: str, **fields: str) -> dict[str, Any]:
        """Create an object as another program with a key of the same account does; return the object."""
        url, key = f"{self.stand_in.url}/v1/{path}", self.settings.stripe_api_key.get_secret_value()
        async with self.http.post(url, data=fields, headers={"Authorization": f"Bearer {key}"}) as answer:
            assert answer.status == 200, await answer.text()
            found: dict[str, Any] = await answer.json()
            return found

    async def at_stripe(self, path: str) -> list[dict[str, Any]]:
        """List objects of Stripe's, the oldest first."""
        url, key = f"{self.stand_in.url}/v1/{path}", self.settings.stripe_api_key.get_secret_value()
        async with self.http.get(url, params={"limit": 100}, headers={"Authorization": f"Bearer {key}"}) as answer:
            return list(reversed((await answer.json())["data"]))

    async def status(self, booking: UUID) -> str:
        """Return a booking's status."""
        (row,) = await self.rows("select status from booking where id = %s", booking)
        return str(row["status"])

    async def rows(self, query: str, *parameters: Any) -> list[dict[str, Any]]:
        """Ask the tables, or change them."""
        async with await psycopg.AsyncConnection.connect(
            self.database.conninfo(), autocommit=True, row_factory=dict_row
        ) as connection:
            found = await connection.execute(query.encode(), parameters)
            return await found.fetchall() if found.description else []


@asynccontextmanager
async def open_paid_bookings(log: Log, database: DatabaseSettings, folder: Path) -> AsyncIterator[PaidBookings]:
    """Open a test's bookings."""
    async with running_stripe(folder / "stripe") as stand_in, aiohttp.ClientSession() as http:
        settings = PaymentSettings(
            _env_file=None,
            stripe_api_key=SecretStr("sk_test_of_the_stand_in"),
            stripe_api_url=stand_in.url,
            frontend_url="http://127.0.0.1:3000",
            stripe_calls_per_second=100,
        )
        paid = PaidBookings(log, database, settings, stand_in, http)
        await paid.open()
        yield paid
