"""Disputes: money that the bank takes is on the log, in the reports, and in what is left to refund."""

import pytest

from tests.support.waiting import wait_until
from tests.system.money.desk import Desk, Inn

pytestmark = [pytest.mark.asyncio(loop_scope="package"), pytest.mark.system]


async def revenue_becomes(inn: Inn, *revenue: str) -> None:
    """Wait until the report of the stay's nights has these amounts."""

    async def reported() -> bool:
        assert await inn.revenue(20, 19 + len(revenue)) == list(revenue)
        return True

    await wait_until(reported)


async def test_a_dispute_that_is_won_leaves_everything_as_it_was(desk: Desk) -> None:
    inn = await desk.inn()
    paid = await desk.paid(inn)

    dispute = await desk.dispute(paid)

    (opened,) = await desk.happened(paid.id, "dispute_opened")
    assert (opened["dispute_id"], opened["amount_minor"]) == (dispute, 20_000)
    assert [refund["disputed"] for refund in await paid.refunds()] == [True]
    assert (await inn.listed(paid.id))["disputed"] is True
    await desk.decide(dispute, "won")
    (closed,) = await desk.happened(paid.id, "dispute_closed")
    assert closed["result"] == "won"
    assert "disputed" not in await inn.listed(paid.id)
    assert (await paid.shown())["booking_status"] == "CONFIRMED"
    assert await desk.sums(paid) == (20_000, 0, 0)
    await revenue_becomes(inn, "100.00", "100.00")


async def test_a_dispute_that_is_lost_takes_the_revenue_and_nothing_is_refunded_twice(desk: Desk) -> None:
    inn = await desk.inn()
    paid = await desk.paid(inn)
    dispute = await desk.dispute(paid)
    await desk.happened(paid.id, "dispute_opened")

    await desk.decide(dispute, "lost")

    (closed,) = await desk.happened(paid.id, "dispute_closed")
    assert closed["result"] == "lost"
    await revenue_becomes(inn, "0.00", "0.00")
    assert (await paid.cancel()).status == 204
    assert await desk.events(paid.id, "refund_requested") == []
    assert await desk.sums(paid) == (20_000, 0, 20_000)


async def test_a_guest_who_cancels_while_the_bank_decides_gets_the_money_once(desk: Desk) -> None:
    paid = await desk.paid(await desk.inn())
    dispute = await desk.dispute(paid)
    await desk.happened(paid.id, "dispute_opened")
    assert (await paid.cancel()).status == 204
    await desk.happened(paid.id, "refund_requested")

    await desk.decide(dispute, "lost")

    await desk.happened(paid.id, "dispute_closed")
    assert await desk.events(paid.id, "refunded") == []
    assert await desk.sums(paid) == (20_000, 0, 20_000)
