"""Amounts that Stripe takes, the lines of its page, and a payment while Stripe is down."""

import pytest

from tests.support.waiting import wait_until
from tests.system.money.desk import Desk, day
from tests.system.path.guest import stay

pytestmark = [pytest.mark.asyncio(loop_scope="package"), pytest.mark.system]


async def test_a_price_in_dinars_is_rounded_to_what_can_be_charged_and_charged_as_shown(desk: Desk) -> None:
    inn = await desk.inn(price="12.340", currency="KWD")
    night = f"/v1/admin/inventory/rooms/{inn.room.id}?start_date={day(30)}&end_date={day(30)}"
    refused = await inn.host.ask("PATCH", night, json={"price": "12.345"})
    assert (refused.status, [error["field"] for error in refused.body["errors"]]) == (422, ["price"]), refused

    paid = await desk.paid(inn, nights=1)

    assert (await paid.shown())["amount"] == "12.340"
    assert await desk.sums(paid) == (12_340, 0, 0)
    assert (await paid.cancel()).status == 204
    await desk.happened(paid.id, "refunded")


async def test_a_currency_that_stripe_counts_in_another_unit_is_charged_and_refunded_in_full(desk: Desk) -> None:
    # ISO 4217 gives the krona of Iceland no minor unit, and Stripe counts hundredths of it.
    inn = await desk.inn(price="15000", currency="ISK")
    paid = await desk.paid(inn, nights=1)
    assert await desk.sums(paid) == (1_500_000, 0, 0)

    assert (await paid.cancel()).status == 204

    (refunded,) = await desk.happened(paid.id, "refunded")
    assert refunded["amount_minor"] == 15_000
    assert await desk.sums(paid) == (1_500_000, 1_500_000, 0)


async def test_an_amount_that_cannot_be_charged_is_refused_with_the_price_or_with_the_stay(desk: Desk) -> None:
    inn = await desk.inn(price="3400.00", total=20)
    room = {"type": "single", "base_price": "0.30", "total_count": 1, "capacity": 1}
    small = await inn.host.ask("POST", f"{inn.path}/rooms", json=room)
    body = stay(inn.room, 200, 30) | {"rooms_count": 10}

    large = await (await desk.guest()).ask("POST", "/v1/bookings/init", json=body)

    assert small.status == 422, small
    assert (large.status, large.body.get("reason")) == (409, "not_chargeable"), large


async def test_the_page_names_the_hotel_the_room_and_the_nights(desk: Desk) -> None:
    inn = await desk.inn(name="The Tide House")
    guest = await desk.guest()
    page = await guest.checkout(await guest.booked(inn.room, 20, 2))

    async with desk.house.session.get(page) as response:
        shown = await response.text()

    assert all(words in shown for words in ("The Tide House", "double", "2 nights")), shown


async def test_asking_to_pay_while_stripe_is_down_shows_the_status_after_it_and_loses_nothing(desk: Desk) -> None:
    inn = await desk.inn()
    guest = await desk.guest()
    booking_id = await guest.booked(inn.room, 20, 2)
    saved = await guest.ask("POST", "/v1/users/guests", json={"name": "Ana", "age": 33})
    await guest.ask("POST", f"/v1/bookings/{booking_id}/addGuests", json=[saved.body["id"]])
    sessions = "POST /v1/checkout/sessions"
    await desk.faults({"match": sessions, "fault": "status", "status": 503, "saved": False, "times": None})

    asked = await guest.ask("POST", f"/v1/bookings/{booking_id}/payments", wait=False, headers={"Prefer": "wait=1"})

    assert (asked.status, asked.body["booking_status"]) == (202, "PAYMENTS_PENDING"), asked
    # A second request finds the first one's page not opened yet, and waits for nothing.
    again = await guest.ask("POST", f"/v1/bookings/{booking_id}/payments")
    assert (again.status, again.body["booking_status"], "session_url" in again.body) == (202, "PAYMENTS_PENDING", False)
    assert again.headers["Location"] == f"/v1/bookings/{booking_id}/status"
    await desk.house.stripe("DELETE", "/_sandbox/faults")
    page = await guest.page(booking_id)
    assert await guest.pay(page) == 303
    await guest.becomes(booking_id, "CONFIRMED")


async def test_a_price_that_changed_before_a_payment_does_not_change_what_was_agreed(desk: Desk) -> None:
    inn = await desk.inn()
    guest = await desk.guest()
    booking_id = await guest.booked(inn.room, 20, 1)
    path = f"/v1/admin/inventory/rooms/{inn.room.id}"
    shown = await guest.ask("GET", f"/v1/bookings/{booking_id}")
    night = shown.body["check_in_date"]
    changed = await inn.host.ask("PATCH", f"{path}?start_date={night}&end_date={night}", json={"price": "200.00"})
    assert changed.status == 200, changed

    paid = await desk.pay(guest, inn, booking_id)

    async def reported() -> bool:
        assert await inn.revenue(20, 20) == ["100.00"]
        return True

    await wait_until(reported)
    assert await desk.sums(paid) == (10_000, 0, 0)
