"""Refunds that are not back yet: operators see why, let payments try one now, or close one with a reason."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from operators.explain import explain
from operators.reconcile import reconcile
from storage.settings import DatabaseSettings
from tests.operators.conftest import Operator, at_work
from tests.operators.decided_log import PAID
from tests.operators.reconcile.paid_bookings import AMOUNT, ROOM, PaidBookings, open_paid_bookings
from tests.support.log import open_log
from topics.kafka.settings import KafkaSettings
from topics.messages.commands import CancelBooking
from topics.messages.events import RefundClosed
from topics.messages.values import RefundClosing
from workers.reservations import handler

pytestmark = [pytest.mark.system, pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")]

#: The seconds that an operator waits for the room: on a busy machine it may be slow.
MAX_WAIT = "120"
NAMES = ("payment", "booking", "state", "currency", "tries", "refusals", "last_error")
NOT_OUT = "balance_insufficient Insufficient funds in your Stripe balance"


@pytest.fixture
async def paid(
    kafka_settings: KafkaSettings, database: DatabaseSettings, tmp_path: Path
) -> AsyncIterator[PaidBookings]:
    async with open_log(kafka_settings) as log, open_paid_bookings(log, database, tmp_path) as opened:
        yield opened


async def cancelled(paid: PaidBookings) -> str:
    """Let a paid booking be cancelled whose refund was not made yet; return the payment."""
    await paid.checkout(PAID)
    payment = await paid.pay(PAID)
    await paid.deliver_webhooks()
    await paid.work(CancelBooking(room_id=ROOM, booking_id=PAID, user_id=7))
    return payment


async def fail(paid: PaidBookings, *, refusals: int = 5) -> None:
    """Let Stripe have refused the refund, which is tried again in hours; two more calls got no answer."""
    await paid.rows(
        "update refund set refusals = %s, failures = %s, last_error = %s, next_attempt_at = now() + interval '5 hours'",
        refusals,
        refusals + 2,
        NOT_OUT,
    )


def shown(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


async def states(operator: Operator, *arguments: str) -> list[tuple[str, int]]:
    """Return the state and the amount of each listed refund."""
    result = await operator("refunds", "list", "--json", *arguments)
    assert result.exit_code == 0, result.output
    return [(refund["state"], refund["amount_minor"]) for refund in shown(result)]


async def close(paid: PaidBookings, operator: Operator, payment: str, *arguments: str) -> Result:
    """Let an operator close a refund while the room is at work."""
    async with at_work(handler.build(paid.log.settings, paid.database), paid.log, paid.database):
        return await operator("refunds", "close", payment, "--wait", MAX_WAIT, "--yes", *arguments)


async def closed_events(paid: PaidBookings) -> list[RefundClosed]:
    return [event for _, event in await paid.log.events() if isinstance(event, RefundClosed)]


async def test_nothing_is_listed_where_all_money_is_back(paid: PaidBookings, operator: Operator) -> None:
    await cancelled(paid)
    await paid.call()
    await paid.work()

    result = await operator("refunds", "list")

    assert (result.exit_code, result.stdout) == (0, "")
    assert "No refund is due, on its way or closed." in result.stderr
    assert await states(operator) == []


async def test_a_list_shows_what_is_due_failing_pending_and_closed(paid: PaidBookings, operator: Operator) -> None:
    payment = await cancelled(paid)
    assert await states(operator) == [("due", AMOUNT)]
    await fail(paid, refusals=4)
    assert await states(operator) == [("due", AMOUNT)]

    await fail(paid)
    (refund,) = shown(await operator("refunds", "list", "--json"))
    assert {name: refund[name] for name in NAMES} == {
        "payment": payment,
        "booking": str(PAID),
        "state": "failing",
        "currency": "EUR",
        "tries": 7,
        "refusals": 5,
        "last_error": NOT_OUT,
    }
    assert refund["since"] < refund["next_try_at"]
    page = await operator("refunds")
    shown_words = " ".join(page.stdout.split())
    assert [words for words in (payment, str(PAID), "200.00 EUR", "failing", NOT_OUT) if words not in shown_words] == []
    assert "1 refund not back yet, 1 of them failing." in page.stderr

    await paid.rows("update refund set status = 'pending', next_attempt_at = null")
    assert await states(operator) == [("pending", AMOUNT)]


async def test_a_refund_that_0_1_0_gave_up_is_listed_and_can_be_closed_before_it_is_due_again(
    paid: PaidBookings, operator: Operator
) -> None:
    payment = await cancelled(paid)
    # So 0.1.0 left it: a row without a time, and a payment without sums.
    await paid.rows("update refund set status = 'failed', next_attempt_at = null, last_error = %s", NOT_OUT)
    await paid.rows(
        "update booking set payments = jsonb_set(payments, '{0}', (payments -> 0)"
        " - '{due_minor,closed_minor,refunds,disputes}'::text[])"
    )
    assert await states(operator) == [("given_up", AMOUNT)]
    assert await states(operator, "--open") == [("given_up", AMOUNT)]

    result = await close(paid, operator, payment, "--reason", "paid_otherwise")
    await paid.work()

    assert result.exit_code == 0, result.output
    assert [event.amount_minor for event in await closed_events(paid)] == [AMOUNT]
    assert await states(operator) == [("closed", AMOUNT)]


async def test_the_amount_of_a_refund_is_the_rest_that_did_not_go_back_by_hand(
    paid: PaidBookings, operator: Operator
) -> None:
    payment = await cancelled(paid)
    await paid.refund_by_hand(payment, 5_000)
    await reconcile(paid.log.settings, paid.database, paid.settings, correcting=True, operator="a test")
    await paid.work()

    assert await states(operator) == [("due", 15_000)]


async def test_an_operator_closes_a_refund_with_a_reason_and_a_note_once(
    paid: PaidBookings, operator: Operator
) -> None:
    payment = await cancelled(paid)
    await fail(paid)

    result = await close(paid, operator, payment, "--reason", "paid_otherwise", "--note", "bank transfer")

    assert result.exit_code == 0, result.output
    assert "booking.refund_closed.v1" in result.stdout
    assert "200.00 EUR" in result.stdout
    assert "200.00 EUR are not sent back through Stripe." in result.stderr
    (event,) = await closed_events(paid)
    assert (event.payment_intent, event.amount_minor, event.reason) == (payment, AMOUNT, RefundClosing.PAID_OTHERWISE)
    (action,) = await paid.rows("select id, who, action, target, details from operator_action")
    assert (action["who"], action["action"], action["target"]) == ("ines", "refunds close", payment)
    assert action["details"] == {
        "booking": str(PAID),
        "amount": "200.00 EUR",
        "reason": "paid_otherwise",
        "note": "bank transfer",
    }
    history = await explain(paid.log.settings, paid.database, PAID)
    assert f"operator/{action['id']}" in {step.actor for step in history.steps}

    # Payments follows the event, and nothing is sent any more.
    await paid.work()
    assert await states(operator) == [("closed", AMOUNT)]
    assert await states(operator, "--open") == []
    again = await close(paid, operator, payment, "--reason", "paid_otherwise")
    assert again.exit_code == 0, again.output
    assert "was closed before; nothing was changed" in again.stderr
    assert len(await closed_events(paid)) == 1
    assert await paid.at_stripe("refunds") == []
    found = await reconcile(paid.log.settings, paid.database, paid.settings)
    assert found.differences == ()


async def test_two_operators_close_a_refund_once(paid: PaidBookings, operator: Operator) -> None:
    payment = await cancelled(paid)

    first = await close(paid, operator, payment, "--reason", "waived_by_guest", "--json")
    second = await close(paid, operator, payment, "--reason", "not_possible", "--json")

    assert [(shown(each)[0]["closed"], shown(each)[0]["changes"]) for each in (first, second)] == [
        (True, True),
        # Payments has not followed the event yet, and the room knows that it closed the refund.
        (True, False),
    ]
    assert second.exit_code == 0
    assert [event.reason for event in await closed_events(paid)] == [RefundClosing.WAIVED_BY_GUEST]


async def test_a_refund_that_is_back_on_its_way_or_unknown_is_not_closed(
    paid: PaidBookings, operator: Operator
) -> None:
    payment = await cancelled(paid)
    await paid.rows("update refund set status = 'pending', next_attempt_at = null")

    pending = await operator("refunds", "close", payment, "--reason", "not_possible", "--yes")
    unknown = await operator("refunds", "close", "pi_nobodys", "--reason", "not_possible", "--json", "--yes")

    assert (pending.exit_code, unknown.exit_code) == (1, 1)
    assert "on its way at Stripe" in pending.stderr
    assert shown(unknown) == [
        {"detail": "Nothing is due of a payment pi_nobodys. innkeeper refunds list shows what is."}
    ]
    assert await paid.rows("select id from operator_action") == []


async def test_a_release_that_still_runs_and_cannot_decide_it_is_a_refusal(
    paid: PaidBookings, environment: dict[str, str]
) -> None:
    payment = await cancelled(paid)
    operator = Operator({**environment, "LOG_READABLE_BY": "0.1.0"})

    results = [
        await operator("refunds", "close", payment, "--reason", "not_possible", *more) for more in ((), ("--yes",))
    ]

    for result in results:
        assert result.exit_code == 1
        assert "Workers of release 0.1.0 may still run (LOG_READABLE_BY=0.1.0)" in result.stderr
        assert "200.00 EUR stay due: end the rollout" in result.stderr
    assert await paid.rows("select id from operator_action") == []


async def test_a_room_that_does_not_answer_in_time_is_reported(paid: PaidBookings, operator: Operator) -> None:
    payment = await cancelled(paid)

    result = await operator("refunds", "close", payment, "--reason", "not_possible", "--wait", "0", "--yes")

    assert result.exit_code == 1
    assert "not decided within 0 s" in result.stderr
    await paid.work()
    assert len(await closed_events(paid)) == 1


async def test_an_operator_lets_payments_try_a_refund_now(paid: PaidBookings, operator: Operator) -> None:
    payment = await cancelled(paid)
    await fail(paid)

    result = await operator("refunds", "retry", payment)

    assert result.exit_code == 0, result.output
    assert f"200.00 EUR of {payment} are due now" in result.stderr
    (action,) = await paid.rows("select id, action from operator_action")
    assert action["action"] == "refunds retry"
    await paid.call()
    await paid.work()
    assert await states(operator) == []
    assert [refund["amount"] for refund in await paid.at_stripe("refunds")] == [AMOUNT]


async def test_a_closed_refund_is_not_tried_again(paid: PaidBookings, operator: Operator) -> None:
    payment = await cancelled(paid)
    await close(paid, operator, payment, "--reason", "paid_otherwise")
    await paid.work()

    result = await operator("refunds", "retry", payment, "--json")

    assert result.exit_code == 1
    assert f"An operator closed the refund of {payment}, and 200.00 EUR are not sent back" in shown(result)[0]["detail"]


async def test_a_refund_that_a_dispute_took_is_lost_and_can_be_neither_tried_nor_closed(
    paid: PaidBookings, operator: Operator
) -> None:
    payment = await cancelled(paid)
    await paid.refund_by_hand(payment, 5_000)
    dispute = await paid.dispute(payment)
    await paid.act(f"disputes/{dispute}/close", {"outcome": "lost"})
    await paid.deliver_webhooks()
    await paid.work()
    (booking,) = await paid.rows("select payments from booking")
    assert {"due_minor", "closed_minor"}.isdisjoint(booking["payments"][0])

    assert await states(operator) == [("lost", 15_000)]
    assert await states(operator, "--open") == []
    page = await operator("refunds")
    assert "0 refunds not back yet" in page.stderr
    for command in (("retry", payment), ("close", payment, "--reason", "paid_otherwise", "--yes")):
        result = await operator("refunds", *command, "--json")
        assert result.exit_code == 1
        taken = f"A dispute took 150.00 EUR of {payment}: the guest has them from the bank, and nothing is due."
        assert shown(result) == [{"detail": taken}]
    assert await paid.rows("select id from operator_action") == []


async def test_the_rest_that_an_operator_closed_is_shown_without_the_part_that_went_back(
    paid: PaidBookings, operator: Operator
) -> None:
    payment = await cancelled(paid)
    await paid.refund_by_hand(payment, 5_000)
    await paid.deliver_webhooks()
    await close(paid, operator, payment, "--reason", "waived_by_guest")
    await paid.work()

    assert await states(operator) == [("closed", 15_000)]


async def test_a_close_without_yes_only_prints_the_plan(paid: PaidBookings, operator: Operator) -> None:
    payment = await cancelled(paid)
    await fail(paid)
    close_it = ("refunds", "close", payment, "--reason", "paid_otherwise")

    page = await operator(*close_it)
    program = await operator(*close_it, "--json")

    assert (page.exit_code, program.exit_code) == (1, 1)
    plan = " ".join(page.stderr.split())
    assert f"200.00 EUR of payment {payment}, booking {PAID}, due since " in plan
    assert "5 refusals, would be closed (paid_otherwise)" in plan
    assert "payments never sends them" in plan
    assert "Nothing was done: add --yes to do it." in plan
    (planned,) = shown(program)
    names = ("payment", "booking", "amount_minor", "reason", "done", "closed", "changes")
    assert [planned[name] for name in names] == [payment, str(PAID), AMOUNT, "paid_otherwise", False, False, True]
    await paid.work()
    assert await closed_events(paid) == []
    assert await paid.rows("select id from operator_action") == []

    await close(paid, operator, payment, "--reason", "paid_otherwise")
    await paid.work()
    again = await operator(*close_it)
    assert again.exit_code == 1
    assert "was closed before; nothing would be changed" in again.stderr


async def test_a_refund_of_a_booking_that_the_ledger_does_not_have_is_closed_in_its_row_and_stays_so(
    paid: PaidBookings, operator: Operator
) -> None:
    payment = await cancelled(paid)
    await fail(paid)
    await paid.rows("delete from booking")
    assert await states(operator) == [("failing", AMOUNT)]
    (difference,) = (await reconcile(paid.log.settings, paid.database, paid.settings)).differences
    assert difference.kind == "unknown_booking"
    close_it = ("refunds", "close", payment, "--reason", "paid_otherwise")
    plan = await operator(*close_it)
    assert plan.exit_code == 1
    assert "our row alone records it, without an event" in plan.stderr

    result = await operator(*close_it, "--yes")

    assert result.exit_code == 0, result.output
    assert f"200.00 EUR of {payment} are not sent back through Stripe." in result.stderr
    assert f"does not have booking {PAID}, so our row alone records it" in result.stderr
    (action,) = await paid.rows("select action, target from operator_action")
    assert action == {"action": "refunds close", "target": payment}
    assert await closed_events(paid) == []
    assert await states(operator) == [("closed", AMOUNT)]
    again = await operator(*close_it, "--yes", "--json")
    assert [(each["closed"], each["changes"]) for each in shown(again)] == [(True, False)]

    found = await reconcile(paid.log.settings, paid.database, paid.settings)
    assert found.differences == ()

    # A refund by hand that is on its way, and then not made, does not open it again.
    await paid.act("balance", {"available_minor": 0, "when_short": "pend"})
    by_hand = await paid.refund_by_hand(payment, 5_000)
    await paid.deliver_webhooks()
    assert await states(operator) == [("closed", AMOUNT)]
    await paid.act(f"refunds/{by_hand}/cancel")
    await paid.deliver_webhooks()
    await paid.call()
    assert [refund["id"] for refund in await paid.at_stripe("refunds")] == [by_hand]
    assert await states(operator) == [("closed", AMOUNT)]


async def test_a_refund_by_hand_that_fails_after_a_dispute_took_the_rest_is_due_again(
    paid: PaidBookings, operator: Operator
) -> None:
    payment = await cancelled(paid)
    by_hand = await paid.refund_by_hand(payment, 5_000)
    dispute = await paid.dispute(payment, amount_minor=15_000)
    await paid.act(f"disputes/{dispute}/close", {"outcome": "lost"})
    await paid.deliver_webhooks()
    assert await states(operator) == [("lost", 15_000)]

    await paid.act(f"refunds/{by_hand}/fail")
    await paid.deliver_webhooks()
    # Payments learns of the room's decision.
    await paid.work()

    assert await states(operator) == [("due", 5_000)]
