"""A request to Stripe that fails for a moment is made again, and one that Stripe refuses is not."""

import asyncio
from collections.abc import Sequence

import httpx
import pytest

from operators.reconcile.stripe_client import StripeClient, StripeUnavailable

EMPTY = httpx.Response(200, json={"data": [], "has_more": False})
BUSY = httpx.Response(429, text="slow down")
BROKEN = httpx.Response(500, text="sorry")
REFUSED = httpx.Response(401, text="no such key")


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
