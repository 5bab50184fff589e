"""Bad days at the stand-in, as Stripe's SDK lives through them."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import stripe

from tests.sandbox.stripe_shop import SDK_IS_OLD_FASHIONED, Shop, open_shop, sdk, stay_params
from tests.support.waiting import wait_until

OPENING = "POST /v1/checkout/sessions"

pytestmark = SDK_IS_OLD_FASHIONED


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    async with open_shop(tmp_path) as shop:
        yield shop


async def test_a_lost_answer_is_asked_for_again_and_opens_one_session(shop: Shop) -> None:
    await shop.plan({"match": OPENING, "fault": "answer_lost"})

    session = await shop.open()

    assert session.last_response.headers["idempotent-replayed"] == "true"
    assert [s.id for s in (await shop.sessions.list_async()).data] == [session.id]


async def test_an_answer_that_is_cut_is_asked_for_again_and_opens_one_session(shop: Shop) -> None:
    await shop.plan({"match": OPENING, "fault": "answer_cut"})

    session = await shop.open()

    assert session.last_response.headers["idempotent-replayed"] == "true"
    assert [s.id for s in (await shop.sessions.list_async()).data] == [session.id]


async def test_a_cut_answer_has_a_head_and_half_of_its_body(shop: Shop) -> None:
    await shop.plan({"match": "GET /v1/checkout/sessions", "fault": "answer_cut"})
    headers = {"Authorization": "Bearer sk_test_shop"}

    async with shop.http.get(f"{shop.stand_in.url}/v1/checkout/sessions", headers=headers) as answer:
        read = await answer.content.read(10)
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.read()

    assert (answer.status, read[:1]) == (200, b"{")


async def test_a_reset_connection_is_tried_again(shop: Shop) -> None:
    await shop.plan({"match": "POST *", "fault": "reset", "times": 2})

    session = await shop.open()

    assert "idempotent-replayed" not in session.last_response.headers


async def test_a_connection_that_is_always_reset_is_an_error(shop: Shop) -> None:
    await shop.plan({"match": "* /v1/*", "fault": "reset", "times": None})

    with pytest.raises(stripe.APIConnectionError):
        await shop.sessions.list_async()


async def test_a_server_error_is_remembered_under_its_key(shop: Shop) -> None:
    await shop.plan({"match": OPENING, "fault": "status", "status": 500})

    with pytest.raises(stripe.APIError) as raised:
        await shop.open(key="one")

    assert raised.value.http_status == 500
    assert raised.value.headers is not None
    assert raised.value.headers["idempotent-replayed"] == "true"
    assert (await shop.open(key="two")).status == "open"


async def test_a_server_error_before_the_work_began_is_not_remembered(shop: Shop) -> None:
    await shop.plan({"match": OPENING, "fault": "status", "status": 503, "saved": False})

    assert (await shop.open(key="one")).status == "open"


async def test_too_many_requests_are_refused_at_once_and_not_remembered(shop: Shop) -> None:
    await shop.plan({"match": OPENING, "fault": "status", "status": 429})

    with pytest.raises(stripe.RateLimitError):
        await shop.open(key="one")

    assert (await shop.open(key="one")).status == "open"


async def test_a_request_that_hangs_ends_by_the_callers_patience(shop: Shop) -> None:
    await shop.plan({"match": OPENING, "fault": "hang", "times": 3})

    async with sdk(shop.stand_in.url, timeout_seconds=0.2) as hasty:
        with pytest.raises(stripe.APIConnectionError):
            await hasty.v1.checkout.sessions.create_async(stay_params())  # type: ignore[arg-type]

    assert (await shop.sessions.list_async()).data == []


async def test_a_slow_request_does_its_work_though_nobody_waits(shop: Shop) -> None:
    await shop.plan({"match": OPENING, "fault": "latency", "seconds": 3600})
    hasty = asyncio.create_task(shop.open(key="one", expires_at=None))
    await wait_until(lambda: not shop.stand_in.till.faults.as_json())
    hasty.cancel()
    await asyncio.wait([hasty])

    await _clear(shop)

    [session] = await wait_until(lambda: _opened(shop))
    again = await shop.open(key="one", expires_at=None)
    assert (again.id, again.last_response.headers["idempotent-replayed"]) == (session.id, "true")


async def _clear(shop: Shop) -> None:
    await (await shop.http.delete(f"{shop.stand_in.url}/_sandbox/faults")).read()


async def _opened(shop: Shop) -> list[Any]:
    found: list[Any] = (await shop.sessions.list_async()).data
    return found


async def test_a_key_in_use_is_refused_until_its_request_is_done(shop: Shop) -> None:
    await shop.plan({"match": OPENING, "fault": "latency", "seconds": 3600})
    slow = asyncio.create_task(shop.open(key="one"))
    await wait_until(lambda: not shop.stand_in.till.faults.as_json())

    body = {"mode": "payment"}
    headers = {"Authorization": "Bearer sk_test_shop", "Idempotency-Key": "one"}
    async with shop.http.post(f"{shop.stand_in.url}/v1/checkout/sessions", data=body, headers=headers) as answer:
        assert answer.status == 409
    await _clear(shop)

    assert (await slow).status == "open"


@pytest.mark.parametrize(
    "rule",
    [
        {"match": "checkout.session.completed", "fault": "reset"},
        {"match": OPENING, "fault": "webhook_never"},
        {"match": OPENING, "fault": "earthquake"},
        {"match": OPENING, "fault": "reset", "tims": 2},
    ],
)
async def test_a_rule_that_makes_no_sense_is_refused(shop: Shop, rule: dict[str, object]) -> None:
    assert await shop.plan(rule) == 400
    assert await shop.read("/_sandbox/faults") == []
