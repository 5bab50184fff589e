"""Webhooks that never come: the role that reconciles finds them in Stripe's list, and no operator does anything."""

import pytest

from tests.support.waiting import wait_until
from tests.system.money.desk import Desk

pytestmark = [pytest.mark.asyncio(loop_scope="package"), pytest.mark.system]

NEVER = {"fault": "webhook_never", "times": None}


async def test_money_whose_webhooks_never_come_is_recorded_all_the_same(desk: Desk) -> None:
    await desk.faults(*({"match": types, **NEVER} for types in ("checkout.session.*", "refund.*", "charge.*")))

    # It waits until the booking is confirmed.
    paid = await desk.paid(await desk.inn())
    by_hand = await desk.refund_by_hand(paid, 5_000)
    dispute = await desk.dispute(paid)

    (refunded,) = await desk.happened(paid.id, "refunded")
    assert (refunded["refund_id"], refunded["amount_minor"], refunded["by_hand"]) == (by_hand, 5_000, True)
    (opened,) = await desk.happened(paid.id, "dispute_opened")
    assert opened["dispute_id"] == dispute
    await desk.fail(by_hand)
    (failed,) = await desk.happened(paid.id, "refund_failed")
    assert (failed["refund_id"], failed["by_hand"]) == (by_hand, True)
    await desk.decide(dispute, "won")
    await desk.happened(paid.id, "dispute_closed")
    log = desk.house.system.logs / "reconciliation-1.log"
    await wait_until(lambda: "no webhook brought" in log.read_text())
    status, out = await desk.operator("reconcile", "--booking", paid.id)
    assert status == 0, out


async def test_a_webhook_lost_while_the_role_is_killed_or_paused_is_found_afterwards(desk: Desk) -> None:
    system = desk.house.system
    inn, guest = await desk.inn(), await desk.guest()
    booking_id = await guest.booked(inn.room, 20, 2)
    page = await guest.checkout(booking_id)
    await desk.faults({"match": "checkout.session.completed", "fault": "webhook_never"})
    await system.kill_part("reconciliation-1")
    assert await guest.pay(page) == 303
    assert (await desk.operator("pause", "reconciliation", "--yes"))[0] == 0

    await system.start_part("reconciliation-1")
    log = system.logs / "reconciliation-1.log"
    await wait_until(lambda: "reconciliation is paused" in log.read_text())
    assert await guest.status(booking_id) == "PAYMENTS_PENDING"
    assert (await desk.operator("resume", "reconciliation", "--yes"))[0] == 0

    await guest.becomes(booking_id, "CONFIRMED")
