"""Rooms that a hotel takes off sale, and nights of which it sells more rooms than there are."""

from collections.abc import AsyncIterator
from datetime import date, timedelta
from typing import Any
from uuid import uuid4

import pytest

from storage.settings import DatabaseSettings
from tests.ingress.house import TODAY, WAIT, House
from tests.ingress.managers import Manager, Worker, open_worker
from tests.support.client import Answer
from topics.kafka.settings import KafkaSettings

FIRST = TODAY + timedelta(days=40)


@pytest.fixture
async def worker(kafka_settings: KafkaSettings, database: DatabaseSettings) -> AsyncIterator[Worker]:
    async with open_worker(kafka_settings, database) as worker:
        yield worker


class Blocks:
    """The blocks of one room of five, and its nights; requests wait for their decisions."""

    def __init__(self, house: House, hotel_id: int, room_id: int, manager: int = 1) -> None:
        self.house = house
        self.hotel_id = hotel_id
        self.room_id = room_id
        self.manager = manager

    async def ask(self, method: str, path: str = "", body: Any = None, **headers: str) -> Answer:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        sent = self.house.manager_header(self.manager) | WAIT | given
        address = f"/v1/admin/hotels/{self.hotel_id}/rooms/{self.room_id}/blocks{path}"
        return await self.house.ask(method, address, body, headers=sent)

    async def block(self, first: int = 0, last: int = 2, rooms: int = 2, **headers: str) -> Answer:
        """Block rooms for the nights numbered from `first` to `last`."""
        body = {"start_date": str(day(first)), "end_date": str(day(last)), "rooms_count": rooms, "reason": "group"}
        return await self.ask("POST", "", body, **headers)

    async def nights(self, first: int, last: int, **changes: int) -> list[dict[str, Any]]:
        """Return nights, after a change of them if there is one."""
        path = f"/v1/admin/inventory/rooms/{self.room_id}?start_date={day(first)}&end_date={day(last)}"
        header = self.house.manager_header(self.manager)
        answer = await self.house.ask("PATCH" if changes else "GET", path, changes or None, headers=header)
        assert answer.status == 200, answer
        nights: list[dict[str, Any]] = answer.body
        return nights

    async def free(self, first: int, last: int) -> list[int]:
        """Return how many rooms of each night are free."""
        taken = ("booked_count", "reserved_count", "blocked_count")
        nights = await self.nights(first, last)
        return [night["limit_count"] - sum(night[name] for name in taken) for night in nights]


@pytest.fixture
async def blocks(house: House, worker: Worker) -> Blocks:
    manager = Manager(house)
    hotel_id = await manager.hotel()
    return Blocks(house, hotel_id, await manager.room(hotel_id))


def day(number: int) -> date:
    return FIRST + timedelta(days=number)


async def test_a_block_takes_rooms_off_sale_until_it_is_released(blocks: Blocks) -> None:
    made = await blocks.block()

    assert made.status == 201, made
    block = {
        "room_id": blocks.room_id,
        "start_date": str(day(0)),
        "end_date": str(day(2)),
        "rooms_count": 2,
        "reason": "group",
        "released": False,
    }
    assert made.body == block | {"id": made.body["id"]}
    path = f"/v1/admin/hotels/{blocks.hotel_id}/rooms/{blocks.room_id}/blocks/{made.body['id']}"
    assert made.headers["Location"] == path
    shown = await blocks.ask("GET", f"/{made.body['id']}")
    assert (shown.status, shown.body) == (200, made.body)
    assert await blocks.free(0, 3) == [3, 3, 3, 5]
    assert (await blocks.ask("GET")).body == [made.body]

    for _ in range(2):
        assert (await blocks.ask("DELETE", f"/{made.body['id']}")).status == 204

    assert await blocks.free(0, 3) == [5, 5, 5, 5]
    assert (await blocks.ask("GET")).body == []
    assert (await blocks.ask("GET", "?released=true")).body == [made.body | {"released": True}]
    assert (await blocks.ask("GET", f"/{made.body['id']}")).body == made.body | {"released": True}


async def test_the_same_request_again_is_one_block(blocks: Blocks) -> None:
    first = await blocks.block(Idempotency_Key="once")
    again = await blocks.block(Idempotency_Key="once")
    other = await blocks.block(rooms=1, Idempotency_Key="once")

    assert (first.status, again.status, again.body, other.status) == (201, 201, first.body, 422)
    assert await blocks.free(0, 0) == [3]
    accepted = await blocks.block(Idempotency_Key="once", Prefer="wait=0")
    assert (accepted.status, accepted.body) == (202, first.body)


async def test_nights_that_are_not_free_are_named(blocks: Blocks, worker: Worker) -> None:
    await worker.sell(blocks.room_id, day(1), day(2), rooms=4)

    refused = await blocks.block()
    too_late = await blocks.block(360, 366)

    assert (refused.status, refused.body["reason"]) == (409, "night_not_free")
    assert refused.body["detail"] == f"these nights do not have 2 free rooms: {day(1)}"
    assert refused.body["refused"] == [{"date": str(day(1)), "reason": "night_not_free"}]
    assert (too_late.status, too_late.body["reason"]) == (409, "night_not_open")
    assert too_late.body["refused"][0] == {"date": str(day(360)), "reason": "night_not_open"}
    assert await blocks.free(0, 2) == [5, 1, 5]


