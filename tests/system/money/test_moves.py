"""Paid stays that move to another room type: a dearer one that is paid, a cheaper one, and one that is withdrawn."""

from typing import Any

import pytest

from tests.support.client import Answer
from tests.support.hotels import HotelsOverHttp
from tests.support.waiting import wait_until
from tests.system.money.desk import Desk, Inn, Paid
from tests.system.path.guest import Room

pytestmark = [pytest.mark.asyncio(loop_scope="package"), pytest.mark.system]


async def another_room(desk: Desk, inn: Inn, price: str, *, total: int = 1) -> Room:
    """Put another room type of an inn on sale."""
    hotel_id = inn.room.hotel_id
    room_id = await HotelsOverHttp(inn.host.ask).room(hotel_id, base_price=price, total_count=total)
    await desk.house.eventually("select count(*) >= 30 as so from inventory where room_id = %s", room_id)
    return Room(hotel_id, room_id)


async def ask_to_move(paid: Paid, room: Room, tail: str = "") -> Answer:
    return await paid.guest.ask("POST", f"/v1/bookings/{paid.id}/changes{tail}", json={"room_id": room.id})


async def leg_of(paid: Paid, status: str) -> dict[str, Any]:
    """Return the leg of a stay that has moved, once it has this status."""

    async def there() -> dict[str, Any] | None:
        legs: list[dict[str, Any]] = (await paid.guest.ask("GET", f"/v1/trips/{paid.id}")).body["legs"]
        (leg,) = legs
        return leg if leg["booking_status"] == status else None

    found = await wait_until(there, message=f"the leg of {paid.id} is {status}")
    assert isinstance(found, dict)
    return found


async def test_a_stay_moves_to_a_dearer_room_once_it_is_paid_and_another_to_a_cheaper_one_at_once(desk: Desk) -> None:
    inn = await desk.inn(total=2)
    suite, single = await another_room(desk, inn, "150.00"), await another_room(desk, inn, "60.00")
    dearer, cheaper = await desk.paid(inn, first=20, nights=2), await desk.paid(inn, first=20, nights=2)
    other = await desk.house.guest()
    quote = await ask_to_move(dearer, suite, "/quote")
    assert (quote.status, quote.body["extra"], quote.body["amount"]) == (200, "100.00", "300.00")

    held = await ask_to_move(dearer, suite)

    assert (held.status, held.body["amount"], held.body["room_id"]) == (200, "200.00", inn.room.id), held
    pending = held.body["pending_change"]
    assert (pending["room_id"], pending["amount"], pending["extra"]) == (suite.id, "300.00", "100.00")
    # Both rooms are held, and nobody else gets one of them.
    refused = [await other.book(room, 20, 2) for room in (suite, inn.room)]
    for answer in (*refused, await ask_to_move(cheaper, suite)):
        assert (answer.status, answer.body["reason"]) == (409, "sold_out")
    second = await desk.pay_at(held.body["session_url"], dearer.guest, inn, dearer.id)
    (changed,) = await desk.happened(dearer.id, "changed")
    assert (changed["to_room_id"], changed["extra_minor"]) == (suite.id, 10_000)
    assert (await leg_of(dearer, "CONFIRMED"))["amount"] == "300.00"
    shown = await dearer.shown()
    assert (shown["room_id"], shown["amount"]) == (suite.id, "300.00")
    assert [(stay["room_id"], stay["amount"]) for stay in shown["earlier_stays"]] == [(inn.room.id, "200.00")]

    moved = await ask_to_move(cheaper, single)

    assert (moved.status, moved.body["room_id"], moved.body["amount"]) == (200, single.id, "120.00"), moved
    await desk.happened(cheaper.id, "refunded")
    assert await desk.sums(cheaper) == (20_000, 8_000, 0)
    # The rooms of both stays are free again.
    assert [(await other.book(inn.room, 20, 2)).status for _ in range(2)] == [201, 201]

    leg = await leg_of(cheaper, "CONFIRMED")
    assert (await cheaper.guest.ask("POST", f"/v1/bookings/{leg['id']}/cancel")).status == 204
    await desk.happened(cheaper.id, "refunded", 2)
    assert await desk.sums(cheaper) == (20_000, 20_000, 0)
    assert (await ask_to_move(dearer, single)).body["reason"] == "has_legs"
    assert await desk.sums(dearer) == (20_000, 0, 0)
    assert await desk.sums(second) == (10_000, 0, 0)
    assert (await desk.operator("money", dearer.id, "--stripe"))[0] == 0


async def test_a_move_that_is_withdrawn_gives_the_other_room_back(desk: Desk) -> None:
    inn = await desk.inn()
    suite = await another_room(desk, inn, "150.00")
    paid = await desk.paid(inn, first=24, nights=2)
    held = await ask_to_move(paid, suite)
    change_id = held.body["pending_change"]["id"]

    withdrawn = await paid.guest.ask("DELETE", f"/v1/bookings/{paid.id}/changes/{change_id}")

    assert withdrawn.status == 204, withdrawn
    await desk.happened(change_id, "cancelled")
    assert (await (await desk.house.guest()).book(suite, 24, 2)).status == 201
    shown = await paid.shown()
    assert ("pending_change" in shown, shown["amount"], shown["room_id"]) == (False, "200.00", inn.room.id)
