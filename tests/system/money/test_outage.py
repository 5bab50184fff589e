"""Stripe is away: guests and operators see it, bookings go on, and afterwards all that is due is done."""

import re

import pytest

from tests.support.waiting import wait_until
from tests.system.money.desk import Desk

pytestmark = [pytest.mark.asyncio(loop_scope="package"), pytest.mark.system]


async def test_stripe_is_away_for_a_while_and_nothing_due_to_anybody_is_lost(desk: Desk) -> None:
    async def parts() -> dict[str, str]:
        answer = await guest.ask("GET", "/health/ready")
        assert answer.status == 200, answer
        found: dict[str, str] = answer.body["parts"]
        return found

    async def is_named() -> bool:
        return (await parts()).get("stripe") in {"open", "half open"}

    async def is_named_no_more() -> bool:
        return "stripe" not in await parts()

    async def lag_names_calls_that_are_due() -> bool:
        status, out = await desk.operator("lag", "--interval", "0")
        assert status == 0, out
        named = r"Stripe: (half )?open since .*, calls in a row without an answer: .* [12] calls? due"
        return re.search(named, " ".join(out.split())) is not None

    inn = await desk.inn()
    guest = await desk.guest()
    paid = await desk.paid(inn)
    booking_id = await guest.booked(inn.room, 30, 2)
    saved = await guest.ask("POST", "/v1/users/guests", json={"name": "Ana", "age": 33})
    await guest.ask("POST", f"/v1/bookings/{booking_id}/addGuests", json=[saved.body["id"]])
    await desk.faults(*({"match": f"{method} /v1/*", "fault": "reset", "times": None} for method in ("GET", "POST")))

    asked = await guest.ask("POST", f"/v1/bookings/{booking_id}/payments", wait=False, headers={"Prefer": "wait=1"})
    assert (await paid.cancel()).status == 204

    assert (asked.status, asked.body["booking_status"]) == (202, "PAYMENTS_PENDING"), asked
    await wait_until(is_named, message="the ingress names Stripe")
    # A row whose call has just failed is due after a pause, and the probe of a half open circuit while it is not made.
    await wait_until(lag_names_calls_that_are_due, message="lag names Stripe and the calls that are due")
    # A guest can still book, and learns that the page is not there yet.
    assert (await guest.book(inn.room, 40)).status == 201
    again = await guest.ask("POST", f"/v1/bookings/{booking_id}/payments")
    assert (again.status, again.body["booking_status"]) == (202, "PAYMENTS_PENDING"), again
    await desk.house.stripe("DELETE", "/_sandbox/faults")
    assert await guest.pay(await guest.page(booking_id)) == 303
    await guest.becomes(booking_id, "CONFIRMED")
    await desk.happened(paid.id, "refunded")
    assert await desk.sums(paid) == (20_000, 20_000, 0)
    await wait_until(is_named_no_more, message="the ingress names Stripe no more")
