"""Requests to Stripe are made again if they failed for a moment, and objects come with our amounts and words."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import httpx
import pytest

from tests.support.stripe_traffic import validated_where_described
from topics.messages.values import DisputeResult
from workers.reconciliation import stripe_client
from workers.reconciliation.stripe_client import Named, StripeClient, StripeUnavailable

EMPTY = httpx.Response(200, json={"data": [], "has_more": False})
BUSY = httpx.Response(429, text="slow down")
BROKEN = httpx.Response(500, text="sorry")
REFUSED = httpx.Response(401, text="no such key")


@pytest.fixture(autouse=True)
def stripe_knows_our_requests() -> Iterator[None]:
    """Validate the requests alone: the answers here have only the fields that are read."""
    with validated_where_described(answers=False):
        yield


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    seconds: list[float] = []

    async def sleep(delay: float) -> None:
        seconds.append(delay)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    return seconds


async def refunds(answers: Sequence[httpx.Response | Exception]) -> int:
    """List the refunds at a Stripe that answers so; return how many requests came."""
    requests: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        found = answers[len(requests) - 1]
        if isinstance(found, Exception):
            raise found
        return found

    async with httpx.AsyncClient(base_url="http://stripe", transport=httpx.MockTransport(answer)) as client:
        assert [refund async for refund in StripeClient(client).refunds(None)] == []
    return len(requests)


async def test_a_request_that_fails_for_a_moment_is_made_again_after_a_longer_wait_each_time(
    slept: list[float],
) -> None:
    assert await refunds([BUSY, BROKEN, httpx.ConnectError("away"), EMPTY]) == 4

    assert slept == [0.2, 0.4, 0.8]


async def test_five_failures_in_a_row_are_reported_without_another_wait(slept: list[float]) -> None:
    with pytest.raises(StripeUnavailable, match=r"/v1/refunds .*: 500: sorry"):
        await refunds([BROKEN] * 5)

    assert slept == [0.2, 0.4, 0.8, 1.6]


async def test_a_request_that_stripe_refuses_is_made_once(slept: list[float]) -> None:
    with pytest.raises(StripeUnavailable, match="401: no such key"):
        await refunds([REFUSED])

    assert slept == []


@asynccontextmanager
async def stripe_with(*objects: dict[str, Any]) -> AsyncIterator[StripeClient]:
    """A Stripe that gives these objects for every list."""
    page = httpx.Response(200, json={"data": objects, "has_more": False})
    async with httpx.AsyncClient(base_url="http://stripe", transport=httpx.MockTransport(lambda _: page)) as client:
        yield StripeClient(client)


METADATA = {"booking_id": str(UUID(int=5)), "room_id": "7", "attempt": "2"}
SESSION = {
    "id": "cs_1",
    "status": "complete",
    "payment_status": "paid",
    "amount_total": 120_000,
    "currency": "isk",
    "payment_intent": "pi_1",
    "expires_at": 1_800_000_000,
}
REFUND = {"id": "re_1", "payment_intent": "pi_1", "amount": 120_000, "currency": "isk", "status": "succeeded"}
DISPUTE = {**REFUND, "id": "du_1", "status": "needs_response", "reason": "fraudulent"}


async def test_amounts_are_in_minor_units_although_stripe_counts_in_units_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stripe_client, "from_stripe", lambda amount, currency: amount // {"ISK": 100}[currency])

    async with stripe_with({**SESSION, "metadata": METADATA}) as client:
        assert [found.amount_minor async for found in client.sessions(None)] == [1_200]
    async with stripe_with(REFUND) as client:
        assert [found.amount_minor async for found in client.refunds(None)] == [1_200]
        assert [found.amount_minor async for found in client.refunds_of("pi_1")] == [1_200]
    async with stripe_with(DISPUTE) as client:
        assert [found.amount_minor async for found in client.disputes(None)] == [1_200]
        assert [found.amount_minor async for found in client.disputes_of("pi_1")] == [1_200]


@pytest.mark.parametrize("metadata", [{}, {"booking_id": "no uuid", "room_id": "7", "attempt": "1"}, None])
async def test_a_session_that_names_no_booking_is_of_another_program(metadata: dict[str, str] | None) -> None:
    async with stripe_with({**SESSION, "metadata": metadata}) as client:
        assert [found async for found in client.sessions(None)] == []


@pytest.mark.parametrize(("payment_status", "paid"), [("paid", True), ("no_payment_required", True), ("unpaid", False)])
async def test_a_session_that_leaves_nothing_to_pay_is_paid(payment_status: str, *, paid: bool) -> None:
    async with stripe_with({**SESSION, "payment_status": payment_status, "metadata": METADATA}) as client:
        assert [found.paid async for found in client.sessions(None)] == [paid]


async def test_a_refund_names_the_booking_of_its_metadata_and_one_by_hand_names_none() -> None:
    async with stripe_with({**REFUND, "metadata": {**METADATA, "mark": "ab"}}, {**REFUND, "metadata": {}}) as client:
        named = [found.named async for found in client.refunds(None)]

    assert named == [Named(booking_id=UUID(int=5), room_id=7, mark="ab"), None]


@pytest.mark.parametrize(
    ("status", "outcome"),
    [("succeeded", "succeeded"), ("pending", "pending"), ("requires_action", "pending")]
    + [(status, "failed") for status in ("failed", "canceled")],
)
async def test_the_states_of_a_refund_are_three(status: str, outcome: str) -> None:
    async with stripe_with({**REFUND, "status": status}) as client:
        assert [found.state async for found in client.refunds(None)] == [outcome]


@pytest.mark.parametrize(
    ("status", "moved", "outcomes"),
    [
        ("needs_response", [-120_000], [None]),
        ("under_review", [-120_000], [None]),
        ("won", [-120_000, 120_000], [DisputeResult.WON]),
        ("lost", [-120_000], [DisputeResult.LOST]),
        ("charge_refunded", [], [DisputeResult.WON]),
        ("warning_needs_response", [], []),
        ("warning_closed", [], []),
        ("prevented", [], []),
        ("prevented", [-120_000], [DisputeResult.LOST]),
    ],
)
async def test_an_inquiry_is_no_dispute_and_an_end_has_an_outcome(
    status: str, moved: list[int], outcomes: list[DisputeResult | None]
) -> None:
    transactions = [{"amount": amount} for amount in moved]
    async with stripe_with({**DISPUTE, "status": status, "balance_transactions": transactions}) as client:
        assert [found.result async for found in client.disputes(None)] == outcomes
