"""Payments is killed at each of its steps, with a kept part, changes and a trip's leg in flight: no cent is lost."""

import asyncio
import os
import signal
from datetime import date
from typing import Any
from uuid import UUID, uuid4

import pytest

from sandbox.processes import Program
from tests.support.hotels import HotelsOverHttp
from tests.support.waiting import MAX_WAIT_SECONDS
from tests.system.money.desk import Desk, Inn, Paid, day
from tests.system.money.test_policies import TERMS
from topics.messages.commands import AddGuests, CancelBooking, ChangeStay, RequestPayment, ReserveTrip
from topics.messages.sale import LegRequest

pytestmark = [pytest.mark.asyncio(loop_scope="package"), pytest.mark.system]

PART = "payments-1"
STEPS = ("before_call", "after_call", "after_record", "after_produce")


async def test_payments_killed_at_each_of_its_steps_loses_no_refund_no_change_and_no_trip(desk: Desk) -> None:
    system, inn = desk.house.system, await desk.inn()
    trip_id, legs = await paid_trip(desk, inn)
    changing, moving, cheaper = [await desk.paid(inn) for _ in range(3)]
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
    leg_id = await move(desk, moving, "150.00", "change_held")
    await move(desk, cheaper, "60.00", "changed")
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
    moved = await desk.pay_at(await moving.guest.page(moving.id), moving.guest, inn, moving.id)
    await desk.happened(leg_id, "confirmed")
    assert await desk.sums(moved) == (10_000, 0, 0)
    await desk.happened(cheaper.id, "refunded")
    assert await desk.sums(cheaper) == (20_000, 8_000, 0)
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


async def move(desk: Desk, paid: Paid, price: str, answer: str) -> str:
    """Let the guest ask for a new room type of another price, until this event; return the id of the leg there."""
    inn, leg_id = paid.inn, uuid4()
    other_id = await HotelsOverHttp(inn.host.ask).room(inn.room.hotel_id, base_price=price, total_count=1)
    await desk.house.eventually("select count(*) >= 30 as so from inventory where room_id = %s", other_id)
    (reserved,) = await desk.events(paid.id, "reserved")
    change = ChangeStay(
        room_id=inn.room.id,
        booking_id=UUID(paid.id),
        change_id=leg_id,
        user_id=reserved["user_id"],
        check_in=date.fromisoformat(day(20)),
        check_out=date.fromisoformat(day(22)),
        rooms_count=1,
        hold_seconds=600,
        to_room_id=other_id,
    )
    await desk.house.send(change)
    await desk.happened(paid.id, answer)
    return str(leg_id)


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
