"""Lists Checkout Sessions, refunds, disputes and events at Stripe, page by page, at a limited rate.

Amounts become minor units (ISO 4217) here, at the border: Stripe counts some currencies in units of its own.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import httpx
import msgspec
from aiolimiter import AsyncLimiter

from pricing.charges import from_stripe
from topics.backoff import seconds_after
from topics.messages.values import DisputeResult
from workers.stripe import states
from workers.stripe.marks import MARK
from workers.stripe.settings import STRIPE_VERSION, StripeSettings
from workers.stripe.states import DisputeState, RefundState

MAX_CALLS_PER_SECOND: Final = 25
_PAGE_OBJECTS: Final = 100
_TRIES: Final = 5
_FIRST_RETRY_SECONDS: Final = 0.2
_LIST_TIMEOUT_SECONDS: Final = 20.0
_STRIPE: Final = "https://api.stripe.com"


class StripeUnavailable(Exception):
    """Stripe does not answer, or answers with an error."""


class StripeAway(StripeUnavailable):
    """Stripe did not answer one request, for a reason that may pass."""


@dataclass(frozen=True, kw_only=True)
class Named:
    """The booking and the room that an object's metadata names; `mark` is None for an object without one."""

    booking_id: UUID
    room_id: int
    mark: str | None


@dataclass(frozen=True, kw_only=True)
class Session:
    """A Checkout Session at Stripe that names a booking; `amount_minor` of `currency` (capitals), times in UTC."""

    id: str
    booking_id: UUID
    room_id: int
    attempt: int
    mark: str | None
    status: str
    paid: bool
    amount_minor: int
    currency: str
    payment: str
    url: str | None
    expires_at: datetime


@dataclass(frozen=True, kw_only=True)
class Refund:
    """A refund at Stripe of any payment, in minor units. `named`: the booking in its metadata.

    `by_hand`: its metadata does not show that we made it.
    """

    id: str
    payment: str
    amount_minor: int
    status: str
    failure: str | None
    named: Named | None = None
    by_hand: bool = True

    @property
    def is_effective(self) -> bool:
        """Whether the money was sent back, or is on its way."""
        return self.state != "failed"

    @property
    def state(self) -> RefundState:
        """The status in our words."""
        return states.refund_state(self.status)


@dataclass(frozen=True, kw_only=True)
class Dispute:
    """A dispute at Stripe of any payment; `result` is None while it is open, `reason` is Stripe's word."""

    id: str
    payment: str
    amount_minor: int
    currency: str
    reason: str
    result: DisputeResult | None

    @property
    def state(self) -> DisputeState:
        """The state in our words."""
        return states.dispute_state(self.result)


@dataclass(frozen=True, kw_only=True)
class Event:
    """An event in Stripe's list; `created` in UTC, in whole seconds. `body` is the event in JSON."""

    id: str
    type: str
    created: datetime
    object_id: str | None
    metadata: Mapping[str, Any]
    body: bytes


@dataclass(frozen=True, kw_only=True)
class Transaction:
    """A balance transaction at Stripe, in minor units of `currency` (capitals); below zero where money left.

    `category` is Stripe's reporting category. `currency` is the one in which the account is settled.
    """

    id: str
    amount_minor: int
    currency: str
    category: str


