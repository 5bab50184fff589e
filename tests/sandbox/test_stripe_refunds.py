"""Refunds at the stand-in: by hand, later, failing, canceled, and from an account without money."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import stripe

from sandbox.stripe.books import Books
from tests.sandbox.stripe_shop import (
    FAILING_REFUND_CARD,
    LATE_DEBIT,
    PENDING_REFUND_CARD,
    SDK_IS_OLD_FASHIONED,
    Shop,
    error_of,
    open_shop,
)
from tests.support.waiting import wait_until

pytestmark = SDK_IS_OLD_FASHIONED


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    async with open_shop(tmp_path) as shop:
        yield shop


async def test_a_refund_by_hand_has_no_metadata_and_its_events_no_request(shop: Shop) -> None:
    payment = (await shop.paid()).payment_intent

    await shop.act(f"payment_intents/{payment}/refund", amount_minor=5000)
    await shop.act(f"payment_intents/{payment}/refund")

    charge: Any = await wait_until(
        lambda: next(
            (e.data.object for e in shop.endpoint.events if e.type == "charge.refunded" and e.data.object.refunded),
            None,
        )
    )
    assert charge.amount_refunded == 12000
    await wait_until(lambda: shop.endpoint.types().count("refund.created") == 2)
    created: list[Any] = [e for e in shop.endpoint.events if e.type == "refund.created"]
    assert {e.data.object.amount for e in created} == {5000, 7000}
    assert all(not e.data.object.metadata.to_dict() and e.request.id is None for e in created)


async def test_the_metadata_of_a_payment_is_on_its_charge_and_not_on_its_refunds(shop: Shop) -> None:
    session = await shop.paid()

    refund = await shop.refunds.create_async({"payment_intent": session.payment_intent, "expand": ["charge"]})

    assert session.metadata["booking_id"] == "booking-1"
    assert refund.charge.metadata["booking_id"] == "booking-1"
    assert refund.metadata.to_dict() == {}


async def test_the_metadata_of_a_session_stays_with_the_session(shop: Shop) -> None:
    session = await shop.paid(payment_intent_data=None)

    payment = await shop.client.v1.payment_intents.retrieve_async(session.payment_intent)

    assert payment.metadata.to_dict() == {}


async def test_a_refund_that_fails_later_first_succeeds(shop: Shop) -> None:
    payment = (await shop.paid(card=FAILING_REFUND_CARD)).payment_intent

    refund = await shop.refunds.create_async({"payment_intent": payment, "amount": 5000})
    assert refund.status == "succeeded"
    assert not hasattr(refund, "failure_reason")
    shop.stand_in.clock.advance(3600)

    failed = await wait_until(lambda: shop.endpoint.received("refund.failed"))
    await wait_until(lambda: {"refund.updated", "charge.refund.updated"} <= set(shop.endpoint.types()))
    updated = next(e for e in shop.endpoint.events if e.type == "refund.updated")
    assert (failed.id, failed.status) == (refund.id, "failed")
    assert updated.data["previous_attributes"]["status"] == "succeeded"
    transactions = await shop.client.v1.balance_transactions.list_async({"source": refund.id})
    assert [(t.type, t.amount) for t in transactions.data] == [("refund_failure", 5000), ("refund", -5000)]
    charge = await shop.client.v1.charges.retrieve_async(refund.charge)
    assert (charge.amount_refunded, charge.refunded) == (0, False)


async def test_a_pending_refund_names_its_reason_until_it_succeeds(shop: Shop) -> None:
    payment = (await shop.paid(card=PENDING_REFUND_CARD)).payment_intent

    refund = await shop.refunds.create_async({"payment_intent": payment})
    assert (refund.status, refund.pending_reason) == ("pending", "processing")
    shop.stand_in.clock.advance(3600)

    settled = await shop.refunds.retrieve_async(refund.id)
    assert settled.status == "succeeded"
    assert not hasattr(settled, "pending_reason")


async def test_a_pending_refund_can_be_canceled_by_hand_alone(shop: Shop) -> None:
    payment = (await shop.paid(card=PENDING_REFUND_CARD)).payment_intent
    refund = await shop.refunds.create_async({"payment_intent": payment})

    with pytest.raises(stripe.InvalidRequestError, match="requires_action"):
        await shop.refunds.cancel_async(refund.id)
    await shop.act(f"refunds/{refund.id}/cancel")

    updated = await wait_until(lambda: shop.endpoint.received("refund.updated"))
    assert (updated.status, updated.failure_reason) == ("canceled", "merchant_request")
    assert "refund.failed" not in shop.endpoint.types()
    assert (await shop.money_of(payment))["refunded_minor"] == 0
    await shop.act(f"refunds/{refund.id}/cancel", 400)
    shop.stand_in.clock.advance(3600)
    assert (await shop.refunds.retrieve_async(refund.id)).status == "canceled"


async def test_a_refund_can_be_failed_by_script_once(shop: Shop) -> None:
    payment = (await shop.paid()).payment_intent
    refund = await shop.refunds.create_async({"payment_intent": payment})

    await shop.act(f"refunds/{refund.id}/fail", reason="lost_or_stolen_card")

    failed = await shop.refunds.retrieve_async(refund.id, {"expand": ["failure_balance_transaction"]})
    assert (failed.status, failed.failure_reason) == ("failed", "lost_or_stolen_card")
    assert failed.failure_balance_transaction.amount == 12000
    await shop.act(f"refunds/{refund.id}/fail", 400)


async def test_refunds_of_a_payment_are_listed_page_by_page(shop: Shop) -> None:
    payment, other = [(await shop.paid()).payment_intent for _ in range(2)]
    made = [(await shop.refunds.create_async({"payment_intent": payment, "amount": 100})).id for _ in range(5)]
    await shop.refunds.create_async({"payment_intent": other, "amount": 100})

    first = await shop.refunds.list_async({"payment_intent": payment, "limit": 2})

    assert first.has_more
    assert [refund.id async for refund in first.auto_paging_iter()] == made[::-1]


async def test_a_refund_above_the_balance_is_refused_and_leaves_no_trace(shop: Shop) -> None:
    payment = (await shop.paid()).payment_intent
    await shop.act("balance", available_minor=5000)

    with pytest.raises(stripe.InvalidRequestError, match="Insufficient funds in your Stripe balance") as raised:
        await shop.refunds.create_async({"payment_intent": payment})
    part = await shop.refunds.create_async({"payment_intent": payment, "amount": 4000})
    with pytest.raises(stripe.InvalidRequestError):
        await shop.refunds.create_async({"payment_intent": payment, "amount": 1001})

    error = error_of(raised.value)
    assert (raised.value.http_status, raised.value.code) == (400, None)
    assert (error["type"], error["message_code"]) == ("invalid_request_error", "insufficient_balance_for_refund")
    assert [r.id for r in (await shop.refunds.list_async({"payment_intent": payment})).data] == [part.id]
    await shop.act("balance", available_minor=None)
    assert (await shop.refunds.create_async({"payment_intent": payment})).amount == 8000


async def test_a_refund_above_the_balance_may_wait_for_money(shop: Shop) -> None:
    payment = (await shop.paid()).payment_intent
    await shop.act("balance", available_minor=0, when_short="pend")

    refunds = [await shop.refunds.create_async({"payment_intent": payment, "amount": n}) for n in (5000, 3000)]
    assert [(r.status, r.pending_reason) for r in refunds] == [("pending", "insufficient_funds")] * 2
    answer = await shop.act("balance", available_minor=5500, when_short="pend")

    states = [(await shop.refunds.retrieve_async(r.id)).status for r in refunds]
    assert states == ["succeeded", "pending"]
    assert answer == {"available_minor": 500, "when_short": "pend"}


async def test_money_that_comes_back_can_be_refunded_again(shop: Shop) -> None:
    payment = (await shop.paid()).payment_intent
    await shop.act("balance", available_minor=12000)
    refund = await shop.refunds.create_async({"payment_intent": payment})

    await shop.act(f"refunds/{refund.id}/fail")

    assert (await shop.refunds.create_async({"payment_intent": payment})).status == "succeeded"


async def test_a_dispute_leaves_less_for_refunds(shop: Shop) -> None:
    payment, disputed = [(await shop.paid()).payment_intent for _ in range(2)]
    await shop.act("balance", available_minor=12000)
    await shop.dispute(disputed, amount_minor=1)

    with pytest.raises(stripe.InvalidRequestError, match="Insufficient funds"):
        await shop.refunds.create_async({"payment_intent": payment})


async def test_the_balance_outlives_a_restart(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        payment = (await shop.paid()).payment_intent
        await shop.act("balance", available_minor=0)

    async with open_shop(tmp_path) as shop:
        with pytest.raises(stripe.InvalidRequestError, match="Insufficient funds"):
            await shop.refunds.create_async({"payment_intent": payment})


@pytest.mark.parametrize("card", ["4242424242424242", LATE_DEBIT])
async def test_balance_transactions_add_up_to_the_ledger(shop: Shop, card: str) -> None:
    session = await shop.paid(card=card)
    shop.stand_in.clock.advance(3600)
    payment = session.payment_intent
    refund = await shop.refunds.create_async({"payment_intent": payment, "amount": 1000})
    opened = await shop.dispute(payment, amount_minor=3000)
    await shop.act(f"disputes/{opened['id']}/close", outcome="lost")

    listed = await shop.client.v1.balance_transactions.list_async({"currency": "eur"})

    row = await shop.money_of(payment)
    net = row["captured_minor"] - row["refunded_minor"] - row["lost_minor"] - row["disputed_minor"]
    assert sum(t.net for t in listed.data) == net == 8000
    by_card = card != LATE_DEBIT
    assert [t.type for t in listed.data] == (
        ["adjustment", "refund", "charge"] if by_card else ["adjustment", "payment_refund", "payment"]
    )
    assert [t.reporting_category for t in listed.data] == ["dispute", "refund", "charge"]
    assert refund.balance_transaction == listed.data[1].id
    expanded: Any = await shop.client.v1.charges.retrieve_async(refund.charge, {"expand": ["balance_transaction"]})
    assert (expanded.balance_transaction.amount, expanded.balance_transaction.fee) == (12000, 0)


async def test_the_new_types_are_in_the_list_of_events(shop: Shop) -> None:
    payment = (await shop.paid()).payment_intent
    await shop.refunds.create_async({"payment_intent": payment, "amount": 1000})
    await shop.dispute(payment)
    types: Any = ["charge.dispute.created", "charge.dispute.funds_withdrawn", "refund.created"]

    listed = await shop.client.v1.events.list_async({"types": types})

    assert [event.type for event in reversed(listed.data)] == ["refund.created", *types[:2]]


def test_books_of_the_release_before_are_widened_and_keep_their_money(tmp_path: Path) -> None:
    Books(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / "stripe.sqlite3", isolation_level=None)) as db:
        db.executescript(
            """
            DROP TABLE money;
            CREATE TABLE money (
                sequence INTEGER PRIMARY KEY AUTOINCREMENT,
                at INTEGER NOT NULL,
                payment_intent TEXT NOT NULL,
                kind TEXT NOT NULL CHECK (kind IN ('capture', 'refund', 'refund_reversed')),
                amount_minor INTEGER NOT NULL CHECK (amount_minor > 0),
                currency TEXT NOT NULL
            );
            CREATE INDEX money_by_payment ON money (payment_intent);
            INSERT INTO money VALUES (1, 1, 'pi_1', 'capture', 500, 'eur');
            """
        )

    with closing(Books(tmp_path)) as books:
        books.move_money("dispute", {"id": "pi_1", "currency": "eur"}, 200, 2)

        assert (books.balance("pi_1").captured_minor, books.balance("pi_1").disputed_minor) == (500, 200)
