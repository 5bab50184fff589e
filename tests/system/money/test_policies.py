"""Stays that are sold by a rate plan: quoted, paid line by line, and cancelled by the policy."""

import pytest

from tests.system.money.desk import Desk, day
from tests.system.path.guest import stay
from topics.messages.sale import (
    CancellationPolicy,
    Collected,
    Kept,
    LineKind,
    Meals,
    PolicyStep,
    RatePlan,
    SaleTerms,
    Tax,
)

pytestmark = [pytest.mark.asyncio(loop_scope="package"), pytest.mark.system]

#: Half of the price is kept from 60 days before check-in on, and all of it from two days before.
PLAN = RatePlan(
    id="half",
    name="Half back",
    meals=Meals.BREAKFAST,
    plus_minor=1_000,
    policy=CancellationPolicy(
        id="half",
        steps=(
            PolicyStep(hours_before=60 * 24, kept=Kept(percent=50)),
            PolicyStep(hours_before=48, kept=Kept(percent=100)),
        ),
    ),
)
TERMS = SaleTerms(
    version=1,
    plans=(PLAN,),
    taxes=(
        Tax(id="cleaning", name="Cleaning", kind=LineKind.FEE, amount_minor=2_500),
        Tax(id="city", name="City tax", amount_minor=200, per_person=True, collected=Collected.AT_HOTEL),
    ),
    capacity=2,
)


async def test_a_quoted_stay_is_paid_line_by_line_and_cancelled_late_for_half_of_it(desk: Desk) -> None:
    inn = await desk.inn()
    await desk.sell_by(inn, TERMS)
    guest = await desk.guest()
    body = stay(inn.room, 20, 2)
    (offer,) = (await guest.ask("POST", "/v1/quotes", json=body | {"plan_id": "half", "adults": 2})).body["offers"]
    # Two nights of 110.00, and the fee.
    assert (offer["total"], offer["due_at_hotel"]) == ("245.00", "4.00")
    path = f"/v1/admin/inventory/rooms/{inn.room.id}?start_date={day(20)}&end_date={day(21)}"
    changed = await inn.host.ask("PATCH", path, json={"price": "900.00"})
    assert changed.status == 200, changed

    booked = await guest.ask("POST", "/v1/bookings/init", json=body | {"quote": offer["token"]})
    assert (booked.status, booked.body["amount"], booked.body["sale"]["lines"]) == (201, "245.00", offer["lines"])
    page = await guest.checkout(booked.body["id"])
    async with desk.house.session.get(page) as response:
        text = await response.text()
    words = ("EUR 220.00", "Half back, breakfast", "Cleaning", "EUR 25.00", "Pay EUR 245.00", "4.00 EUR (City tax)")
    assert [word for word in words if word not in text] == []
    paid = await desk.pay_at(page, guest, inn, booked.body["id"])
    before = await paid.shown()
    assert [(step["refund"], step["kept"]) for step in before["sale"]["cancellation"]] == [
        ("122.50", "122.50"),
        ("0.00", "245.00"),
    ]

    assert (await paid.cancel()).status == 204

    await desk.happened(paid.id, "refunded")
    assert await desk.sums(paid) == (24_500, 12_250, 0)
    after = await paid.shown()
    assert (after["policy"]["kept"], after["policy"]["percent"]) == ("122.50", 50)
    (refund,) = after["refunds"]
    assert (refund["refunded"], refund["due"], refund["retained"]) == ("122.50", "0.00", "122.50")