async def test_a_block_that_makes_no_sense_is_refused(blocks: Blocks) -> None:
    for first, last, rooms, field in (
        (0, -1, 1, "end_date"),
        (-41, 0, 1, "start_date"),
        (0, 1200, 1, "end_date"),
        (0, 1, 0, "rooms_count"),
    ):
        refused = await blocks.block(first, last, rooms)
        assert (refused.status, [each["field"] for each in refused.body["errors"]]) == (422, [field]), refused
    # Nobody can block rooms that there are not.
    assert (await blocks.block(rooms=6)).status == 409


async def test_blocks_are_listed_in_pages_by_first_night(blocks: Blocks) -> None:
    ids = [(await blocks.block(number, number, 1)).body["id"] for number in (2, 0, 1)]

    first = await blocks.ask("GET", "?limit=2")
    link = first.headers["Link"].partition(">")[0].rpartition("?")[2]
    second = await blocks.ask("GET", f"?{link}")

    assert [each["id"] for each in (*first.body, *second.body)] == [ids[1], ids[2], ids[0]]


async def test_blocks_that_are_over_are_listed_only_when_asked_for(blocks: Blocks, worker: Worker) -> None:
    """The last night of a block is over once the hotel has the next date."""
    over, tonight, released = [(await blocks.block(number, number, 1)).body["id"] for number in (0, 1, 2)]
    await blocks.ask("DELETE", f"/{released}")
    for id, end in ((over, TODAY), (tonight, TODAY + timedelta(days=1)), (released, TODAY)):
        first = end - timedelta(days=3)
        await worker.connection.execute(
            "update room_block set first_night = %s, end_night = %s where id = %s", (first, end, id)
        )

    async def listed(query: str) -> set[str]:
        return {each["id"] for each in (await blocks.ask("GET", query)).body}

    assert await listed("") == await listed("?released=true") == {tonight}
    assert await listed("?past=true") == {over, tonight}
    assert await listed("?past=true&released=true") == {over, tonight, released}


async def test_another_managers_blocks_are_nobodys(blocks: Blocks) -> None:
    made = (await blocks.block()).body
    other = Blocks(blocks.house, blocks.hotel_id, blocks.room_id, manager=2)

    for answer in (await other.ask("GET"), await other.block(), await other.ask("GET", f"/{made['id']}")):
        assert (answer.status, answer.body) == (404, {"detail": "no such room"})
    assert (await other.ask("DELETE", f"/{made['id']}")).status == 404
    for method in ("GET", "DELETE"):
        missing = await blocks.ask(method, f"/{uuid4()}")
        assert (missing.status, missing.body) == (404, {"detail": "no such block"})
    elsewhere = Blocks(blocks.house, blocks.hotel_id, await Manager(blocks.house).room(blocks.hotel_id, type="single"))
    assert (await elsewhere.ask("DELETE", f"/{made['id']}")).status == 404


async def test_an_allowance_sells_more_rooms_than_there_are(blocks: Blocks, worker: Worker) -> None:
    (night,) = await blocks.nights(0, 0, allowance_count=2)
    assert (night["total_count"], night["allowance_count"], night["limit_count"]) == (5, 2, 7)

    await worker.sell(blocks.room_id, day(0), day(1), rooms=6)

    (night,) = await blocks.nights(0, 0)
    assert (night["booked_count"], await blocks.free(0, 0)) == (6, [1])
    (kept,) = [night for night in await blocks.nights(0, 1, allowance_count=0) if night["refused"]]
    assert (kept["date"], kept["refused"], kept["allowance_count"]) == (str(day(0)), "total_below_sold", 2)


async def test_a_room_with_an_allowance_or_a_block_is_not_deleted_below_what_is_taken(
    blocks: Blocks, worker: Worker
) -> None:
    manager = Manager(blocks.house)
    path = f"/hotels/{blocks.hotel_id}/rooms/{blocks.room_id}"
    await blocks.nights(0, 5, allowance_count=3)
    booking_id = await worker.sell(blocks.room_id, day(0), day(1))

    sold = await manager.ask("DELETE", path)
    assert (sold.status, sold.body["detail"]) == (409, f"it has bookings or blocks to come: {day(0)}")
    await worker.cancel(blocks.room_id, booking_id)
    block = (await blocks.block(3, 3)).body
    assert (await manager.ask("DELETE", path)).body["detail"] == f"it has bookings or blocks to come: {day(3)}"
    await blocks.ask("DELETE", f"/{block['id']}")

    assert (await manager.ask("DELETE", path)).status == 204
    assert await worker.rows(
        "select distinct closed, total_count, allowance_count from inventory where room_id = %s and date >= %s",
        blocks.room_id,
        TODAY,
    ) == [(True, 0, 0)]
