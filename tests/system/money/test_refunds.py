"""Refunds by hand, refunds that fail, and refunds that Stripe refuses: money due to a guest goes back."""

import pytest

from tests.support.waiting import wait_until
from tests.system.money.desk import Desk, Paid

#: A refund of it succeeds, and fails a few seconds later.
CARD_WHOSE_REFUNDS_FAIL = "4000000000005126"

pytestmark = [pytest.mark.asyncio(loop_scope="package"), pytest.mark.system]


async def refunds_become(paid: Paid, refunded: str, due: str, status: str) -> None:
    """Wait until the guest sees these sums and this status of the payment's refunds."""

    async def shown() -> bool:
        (refund,) = await paid.refunds()
        assert (refund["refunded"], refund["due"], refund["status"]) == (refunded, due, status)
        return True

    await wait_until(shown)


async def test_after_a_refund_by_hand_the_rest_goes_back_and_events_have_the_amount_of_each(desk: Desk) -> None:
    inn = await desk.inn()
    paid = await desk.paid(inn)
    by_hand = await desk.refund_by_hand(paid, 5_000)
    await desk.happened(paid.id, "refunded")
    assert (await paid.shown())["booking_status"] == "CONFIRMED"

    assert (await paid.cancel()).status == 204

    first, second = await desk.happened(paid.id, "refunded", 2)
    assert (first["refund_id"], first["amount_minor"], first["by_hand"]) == (by_hand, 5_000, True)
    assert (second["amount_minor"], second["by_hand"]) == (15_000, False)
    assert await desk.sums(paid) == (20_000, 20_000, 0)
    await refunds_become(paid, "200.00", "0.00", "succeeded")
    # Reconciling finds nothing to mend, and so writes no further event.
    status, out = await desk.operator("reconcile", "--booking", paid.id, "--yes")
    assert status == 0, out
    assert len(await desk.events(paid.id, "refunded")) == 2


async def test_a_refund_that_fails_after_it_succeeded_is_recorded_and_sent_again(desk: Desk) -> None:
    paid = await desk.paid(await desk.inn())
    assert (await paid.cancel()).status == 204
    (refunded,) = await desk.happened(paid.id, "refunded")

    await desk.fail(refunded["refund_id"])

    (failed,) = await desk.happened(paid.id, "refund_failed")
    assert (failed["refund_id"], failed["amount_minor"]) == (refunded["refund_id"], 20_000)
    await refunds_become(paid, "0.00", "200.00", "failed")
    status, out = await desk.operator("refunds", "retry", paid.payment_intent)
    assert status == 0, out
    assert len(await desk.happened(paid.id, "refunded", 2)) == 2
    assert await desk.sums(paid) == (20_000, 20_000, 0)
    await refunds_become(paid, "200.00", "0.00", "succeeded")


async def test_a_card_whose_refunds_fail_later_leaves_the_money_due_and_the_guest_sees_it(desk: Desk) -> None:
    paid = await desk.paid(await desk.inn(), card=CARD_WHOSE_REFUNDS_FAIL)
    assert (await paid.cancel()).status == 204
    (refunded,) = await desk.happened(paid.id, "refunded")
    assert refunded["amount_minor"] == 20_000

    # The stand-in lets the refund fail a few seconds after it succeeded.
    (failed,) = await desk.happened(paid.id, "refund_failed")

    assert (failed["refund_id"], failed["amount_minor"]) == (refunded["refund_id"], 20_000)
    await refunds_become(paid, "0.00", "200.00", "failed")
    assert await desk.sums(paid) == (20_000, 0, 0)
    # Every refund of this card fails, so an operator pays the guest otherwise.
    status, out = await desk.operator("refunds", "close", paid.payment_intent, "--reason", "paid_otherwise", "--yes")
    assert status == 0, out
    await desk.happened(paid.id, "refund_closed")
    await refunds_become(paid, "0.00", "0.00", "closed")


async def test_a_refund_by_hand_that_fails_is_shown_to_the_guest_as_failed(desk: Desk) -> None:
    paid = await desk.paid(await desk.inn(on_full_refund="keep"))
    refund = await desk.refund_by_hand(paid, 5_000)
    await desk.happened(paid.id, "refunded")
    (shown,) = await paid.refunds()
    assert (shown["paid"], shown["refunded"], shown["due"], shown["status"]) == ("200.00", "50.00", "0.00", "succeeded")

    await desk.fail(refund)

    await desk.happened(paid.id, "refund_failed")
    await refunds_become(paid, "0.00", "0.00", "failed")
    assert (await paid.shown())["booking_status"] == "CONFIRMED"


