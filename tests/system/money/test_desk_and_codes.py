"""A promo code from its quote to its payment, and a walk-in from the desk to the door, in the whole system."""

from typing import Any

import pytest

from tests.support.waiting import wait_until
from tests.system.money.desk import Desk, Inn, day
from tests.system.path.guest import stay

pytestmark = [pytest.mark.asyncio(loop_scope="package"), pytest.mark.system]

CONTACT = {"name": "Ada Lovelace", "email": None, "phone": "+41 31 000 00 00"}


async def uses(inn: Inn, code: str) -> int:
    """Return how many bookings use a code."""
    shown = await inn.host.ask("GET", f"{inn.path}/codes/{code}")
    return int(shown.body["used_count"])


async def test_the_last_use_of_a_promo_code_is_quoted_refused_to_others_given_back_and_paid(desk: Desk) -> None:
    inn, guest = await desk.inn(), await desk.guest()
    added = await inn.host.ask("POST", f"{inn.path}/codes", {"code": "SUMMER", "percent": 10, "max_uses": 1})
    assert added.status == 201, added
    wanted = stay(inn.room, 20, 2) | {"promo_code": "summer"}

    quoted = await guest.ask("POST", "/v1/quotes", wanted)
    (offer,) = quoted.body["offers"]
    held = await guest.ask("POST", "/v1/bookings/init", wanted | {"quote": offer["token"]})
    refused = await guest.ask("POST", "/v1/bookings/init", wanted)

    assert (offer["total"], held.status, held.body["amount"]) == ("180.00", 201, "180.00"), held
    assert (refused.status, refused.body["reason"]) == (409, "code_used_up"), refused
    assert await uses(inn, "SUMMER") == 1

    cancelled = await guest.ask("POST", f"/v1/bookings/{held.body['id']}/cancel")
    assert cancelled.status == 204, cancelled

    async def is_given_back() -> bool:
        return await uses(inn, "SUMMER") == 0

    await wait_until(is_given_back, message="the cancelled booking gave its use back")
    booked = await guest.ask("POST", "/v1/bookings/init", wanted)
    assert booked.status == 201, booked
    paid = await desk.pay(guest, inn, booked.body["id"])
    assert await desk.sums(paid) == (18_000, 0, 0)
    assert await uses(inn, "SUMMER") == 1


async def test_a_walk_in_is_booked_checked_in_and_checked_out_and_forgotten(desk: Desk) -> None:
    # A hotel whose guests are let in at midnight: a stay from today has begun.
    inn = await desk.inn(check_in_time="00:00", check_out_time="23:59", time_zone="UTC")
    body: dict[str, Any] = {
        "room_id": inn.room.id,
        "check_in_date": day(0),
        "check_out_date": day(2),
        "contact": {"name": "Ada Lovelace", "phone": "+41 31 000 00 00"},
        "guests": [{"name": "Ada Lovelace"}, {"name": "Mary Somerville"}],
    }
    booked = await inn.host.ask("POST", f"{inn.path}/bookings", body)
    assert (booked.status, booked.body["booking_status"]) == (201, "CONFIRMED"), booked
    path = f"{inn.path}/bookings/{booked.body['id']}"
    assert (booked.body["contact"], booked.body["amount"]) == (CONTACT, "200.00")
    assert (await inn.listed(booked.body["id"])) == (await inn.host.ask("GET", path)).body == booked.body

    arrived = await inn.host.ask("POST", f"{path}/check-in")
    left = await inn.host.ask("POST", f"{path}/check-out")
    erased = await inn.host.ask("DELETE", f"{path}/contact")

    assert (arrived.status, arrived.body["booking_status"]) == (200, "CHECKED_IN"), arrived
    assert (left.status, left.body["booking_status"]) == (200, "CHECKED_OUT"), left
    assert erased.status == 204, erased
    shown = (await inn.host.ask("GET", path)).body
    assert (shown["booking_status"], shown["guests"], "contact" in shown) == ("CHECKED_OUT", [], False)
    (reserved,) = await desk.happened(booked.body["id"], "reserved")
    assert "Ada" not in str(reserved)
