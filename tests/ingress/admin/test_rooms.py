"""A hotel's rooms: visible once they are on sale, never fewer than are sold, deleted only without bookings to come."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from ingress.admin import nights
from storage.settings import DatabaseSettings
from tests.ingress.house import TODAY, House, StandInWorker
from tests.ingress.managers import ROOM, Manager, Worker, open_worker
from topics.kafka.settings import KafkaSettings
from topics.messages.commands import ChangeInventory, OpenInventory

YEAR = timedelta(days=365)
CHRISTMAS = TODAY + timedelta(days=40)


@pytest.fixture
def manager(house: House) -> Manager:
    return Manager(house)


@pytest.fixture
async def worker(kafka_settings: KafkaSettings, database: DatabaseSettings) -> AsyncIterator[Worker]:
    async with open_worker(kafka_settings, database) as worker:
        yield worker


@pytest.fixture
async def hotel_id(manager: Manager) -> int:
    return await manager.hotel()


async def totals(worker: Worker, room_id: int) -> Any:
    """Return the totals of a room's nights, each with how many nights have it."""
    return await worker.rows(
        "select total_count, count(*) from inventory where room_id = %s group by 1 order by 1", room_id
    )


async def test_a_new_room_is_returned_with_a_year_on_sale(manager: Manager, hotel_id: int, worker: Worker) -> None:
    added = await manager.ask("POST", f"/hotels/{hotel_id}/rooms", ROOM)

    assert added.status == 201
    room = added.body
    assert {name: room[name] for name in ROOM} == ROOM
    assert (room["hotel_id"], room["currency"]) == (hotel_id, "EUR")
    path = f"/hotels/{hotel_id}/rooms/{room['id']}"
    assert added.headers["Location"] == f"/v1/admin{path}"
    assert await worker.rows(
        "select min(date), max(date), count(*), min(price_minor), max(price_minor), min(total_count), min(currency)"
        " from inventory where room_id = %s",
        room["id"],
    ) == [(TODAY, TODAY + YEAR - timedelta(days=1), 365, 12000, 12000, 5, "EUR")]

    read = await manager.ask("GET", path)
    assert (read.status, read.body, read.headers["ETag"]) == (200, room, added.headers["ETag"])
    assert (await manager.ask("GET", f"/hotels/{hotel_id}/rooms")).body == [room]


async def test_a_price_has_no_more_digits_than_its_currency(manager: Manager, worker: Worker) -> None:
    euros, yen = await manager.hotel(), await manager.hotel(currency="JPY")

    for hotel_id, price in (
        (euros, "120.001"),
        (euros, 0.125),
        (euros, "0"),
        (euros, 0),
        (euros, -1),
        (euros, "10000000.01"),
        (euros, "120,50"),
        (euros, " 120"),
        (euros, "1e2"),
        (euros, True),
        (euros, None),
        (yen, "120.5"),
        (yen, 0.5),
    ):
        answer = await manager.ask("POST", f"/hotels/{hotel_id}/rooms", ROOM | {"base_price": price})
        assert answer.status == 422, (price, answer)
        assert [each["field"] for each in answer.body["errors"]] == ["base_price"], answer
    assert await worker.rows("select count(*) from room where hotel_id in (%s, %s)", euros, yen) == [(0,)]

    for hotel_id, price, expected in (
        (euros, 120, "120.00"),
        (euros, 99.9, "99.90"),
        (euros, "999999.99", "999999.99"),
        (yen, "12000", "12000"),
    ):
        answer = await manager.ask("POST", f"/hotels/{hotel_id}/rooms", ROOM | {"base_price": price})
        assert (answer.status, answer.body["base_price"]) == (201, expected)


@pytest.mark.parametrize(
    ("currency", "price", "words"),
    [
        ("EUR", "0.10", "must be from 0.50 to 999999.99 EUR"),
        ("EUR", "0", "must be from 0.50 to 999999.99 EUR"),
        ("EUR", "1000000.00", "must be from 0.50 to 999999.99 EUR"),
        ("JPY", "30", "must be from 50 to 9999999999 JPY"),
        ("KWD", "12.345", "must be a multiple of 0.010 KWD"),
        ("KWD", "12.3456", ""),
        ("MGA", "5000.50", "must be a multiple of 1.00 MGA"),
        ("UGX", "0.5", "UGX has no digits after the point"),
        ("ISK", "1000000", "must be from 100 to 999999 ISK"),
        ("IDR", "10000000000", "must be from 0.50 to 9999999999.99 IDR"),
    ],
)
async def test_a_price_that_nobody_could_pay_is_refused_in_words(
    currency: str, price: str, words: str, manager: Manager, worker: Worker
) -> None:
    hotel_id = await manager.hotel(currency=currency)

    answer = await manager.ask("POST", f"/hotels/{hotel_id}/rooms", ROOM | {"base_price": price})

    assert answer.status == 422
    (error,) = answer.body["errors"]
    assert error["field"] == "base_price"
    assert words in error["message"]


