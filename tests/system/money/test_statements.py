"""Statements and `innkeeper money`: their lines and sums are Stripe's balance transactions."""

import json
from collections import Counter
from typing import Any

import pytest

from tests.ingress.house import NOON
from tests.support.waiting import wait_until
from tests.system.money.desk import Desk, Inn, Paid
from topics.messages.sale import CancellationPolicy, Kept, PolicyStep, RatePlan, SaleTerms

pytestmark = [pytest.mark.asyncio(loop_scope="package"), pytest.mark.system]

#: A quarter of the payment is kept, whenever the guest cancels.
QUARTER = CancellationPolicy(id="quarter", steps=(PolicyStep(hours_before=24 * 365, kept=Kept(percent=25)),))
#: Stripe's reporting category of the balance transaction of a movement.
CATEGORIES = {
    "payment": "charge",
    "refund": "refund",
    "refund_failed": "refund_failure",
    "dispute_opened": "dispute",
    "dispute_won": "dispute_reversal",
}


async def stripe_get(desk: Desk, path: str) -> dict[str, Any]:
    """Return an object or a list as the stand-in's API has it."""
    headers = {"Authorization": f"Bearer {desk.house.system.environment()['STRIPE_API_KEY']}"}
    async with desk.house.session.get(f"{desk.house.system.stripe_url}/v1/{path}", headers=headers) as response:
        assert response.status == 200, await response.text()
        found: dict[str, Any] = await response.json()
        return found


async def transactions(desk: Desk, *bookings: Paid) -> list[dict[str, Any]]:
    """Return all balance transactions of the charges, refunds and disputes of bookings."""
    sources = []
    for paid in bookings:
        sources.append((await stripe_get(desk, f"payment_intents/{paid.payment_intent}"))["latest_charge"])
        for kind in ("refunds", "disputes"):
            listed = await stripe_get(desk, f"{kind}?payment_intent={paid.payment_intent}&limit=100")
            sources += [each["id"] for each in listed["data"]]
    pages = [await stripe_get(desk, f"balance_transactions?source={source}&limit=100") for source in sources]
    return [each for page in pages for each in page["data"]]


async def statement(inn: Inn) -> dict[str, Any]:
    """Return the present month's statement with all its movements."""
    answered = await inn.host.ask("GET", f"{inn.path}/statement?limit=100")
    assert answered.status == 200, answered
    body: dict[str, Any] = answered.body
    return body


def cents(amount: str) -> int:
    return int(amount.replace(".", ""))


async def test_the_sums_of_a_statement_and_of_bookings_are_those_of_the_balance_transactions(desk: Desk) -> None:
    # Where it is noon, no month ends during the test.
    inn = await desk.inn(time_zone=NOON)
    cancelled, by_hand, failed, won, lost = [await desk.paid(inn, first=5 + 3 * number) for number in range(5)]
    await desk.refund_by_hand(cancelled, 5_000)
    await desk.happened(cancelled.id, "refunded")
    assert (await cancelled.cancel()).status == 204
    await desk.happened(cancelled.id, "refunded", 2)
    await desk.refund_by_hand(by_hand, 2_500)
    refund = await desk.refund_by_hand(failed, 1_000)
    await desk.happened(failed.id, "refunded")
    await desk.fail(refund)
    for paid, outcome in ((won, "won"), (lost, "lost")):
        dispute = await desk.dispute(paid)
        await desk.happened(paid.id, "dispute_opened")
        await desk.decide(dispute, outcome)
        await desk.happened(paid.id, "dispute_closed")
    await desk.happened(by_hand.id, "refunded")
    await desk.happened(failed.id, "refund_failed")
    await desk.sell_by(inn, SaleTerms(version=1, plans=(RatePlan(id="standard", name="Standard", policy=QUARTER),)))
    by_policy, kept_whole = [await desk.paid(inn, first=number) for number in (20, 23)]
    await desk.refund_by_hand(kept_whole, 15_000)
    await desk.happened(kept_whole.id, "refunded")
    for paid in (by_policy, kept_whole):
        assert (await paid.cancel()).status == 204
    await desk.happened(by_policy.id, "refunded")
    bookings = (cancelled, by_hand, failed, won, lost, by_policy, kept_whole)
    at_stripe = await transactions(desk, *bookings)

    async def stated() -> dict[str, Any]:
        found = await statement(inn)
        return found if len(found["movements"]) == len(at_stripe) + 3 else {}

    # A lost dispute moves no money, because its amount left when it was opened. An amount kept by policy stays.
    found = await wait_until(stated, message="the statement has every movement")

    by_category = Counter[str]()
    for each in at_stripe:
        by_category[each["reporting_category"]] += each["amount"]
    sums = {CATEGORIES[each["kind"]]: cents(each["change"]) for each in found["sums"] if each["kind"] in CATEGORIES}
    assert sums == by_category
    kept = sum(each["amount"] for each in at_stripe)
    (total,) = found["totals"]
    assert (cents(total["kept"]), kept) == (kept, 20_000 * 5 - 20_000 - 2_500 - 20_000 + 2 * 5_000)
    by_booking = {each["booking_id"]: each["amount"] for each in found["movements"] if each["kind"] == "kept_by_policy"}
    assert by_booking == {by_policy.id: "50.00", kept_whole.id: "50.00"}
    assert total["kept_by_policy"] == "100.00"
    assert total["due_to_hotel"] == total["kept"]
    ours = Counter((each["booking_id"], cents(each["change"])) for each in found["movements"] if cents(each["change"]))
    assert sum(ours.values()) == len(at_stripe)
    for paid in bookings:
        status, out = await desk.operator("money", paid.id, "--stripe", "--json")
        assert status == 0, out
        *lines, summary = [json.loads(line) for line in out.splitlines()]
        of_booking = {each["id"]: each["amount"] for each in await transactions(desk, paid)}
        assert {id: each["change_minor"] for each in lines for id in each["transactions"]} == of_booking
        (sums_of_booking,) = summary["sums"]
        assert sums_of_booking["kept_minor"] == sum(of_booking.values())
        assert sums_of_booking["kept_by_policy_minor"] == (5_000 if paid in (by_policy, kept_whole) else 0)
        assert summary["differences"] == []
