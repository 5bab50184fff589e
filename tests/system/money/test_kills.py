"""Payments is killed at each of its steps, with a kept part, a change and a trip's leg in flight: no cent is lost."""

import asyncio
import os
import signal
from datetime import date
from typing import Any
from uuid import uuid4

import pytest

from sandbox.processes import Program
from tests.support.hotels import HotelsOverHttp
from tests.support.waiting import MAX_WAIT_SECONDS
from tests.system.money.desk import Desk, Inn, Paid, day
from tests.system.money.test_policies import TERMS
from topics.messages.commands import AddGuests, CancelBooking, RequestPayment, ReserveTrip
from topics.messages.sale import LegRequest

pytestmark = [pytest.mark.asyncio(loop_scope="package"), pytest.mark.system]

PART = "payments-1"
STEPS = ("before_call", "after_call", "after_record", "after_produce")


async def test_payments_killed_at_each_of_its_steps_loses_no_refund_no_change_and_no_trip(desk: Desk) -> None:
    system, inn = desk.house.system, await desk.inn()
    trip_id, legs = await paid_trip(desk, inn)
    changing = await desk.paid(inn)
    await desk.sell_by(inn, TERMS)
    kept = await desk.paid(inn)
    await system.stop_part(PART)

    assert (await kept.cancel()).status == 204
    await changing.guest.ask(
        "POST",
        f"/v1/bookings/{changing.id}/changes",
        json={"check_out_date": day(23)},
        wait=False,
        headers={"Prefer": "wait=1"},
    )
    (held,) = await desk.happened(changing.id, "change_held")
    await desk.house.send(CancelBooking(room_id=legs[0].room_id, booking_id=legs[0].booking_id, user_id=1))
    await desk.happened(trip_id, "leg_ended")
    try:
        for step in STEPS:
            await killed_at(desk, f"payments.{step}")
    finally:
        await system.start_part(PART)

    dearer = await desk.pay_at(await changing.guest.page(changing.id), changing.guest, inn, changing.id)
    await desk.happened(changing.id, "changed")
    assert await desk.sums(dearer) == (held["extra_minor"], 0, 0)
    # The policy keeps a half.
    await desk.happened(kept.id, "refunded")
    assert await desk.sums(kept) == (24_500, 12_250, 0)
    # The trip's other leg stays.
    (of_leg,) = await desk.happened(trip_id, "refunded")
    assert of_leg["amount_minor"] == 20_000
    (paid,) = await desk.events(trip_id, "confirmed")
    assert await desk.sums(Paid(kept.guest, inn, trip_id, paid["payment_intent"])) == (35_000, 20_000, 0)


async def paid_trip(desk: Desk, inn: Inn) -> tuple[str, tuple[LegRequest, ...]]:
    """Let a guest pay two rooms at once; return the trip's id and its legs."""
    hotel_id, trip_id = inn.room.hotel_id, uuid4()
    other_id = await HotelsOverHttp(inn.host.ask).room(hotel_id, base_price="75.00", total_count=1)
    await desk.house.eventually("select count(*) >= 30 as so from inventory where room_id = %s", other_id)
    legs = tuple(LegRequest(booking_id=uuid4(), room_id=room_id) for room_id in (inn.room.id, other_id))
    about: dict[str, Any] = {"room_id": inn.room.id, "booking_id": trip_id}
    reserve = ReserveTrip(
        **about,
        user_id=1,
        hotel_id=hotel_id,
        check_in=date.fromisoformat(day(20)),
        check_out=date.fromisoformat(day(22)),
        legs=legs,
        hold_seconds=600,
    )
    await desk.house.send(reserve)
    await desk.happened(str(trip_id), "trip_reserved")
    named = AddGuests(**about, user_id=1, guest_ids=(1,))
    await desk.house.send(named, RequestPayment(**about, user_id=1))
    (opened,) = await desk.happened(str(trip_id), "checkout_opened")
    await desk.house.stripe("POST", f"/_sandbox/sessions/{opened['session_id']}/pay", json={})
    for booking_id in (trip_id, *(leg.booking_id for leg in legs)):
        await desk.happened(str(booking_id), "confirmed")
    return str(trip_id), legs


async def killed_at(desk: Desk, failpoint: str) -> None:
    """Start payments by itself, until it dies at its failpoint; the rows that it had claimed are due again."""
    program = desk.house.system._parts[PART]
    assert isinstance(program, Program)
    process = await asyncio.create_subprocess_exec(
        *program._command,
        env=os.environ | program.environment() | {"INNKEEPER_FAILPOINT": failpoint},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        assert await asyncio.wait_for(process.wait(), MAX_WAIT_SECONDS) == -signal.SIGKILL, failpoint
    finally:
        if process.returncode is None:
            process.kill()
    async with await desk.house.connect() as connection:
        for table in ("checkout_session", "refund"):
            await connection.execute(f"update {table} set next_attempt_at = now() where next_attempt_at > now()")