@pytest.mark.parametrize(
    ("currency", "price", "minor"),
    [
        ("IDR", "15000000.00", 1_500_000_000),
        ("IDR", "9999999999.99", 999_999_999_999),
        ("LAK", "9999999999.99", 999_999_999_999),
        ("KWD", "12.350", 12_350),
        ("ISK", "24900", 24_900),
        ("UGX", "9999999", 9_999_999),
        ("MGA", "99999999.00", 9_999_999_900),
    ],
)
async def test_a_price_is_as_high_as_can_be_paid(
    currency: str, price: str, minor: int, manager: Manager, worker: Worker
) -> None:
    hotel_id = await manager.hotel(currency=currency)

    added = await manager.ask("POST", f"/hotels/{hotel_id}/rooms", ROOM | {"base_price": price})

    assert (added.status, added.body["base_price"]) == (201, price)
    path = f"/inventory/rooms/{added.body['id']}?start_date={CHRISTMAS}&end_date={CHRISTMAS}"
    assert (await manager.ask("GET", path)).body[0]["price"] == price
    assert await worker.rows(
        "select min(price_minor), max(price_minor) from inventory where room_id = %s", added.body["id"]
    ) == [(minor, minor)]


async def test_fields_of_a_room_that_a_manager_may_not_set_are_refused(
    manager: Manager, hotel_id: int, worker: Worker
) -> None:
    room_id = await manager.room(hotel_id)
    before = (await manager.ask("GET", f"/hotels/{hotel_id}/rooms")).body

    for wrong in (
        {"id": 1},
        {"hotel_id": 1},
        {"currency": "USD"},
        {"opening": False},
        {"version": 1},
        {"deleted_at": None},
        {"capacity": 0},
        {"capacity": 101},
        {"total_count": 0},
        {"total_count": 100_001},
        {"total_count": 1.5},
        {"type": ""},
        {"photos": ["ftp://images.example/1.jpg"]},
    ):
        for method, path, body in (
            ("POST", "", ROOM | wrong),
            ("PUT", f"/{room_id}", ROOM | wrong),
            ("PATCH", f"/{room_id}", wrong),
        ):
            answer = await manager.ask(method, f"/hotels/{hotel_id}/rooms{path}", body)
            assert answer.status == 422, (method, wrong, answer)
            assert next(iter(wrong)) in answer.body["detail"]

    assert (await manager.ask("GET", f"/hotels/{hotel_id}/rooms")).body == before


