"""Searches in the whole system: they show the changes that happen on the log."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.support.client import Client
from tests.support.waiting import wait_until
from tests.system.path.guest import House, Room
from topics.messages.commands import ChangeInventory

pytestmark = [pytest.mark.asyncio(loop_scope="package"), pytest.mark.system]


async def hits(house: House, room: Room) -> list[dict[str, Any]]:
    """Return the hits of a search for two nights in the room's city."""
    first = datetime.now(UTC).date() + timedelta(days=10)
    query = {"city": city(room), "check_in_date": str(first), "check_out_date": str(first + timedelta(days=2))}
    client = Client(house.session, house.system.url)
    answer = await client.ask_until_answered("GET", "/v1/hotels/search", params=query)
    assert answer.status == 200, answer
    found: list[dict[str, Any]] = answer.body
    return found


async def room_on_sale(house: House, total: int = 10) -> Room:
    """Put a room on sale whose hotel is alone in its city."""
    room = await house.room(total)
    async with await house.connect() as connection:
        await connection.execute(
            "update hotel set city = %s, updated_at = now() where id = %s", (city(room), room.hotel_id)
        )
    return room


def city(room: Room) -> str:
    return f"Village {room.hotel_id}"


async def shows(house: House, room: Room, **values: Any) -> None:
    """Wait until a search shows the room so."""

    async def so() -> bool:
        return [{name: hit[name] for name in values} for hit in await hits(house, room)] == [values]

    await wait_until(so, message=f"a search shows {values}")


async def gone(house: House, room: Room) -> bool:
    return not await hits(house, room)


async def test_a_stay_that_is_reserved_and_given_up_is_seen_in_search(house: House) -> None:
    guest, room = await house.guest(), await room_on_sale(house, total=2)
    await shows(house, room, rooms_left=2, min_price="120.00", total="240.00")

    booking = await guest.booked(room)
    await shows(house, room, rooms_left=1)

    other = await guest.booked(room)
    await wait_until(lambda: gone(house, room), message="the room is sold out")

    for left, ended in ((1, booking), (2, other)):
        assert (await guest.ask("POST", f"/v1/bookings/{ended}/cancel")).status == 204
        await shows(house, room, rooms_left=left)


async def test_a_managers_change_is_seen_in_search(house: House) -> None:
    room = await room_on_sale(house)
    await shows(house, room, min_price="120.00")
    first = datetime.now(UTC).date() + timedelta(days=10)

    def change(**values: Any) -> ChangeInventory:
        return ChangeInventory(room_id=room.id, first_night=first, end_night=first + timedelta(days=1), **values)

    await house.send(change(price_minor=10_001, surge_milli=1_500))
    await shows(house, room, min_price="135.01", total="270.02")

    await house.send(change(closed=True))
    await wait_until(lambda: gone(house, room), message="the room is closed")
