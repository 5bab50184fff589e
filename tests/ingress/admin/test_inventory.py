"""A room's nights as its manager sees and changes them: through the log, night by night, never below what is sold."""

from collections.abc import AsyncIterator
from datetime import date, timedelta
from typing import Any

import pytest

from storage.settings import DatabaseSettings
from tests.ingress.house import TODAY, WAIT, House
from tests.ingress.managers import Manager, Worker, open_worker
from tests.support.client import Answer
from topics.kafka.settings import KafkaSettings

FIRST = TODAY + timedelta(days=40)


@pytest.fixture
def manager(house: House) -> Manager:
    return Manager(house)


@pytest.fixture
async def worker(kafka_settings: KafkaSettings, database: DatabaseSettings) -> AsyncIterator[Worker]:
    async with open_worker(kafka_settings, database) as worker:
        yield worker


@pytest.fixture
async def room_id(manager: Manager, worker: Worker) -> int:
    """A room of five, at 120.00."""
    return await manager.room(await manager.hotel())


def day(number: int) -> date:
    return FIRST + timedelta(days=number)


class Calendar:
    """The nights of one room."""

    def __init__(self, manager: Manager, room_id: int) -> None:
        self._manager = manager
        self._room_id = room_id

    async def read(self, **query: date) -> Answer:
        return await self._manager.ask("GET", self._path(query))

    async def days(self, **query: date) -> list[str]:
        return [night["date"] for night in (await self.read(**query)).body]

    async def change(self, body: dict[str, Any], **query: date) -> Answer:
        return await self._manager.ask("PATCH", self._path(query), body)

    def _path(self, query: dict[str, date]) -> str:
        return f"/inventory/rooms/{self._room_id}?" + "&".join(f"{name}={value}" for name, value in query.items())


@pytest.fixture
def calendar(manager: Manager, room_id: int) -> Calendar:
    return Calendar(manager, room_id)


def night_id(room_id: int, day: date) -> int:
    """Return the id of a night as the documentation defines it."""
    return room_id * 100_000 + (day - date(1970, 1, 1)).days


async def test_a_manager_sees_what_is_sold_of_each_night_and_what_it_costs(
    calendar: Calendar, room_id: int, worker: Worker
) -> None:
    await worker.sell(room_id, day(0), day(1), rooms=2)

    read = await calendar.read(start_date=day(0), end_date=day(1))

    assert read.status == 200
    night = {
        "id": night_id(room_id, day(0)),
        "hotel_id": 3,
        "city": "Lisbon",
        "room_id": room_id,
        "date": str(day(0)),
        "booked_count": 2,
        "reserved_count": 0,
        "blocked_count": 0,
        "total_count": 5,
        "allowance_count": 0,
        "limit_count": 5,
        "surge_factor": "1.000",
        "price": "120.00",
        "currency": "EUR",
        "closed": False,
    }
    next_night = {"id": night_id(room_id, day(1)), "date": str(day(1)), "booked_count": 0}
    assert read.body == [night, night | next_night]


async def test_the_nights_asked_for_include_both_ends_and_one_end_is_enough(calendar: Calendar) -> None:
    last = TODAY + timedelta(days=364)

    assert await calendar.days() == [str(TODAY + timedelta(days=number)) for number in range(31)]
    assert await calendar.days(start_date=day(0), end_date=day(0)) == [str(day(0))]
    assert (await calendar.days(start_date=last - timedelta(days=2)))[-1] == str(last)
    assert len(await calendar.days(start_date=TODAY)) == 365
    assert await calendar.days(end_date=TODAY) == [str(TODAY)]
    assert await calendar.days(start_date=last, end_date=last + timedelta(days=9)) == [str(last)]
    assert await calendar.days(start_date=TODAY - timedelta(days=9), end_date=TODAY) == [str(TODAY)]

    for query in (
        {"start_date": day(1), "end_date": day(0)},
        {"end_date": TODAY - timedelta(days=1)},
        {"start_date": TODAY, "end_date": TODAY + timedelta(days=366)},
    ):
        answer = await calendar.read(**query)
        assert (answer.status, answer.body["errors"][0]["field"]) == (422, "end_date"), query


async def test_changed_nights_are_returned_as_they_are_now(
    house: House, calendar: Calendar, room_id: int, worker: Worker
) -> None:
    changed = await calendar.change(
        {"surge_factor": 1.25, "price": "99.90", "total_count": 7}, start_date=day(0), end_date=day(1)
    )

    assert changed.status == 200
    night = {
        "id": night_id(room_id, day(0)),
        "hotel_id": 3,
        "city": "Lisbon",
        "room_id": room_id,
        "date": str(day(0)),
        "booked_count": 0,
        "reserved_count": 0,
        "blocked_count": 0,
        "total_count": 7,
        "allowance_count": 0,
        "limit_count": 7,
        "surge_factor": "1.250",
        "price": "99.90",
        "currency": "EUR",
        "closed": False,
        "refused": None,
    }
    assert changed.body == [night, night | {"id": night_id(room_id, day(1)), "date": str(day(1))}]
    read = await calendar.read(start_date=day(0), end_date=day(2))
    assert [entry["price"] for entry in read.body] == ["99.90", "99.90", "120.00"]

    closed = await calendar.change({"closed": True, "price": None}, start_date=day(0), end_date=day(0))
    assert closed.body == [night | {"closed": True}]


