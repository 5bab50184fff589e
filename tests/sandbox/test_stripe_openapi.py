"""The stand-in's answers and events, and our requests, against Stripe's own OpenAPI description."""

import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import stripe

from sandbox.stripe import api
from tests.sandbox.stripe_openapi import API_VERSION, Traffic, description, missing, validated_traffic
from tests.sandbox.stripe_shop import (
    DECLINED_CARD,
    DISPUTED_CARD,
    FAILING_DEBIT,
    FAILING_REFUND_CARD,
    INQUIRED_CARD,
    LATE_DEBIT,
    PENDING_REFUND_CARD,
    SDK_IS_OLD_FASHIONED,
    Shop,
    open_shop,
)
from tests.support.waiting import wait_until

CANNOT = missing()
pytestmark = [
    SDK_IS_OLD_FASHIONED,
    pytest.mark.process,
    pytest.mark.skipif(CANNOT is not None, reason=CANNOT or ""),
    pytest.mark.usefixtures("traffic"),
]


@pytest.fixture
def traffic() -> Iterator[Traffic]:
    with validated_traffic() as seen:
        yield seen


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    async with open_shop(tmp_path) as shop:
        yield shop


def test_the_description_is_of_the_version_that_is_pinned() -> None:
    assert description().version == API_VERSION


async def test_every_endpoint_answers_as_stripe_does(shop: Shop, traffic: Traffic) -> None:
    v1 = shop.client.v1
    session = await shop.paid(locale="de", payment_intent_data={"description": "x", "statement_descriptor_suffix": "A"})
    payment = session.payment_intent
    await shop.sessions.list_async({"payment_intent": payment, "expand": ["data.payment_intent"]})
    await shop.sessions.line_items.list_async(session.id)
    await shop.sessions.retrieve_async(session.id, {"expand": ["line_items", "payment_intent.latest_charge"]})
    await shop.sessions.expire_async((await shop.open()).id)
    charge: Any = (await v1.payment_intents.retrieve_async(payment)).latest_charge
    await v1.charges.retrieve_async(charge, {"expand": ["balance_transaction"]})
    refund = await shop.refunds.create_async({"payment_intent": payment, "amount": 100, "metadata": {"a": "b"}})
    await shop.refunds.retrieve_async(refund.id)
    await shop.refunds.list_async({"payment_intent": payment, "created": {"gte": 1}, "limit": 100})
    dispute = await shop.dispute(payment)
    await shop.disputes.retrieve_async(dispute["id"], {"expand": ["charge", "payment_intent"]})
    await shop.disputes.list_async({"payment_intent": payment, "created": {"gte": 1}})
    await shop.disputes.close_async(dispute["id"])
    with pytest.raises(stripe.InvalidRequestError):
        await shop.refunds.cancel_async(refund.id)
    transactions = await v1.balance_transactions.list_async({"type": "charge"})
    await v1.balance_transactions.retrieve_async(transactions.data[0].id)
    events = await v1.events.list_async({"types": ["refund.created"], "delivery_success": True})
    await v1.events.retrieve_async((await v1.events.list_async()).data[0].id)

    assert events.data
    assert set(traffic.paths) == {f"{endpoint.method} {endpoint.path}" for endpoint in api.ENDPOINTS}


@pytest.mark.parametrize(
    "card",
    [DECLINED_CARD, LATE_DEBIT, FAILING_DEBIT, PENDING_REFUND_CARD, FAILING_REFUND_CARD, DISPUTED_CARD, INQUIRED_CARD],
)
async def test_every_event_carries_an_object_as_stripe_makes_it(shop: Shop, card: str) -> None:
    session = await shop.paid(card=card)
    shop.stand_in.clock.advance(3600)
    payment = (await shop.sessions.retrieve_async(session.id)).payment_intent
    try:
        await shop.refunds.create_async({"payment_intent": payment, "amount": 100})
    except stripe.InvalidRequestError:
        assert card in (DECLINED_CARD, FAILING_DEBIT, DISPUTED_CARD)
    for dispute in (await shop.disputes.list_async()).data:
        await shop.act(f"disputes/{dispute.id}/close", outcome="won")
    shop.stand_in.clock.advance(3600)

    events = (await shop.client.v1.events.list_async({"limit": 100})).data

    for event in events:
        description().check_event(event.to_dict())
    await wait_until(lambda: len(shop.endpoint.events) == len(events))


async def test_an_error_is_an_error_of_stripe(shop: Shop) -> None:
    payment = (await shop.paid()).payment_intent
    await shop.act("balance", available_minor=0)

    for params in (
        {"payment_intent": payment},
        {"payment_intent": "pi_nobody"},
        {"payment_intent": payment, "amount": 0},
    ):
        with pytest.raises(stripe.InvalidRequestError):
            await shop.refunds.create_async(params)
    with pytest.raises(stripe.InvalidRequestError):
        await shop.open(expires_at=int(time.time()))


@pytest.mark.parametrize(
    ("path", "params"),
    [
        ("/v1/refunds", {"payment_intent": "pi_1", "amounts": 1}),
        ("/v1/refunds", {"payment_intent": "pi_1", "amount": "much"}),
        ("/v1/refunds", {"payment_intent": "pi_1", "reason": "mood"}),
        ("/v1/nothing", {}),
    ],
)
def test_a_request_that_stripe_does_not_take_is_found(path: str, params: dict[str, Any]) -> None:
    with pytest.raises(AssertionError):
        description().check_request("POST", path, params)


def test_an_answer_that_stripe_does_not_give_is_found() -> None:
    with pytest.raises(AssertionError, match="amount"):
        description().check_answer("GET", "/v1/refunds/re_1", 200, {"id": "re_1", "object": "refund"})
