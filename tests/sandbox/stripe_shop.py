"""A shop that takes payments through the stand-in, with Stripe's own SDK and a webhook endpoint of its own."""

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import stripe
from aiohttp import web

from sandbox.stripe import Running, Settings, running_stripe

SECRET = "whsec_of_the_shop"
GOOD_CARD = "4242424242424242"
DECLINED_CARD = "4000000000000002"
LATE_DEBIT = "AT321904300235473204"
FAILING_DEBIT = "AT861904300235473202"
DISPUTED_CARD = "4000000000000259"
INQUIRED_CARD = "4000000000001976"
PENDING_REFUND_CARD = "4000000000007726"
FAILING_REFUND_CARD = "4000000000005126"

stripe.enable_telemetry = False

SDK_IS_OLD_FASHIONED = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
"""The SDK hands its form to httpx in a way that httpx no longer likes."""


@dataclass
class Endpoint:
    """The endpoint of webhooks. It verifies every signature and can refuse what comes."""

    url: str = ""
    events: list[stripe.Event] = field(default_factory=list)
    signatures: list[str] = field(default_factory=list)
    refusals: int = 0

    async def receive(self, request: web.Request) -> web.Response:
        """Take a delivery or refuse it; a wrong signature raises."""
        body, signature = await request.read(), request.headers["Stripe-Signature"]
        event = stripe.Webhook.construct_event(body, signature, SECRET)
        self.signatures.append(signature)
        if self.refusals > 0:
            self.refusals -= 1
            return web.Response(status=500)
        self.events.append(event)
        return web.Response(status=200)

    def types(self) -> list[str]:
        """Return the types of the events, in the order of arrival."""
        return [event.type for event in self.events]

    def received(self, event_type: str) -> Any:
        """The object of the first event of a type; false while there is none."""
        return next((e.data.object for e in self.events if e.type == event_type), None)


@dataclass(kw_only=True)
class Shop:
    """The stand-in, and the shop's sides of it."""

    stand_in: Running
    endpoint: Endpoint
    http: aiohttp.ClientSession
    client: stripe.StripeClient

    @property
    def sessions(self) -> Any:
        """The SDK's service of Checkout Sessions."""
        return self.client.v1.checkout.sessions

    @property
    def refunds(self) -> Any:
        """The SDK's service of refunds."""
        return self.client.v1.refunds

    @property
    def disputes(self) -> Any:
        """The SDK's service of disputes."""
        return self.client.v1.disputes

    async def open(self, key: str | None = None, **changes: Any) -> Any:
        """Open a session for one stay of 120.00 euros."""
        return await self.sessions.create_async(stay_params(**changes), {"idempotency_key": key} if key else {})

    async def pay(self, session: Any, card: str = GOOD_CARD, **more: Any) -> int:
        """Pay by script; gives the HTTP status."""
        url = f"{self.stand_in.url}/_sandbox/sessions/{session.id}/pay"
        async with self.http.post(url, json={"card": card, **more}) as answer:
            return answer.status

    async def paid(self, **changes: Any) -> Any:
        """Give a session that was opened and paid."""
        card = changes.pop("card", GOOD_CARD)
        session = await self.open(**changes)
        await self.pay(session, card)
        return await self.sessions.retrieve_async(session.id)

    async def plan(self, *rules: dict[str, Any]) -> int:
        """Add to the fault plan; gives the HTTP status."""
        async with self.http.post(f"{self.stand_in.url}/_sandbox/faults", json=list(rules)) as answer:
            return answer.status

    async def act(self, path: str, expected: int = 200, **body: Any) -> Any:
        """Do what a bank or a person in the dashboard does; gives the answer, whose status is checked."""
        async with self.http.post(f"{self.stand_in.url}/_sandbox/{path}", json=body) as answer:
            assert answer.status == expected, await answer.text()
            return await answer.json()

    async def dispute(self, payment: str, **body: Any) -> Any:
        """Let the guest's bank dispute a payment."""
        return await self.act(f"payment_intents/{payment}/dispute", **body)

    async def money_of(self, payment: str) -> Any:
        """Return a payment's row of the ledger."""
        ledger = await self.read("/_sandbox/ledger")
        return next(row for row in ledger["payment_intents"] if row["payment_intent"] == payment)

    async def read(self, path: str) -> Any:
        """Read the state of the stand-in."""
        async with self.http.get(self.stand_in.url + path) as answer:
            return await answer.json()


def stay_params(**changes: Any) -> dict[str, Any]:
    """Return the parameters with which the shop has a stay of 120.00 euros paid."""
    params: dict[str, Any] = {
        "mode": "payment",
        "client_reference_id": "booking-1",
        "line_items": [
            {
                "price_data": {"currency": "eur", "unit_amount": 6000, "product_data": {"name": "Sea view"}},
                "quantity": 2,
            }
        ],
        "metadata": {"booking_id": "booking-1", "room_id": "room-7"},
        "payment_intent_data": {"metadata": {"booking_id": "booking-1", "room_id": "room-7"}},
        "allowed_payment_method_types": ["card"],
        "success_url": "http://127.0.0.1:9/thanks?session={CHECKOUT_SESSION_ID}",
        "cancel_url": "http://127.0.0.1:9/basket",
        "expires_at": int(time.time()) + 31 * 60,
    }
    return {name: value for name, value in (params | changes).items() if value is not None}


@asynccontextmanager
async def open_shop(folder: Path, settings: Settings | None = None) -> AsyncIterator[Shop]:
    async with open_endpoint() as endpoint, open_shop_with(folder, endpoint, settings) as shop:
        yield shop


@asynccontextmanager
async def open_shop_with(folder: Path, endpoint: Endpoint, settings: Settings | None = None) -> AsyncIterator[Shop]:
    chosen = replace(settings or Settings(), webhook_url=endpoint.url, webhook_secret=SECRET, first_retry_seconds=0.05)
    async with running_stripe(folder, chosen) as running, aiohttp.ClientSession() as http, sdk(running.url) as client:
        yield Shop(stand_in=running, endpoint=endpoint, http=http, client=client)


@asynccontextmanager
async def sdk(url: str, key: str = "sk_test_shop", timeout_seconds: float = 60) -> AsyncIterator[stripe.StripeClient]:
    """Stripe's SDK as the payments worker uses it."""
    http = stripe.HTTPXClient(timeout=timeout_seconds)
    yield stripe.StripeClient(key, base_addresses={"api": url}, http_client=http, max_network_retries=2)
    await http.close_async()  # type: ignore[no-untyped-call]


@asynccontextmanager
async def open_endpoint() -> AsyncIterator[Endpoint]:
    endpoint = Endpoint()
    app = web.Application()
    app.router.add_post("/webhooks/stripe", endpoint.receive)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    endpoint.url = f"http://{host}:{port}/webhooks/stripe"
    yield endpoint
    await runner.cleanup()


def error_of(raised: stripe.StripeError) -> dict[str, Any]:
    """The error object as it was sent."""
    error: dict[str, Any] = json.loads(str(raised.http_body))["error"]
    return error