class StripeClient:
    """Reads Stripe's lists, at most so many pages a second."""

    def __init__(self, client: httpx.AsyncClient, calls_per_second: int = MAX_CALLS_PER_SECOND) -> None:
        self._client = client
        self._pace = AsyncLimiter(calls_per_second, time_period=1)

    async def sessions(self, since: datetime | None, until: datetime | None = None) -> AsyncIterator[Session]:
        """Yield the sessions of any installation that were made between two times. Raises StripeUnavailable."""
        async for found in self._list("checkout/sessions", _between(since, until)):
            if (session := _session(found)) is not None:
                yield session

    async def refunds(self, since: datetime | None) -> AsyncIterator[Refund]:
        """Yield all refunds that were made since then. Raises StripeUnavailable."""
        async for found in self._list("refunds", _between(since, None)):
            yield _refund(found)

    async def refunds_of(self, payment: str) -> AsyncIterator[Refund]:
        """Yield the refunds of one payment. Raises StripeUnavailable."""
        async for found in self._list("refunds", {"payment_intent": payment}):
            yield _refund(found)

    async def disputes(self, since: datetime | None) -> AsyncIterator[Dispute]:
        """Yield all disputes, without inquiries, that were opened since then. Raises StripeUnavailable."""
        async for found in self._list("disputes", _between(since, None)):
            if (dispute := _dispute(found)) is not None:
                yield dispute

    async def disputes_of(self, payment: str) -> AsyncIterator[Dispute]:
        """Yield the disputes of one payment. Raises StripeUnavailable."""
        async for found in self._list("disputes", {"payment_intent": payment}):
            if (dispute := _dispute(found)) is not None:
                yield dispute

    async def charge_of(self, payment: str) -> str | None:
        """Return the charge of a payment intent; None where it has none. Raises StripeUnavailable."""
        found = await self._get(f"/v1/payment_intents/{payment}", {})
        charge: str | None = found["latest_charge"]
        return charge

    async def transactions_of(self, source: str) -> AsyncIterator[Transaction]:
        """Yield the balance transactions of a charge, a refund or a dispute, newest first. Raises StripeUnavailable."""
        async for found in self._list("balance_transactions", {"source": source}):
            currency = found["currency"].upper()
            yield Transaction(
                id=found["id"],
                amount_minor=from_stripe(found["amount"], currency),
                currency=currency,
                category=found["reporting_category"],
            )

    async def events(self, types: Sequence[str], since: datetime) -> AsyncIterator[Event]:
        """Yield the events of these types (20 at most) that were made since then, the newest first.

        Stripe lists 30 days, and writes each event in the version of its API at that time, as in a webhook. Raises
        StripeUnavailable.
        """
        named = {f"types[{number}]": type for number, type in enumerate(types)}
        async for found in self._list("events", named | _between(since, None)):
            yield _event(found)

    async def _list(self, path: str, filters: Mapping[str, Any]) -> AsyncIterator[dict[str, Any]]:
        after: dict[str, Any] = {}
        while True:
            page = await self._get(f"/v1/{path}", {**filters, **after, "limit": _PAGE_OBJECTS})
            for found in page["data"]:
                yield found
            if not page["has_more"]:
                return
            after = {"starting_after": page["data"][-1]["id"]}

    async def _get(self, path: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
        for failures in range(1, _TRIES):
            try:
                return await self._get_once(path, parameters)
            except StripeAway:
                await asyncio.sleep(seconds_after(failures, first_seconds=_FIRST_RETRY_SECONDS))
        return await self._get_once(path, parameters)

    async def _get_once(self, path: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
        failed = f"Stripe does not answer {path} (STRIPE_API_KEY, STRIPE_API_URL)"
        async with self._pace:
            try:
                response = await self._client.get(path, params=parameters)
            except httpx.HTTPError as error:
                raise StripeAway(f"{failed}: {type(error).__name__}: {error}") from error
        if response.status_code == httpx.codes.OK:
            body: dict[str, Any] = response.json()
            return body
        may_pass = response.status_code == httpx.codes.TOO_MANY_REQUESTS or response.is_server_error
        raise (StripeAway if may_pass else StripeUnavailable)(
            f"{failed}: {response.status_code}: {response.text[:200]}"
        )


@asynccontextmanager
async def open_stripe(
    settings: StripeSettings, calls_per_second: int = MAX_CALLS_PER_SECOND
) -> AsyncIterator[StripeClient]:
    """Open a client for Stripe, or for the stand-in at `stripe_api_url`."""
    headers = {
        "Authorization": f"Bearer {settings.stripe_api_key.get_secret_value()}",
        "Stripe-Version": STRIPE_VERSION,
    }
    async with httpx.AsyncClient(
        base_url=settings.stripe_api_url or _STRIPE, headers=headers, timeout=_LIST_TIMEOUT_SECONDS
    ) as client:
        yield StripeClient(client, calls_per_second)


def _between(since: datetime | None, until: datetime | None) -> dict[str, int]:
    times = {"created[gte]": since, "created[lte]": until}
    return {name: int(time.timestamp()) for name, time in times.items() if time is not None}


def _named(found: Mapping[str, Any]) -> Named | None:
    """Return the booking that an object's metadata names; None where it names none in our way."""
    metadata = found.get("metadata") or {}
    try:
        return Named(
            booking_id=UUID(metadata["booking_id"]), room_id=int(metadata["room_id"]), mark=metadata.get(MARK) or None
        )
    except (KeyError, ValueError):
        return None


def _session(found: Mapping[str, Any]) -> Session | None:
    """Read a session; None where it is not about a booking."""
    named = _named(found)
    try:
        attempt = int((found.get("metadata") or {})["attempt"])
    except (KeyError, ValueError):
        return None
    if named is None:
        return None
    currency = (found["currency"] or "").upper()
    return Session(
        id=found["id"],
        booking_id=named.booking_id,
        room_id=named.room_id,
        attempt=attempt,
        mark=named.mark,
        status=found["status"],
        paid=states.is_paid(found["payment_status"]),
        amount_minor=from_stripe(found["amount_total"] or 0, currency),
        currency=currency,
        payment=found["payment_intent"] or found["id"],
        url=found.get("url"),
        expires_at=datetime.fromtimestamp(found["expires_at"], UTC),
    )


def _refund(found: Mapping[str, Any]) -> Refund:
    return Refund(
        id=found["id"],
        payment=found.get("payment_intent") or "",
        amount_minor=from_stripe(found["amount"], (found.get("currency") or "").upper()),
        status=found["status"],
        failure=found.get("failure_reason"),
        named=_named(found),
    )


def _dispute(found: Mapping[str, Any]) -> Dispute | None:
    """Read a dispute; None for an inquiry, and for a case that ended before it took any money."""
    currency, status = (found.get("currency") or "").upper(), found["status"]
    took_money = states.took_money(each["amount"] for each in found.get("balance_transactions") or ())
    if states.is_inquiry(status, took_money=took_money):
        return None
    return Dispute(
        id=found["id"],
        payment=found.get("payment_intent") or "",
        amount_minor=from_stripe(found["amount"], currency),
        currency=currency,
        reason=found.get("reason") or "general",
        result=states.dispute_result(status, took_money=took_money),
    )


def _event(found: Mapping[str, Any]) -> Event:
    about = found["data"]["object"]
    return Event(
        id=found["id"],
        type=found["type"],
        created=datetime.fromtimestamp(found["created"], UTC),
        object_id=about.get("id"),
        metadata=about.get("metadata") or {},
        body=msgspec.json.encode(found),
    )