async def test_an_operator_closes_a_refund_that_cannot_be_made(desk: Desk) -> None:
    paid = await desk.paid(await desk.inn())
    assert (await paid.cancel()).status == 204
    (refunded,) = await desk.happened(paid.id, "refunded")
    await desk.fail(refunded["refund_id"])
    await desk.happened(paid.id, "refund_failed")
    awaited = await desk.explained(paid.id)
    close = f"innkeeper refunds close {paid.payment_intent} --reason ... --yes"
    assert any(each.startswith("an operator: ") and close in each for each in awaited), awaited

    status, out = await desk.operator("refunds", "close", paid.payment_intent, "--reason", "paid_otherwise", "--yes")

    assert status == 0, out
    (closed,) = await desk.happened(paid.id, "refund_closed")
    assert (closed["amount_minor"], closed["reason"]) == (20_000, "paid_otherwise")
    assert await desk.sums(paid) == (20_000, 0, 0)
    assert await desk.explained(paid.id) == []


async def test_a_refund_that_stripe_refuses_for_want_of_money_stays_due_until_it_is_made(desk: Desk) -> None:
    paid = await desk.paid(await desk.inn())
    await desk.house.stripe("POST", "/_sandbox/balance", json={"available_minor": 0})
    assert (await paid.cancel()).status == 204
    await desk.house.eventually(
        "select count(*) = 1 as so from refund where payment_intent = %s and failures > 0", paid.payment_intent
    )
    await refunds_become(paid, "0.00", "200.00", "due")

    await desk.house.stripe("POST", "/_sandbox/balance", json={"available_minor": None})
    status, out = await desk.operator("refunds", "retry", paid.payment_intent)

    assert status == 0, out
    await desk.happened(paid.id, "refunded")
    assert await desk.sums(paid) == (20_000, 20_000, 0)


@pytest.mark.parametrize(("setting", "status"), [("cancel", "CANCELLED"), ("keep", "CONFIRMED")])
async def test_a_whole_refund_by_hand_cancels_or_is_goodwill_as_the_hotel_wants(
    desk: Desk, setting: str, status: str
) -> None:
    inn = await desk.inn(total=1, on_full_refund=setting)
    paid = await desk.paid(inn, nights=1)

    await desk.refund_by_hand(paid)

    await desk.happened(paid.id, "refunded")
    await paid.guest.becomes(paid.id, status)
    assert await desk.sums(paid) == (10_000, 10_000, 0)

    async def reported() -> bool:
        assert await inn.revenue(20, 20) == ["0.00"]
        return True

    await wait_until(reported)
    again = await (await desk.guest()).book(inn.room, 20, 1)
    assert again.status == (201 if setting == "cancel" else 409)


async def test_a_payment_of_another_installation_is_left_alone(desk: Desk) -> None:
    inn = await desk.inn()
    foreign = "0199f3c0-77aa-8b15-8d6e-3c5a7e9f1b2d"
    form = {
        "mode": "payment",
        "client_reference_id": foreign,
        "line_items[0][quantity]": "1",
        "line_items[0][price_data][currency]": "eur",
        "line_items[0][price_data][unit_amount]": "45000",
        "line_items[0][price_data][product_data][name]": "Hotel booking",
        "metadata[booking_id]": foreign,
        "metadata[room_id]": str(inn.room.id),
        "metadata[attempt]": "1",
        "metadata[mark]": "0123456789abcdef0123456789abcdef",
        "success_url": "https://other.example/ok",
    }
    headers = {"Authorization": f"Bearer {desk.house.system.environment()['STRIPE_API_KEY']}"}
    url = f"{desk.house.system.stripe_url}/v1/checkout/sessions"
    async with desk.house.session.post(url, data=form, headers=headers) as response:
        session = (await response.json())["id"]
    paid = await desk.house.stripe("POST", f"/_sandbox/sessions/{session}/pay")
    workers_log = desk.house.system.logs / "payments-1.log"
    await wait_until(lambda: f"{session} at Stripe is not of this installation" in workers_log.read_text())

    # A payment that came later, in the same room, is confirmed: the one before it was looked at.
    await desk.paid(inn)
    status, out = await desk.operator("reconcile", "--json")

    entry = await desk.ledger(paid["payment_intent"])
    assert (entry["captured_minor"], entry["refunded_minor"], entry["refund_objects"]) == (45_000, 0, [])
    assert await desk.events(foreign, "refund_requested") == []
    assert foreign not in out, (status, out)
