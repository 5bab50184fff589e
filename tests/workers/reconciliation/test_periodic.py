"""The comparison mends what lasts and is certain, and leaves the rest to an operator: a metric, a log line."""

import pytest

from operators.explain import explain
from operators.reconcile import reconcile
from telemetry import metrics
from tests.operators.decided_log import PAID, REFUNDED
from tests.operators.reconcile.paid_bookings import ROOM, PaidBookings
from tests.workers.reconciliation.reconciler import comparison
from topics.messages.commands import CancelBooking, RecordRefund
from topics.messages.releases import Release

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

ASKED = "an operator must look at booking"


def left() -> dict[str, float]:
    """Return the differences that are left to an operator, by kind, as they are exported."""
    return {kind: count for (kind,), count in metrics.MONEY_DIFFERENCES.values().items() if count}


async def refunds(paid: PaidBookings) -> list[int]:
    return [row["amount_minor"] for row in await paid.rows("select amount_minor from payment_refund order by 1")]


async def test_a_difference_that_lasts_is_mended_from_the_role_itself(paid: PaidBookings) -> None:
    await paid.checkout(PAID)
    payment = await paid.pay(PAID)
    await paid.deliver_webhooks()
    await paid.refund_by_hand(payment, 5_000)

    async with comparison(paid) as role:
        await role.turn()
        assert await refunds(paid) == []
        await role.turn()
        await paid.work()
        await role.turn()

    assert await refunds(paid) == [5_000]
    assert left() == {}
    history = await explain(paid.log.settings, paid.database, PAID)
    (step,) = [each for each in history.steps if each.what == RecordRefund.message_type]
    assert (step.source, step.actor) == ("innkeeper/reconciliation", None)
    assert await paid.rows("select 1 as done from operator_action") == []


async def test_a_difference_that_passes_by_itself_is_none(paid: PaidBookings) -> None:
    await paid.checkout(PAID)
    await paid.pay(PAID)

    async with comparison(paid) as role:
        await role.turn()
        await paid.deliver_webhooks()
        before = [envelope.id for envelope, _ in await paid.log.events()]
        await role.turn()

    await paid.work()
    assert [envelope.id for envelope, _ in await paid.log.events()] == before
    assert left() == {}


async def test_a_difference_for_a_person_is_counted_logged_once_and_shown_by_the_command(
    paid: PaidBookings, caplog: pytest.LogCaptureFixture
) -> None:
    await paid.checkout(PAID)
    await paid.pay(PAID)
    await paid.deliver_webhooks()
    # The booking's row is not as its events made it, and no command can mend that.
    await paid.rows("update booking set status = 'CANCELLED'")

    async with comparison(paid) as role:
        for _ in range(4):
            await role.turn()

    assert left() == {"wrong_sum": 1}
    assert caplog.text.count(f"{ASKED} {PAID}") == 1
    shown = await reconcile(paid.log.settings, paid.database, paid.settings)
    assert [each.description in caplog.text for each in shown.differences] == [True]


async def test_a_difference_that_stays_although_it_was_mended_is_for_an_operator(
    paid: PaidBookings, caplog: pytest.LogCaptureFixture
) -> None:
    await paid.checkout(PAID)
    payment = await paid.pay(PAID)
    await paid.deliver_webhooks()
    await paid.refund_by_hand(payment, 5_000)

    async with comparison(paid) as role:
        for _ in range(2):
            await role.turn()
        assert left() == {}
        # The room has not decided the command at the next comparison, nor at the one after it.
        await paid.rows("delete from payment_refund")
        for _ in range(2):
            await role.turn()
        assert (left(), caplog.text.count(ASKED)) == ({"unknown_refund": 1}, 1)
        await paid.work()
        for _ in range(2):
            await role.turn()

    assert (left(), caplog.text.count(ASKED)) == ({}, 1)


async def test_while_0_1_0_runs_nothing_is_mended(paid: PaidBookings) -> None:
    await paid.checkout(REFUNDED)
    await paid.pay(REFUNDED)
    await paid.deliver_webhooks()
    await paid.work(CancelBooking(room_id=ROOM, booking_id=REFUNDED, user_id=7))
    await paid.rows("delete from refund")
    older = paid.log.settings.model_copy(update={"log_readable_by": Release.V0_1_0})

    async with comparison(paid, older) as role:
        for _ in range(2):
            await role.turn()

    assert left() == {"idle_refund": 1}
    assert await paid.rows("select 1 as due from refund") == []


async def test_a_refund_that_0_1_0_gave_up_waits_for_the_day_that_an_operator_has(paid: PaidBookings) -> None:
    await paid.checkout(REFUNDED)
    await paid.pay(REFUNDED)
    await paid.deliver_webhooks()
    await paid.work(CancelBooking(room_id=ROOM, booking_id=REFUNDED, user_id=7))
    await paid.rows("update refund set status = 'failed', next_attempt_at = null")

    async with comparison(paid) as role:
        for _ in range(2):
            await role.turn()

    assert left() == {"idle_refund": 1}
    assert await paid.rows("select status, next_attempt_at from refund") == [
        {"status": "failed", "next_attempt_at": None}
    ]