async def test_a_guest_who_comes_after_the_change_pays_the_new_price(
    house: House, manager: Manager, calendar: Calendar, room_id: int, worker: Worker
) -> None:
    ((hotel_id,),) = await worker.rows("select hotel_id from room where id = %s", room_id)
    await manager.ask("PATCH", f"/hotels/{hotel_id}/activate")
    await calendar.change({"surge_factor": "1.5", "price": "100.01"}, start_date=day(0), end_date=day(0))
    stay = {
        "hotel_id": hotel_id,
        "room_id": room_id,
        "check_in_date": str(day(0)),
        "check_out_date": str(day(2)),
        "rooms_count": 2,
    }

    booked = await house.post("/v1/bookings/init", stay, user=2, headers=WAIT)

    # 100.01 x 1.5 is 150.015, and half a cent goes up; the second night is as it was.
    assert (booked.status, booked.body["amount"]) == (201, "540.04")
    assert [night["reserved_count"] for night in (await calendar.read(start_date=day(0), end_date=day(2))).body] == [
        2,
        2,
        0,
    ]


async def test_a_total_below_what_is_sold_changes_the_other_nights_and_names_this_one(
    calendar: Calendar, room_id: int, worker: Worker
) -> None:
    await worker.sell(room_id, day(1), day(2), rooms=3)

    changed = await calendar.change({"total_count": 2, "closed": True}, start_date=day(0), end_date=day(2))

    assert changed.status == 200
    results = [(night["total_count"], night["closed"], night["refused"]) for night in changed.body]
    assert results == [(2, True, None), (5, False, "total_below_sold"), (2, True, None)]


async def test_a_change_that_no_night_takes_is_refused(calendar: Calendar, room_id: int, worker: Worker) -> None:
    await worker.sell(room_id, day(1), day(2), rooms=3)

    for query, reason in (
        ({"start_date": day(1), "end_date": day(1)}, "total_below_sold"),
        ({"start_date": TODAY + timedelta(days=365), "end_date": TODAY + timedelta(days=365)}, "not_open"),
    ):
        refused = await calendar.change({"total_count": 2}, **query)
        assert (refused.status, refused.body["reason"]) == (409, reason)
        assert refused.body["refused"] == [{"date": str(query["start_date"]), "reason": reason}]


async def test_the_days_may_be_in_the_body(calendar: Calendar) -> None:
    days = {"start_date": str(day(0)), "end_date": str(day(1))}

    changed = await calendar.change({"closed": True} | days)

    assert [(night["date"], night["closed"]) for night in changed.body] == [
        (str(day(0)), True),
        (str(day(1)), True),
    ]
    assert (await calendar.change({"closed": False} | days, start_date=day(0))).status == 422


async def test_one_end_alone_is_from_today_or_to_the_last_night_on_sale(calendar: Calendar) -> None:
    last = TODAY + timedelta(days=364)

    until = await calendar.change({"closed": True}, end_date=TODAY + timedelta(days=1))
    since = await calendar.change({"closed": True}, start_date=last - timedelta(days=1))

    assert [night["date"] for night in until.body] == [str(TODAY), str(TODAY + timedelta(days=1))]
    assert [night["date"] for night in since.body] == [str(last - timedelta(days=1)), str(last)]


async def test_a_change_that_makes_no_sense_is_refused_and_the_field_is_named(
    calendar: Calendar, room_id: int, worker: Worker
) -> None:
    whole = {"start_date": day(0), "end_date": day(0)}
    for body, query, field in (
        ({"price": "99.999"}, whole, "price"),
        ({"price": "0"}, whole, "price"),
        ({"price": -5}, whole, "price"),
        ({"price": "0.49"}, whole, "price"),
        ({"price": "1000000.00"}, whole, "price"),
        ({"surge_factor": 0}, whole, "surge_factor"),
        ({"surge_factor": "1.2345"}, whole, "surge_factor"),
        ({"surge_factor": "10.001"}, whole, "surge_factor"),
        ({"surge_factor": "1,5"}, whole, "surge_factor"),
        ({"total_count": -1}, whole, "total_count"),
        ({"total_count": "3"}, whole, "total_count"),
        ({"closed": "yes"}, whole, "closed"),
        ({"booked_count": 0}, whole, "booked_count"),
        ({"reserved_count": 0}, whole, "reserved_count"),
        ({"closed": True}, {}, "start_date"),
        ({"closed": True}, {"start_date": TODAY - timedelta(days=1), "end_date": TODAY}, "start_date"),
        ({"closed": True}, {"end_date": TODAY - timedelta(days=1)}, "end_date"),
        ({"closed": True}, {"start_date": TODAY, "end_date": TODAY + timedelta(days=366)}, "end_date"),
        ({"closed": True}, {"start_date": day(0), "night": day(0)}, "night"),
    ):
        answer = await calendar.change(body, **query)
        assert answer.status == 422, (body, answer)
        assert [each["field"] for each in answer.body["errors"]] == [field], answer
    for nothing in ({}, {"closed": None}, {"start_date": str(day(0))}):
        answer = await calendar.change(nothing, **({} if nothing else whole))
        assert (answer.status, answer.body["detail"][:17]) == (422, "nothing to change")

    assert await worker.rows(
        "select price_minor, surge_milli, total_count, closed, count(*) from inventory where room_id = %s"
        " group by 1, 2, 3, 4",
        room_id,
    ) == [(12000, 1000, 5, False, 365)]


async def test_another_managers_nights_are_nobodys(house: House, room_id: int, worker: Worker) -> None:
    stranger = Calendar(Manager(house, 2), room_id)

    for answer in (
        await stranger.read(),
        await stranger.change({"closed": True}, start_date=day(0)),
    ):
        assert (answer.status, answer.body) == (404, {"detail": "no such room"})
    assert await worker.rows("select distinct closed from inventory where room_id = %s", room_id) == [(False,)]
