"""The stand-in for Stripe answers a shop that uses Stripe's own SDK."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import stripe

from sandbox.stripe import Settings
from tests.sandbox.stripe_shop import (
    DECLINED_CARD,
    FAILING_DEBIT,
    LATE_DEBIT,
    SDK_IS_OLD_FASHIONED,
    Shop,
    error_of,
    open_shop,
    sdk,
)
from tests.support.waiting import wait_until

pytestmark = SDK_IS_OLD_FASHIONED


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    async with open_shop(tmp_path) as shop:
        yield shop


async def test_a_guest_pays_and_the_shop_gets_the_event(shop: Shop) -> None:
    session = await shop.open()

    assert await shop.pay(session) == 200

    received = await wait_until(lambda: shop.endpoint.received("checkout.session.completed"))
    assert (received.id, received.status, received.payment_status) == (session.id, "complete", "paid")
    assert (received.amount_total, received.currency, received.livemode) == (12000, "eur", False)
    assert received.client_reference_id == "booking-1"
    assert received.metadata["room_id"] == "room-7"
    payment = await shop.client.v1.payment_intents.retrieve_async(received.payment_intent)
    assert (payment.status, payment.amount_received) == ("succeeded", 12000)
    assert payment.metadata["booking_id"] == "booking-1"


async def test_an_open_session_has_a_page_and_no_payment_yet(shop: Shop) -> None:
    session = await shop.open()

    assert (session.status, session.payment_status, session.payment_intent) == ("open", "unpaid", None)
    assert session.url == f"{shop.stand_in.url}/c/pay/{session.id}"
    assert session.payment_method_types == ["card"]


async def test_a_declined_card_leaves_the_session_open_for_another(shop: Shop) -> None:
    session = await shop.open()

    assert await shop.pay(session, DECLINED_CARD) == 402
    failed = await wait_until(lambda: shop.endpoint.received("payment_intent.payment_failed"))
    again = await shop.sessions.retrieve_async(session.id)
    assert await shop.pay(session) == 200

    assert failed.last_payment_error.decline_code == "generic_decline"
    assert failed.metadata["booking_id"] == "booking-1"
    assert (again.status, again.payment_intent) == ("open", failed.id)
    completed = await wait_until(lambda: shop.endpoint.received("checkout.session.completed"))
    assert completed.payment_intent == failed.id


@pytest.mark.parametrize(
    ("debit", "ending", "payment_status"),
    [
        (LATE_DEBIT, "checkout.session.async_payment_succeeded", "paid"),
        (FAILING_DEBIT, "checkout.session.async_payment_failed", "unpaid"),
    ],
)
async def test_a_bank_debit_completes_unpaid_and_is_settled_later(
    shop: Shop, debit: str, ending: str, payment_status: str
) -> None:
    session = await shop.open()

    await shop.pay(session, debit, late_seconds=3600)
    completed = await wait_until(lambda: shop.endpoint.received("checkout.session.completed"))
    assert completed.payment_status == "unpaid"
    assert (await shop.read("/_sandbox/ledger"))["captured_minor"] == {"eur": 0}
    shop.stand_in.clock.advance(3600)

    settled = await wait_until(lambda: shop.endpoint.received(ending))
    assert settled.payment_status == payment_status
    captured_minor = 12000 if payment_status == "paid" else 0
    assert (await shop.read("/_sandbox/ledger"))["captured_minor"] == {"eur": captured_minor}


async def test_a_session_expires_by_itself_at_its_deadline(shop: Shop) -> None:
    session = await shop.open()

    shop.stand_in.clock.advance(30 * 60)
    before = await shop.sessions.retrieve_async(session.id)
    shop.stand_in.clock.advance(60)

    received = await wait_until(lambda: shop.endpoint.received("checkout.session.expired"))
    assert before.status == "open"
    assert (received.id, received.status, received.url) == (session.id, "expired", None)
    assert await shop.pay(session) == 400


async def test_only_an_open_session_can_be_expired(shop: Shop) -> None:
    unpaid, paid = await shop.open(), await shop.paid()

    expired = await shop.sessions.expire_async(unpaid.id)

    assert expired.status == "expired"
    for session in (unpaid, paid):
        with pytest.raises(stripe.InvalidRequestError, match="Only Checkout Sessions with a status in"):
            await shop.sessions.expire_async(session.id)


async def test_expiring_a_session_after_a_decline_cancels_its_payment(shop: Shop) -> None:
    session = await shop.open()
    await shop.pay(session, DECLINED_CARD)

    expired = await shop.sessions.expire_async(session.id, {"expand": ["payment_intent"]})

    assert expired.payment_intent.status == "canceled"


@pytest.mark.parametrize(("seconds", "reason"), [(29 * 60, "at least 30 minutes"), (24 * 3600 + 60, "less than 24")])
async def test_a_deadline_outside_the_window_is_refused(shop: Shop, seconds: int, reason: str) -> None:
    with pytest.raises(stripe.InvalidRequestError, match=reason) as raised:
        await shop.open(expires_at=int(time.time()) + seconds)

    assert raised.value.param == "expires_at"


async def test_a_session_without_a_deadline_lasts_a_day(shop: Shop) -> None:
    session = await shop.open(expires_at=None)

    assert session.expires_at == session.created + 24 * 3600


async def test_a_parameter_that_stripe_does_not_know_is_refused(shop: Shop) -> None:
    with pytest.raises(stripe.InvalidRequestError) as raised:
        await shop.open(payment_method_types=["card"])

    error = error_of(raised.value)
    assert (error["code"], error["param"]) == ("parameter_unknown", "payment_method_types")
    assert raised.value.http_status == 400
    assert raised.value.request_id
    assert raised.value.request_id.startswith("req_")


async def test_a_price_without_a_currency_is_refused(shop: Shop) -> None:
    item = {"price_data": {"unit_amount": 6000, "product_data": {"name": "Sea view"}}, "quantity": 1}

    with pytest.raises(stripe.InvalidRequestError) as raised:
        await shop.open(line_items=[item])

    assert raised.value.code == "parameter_missing"
    assert raised.value.param == "line_items[0][price_data][currency]"


async def test_a_parameter_that_is_not_imitated_is_refused_and_not_ignored(shop: Shop) -> None:
    with pytest.raises(stripe.InvalidRequestError, match="does not imitate"):
        await shop.open(mode="setup")


async def test_an_unknown_session_is_not_found(shop: Shop) -> None:
    with pytest.raises(stripe.InvalidRequestError) as raised:
        await shop.sessions.retrieve_async("cs_test_nobody")

    assert (raised.value.http_status, raised.value.code) == (404, "resource_missing")


async def test_refunds_never_exceed_what_was_captured(shop: Shop) -> None:
    payment = (await shop.paid()).payment_intent

    first = await shop.refunds.create_async({"payment_intent": payment, "amount": 5000, "metadata": {"why": "late"}})
    with pytest.raises(stripe.InvalidRequestError) as too_much:
        await shop.refunds.create_async({"payment_intent": payment, "amount": 7001})
    rest = await shop.refunds.create_async({"payment_intent": payment})
    with pytest.raises(stripe.InvalidRequestError) as again:
        await shop.refunds.create_async({"payment_intent": payment})

    assert (first.status, first.amount, first.metadata["why"]) == ("succeeded", 5000, "late")
    assert too_much.value.code == "amount_too_large"
    assert rest.amount == 7000
    assert again.value.code == "charge_already_refunded"
    listed = await shop.refunds.list_async({"payment_intent": payment})
    assert [refund.id for refund in listed.data] == [rest.id, first.id]
    [row] = (await shop.read("/_sandbox/ledger"))["payment_intents"]
    assert (row["captured_minor"], row["refunded_minor"], row["refunds"]) == (12000, 12000, 2)


async def test_refunds_asked_for_at_the_same_time_do_not_exceed_it_either(shop: Shop) -> None:
    payment = (await shop.paid()).payment_intent

    results = await asyncio.gather(
        *(shop.refunds.create_async({"payment_intent": payment, "amount": 4000}) for _ in range(5)),
        return_exceptions=True,
    )

    assert sum(isinstance(result, stripe.Refund) for result in results) == 3
    assert (await shop.read("/_sandbox/ledger"))["refunded_minor"] == {"eur": 12000}


async def test_a_payment_that_never_succeeded_cannot_be_refunded(shop: Shop) -> None:
    session = await shop.open()
    await shop.pay(session, DECLINED_CARD)
    payment = (await shop.sessions.retrieve_async(session.id)).payment_intent

    with pytest.raises(stripe.InvalidRequestError, match="no successful charge"):
        await shop.refunds.create_async({"payment_intent": payment})


async def test_a_refund_brings_its_events(shop: Shop) -> None:
    payment = (await shop.paid()).payment_intent

    refund = await shop.refunds.create_async({"payment_intent": payment})

    charge = await wait_until(lambda: shop.endpoint.received("charge.refunded"))
    created = await wait_until(lambda: shop.endpoint.received("refund.created"))
    assert (charge.payment_intent, charge.amount_refunded, charge.refunded) == (payment, 12000, True)
    assert charge.metadata["booking_id"] == "booking-1"
    assert created.id == refund.id
    assert "refund.updated" not in shop.endpoint.types()


async def test_a_pending_refund_succeeds_later(shop: Shop) -> None:
    payment = (await shop.paid(card="4000000000007726")).payment_intent

    refund = await shop.refunds.create_async({"payment_intent": payment})
    assert refund.status == "pending"
    shop.stand_in.clock.advance(3600)

    updated = await wait_until(lambda: shop.endpoint.received("refund.updated"))
    assert (updated.id, updated.status) == (refund.id, "succeeded")


async def test_a_refund_that_fails_later_can_be_made_again(shop: Shop) -> None:
    payment = (await shop.paid()).payment_intent
    await shop.plan({"match": "POST /v1/refunds", "fault": "refund_fails_later", "seconds": 60})

    first = await shop.refunds.create_async({"payment_intent": payment})
    assert first.status == "succeeded"
    shop.stand_in.clock.advance(60)
    failed = await wait_until(lambda: shop.endpoint.received("refund.failed"))
    assert (await shop.read("/_sandbox/ledger"))["refunded_minor"] == {"eur": 0}
    second = await shop.refunds.create_async({"payment_intent": payment})

    assert (failed.id, failed.status, failed.failure_reason) == (first.id, "failed", "expired_or_canceled_card")
    assert (second.status, second.amount) == ("succeeded", 12000)
    assert (await shop.read("/_sandbox/ledger"))["refunded_minor"] == {"eur": 12000}


async def test_a_stay_that_costs_nothing_needs_no_payment(shop: Shop) -> None:
    item = {"price_data": {"currency": "eur", "unit_amount": 0, "product_data": {"name": "Gift"}}, "quantity": 1}

    session = await shop.paid(line_items=[item])

    assert (session.payment_status, session.payment_intent) == ("no_payment_required", None)


async def test_the_same_key_gives_the_same_session_and_refuses_another(shop: Shop) -> None:
    deadline = int(time.time()) + 35 * 60
    first = await shop.open(key="booking-1:pay:1", expires_at=deadline)
    again = await shop.open(key="booking-1:pay:1", expires_at=deadline)

    with pytest.raises(stripe.IdempotencyError) as raised:
        await shop.open(key="booking-1:pay:1", expires_at=deadline + 1)

    assert again.id == first.id
    assert again.last_response.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in first.last_response.headers
    assert (raised.value.http_status, error_of(raised.value)["type"]) == (400, "idempotency_error")


async def test_a_key_cannot_be_used_at_another_endpoint(shop: Shop) -> None:
    session = await shop.open(key="one")

    with pytest.raises(stripe.IdempotencyError):
        await shop.sessions.expire_async(session.id, {}, {"idempotency_key": "one"})


async def test_a_key_is_forgotten_after_a_day(shop: Shop) -> None:
    first = await shop.open(key="one", expires_at=None)
    shop.stand_in.clock.advance(24 * 3600 + 1)

    later = await shop.open(key="one", expires_at=None)

    assert later.id != first.id


async def test_a_request_that_was_wrong_does_not_use_up_its_key(shop: Shop) -> None:
    with pytest.raises(stripe.InvalidRequestError):
        await shop.open(key="one", nonsense="x")

    assert (await shop.open(key="one")).status == "open"


async def test_only_the_right_key_opens_the_door(tmp_path: Path) -> None:
    async with (
        open_shop(tmp_path, Settings(key="sk_test_shop")) as shop,
        sdk(shop.stand_in.url, "sk_test_thief") as thief,
    ):
        with pytest.raises(stripe.AuthenticationError):
            await thief.v1.checkout.sessions.list_async()
        assert (await shop.sessions.list_async()).data == []


async def test_sessions_are_listed_page_by_page_newest_first(shop: Shop) -> None:
    opened = [(await shop.open()).id for _ in range(5)]

    first = await shop.sessions.list_async({"limit": 2})
    everything = [session.id async for session in first.auto_paging_iter()]
    back = await shop.sessions.list_async({"limit": 2, "ending_before": opened[0]})

    assert first.has_more
    assert everything == opened[::-1]
    assert [session.id for session in back.data] == [opened[2], opened[1]]


async def test_sessions_are_found_by_their_payment(shop: Shop) -> None:
    await shop.open()
    paid = await shop.paid()

    found = await shop.sessions.list_async({"payment_intent": paid.payment_intent})

    assert [session.id for session in found.data] == [paid.id]