async def test_a_room_whose_owner_is_away_is_seen_by_nobody_and_the_same_request_goes_on_with_it(
    manager: Manager,
    hotel_id: int,
    kafka_settings: KafkaSettings,
    database: DatabaseSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(nights, "_WAIT_SECONDS", 0.3)
        cut_off = await manager.ask("POST", f"/hotels/{hotel_id}/rooms", ROOM)

    assert (cut_off.status, cut_off.body["reason"]) == (503, "not_decided_yet")
    assert int(cut_off.headers["Retry-After"]) > 0
    async with await psycopg.AsyncConnection.connect(database.conninfo()) as connection:
        found = await connection.execute("select id from room where hotel_id = %s", (hotel_id,))
        ((room_id,),) = await found.fetchall()
    assert (await manager.ask("GET", f"/hotels/{hotel_id}/rooms")).body == []
    assert (await manager.ask("GET", f"/hotels/{hotel_id}/rooms/{room_id}")).status == 404
    assert (await manager.ask("GET", f"/inventory/rooms/{room_id}")).status == 404
    assert (await manager.ask("PATCH", f"/hotels/{hotel_id}/activate")).status == 409

    async with open_worker(kafka_settings, database) as worker:
        again = await manager.ask("POST", f"/hotels/{hotel_id}/rooms", ROOM)

        assert again.status == 201
        assert again.body["id"] == room_id
        assert await worker.rows("select id, opening from room where hotel_id = %s", hotel_id) == [(room_id, False)]
        assert await totals(worker, again.body["id"]) == [(5, 365)]


async def test_a_room_that_is_taken_up_again_with_another_price_and_total_has_those(
    manager: Manager,
    hotel_id: int,
    kafka_settings: KafkaSettings,
    database: DatabaseSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(nights, "_WAIT_SECONDS", 0.3)
        assert (await manager.ask("POST", f"/hotels/{hotel_id}/rooms", ROOM)).status == 503

    async with open_worker(kafka_settings, database) as worker:
        other = ROOM | {"base_price": "90.00", "total_count": 3}
        again = await manager.ask("POST", f"/hotels/{hotel_id}/rooms", other)

        assert (again.status, again.body["base_price"], again.body["total_count"]) == (201, "90.00", 3)
        assert await worker.rows(
            "select room_id, total_count, price_minor, count(*) from inventory where hotel_id = %s group by 1, 2, 3",
            hotel_id,
        ) == [(again.body["id"], 3, 9000, 365)]


async def test_two_room_types_of_the_same_name_are_two(manager: Manager, hotel_id: int, worker: Worker) -> None:
    assert await manager.room(hotel_id) != await manager.room(hotel_id)


async def test_a_new_base_price_is_that_of_nights_opened_later(manager: Manager, hotel_id: int, worker: Worker) -> None:
    room_id = await manager.room(hotel_id)

    changed = await manager.ask("PATCH", f"/hotels/{hotel_id}/rooms/{room_id}", {"base_price": "135.50"})

    assert (changed.status, changed.body["base_price"], changed.body["capacity"]) == (200, "135.50", 2)
    assert await worker.rows("select base_price_minor from room where id = %s", room_id) == [(13550,)]
    assert await worker.rows("select distinct price_minor from inventory where room_id = %s", room_id) == [(12000,)]


async def test_a_new_total_is_that_of_all_nights_to_come(manager: Manager, hotel_id: int, worker: Worker) -> None:
    room_id = await manager.room(hotel_id)
    path = f"/hotels/{hotel_id}/rooms/{room_id}"
    await worker.sell(room_id, CHRISTMAS, CHRISTMAS + timedelta(days=2), rooms=3)

    lowered = await manager.ask("PATCH", path, {"total_count": 3, "type": "twin"})

    assert (lowered.status, lowered.body["total_count"], lowered.body["type"]) == (200, 3, "twin")
    assert await totals(worker, room_id) == [(3, 365)]
    assert (await manager.ask("PUT", path, ROOM | {"total_count": 8})).body["total_count"] == 8
    assert await totals(worker, room_id) == [(8, 365)]


async def test_a_total_below_what_is_sold_is_refused_whole_and_the_nights_are_named(
    manager: Manager, hotel_id: int, worker: Worker
) -> None:
    room_id = await manager.room(hotel_id)
    path = f"/hotels/{hotel_id}/rooms/{room_id}"
    before = (await manager.ask("GET", path)).body
    await worker.sell(room_id, CHRISTMAS, CHRISTMAS + timedelta(days=2), rooms=3)

    for method, body in (
        ("PATCH", {"total_count": 2, "type": "twin"}),
        ("PUT", ROOM | {"total_count": 2, "type": "twin"}),
    ):
        refused = await manager.ask(method, path, body)
        assert (refused.status, refused.body["reason"]) == (409, "total_below_sold")
        assert refused.body["refused"] == [
            {"date": str(CHRISTMAS + timedelta(days=day)), "reason": "total_below_sold"} for day in (0, 1)
        ]
        # The version counted up: a client that insists on one goes on with this.
        assert refused.headers["ETag"] == (await manager.ask("GET", path)).headers["ETag"]

    assert (await manager.ask("GET", path)).body | {"updated_at": ""} == before | {"updated_at": ""}
    assert await totals(worker, room_id) == [(5, 365)]


async def test_nights_whose_total_was_set_one_by_one_keep_it_when_a_description_is_replaced(
    manager: Manager, hotel_id: int, worker: Worker
) -> None:
    room_id = await manager.room(hotel_id)
    await manager.ask("PATCH", f"/inventory/rooms/{room_id}?start_date={TODAY}&end_date={TODAY}", {"total_count": 1})

    assert (await manager.ask("PUT", f"/hotels/{hotel_id}/rooms/{room_id}", ROOM | {"type": "twin"})).status == 200
    assert await totals(worker, room_id) == [(1, 1), (5, 364)]

    assert (await manager.ask("PATCH", f"/hotels/{hotel_id}/rooms/{room_id}", {"total_count": 5})).status == 200
    assert await totals(worker, room_id) == [(5, 365)]


async def test_of_two_changes_to_the_same_version_only_one_reaches_the_rooms_owner(
    manager: Manager, hotel_id: int, worker: Worker, stand_in: StandInWorker
) -> None:
    room_id = await manager.room(hotel_id)
    path = f"/hotels/{hotel_id}/rooms/{room_id}"
    version = (await manager.ask("GET", path)).headers["ETag"]

    answers = await asyncio.gather(
        *(manager.ask("PATCH", path, {"total_count": total}, if_match=version) for total in (3, 4))
    )

    assert sorted(answer.status for answer in answers) == [200, 412]
    (winner,) = [answer for answer in answers if answer.status == 200]
    assert await totals(worker, room_id) == [(winner.body["total_count"], 365)]
    assert (await manager.ask("GET", path)).headers["ETag"] == winner.headers["ETag"]
    assert isinstance((await stand_in.next_command()).message, OpenInventory)
    command = (await stand_in.next_command()).message
    assert isinstance(command, ChangeInventory)
    assert command.total_count == winner.body["total_count"]

    assert (await manager.ask("PATCH", path, {"capacity": 3}, if_match=version)).status == 412
    either = f"{version}, {winner.headers['ETag']}"
    assert (await manager.ask("PATCH", path, {"capacity": 3}, if_match=either)).status == 200


async def test_however_many_totals_come_at_once_the_room_has_the_total_of_its_nights(
    manager: Manager, hotel_id: int, worker: Worker
) -> None:
    room_id = await manager.room(hotel_id)
    path = f"/hotels/{hotel_id}/rooms/{room_id}"

    answers = await asyncio.gather(*(manager.ask("PATCH", path, {"total_count": total}) for total in range(1, 9)))

    assert {answer.status for answer in answers} == {200}
    total_count = (await manager.ask("GET", path)).body["total_count"]
    assert await totals(worker, room_id) == [(total_count, 365)]


async def test_a_room_with_a_booking_to_come_is_not_deleted_and_stays_on_sale(
    manager: Manager, hotel_id: int, worker: Worker
) -> None:
    room_id = await manager.room(hotel_id)
    path = f"/hotels/{hotel_id}/rooms/{room_id}"
    booking_id = await worker.sell(room_id, CHRISTMAS, CHRISTMAS + timedelta(days=1))

    refused = await manager.ask("DELETE", path)

    assert refused.status == 409
    assert refused.body["detail"] == f"it has bookings or blocks to come: {CHRISTMAS}"
    assert await worker.rows("select distinct closed from inventory where room_id = %s", room_id) == [(False,)]
    assert (await manager.ask("GET", path)).status == 200

    await worker.cancel(room_id, booking_id)
    assert (await manager.ask("DELETE", path)).status == 204
    assert [(await manager.ask(method, path)).status for method in ("GET", "DELETE")] == [404, 404]
    assert (await manager.ask("GET", f"/hotels/{hotel_id}/rooms")).body == []
    assert await worker.rows("select distinct closed, total_count from inventory where room_id = %s", room_id) == [
        (True, 0)
    ]


async def test_a_deleted_room_cannot_be_booked(house: House, manager: Manager, hotel_id: int, worker: Worker) -> None:
    room_id = await manager.room(hotel_id)
    await manager.room(hotel_id, type="single")
    await manager.ask("PATCH", f"/hotels/{hotel_id}/activate")
    await manager.ask("DELETE", f"/hotels/{hotel_id}/rooms/{room_id}")

    stay = {
        "hotel_id": hotel_id,
        "room_id": room_id,
        "check_in_date": str(CHRISTMAS),
        "check_out_date": str(CHRISTMAS + timedelta(days=1)),
    }
    assert (await house.post("/v1/bookings/init", stay, user=2)).status == 404


async def test_another_managers_room_is_no_room(house: House, manager: Manager, hotel_id: int, worker: Worker) -> None:
    room_id = await manager.room(hotel_id)
    stranger = Manager(house, 2)
    own = await stranger.hotel()

    for hotel in (hotel_id, own):
        for method, body in (("GET", None), ("PUT", ROOM), ("PATCH", {"total_count": 1}), ("DELETE", None)):
            answer = await stranger.ask(method, f"/hotels/{hotel}/rooms/{room_id}", body)
            assert (answer.status, answer.body) == (404, {"detail": "no such room"})
    # Nor is it a room of another hotel of its own manager.
    assert (await manager.ask("GET", f"/hotels/{await manager.hotel()}/rooms/{room_id}")).status == 404
    assert await totals(worker, room_id) == [(5, 365)]
