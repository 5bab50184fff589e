"""A manager's hotels: described whole or in part, seen by nobody else before they are active, gone only when empty."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from ingress.application import FRESHNESS
from storage.settings import DatabaseSettings
from tests.ingress.house import TODAY, WAIT, House
from tests.ingress.managers import HOTEL, ROOM, Manager, Worker, open_worker
from tests.support.hotels import HotelsInTables
from tests.support.locks import somebody_waits
from tests.support.waiting import wait_until
from topics.kafka.settings import KafkaSettings


@pytest.fixture
def manager(house: House) -> Manager:
    return Manager(house)


@pytest.fixture
async def worker(kafka_settings: KafkaSettings, database: DatabaseSettings) -> AsyncIterator[Worker]:
    async with open_worker(kafka_settings, database) as worker:
        yield worker


@pytest.fixture
async def tables(database: DatabaseSettings) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    async with await psycopg.AsyncConnection.connect(database.conninfo(), autocommit=True) as connection:
        yield connection


async def describe_room(tables: psycopg.AsyncConnection[Any], hotel_id: int, *, opening: bool = False) -> None:
    """Describe a room as if it had been put on sale."""
    await HotelsInTables(tables).room(hotel_id, total_count=5, opening=opening)


async def test_a_hotel_is_added_as_it_was_described_and_is_not_active(manager: Manager) -> None:
    added = await manager.ask("POST", "/hotels", HOTEL)

    assert added.status == 201
    hotel = added.body
    assert {name: hotel[name] for name in HOTEL} == HOTEL
    assert (hotel["active"], hotel["owner_id"]) == (False, manager.user_id)
    contact = HOTEL["contact_info"]
    assert isinstance(contact, dict)
    assert {f"contact_{name}": hotel[f"contact_{name}"] for name in contact} == {
        f"contact_{name}": value for name, value in contact.items()
    }
    assert added.headers["Location"] == f"/v1/admin/hotels/{hotel['id']}"

    read = await manager.ask("GET", f"/hotels/{hotel['id']}")
    assert (read.status, read.body) == (200, hotel)
    assert read.headers["ETag"] == added.headers["ETag"]


async def test_a_client_of_old_sends_only_the_fields_that_it_knows(manager: Manager) -> None:
    known = ("name", "city", "photos", "amenities", "contact_info")

    added = await manager.ask("POST", "/hotels", {name: HOTEL[name] for name in known})

    assert added.status == 201
    usual = ("currency", "time_zone", "check_in_time", "check_out_time", "on_full_refund")
    assert [added.body[name] for name in usual] == ["USD", "UTC", "15:00", "11:00", "cancel"]
    assert [added.body[name] for name in ("stars", "latitude", "longitude")] == [None, None, None]


async def test_a_hotel_decides_what_follows_a_refund_by_hand(manager: Manager) -> None:
    hotel_id = await manager.hotel(on_full_refund="keep")
    path = f"/hotels/{hotel_id}"
    assert (await manager.ask("GET", path)).body["on_full_refund"] == "keep"
    assert (await manager.ask("PATCH", path, {"on_full_refund": "cancel"})).body["on_full_refund"] == "cancel"
    assert (await manager.ask("PATCH", path, {"on_full_refund": "keep"})).body["on_full_refund"] == "keep"
    assert (await manager.ask("PATCH", path, {"stars": 3})).body["on_full_refund"] == "keep"
    # A client that does not know the setting leaves it as it is.
    replaced = await manager.ask("PUT", path, {name: HOTEL[name] for name in ("name", "city")})
    assert (replaced.status, replaced.body["on_full_refund"]) == (200, "keep")
    whole = {"name": "The Beacon", "city": "Porto", "on_full_refund": "cancel"}
    assert (await manager.ask("PUT", path, whole)).body["on_full_refund"] == "cancel"


PROTECTED: dict[str, Any] = {
    "id": 99,
    "active": True,
    "owner_id": 2,
    "version": 7,
    "deleted_at": None,
    "created_at": "2020-01-01T00:00:00Z",
    "contact_phone": "1",
}


async def test_fields_that_a_manager_may_not_set_are_refused_and_not_ignored(manager: Manager) -> None:
    hotel_id = await manager.hotel()
    before = (await manager.ask("GET", f"/hotels/{hotel_id}")).body

    for name, value in PROTECTED.items():
        for method, path, body in (
            ("POST", "/hotels", HOTEL | {name: value}),
            ("PUT", f"/hotels/{hotel_id}", HOTEL | {name: value}),
            ("PATCH", f"/hotels/{hotel_id}", {name: value}),
        ):
            answer = await manager.ask(method, path, body)
            assert answer.status == 422, (method, name, answer)
            assert name in answer.body["detail"]

    assert (await manager.ask("GET", "/hotels")).body == [before]


SENSELESS: list[tuple[str, Any]] = [
    ("name", ""),
    ("name", "   "),
    ("name", "two\nlines"),
    ("name", None),
    ("city", "x" * 201),
    ("photos", ["http://images.example/1.jpg"]),
    ("photos", ["javascript:alert(1)"]),
    ("photos", "https://images.example/1.jpg"),
    ("amenities", [""]),
    ("contact_info", {"email": "nobody"}),
    ("contact_info", {"fax": "1"}),
    ("stars", 0),
    ("stars", 6),
    ("stars", "4"),
    ("latitude", 90.1),
    ("longitude", -180.1),
    ("time_zone", "Mars/Olympus"),
    ("time_zone", "../../etc/passwd"),
    ("currency", "eur"),
    ("currency", "XXX"),
    ("currency", "KPW"),
    ("currency", "IRR"),
    ("currency", "SYP"),
    ("check_in_time", "24:00"),
    ("check_out_time", "9:00"),
    ("on_full_refund", "refuse"),
    ("on_full_refund", None),
]


async def test_a_hotel_that_makes_no_sense_is_refused_and_the_field_is_named(manager: Manager) -> None:
    hotel_id = await manager.hotel()
    before = (await manager.ask("GET", f"/hotels/{hotel_id}")).body

    for field, value in SENSELESS:
        for method, path, body in (
            ("POST", "/hotels", HOTEL | {field: value}),
            ("PATCH", f"/hotels/{hotel_id}", {field: value}),
        ):
            answer = await manager.ask(method, path, body)
            assert answer.status == 422, (method, field, value, answer)
            assert any(each["field"].startswith(field) for each in answer.body["errors"]), answer

    assert (await manager.ask("GET", "/hotels")).body == [before]


async def test_a_currency_in_which_nobody_can_pay_is_refused_in_words(
    manager: Manager, tables: psycopg.AsyncConnection[Any]
) -> None:
    refused = await manager.ask("POST", "/hotels", HOTEL | {"currency": "KPW"})
    assert refused.body["errors"] == [
        {
            "field": "currency",
            "message": "is a currency in which nobody can pay here: Stripe does not charge it",
        }
    ]
    unknown = await manager.ask("POST", "/hotels", HOTEL | {"currency": "XXX"})
    assert unknown.body["errors"][0]["message"] == "is no currency of ISO 4217"

    # A hotel that has such a currency, because an earlier release took it, is read and described as before.
    hotel_id = await manager.hotel()
    await tables.execute("update hotel set currency = 'KPW' where id = %s", (hotel_id,))
    assert (await manager.ask("GET", f"/hotels/{hotel_id}")).body["currency"] == "KPW"
    described = await manager.ask("PATCH", f"/hotels/{hotel_id}", {"stars": 5})
    assert (described.status, described.body["currency"]) == (200, "KPW")
    room = await manager.ask("POST", f"/hotels/{hotel_id}/rooms", ROOM)
    assert (room.status, room.body["detail"]) == (422, "base_price: payments in KPW are not possible")
    assert (await manager.ask("PATCH", f"/hotels/{hotel_id}", {"currency": "EUR"})).body["currency"] == "EUR"


@pytest.mark.parametrize("code", ["ISK", "UGX", "MGA"])
async def test_prices_are_in_currencies_that_stripe_counts_in_another_unit(manager: Manager, code: str) -> None:
    added = await manager.ask("POST", "/hotels", HOTEL | {"currency": code})

    assert (added.status, added.body["currency"]) == (201, code)


async def test_half_a_place_on_earth_is_none(manager: Manager) -> None:
    hotel_id = await manager.hotel()

    for body in ({"latitude": 1.0}, {"longitude": None}, {"latitude": 1.0, "longitude": None}):
        answer = await manager.ask("PATCH", f"/hotels/{hotel_id}", body)
        assert (answer.status, answer.body["detail"]) == (
            422,
            "latitude and longitude come together",
        )

    nowhere = await manager.ask("PATCH", f"/hotels/{hotel_id}", {"latitude": None, "longitude": None})
    assert (nowhere.status, nowhere.body["latitude"], nowhere.body["longitude"]) == (200, None, None)


async def test_a_patch_changes_what_it_names_and_null_takes_away(manager: Manager) -> None:
    hotel_id = await manager.hotel()
    before = (await manager.ask("GET", f"/hotels/{hotel_id}")).body

    changed = await manager.ask(
        "PATCH", f"/hotels/{hotel_id}", {"stars": None, "name": "The Beacon", "contact_info": {"phone": None}}
    )

    assert changed.status == 200
    expected = before | {"stars": None, "name": "The Beacon", "contact_phone": None}
    expected["contact_info"] = before["contact_info"] | {"phone": None}
    assert changed.body | {"updated_at": ""} == expected | {"updated_at": ""}
    assert changed.body["updated_at"] > before["updated_at"]

    unreachable = await manager.ask("PATCH", f"/hotels/{hotel_id}", {"contact_info": None})
    assert unreachable.body["contact_info"] == {"phone": None, "email": None, "address": None}


async def test_a_put_replaces_everything_but_a_currency_that_it_leaves_out(manager: Manager) -> None:
    hotel_id = await manager.hotel(currency="JPY")

    replaced = await manager.ask("PUT", f"/hotels/{hotel_id}", {"name": "The Beacon", "city": "Porto"})

    assert replaced.status == 200
    empty = ("photos", "amenities", "stars", "latitude", "contact_phone", "time_zone", "currency")
    assert [replaced.body[name] for name in empty] == [[], [], None, None, None, "UTC", "JPY"]
    assert (await manager.ask("PUT", f"/hotels/{hotel_id}", {"name": "The Beacon"})).status == 422


async def test_of_ten_changes_to_the_same_version_one_is_made(manager: Manager) -> None:
    hotel_id = await manager.hotel()
    version = (await manager.ask("GET", f"/hotels/{hotel_id}")).headers["ETag"]

    answers = await asyncio.gather(
        *(
            manager.ask("PATCH", f"/hotels/{hotel_id}", {"name": f"Name {number}"}, if_match=version)
            for number in range(10)
        )
    )

    assert Counter(answer.status for answer in answers) == {200: 1, 412: 9}
    (winner,) = [answer for answer in answers if answer.status == 200]
    now = await manager.ask("GET", f"/hotels/{hotel_id}")
    assert (now.body["name"], now.headers["ETag"]) == (winner.body["name"], winner.headers["ETag"])
    assert now.headers["ETag"] != version


async def test_being_switched_on_is_a_new_version(manager: Manager, tables: psycopg.AsyncConnection[Any]) -> None:
    hotel_id = await manager.hotel()
    await describe_room(tables, hotel_id)
    version = (await manager.ask("GET", f"/hotels/{hotel_id}")).headers["ETag"]

    assert (await manager.ask("PATCH", f"/hotels/{hotel_id}/activate")).status == 204

    assert (await manager.ask("PATCH", f"/hotels/{hotel_id}", {"stars": 1}, if_match=version)).status == 412
    now = (await manager.ask("GET", f"/hotels/{hotel_id}")).headers["ETag"]
    either = f"{version}, {now}"
    assert (await manager.ask("PATCH", f"/hotels/{hotel_id}", {"stars": 1}, if_match=either)).status == 200


async def test_another_managers_hotel_is_no_hotel(house: House, manager: Manager) -> None:
    hotel_id = await manager.hotel()
    stranger = Manager(house, 2)

    for method, path, body in (
        ("GET", "", None),
        ("PUT", "", HOTEL),
        ("PATCH", "", {"name": "Mine"}),
        ("PATCH", "/activate", None),
        ("PATCH", "/deactivate", None),
        ("DELETE", "", None),
        ("GET", "/rooms", None),
        ("POST", "/rooms", ROOM),
    ):
        answer = await stranger.ask(method, f"/hotels/{hotel_id}{path}", body)
        unknown = await stranger.ask(method, f"/hotels/{hotel_id + 1000}{path}", body)
        assert (answer.status, answer.body) == (unknown.status, unknown.body) == (404, {"detail": "no such hotel"})

    assert (await stranger.ask("GET", "/hotels")).body == []
    assert (await manager.ask("GET", f"/hotels/{hotel_id}")).body["name"] == HOTEL["name"]


async def test_a_manager_sees_all_hotels_page_by_page(house: House, manager: Manager) -> None:
    ids = [await manager.hotel() for _ in range(5)]
    await Manager(house, 2).hotel()

    first = await manager.ask("GET", "/hotels?limit=2")
    assert [hotel["id"] for hotel in first.body] == ids[:2]
    seen, link = list(ids[:2]), first.headers.get("Link")
    while link is not None:
        page = await manager.ask("GET", link.partition(">")[0].removeprefix("</v1/admin"))
        seen += [hotel["id"] for hotel in page.body]
        link = page.headers.get("Link")

    assert seen == ids
    assert (await manager.ask("GET", "/hotels?cursor=bm9uc2Vuc2U")).status == 422
    assert (await manager.ask("GET", "/hotels?cursor=WzFlMzAwXQ")).status == 422


async def test_text_of_any_kind_is_kept_and_shown_unharmed(manager: Manager) -> None:
    nasty = "Robert'); drop table hotel; -- <script>alert(1)</script> %s {0} \\ \u202e \U0001f3e8"
    contact = {"phone": "1'; --", "email": None, "address": nasty}

    hotel_id = await manager.hotel(name=nasty, city=nasty, amenities=[nasty[:90]], contact_info=contact)

    hotel = (await manager.ask("GET", f"/hotels/{hotel_id}")).body
    shown = (hotel["name"], hotel["city"], hotel["amenities"], hotel["contact_info"])
    assert shown == (nasty, nasty, [nasty[:90]], contact)


async def test_a_hotel_is_active_only_with_a_room_that_is_on_sale(
    manager: Manager, tables: psycopg.AsyncConnection[Any]
) -> None:
    hotel_id = await manager.hotel()

    assert (await manager.ask("PATCH", f"/hotels/{hotel_id}/activate")).status == 409
    await describe_room(tables, hotel_id, opening=True)
    assert (await manager.ask("PATCH", f"/hotels/{hotel_id}/activate")).status == 409
    await describe_room(tables, hotel_id)
    for _ in range(2):
        assert (await manager.ask("PATCH", f"/hotels/{hotel_id}/activate")).status == 204
        assert (await manager.ask("GET", f"/hotels/{hotel_id}")).body["active"]

    for _ in range(2):
        assert (await manager.ask("PATCH", f"/hotels/{hotel_id}/deactivate")).status == 204
        assert not (await manager.ask("GET", f"/hotels/{hotel_id}")).body["active"]


async def test_the_currency_stays_once_there_was_a_room(manager: Manager, tables: psycopg.AsyncConnection[Any]) -> None:
    hotel_id = await manager.hotel(currency="EUR")
    assert (await manager.ask("PATCH", f"/hotels/{hotel_id}", {"currency": "CHF"})).body["currency"] == "CHF"
    await describe_room(tables, hotel_id)
    await tables.execute("update room set deleted_at = now()")

    for method, body in (("PATCH", {"currency": "EUR", "name": "X"}), ("PUT", HOTEL)):
        answer = await manager.ask(method, f"/hotels/{hotel_id}", body)
        assert (answer.status, answer.body["reason"]) == (409, "currency_fixed")

    now = (await manager.ask("PUT", f"/hotels/{hotel_id}", HOTEL | {"currency": "CHF", "name": "X"})).body
    assert (now["currency"], now["name"]) == ("CHF", "X")


async def test_a_hotel_that_is_not_active_cannot_be_booked(house: House, manager: Manager, worker: Worker) -> None:
    hotel_id = await manager.hotel()
    room_id = await manager.room(hotel_id)
    stay = {
        "hotel_id": hotel_id,
        "room_id": room_id,
        "check_in_date": str(TODAY + timedelta(days=3)),
        "check_out_date": str(TODAY + timedelta(days=5)),
    }

    refused = await house.post("/v1/bookings/init", stay, user=2, headers=WAIT)
    assert (refused.status, refused.body["reason"]) == (409, "hotel_not_active")

    await manager.ask("PATCH", f"/hotels/{hotel_id}/activate")

    async def booked() -> str | None:
        # Facts of rooms are remembered for a moment.
        answer = await house.post("/v1/bookings/init", stay, user=2, headers=WAIT)
        return str(answer.body["amount"]) if answer.status == 201 else None

    assert await wait_until(booked) == "240.00"


async def test_a_list_of_rooms_while_their_hotel_is_deleted_has_all_of_them_or_no_hotel(
    house: House, manager: Manager, tables: psycopg.AsyncConnection[Any], database: DatabaseSettings
) -> None:
    hotel_id = await manager.hotel()
    await describe_room(tables, hotel_id)
    # The search index is read from the same tables, a second after the start.
    await wait_until(lambda: house.app[FRESHNESS].loaded, message="the hotels are not read yet")
    async with tables.transaction():
        # The request stops half-way: it has read the hotel, and not yet its rooms.
        await tables.execute("lock table room in access exclusive mode")
        listing = asyncio.create_task(manager.ask("GET", f"/hotels/{hotel_id}/rooms"))
        await wait_until(lambda: somebody_waits(database), message="the request waits for the rooms")
        for table in ("room", "hotel"):
            await tables.execute(f"update {table} set deleted_at = now()".encode())
    during, after = await listing, await manager.ask("GET", f"/hotels/{hotel_id}/rooms")

    assert (during.status, [room["type"] for room in during.body]) == (200, ["double"])
    assert after.status == 404


async def test_a_hotel_with_a_booking_to_come_stays_as_it_is(manager: Manager, worker: Worker) -> None:
    hotel_id = await manager.hotel()
    room_id = await manager.room(hotel_id)
    await manager.ask("PATCH", f"/hotels/{hotel_id}/activate")
    before = (await manager.ask("GET", f"/hotels/{hotel_id}")).body
    await worker.sell(room_id, TODAY + timedelta(days=200), TODAY + timedelta(days=201))

    refused = await manager.ask("DELETE", f"/hotels/{hotel_id}")

    assert (refused.status, refused.body["reason"]) == (409, "bookings_to_come")
    assert (await manager.ask("GET", f"/hotels/{hotel_id}")).body == before
    assert await worker.rows("select distinct closed, total_count from inventory where room_id = %s", room_id) == [
        (False, 5)
    ]


async def test_a_deleted_hotel_is_gone_with_its_rooms_and_nothing_of_it_is_for_sale(
    manager: Manager, worker: Worker
) -> None:
    hotel_id = await manager.hotel()
    rooms = [await manager.room(hotel_id, type=kind) for kind in ("single", "double")]
    await manager.ask("PATCH", f"/hotels/{hotel_id}/activate")
    booking_id = await worker.sell(rooms[0], TODAY, TODAY + timedelta(days=1))
    await worker.cancel(rooms[0], booking_id)

    assert (await manager.ask("DELETE", f"/hotels/{hotel_id}")).status == 204

    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/rooms"), ("GET", f"/rooms/{rooms[0]}")):
        assert (await manager.ask(method, f"/hotels/{hotel_id}{path}")).status == 404
    assert (await manager.ask("GET", f"/inventory/rooms/{rooms[0]}")).status == 404
    assert (await manager.ask("GET", "/hotels")).body == []
    assert await worker.rows(
        "select room_id, closed, total_count, count(*) from inventory where room_id = any(%s) group by 1, 2, 3"
        " order by 1",
        rooms,
    ) == [(room_id, True, 0, 365) for room_id in rooms]
