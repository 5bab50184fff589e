"""`innkeeper money`: every movement of a booking's money, its object at Stripe, and all that does not agree."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from typer.testing import Result

from storage.settings import DatabaseSettings
from tests.operators.conftest import Operator
from tests.operators.decided_log import PAID
from tests.operators.reconcile.paid_bookings import ROOM, PaidBookings, open_paid_bookings
from tests.support.log import open_log, open_processor, process_all
from topics.kafka.settings import KafkaSettings
from topics.messages.commands import CancelBooking
from workers import projections

pytestmark = [pytest.mark.system, pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")]


@pytest.fixture
async def paid(
    kafka_settings: KafkaSettings, database: DatabaseSettings, tmp_path: Path
) -> AsyncIterator[PaidBookings]:
    async with open_log(kafka_settings) as log, open_paid_bookings(log, database, tmp_path) as opened:
        yield opened


async def project(paid: PaidBookings) -> None:
    """Let the read models take all events."""
    role = projections.build(paid.log.settings, paid.database)
    async with open_processor(role, paid.log, paid.database) as processor:
        await process_all(processor, role, paid.log)


async def partly_refunded(paid: PaidBookings) -> tuple[str, str]:
    """Let a booking be paid, refunded in part by hand, disputed, won, and cancelled; return payment and refund."""
    await paid.checkout(PAID)
    payment = await paid.pay(PAID)
    await paid.deliver_webhooks()
    by_hand = await paid.refund_by_hand(payment, 5_000)
    await paid.deliver_webhooks()
    await paid.work(CancelBooking(room_id=ROOM, booking_id=PAID, user_id=7))
    await paid.call()
    await paid.work()
    await project(paid)
    return payment, by_hand


def shown(result: Result) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    *lines, summary = [json.loads(line) for line in result.stdout.splitlines()]
    return lines, summary


async def test_an_operator_sees_every_movement_with_its_object_and_its_transaction(
    paid: PaidBookings, environment: dict[str, str]
) -> None:
    operator = Operator({**environment, "STRIPE_API_URL": paid.stand_in.url})
    payment, by_hand = await partly_refunded(paid)

    as_json = await operator("money", str(PAID), "--stripe", "--json")
    as_page = await operator("money", str(PAID))

    assert (as_json.exit_code, as_page.exit_code) == (0, 0), as_json.output + as_page.output
    lines, summary = shown(as_json)
    amount = lines[0]["amount_minor"]
    rest = next(each["id"] for each in await paid.at_stripe("refunds") if each["id"] != by_hand)
    assert [(each["kind"], each["stripe_object"], each["change_minor"], each["by_hand"]) for each in lines] == [
        ("payment", payment, amount, False),
        ("refund", by_hand, -5_000, True),
        ("refund", rest, 5_000 - amount, False),
    ]
    assert lines[0]["session"].startswith("cs_")
    at_stripe = {each["id"]: each["amount"] for each in await paid.at_stripe("balance_transactions")}
    assert {id: each["change_minor"] for each in lines for id in each["transactions"]} == at_stripe
    sums = {"paid_minor": amount, "refunded_minor": amount, "disputed_minor": 0, "due_minor": 0, "kept_minor": 0}
    sums["kept_by_policy_minor"] = 0
    assert summary == {
        "booking": str(PAID),
        "status": "CANCELLED",
        "sums": [{"currency": "EUR", **sums}],
        "compared_with_stripe": True,
        "differences": [],
        "notes": [],
    }
    assert "refund by hand" in as_page.stdout
    assert payment in as_page.stdout
    assert "still due to the guest 0.00." in as_page.stdout
    assert "0 differences" in as_page.stderr


async def test_all_that_the_tables_and_stripe_have_otherwise_is_shown(
    paid: PaidBookings, environment: dict[str, str]
) -> None:
    operator = Operator({**environment, "STRIPE_API_URL": paid.stand_in.url})
    await paid.checkout(PAID)
    payment = await paid.pay(PAID)
    await paid.deliver_webhooks()
    behind = shown(await operator("money", str(PAID), "--json"))[1]
    known = await paid.refund_by_hand(payment, 5_000)
    await paid.deliver_webhooks()
    await project(paid)
    unknown = await paid.refund_by_hand(payment, 100)
    await paid.rows("update payment_refund set status = 'failed', amount_minor = 4_000 where refund_id = %s", known)
    await paid.rows("update booking set payments = jsonb_set(payments, '{0,amount_minor}', '1')")

    result = await operator("money", str(PAID), "--stripe", "--json")

    assert result.exit_code == 1, result.output
    _, summary = shown(result)
    assert summary["differences"] == [
        f"{payment}: by its events 200.00 arrived, by the ledger 0.01",
        f"{known}: it is succeeded by its events, and failed in the row of payments",
        f"{known}: its event has 50.00, the row of payments 40.00",
        f"{unknown}: its balance transactions at Stripe add up to -1.00 EUR, and no event has it",
    ]
    late, has_none, sessions = behind["differences"]
    assert late.endswith("must be rebuilt (innkeeper rebuild booking_timeline)")
    assert has_none == f"{payment}: the ledger has it, and no event has"
    assert sessions == f"{payment}: payments knows that it was paid, and no event has it"


async def test_disputes_and_failed_refunds_are_movements_too(paid: PaidBookings, environment: dict[str, str]) -> None:
    operator = Operator({**environment, "STRIPE_API_URL": paid.stand_in.url})
    await paid.checkout(PAID)
    payment = await paid.pay(PAID)
    await paid.deliver_webhooks()
    refund = await paid.refund_by_hand(payment, 5_000)
    await paid.deliver_webhooks()
    await paid.act(f"refunds/{refund}/fail")
    won = await paid.dispute(payment)
    await paid.deliver_webhooks()
    await paid.act(f"disputes/{won}/close", {"outcome": "won"})
    await paid.deliver_webhooks()
    await project(paid)

    result = await operator("money", str(PAID), "--stripe", "--json")

    lines, summary = shown(result)
    assert result.exit_code == 0, summary
    assert [(each["kind"], each["stripe_object"], len(each["transactions"])) for each in lines] == [
        ("payment", payment, 1),
        ("refund", refund, 1),
        ("refund_failed", refund, 1),
        ("dispute_opened", won, 1),
        ("dispute_won", won, 1),
    ]
    assert summary["sums"][0]["kept_minor"] == lines[0]["amount_minor"]


async def test_a_booking_that_nobody_knows_is_refused(paid: PaidBookings, environment: dict[str, str]) -> None:
    result = await Operator(environment)("money", str(UUID(int=99)), "--json")

    assert result.exit_code == 1
    assert json.loads(result.stdout)["detail"].startswith("No booking")
