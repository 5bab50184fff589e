"""How the stand-in's webhooks travel: signed, again and again, and as badly as a test wants."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sandbox.stripe import Settings
from sandbox.stripe.books import Delivery
from tests.sandbox.stripe_shop import SDK_IS_OLD_FASHIONED, Shop, open_endpoint, open_shop, open_shop_with
from tests.support.waiting import wait_until

COMPLETED = "checkout.session.completed"

pytestmark = SDK_IS_OLD_FASHIONED


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    async with open_shop(tmp_path, Settings(events=frozenset({COMPLETED, "payment_intent.succeeded"}))) as shop:
        yield shop


def states_of(shop: Shop) -> list[str]:
    return sorted(delivery["state"] for delivery in shop.stand_in.till.books.deliveries())


async def test_an_event_is_sent_until_it_is_taken_and_signed_anew(shop: Shop) -> None:
    shop.endpoint.refusals = 5

    await shop.paid()

    await wait_until(lambda: len(shop.endpoint.events) == 2)
    assert len(shop.endpoint.signatures) == 7
    await wait_until(lambda: states_of(shop) == ["delivered", "delivered"])


async def test_only_the_types_asked_for_are_delivered(shop: Shop) -> None:
    await shop.paid()

    await wait_until(lambda: sorted(shop.endpoint.types()) == [COMPLETED, "payment_intent.succeeded"])
    listed = await shop.client.v1.events.list_async()
    assert [event.type for event in listed.data] == [COMPLETED, "payment_intent.succeeded", "charge.succeeded"]


async def test_an_event_names_the_request_that_caused_it(shop: Shop) -> None:
    session = await shop.open()
    await shop.sessions.expire_async(session.id, {}, {"idempotency_key": "expire-1"})

    [event] = (await shop.client.v1.events.list_async({"type": "checkout.session.expired"})).data

    assert event.request
    assert event.request.idempotency_key == "expire-1"
    assert event.api_version


async def test_an_event_can_come_twice(shop: Shop) -> None:
    await shop.plan({"match": COMPLETED, "fault": "webhook_duplicate"})

    await shop.paid()

    await wait_until(lambda: shop.endpoint.types().count(COMPLETED) == 2)
    assert len({event.id for event in shop.endpoint.events if event.type == COMPLETED}) == 1


async def test_an_event_that_never_comes_is_still_listed(shop: Shop) -> None:
    await shop.plan({"match": COMPLETED, "fault": "webhook_never"})

    await shop.paid()

    await wait_until(lambda: shop.endpoint.types() == ["payment_intent.succeeded"])
    await wait_until(lambda: states_of(shop) == ["delivered", "withheld"])
    lost = (await shop.client.v1.events.list_async({"delivery_success": False})).data
    assert [(event.type, event.pending_webhooks) for event in lost] == [(COMPLETED, 1)]
    fine = (await shop.client.v1.events.list_async({"delivery_success": True})).data
    assert COMPLETED not in [event.type for event in fine]


async def test_an_event_can_wait_for_a_later_one(shop: Shop) -> None:
    await shop.plan({"match": "payment_intent.*", "fault": "webhook_reorder"})

    await shop.paid()

    await wait_until(lambda: len(shop.endpoint.events) == 2)
    assert shop.endpoint.types() == [COMPLETED, "payment_intent.succeeded"]


async def test_clearing_the_faults_lets_go_what_waits(shop: Shop) -> None:
    await shop.plan({"match": "*", "fault": "webhook_reorder", "times": None})
    await shop.paid()
    assert shop.endpoint.events == []

    await (await shop.http.delete(f"{shop.stand_in.url}/_sandbox/faults")).read()

    await wait_until(lambda: len(shop.endpoint.events) == 2)
    assert await shop.read("/_sandbox/faults") == []


async def test_an_event_can_be_late(shop: Shop) -> None:
    await shop.plan({"match": COMPLETED, "fault": "webhook_delay", "seconds": 0.5})
    started = asyncio.get_running_loop().time()

    await shop.paid()

    await wait_until(lambda: COMPLETED in shop.endpoint.types())
    assert asyncio.get_running_loop().time() - started >= 0.5


async def test_an_event_that_becomes_due_while_due_ones_are_looked_for_is_not_forgotten(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given events that are late by an hour, the machine pauses for longer just when nothing is due yet."""
    till, passed_seconds = shop.stand_in.till, 0.0
    books, steady, due_deliveries = till.books, till.steady, till.books.due_deliveries

    def look_for_due(now: float, limit: int) -> list[Delivery]:
        nonlocal passed_seconds
        due = due_deliveries(now, limit)
        if not due and books.deliveries():
            passed_seconds = 7200.0
        return due

    monkeypatch.setattr(till, "steady", lambda: steady() + passed_seconds)
    monkeypatch.setattr(books, "due_deliveries", look_for_due)
    await shop.plan({"match": "*", "fault": "webhook_delay", "seconds": 3600, "times": None})

    # Nothing is asked for after the payment, which would wake it.
    await shop.pay(await shop.open())

    await wait_until(lambda: len(shop.endpoint.events) == 2)


async def test_events_that_were_not_delivered_are_delivered_after_a_restart(tmp_path: Path) -> None:
    async with open_endpoint() as endpoint:
        endpoint.refusals = 10**6
        async with open_shop_with(tmp_path, endpoint) as shop:
            session = await shop.paid()
            await wait_until(lambda: len(endpoint.signatures) >= 3)
        endpoint.refusals = 0

        async with open_shop_with(tmp_path, endpoint) as shop:
            received = await wait_until(lambda: endpoint.received(COMPLETED))
            ledger = await shop.read("/_sandbox/ledger")

    assert received.id == session.id
    assert ledger["captured_minor"] == {"eur": 12000}


async def test_a_clock_that_goes_back_delays_no_webhook(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.endpoint.refusals = 1_000_000
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 1200)
    await shop.paid()
    await wait_until(lambda: shop.endpoint.refusals < 999_998, message="webhooks are tried")

    monkeypatch.undo()
    shop.endpoint.refusals = 0

    await wait_until(lambda: states_of(shop) == ["delivered", "delivered"])
