"""An operator asks for a booking's history, and for the next steps that it waits for, of the whole system."""

import asyncio
import json
import os
import sys
from typing import Any
from uuid import uuid4

import pytest

from tests.support.waiting import wait_until
from tests.system.path.guest import House

pytestmark = [pytest.mark.system, pytest.mark.asyncio(loop_scope="package")]


async def explained(house: House, booking: str, *options: str) -> tuple[int, str, str]:
    """Run `innkeeper explain` as an operator does; return exit status, stdout and stderr."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "operators", "explain", booking, *options),
        env=os.environ | house.system.environment(),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


async def history_of(house: House, booking: str) -> dict[str, Any]:
    status, out, err = await explained(house, booking, "--json")
    assert status == 0, err
    history = json.loads(out)
    assert isinstance(history, dict)
    return history


def types_of(history: dict[str, Any], *kinds: str) -> list[str]:
    return [step["what"] for step in history["steps"] if step["kind"] in kinds]


async def test_a_paid_and_cancelled_booking_is_explained_from_its_request_to_its_refund(house: House) -> None:
    guest, room = await house.guest(), await house.room()
    booking = await guest.booked(room)
    await guest.pay(await guest.checkout(booking))
    await guest.becomes(booking, "CONFIRMED")
    cancelled = await guest.ask("POST", f"/v1/bookings/{booking}/cancel")
    assert cancelled.status == 204, cancelled
    await house.eventually(
        "select count(*) = 1 as so from booking_timeline where booking_id = %s and type = 'booking.refunded.v1'",
        booking,
    )

    async def to_its_end() -> dict[str, Any]:
        found = await history_of(house, booking)
        # Stripe sends the same webhook more than once, and later too: it is read, and changes nothing.
        assert found["awaited"] == []
        return found

    history = await wait_until(to_its_end)

    assert history["status"] == "CANCELLED"
    assert types_of(history, "request") == ["booking id made"]
    # Some may have been sent again, where a machine was slow.
    commands = list(dict.fromkeys(types_of(history, "command")))
    assert [what for what in commands if what != "booking.record_refund.v1"] == [
        "booking.reserve.v1",
        "booking.add_guests.v1",
        "booking.request_payment.v1",
        "booking.record_session.v1",
        "booking.confirm_payment.v1",
        "booking.cancel.v1",
    ]
    assert "booking.record_refund.v1" in commands
    events = [what for what in types_of(history, "event") if what != "booking.command_repeated.v1"]
    assert events == [
        "booking.reserved.v1",
        "booking.guests_added.v1",
        "booking.payment_requested.v1",
        "booking.checkout_opened.v1",
        "booking.confirmed.v1",
        "booking.cancelled.v1",
        "booking.refund_requested.v1",
        "booking.refunded.v1",
    ]
    assert "checkout.session.completed" in types_of(history, "webhook")
    assert all(step["place"] is not None for step in history["steps"] if step["kind"] != "request")
    assert [each["kind"] for each in history["stripe"]] == ["Checkout Session", "Payment Intent", "Refund"]
    assert history["notes"] == []


async def test_a_hold_awaits_its_guest_until_it_ends(house: House) -> None:
    guest, room = await house.guest(), await house.room()
    booking = await guest.booked(room)

    [awaited] = (await history_of(house, booking))["awaited"]

    assert (awaited["who"], awaited["what"]) == ("the guest", "to name the guests")
    assert awaited["until"] is not None

    page = await guest.checkout(booking)
    assert page
    status, out, err = await explained(house, booking)
    assert status == 0, err
    assert "the guest: to pay, until " in out


async def test_a_refusal_is_final(house: House) -> None:
    guest, room = await house.guest(), await house.room(total=1)
    await guest.booked(room)
    refused = (await guest.book(room)).body["id"]

    status, out, err = await explained(house, refused)

    assert status == 0, err
    assert f"Booking {refused}  REJECTED" in out
    assert "sold_out" in out
    assert "nothing: final" in out


async def test_a_booking_that_nobody_made_is_refused_in_one_sentence(house: House) -> None:
    nobodys = str(uuid4())

    assert await explained(house, nobodys) == (
        1,
        "",
        f"No booking {nobodys}: neither the ledger nor the log knows it.\n",
    )
    status, out, err = await explained(house, "12")
    assert (status, out) == (2, "")
    assert err.startswith("12 is no booking's id")
