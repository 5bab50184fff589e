"""Disputes at the stand-in: the bank takes a payment back, and a decision gives it to one side."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import stripe

from tests.sandbox.stripe_shop import (
    DISPUTED_CARD,
    FAILING_DEBIT,
    INQUIRED_CARD,
    PENDING_REFUND_CARD,
    SDK_IS_OLD_FASHIONED,
    Shop,
    open_shop,
)
from tests.support.waiting import wait_until

pytestmark = SDK_IS_OLD_FASHIONED


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    async with open_shop(tmp_path) as shop:
        yield shop


async def test_a_dispute_takes_the_money_and_brings_its_events(shop: Shop) -> None:
    payment = (await shop.paid()).payment_intent

    opened = await shop.dispute(payment, reason="product_not_received")

    created = await wait_until(lambda: shop.endpoint.received("charge.dispute.created"))
    withdrawn = await wait_until(lambda: shop.endpoint.received("charge.dispute.funds_withdrawn"))
    assert created.id == withdrawn.id == opened["id"]
    assert created.id.startswith("du_")
    assert (created.amount, created.currency, created.payment_intent) == (12000, "eur", payment)
    assert (created.status, created.reason, created.is_charge_refundable) == (
        "needs_response",
        "product_not_received",
        False,
    )
    assert created.metadata.to_dict() == {}
    [transaction] = withdrawn.balance_transactions
    assert (transaction.amount, transaction.type, transaction.reporting_category) == (-12000, "adjustment", "dispute")
    row = await shop.money_of(payment)
    assert (row["captured_minor"], row["disputed_minor"], row["lost_minor"]) == (12000, 12000, 0)
    charge = await shop.client.v1.charges.retrieve_async(created.charge)
    assert charge.disputed


async def test_the_object_has_every_field_of_the_sdk(shop: Shop) -> None:
    payment = (await shop.paid()).payment_intent

    opened = await shop.dispute(payment)

    assert set(stripe.Dispute.__annotations__) - {"OBJECT_NAME"} <= opened.keys()
    assert set(stripe.Dispute.EvidenceDetails.__annotations__) <= opened["evidence_details"].keys()
    assert set(stripe.Dispute.Evidence.__annotations__) <= opened["evidence"].keys()
    [transaction] = opened["balance_transactions"]
    assert set(stripe.BalanceTransaction.__annotations__) - {"OBJECT_NAME"} <= transaction.keys()


async def test_no_refund_leaves_while_a_dispute_is_open(shop: Shop) -> None:
    payment = (await shop.paid()).payment_intent
    await shop.dispute(payment, amount_minor=4000)

    with pytest.raises(stripe.InvalidRequestError, match="charged back") as raised:
        await shop.refunds.create_async({"payment_intent": payment, "amount": 1000})

    assert (raised.value.http_status, raised.value.code) == (400, "charge_disputed")
    assert (await shop.money_of(payment))["refunded_minor"] == 0


async def test_a_dispute_that_is_won_gives_the_money_back_and_lets_refunds_leave(shop: Shop) -> None:
    payment = (await shop.paid()).payment_intent
    opened = await shop.dispute(payment)

    await shop.act(f"disputes/{opened['id']}/close", outcome="won")

    closed = await wait_until(lambda: shop.endpoint.received("charge.dispute.closed"))
    reinstated = await wait_until(lambda: shop.endpoint.received("charge.dispute.funds_reinstated"))
    assert (closed.status, reinstated.status) == ("won", "won")
    assert [t.amount for t in reinstated.balance_transactions] == [-12000, 12000]
    row = await shop.money_of(payment)
    assert (row["disputed_minor"], row["lost_minor"]) == (0, 0)
    assert (await shop.refunds.create_async({"payment_intent": payment})).amount == 12000


async def test_a_dispute_that_is_lost_keeps_the_money_and_refuses_refunds(shop: Shop) -> None:
    payment = (await shop.paid()).payment_intent
    opened = await shop.dispute(payment)

    await shop.act(f"disputes/{opened['id']}/close", outcome="lost")

    closed = await wait_until(lambda: shop.endpoint.received("charge.dispute.closed"))
    assert closed.status == "lost"
    assert "charge.dispute.funds_reinstated" not in shop.endpoint.types()
    row = await shop.money_of(payment)
    assert (row["disputed_minor"], row["lost_minor"], row["refunded_minor"]) == (0, 12000, 0)
    with pytest.raises(stripe.InvalidRequestError) as raised:
        await shop.refunds.create_async({"payment_intent": payment})
    assert raised.value.code == "charge_disputed"


async def test_only_the_lost_part_of_a_payment_can_never_be_refunded(shop: Shop) -> None:
    payment = (await shop.paid()).payment_intent
    opened = await shop.dispute(payment, amount_minor=4000)
    await shop.act(f"disputes/{opened['id']}/close", outcome="lost")

    with pytest.raises(stripe.InvalidRequestError) as too_much:
        await shop.refunds.create_async({"payment_intent": payment, "amount": 8001})
    rest = await shop.refunds.create_async({"payment_intent": payment})

    assert too_much.value.code == "amount_too_large"
    assert rest.amount == 8000
    row = await shop.money_of(payment)
    assert row["captured_minor"] == row["refunded_minor"] + row["lost_minor"]


async def test_a_dispute_without_an_amount_is_for_what_was_not_refunded(shop: Shop) -> None:
    payment = (await shop.paid()).payment_intent
    await shop.refunds.create_async({"payment_intent": payment, "amount": 5000})

    assert (await shop.dispute(payment))["amount"] == 7000


async def test_a_bank_can_take_what_was_refunded_already(shop: Shop) -> None:
    payment = (await shop.paid()).payment_intent
    await shop.refunds.create_async({"payment_intent": payment})

    opened = await shop.dispute(payment)
    await shop.act(f"disputes/{opened['id']}/close", outcome="lost")

    row = await shop.money_of(payment)
    assert (row["refunded_minor"], row["lost_minor"]) == (12000, 12000)


@pytest.mark.parametrize("body", [{"amount_minor": 0}, {"amount_minor": 12001}, {"reason": "mood"}, {"amount": 1}])
async def test_a_dispute_that_no_bank_could_make_is_refused(shop: Shop, body: dict[str, Any]) -> None:
    payment = (await shop.paid()).payment_intent

    await shop.act(f"payment_intents/{payment}/dispute", 400, **body)

    assert (await shop.disputes.list_async()).data == []


async def test_only_a_payment_that_succeeded_can_be_disputed(shop: Shop) -> None:
    payment = (await shop.paid(card=FAILING_DEBIT)).payment_intent

    await shop.act(f"payment_intents/{payment}/dispute", 400)
    await shop.act("payment_intents/pi_nobody/dispute", 404)


async def test_a_dispute_is_closed_once(shop: Shop) -> None:
    opened = await shop.dispute((await shop.paid()).payment_intent)
    await shop.act(f"disputes/{opened['id']}/close", outcome="won")

    await shop.act(f"disputes/{opened['id']}/close", 400, outcome="lost")
    await shop.act("disputes/du_nobody/close", 404, outcome="lost")
    await shop.act(f"disputes/{opened['id']}/close", 400, outcome="drawn")


async def test_the_shop_can_accept_a_dispute_by_the_api(shop: Shop) -> None:
    opened = await shop.dispute((await shop.paid()).payment_intent)

    closed = await shop.disputes.close_async(opened["id"])

    assert closed.status == "lost"


@pytest.mark.parametrize(
    ("card", "status", "disputed_minor", "events"),
    [
        (DISPUTED_CARD, "needs_response", 12000, {"charge.dispute.created", "charge.dispute.funds_withdrawn"}),
        (INQUIRED_CARD, "warning_needs_response", 0, {"charge.dispute.created"}),
    ],
)
async def test_a_test_card_leads_to_a_dispute(
    shop: Shop, card: str, status: str, disputed_minor: int, events: set[str]
) -> None:
    session = await shop.paid(card=card)

    [dispute] = (await shop.disputes.list_async({"payment_intent": session.payment_intent})).data

    assert (session.payment_status, dispute.status, dispute.reason) == ("paid", status, "fraudulent")
    assert (await shop.money_of(session.payment_intent))["disputed_minor"] == disputed_minor
    await wait_until(lambda: events <= set(shop.endpoint.types()))
    assert {name for name in shop.endpoint.types() if name.startswith("charge.dispute")} == events


async def test_an_inquiry_ends_when_all_of_the_money_went_back(shop: Shop) -> None:
    payment = (await shop.paid(card=INQUIRED_CARD)).payment_intent

    await shop.refunds.create_async({"payment_intent": payment, "amount": 2000})
    assert "charge.dispute.closed" not in shop.endpoint.types()
    await shop.refunds.create_async({"payment_intent": payment})

    closed = await wait_until(lambda: shop.endpoint.received("charge.dispute.closed"))
    assert closed.status == "warning_closed"


async def test_an_inquiry_cannot_be_lost_but_can_become_a_dispute(shop: Shop) -> None:
    payment = (await shop.paid(card=INQUIRED_CARD)).payment_intent
    [inquiry] = (await shop.disputes.list_async()).data

    await shop.act(f"disputes/{inquiry.id}/close", 400, outcome="lost")
    await shop.act(f"disputes/{inquiry.id}/escalate")

    updated = await wait_until(lambda: shop.endpoint.received("charge.dispute.updated"))
    await wait_until(lambda: shop.endpoint.received("charge.dispute.funds_withdrawn"))
    assert updated.status == "needs_response"
    assert (await shop.money_of(payment))["disputed_minor"] == 12000
    await shop.act(f"disputes/{inquiry.id}/escalate", 400)


async def test_a_dispute_fails_the_refund_that_has_not_left_yet(shop: Shop) -> None:
    payment = (await shop.paid(card=PENDING_REFUND_CARD)).payment_intent
    refund = await shop.refunds.create_async({"payment_intent": payment, "amount": 5000})

    await shop.dispute(payment)

    failed = await wait_until(lambda: shop.endpoint.received("refund.failed"))
    assert (failed.id, failed.failure_reason) == (refund.id, "charge_for_pending_refund_disputed")
    shop.stand_in.clock.advance(3600)
    assert (await shop.refunds.retrieve_async(refund.id)).status == "failed"


async def test_disputes_are_listed_by_payment_charge_and_time(shop: Shop) -> None:
    payments = [(await shop.paid()).payment_intent for _ in range(3)]
    opened = [await shop.dispute(payment) for payment in payments]
    first = opened[0]

    by_payment = await shop.disputes.list_async({"payment_intent": payments[1]})
    by_charge = await shop.disputes.list_async({"charge": first["charge"]})
    later = await shop.disputes.list_async({"created": {"gt": opened[-1]["created"]}})
    pages = [d.id async for d in (await shop.disputes.list_async({"limit": 1})).auto_paging_iter()]

    assert [d.id for d in by_payment.data] == [opened[1]["id"]]
    assert [d.id for d in by_charge.data] == [first["id"]]
    assert later.data == []
    assert pages == [d["id"] for d in reversed(opened)]
    found = await shop.disputes.retrieve_async(first["id"], {"expand": ["charge"]})
    assert found.charge.id == first["charge"]


async def test_the_ledger_lists_what_happened_to_a_payment(shop: Shop) -> None:
    payment = (await shop.paid()).payment_intent
    ours = await shop.refunds.create_async({"payment_intent": payment, "amount": 100, "metadata": {"booking_id": "b"}})
    by_hand = await shop.act(f"payment_intents/{payment}/refund", amount_minor=200)
    opened = await shop.dispute(payment, amount_minor=300)

    row = await shop.money_of(payment)

    assert [(r["id"], r["amount_minor"], r["status"], r["has_metadata"]) for r in row["refund_objects"]] == [
        (ours.id, 100, "succeeded", True),
        (by_hand["id"], 200, "succeeded", False),
    ]
    assert [(d["id"], d["amount_minor"], d["status"]) for d in row["dispute_objects"]] == [
        (opened["id"], 300, "needs_response")
    ]
    ledger = await shop.read("/_sandbox/ledger")
    assert (ledger["refunded_minor"], ledger["disputed_minor"], ledger["lost_minor"]) == (
        {"eur": 300},
        {"eur": 300},
        {"eur": 0},
    )
