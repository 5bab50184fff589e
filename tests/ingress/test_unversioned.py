"""The interface without a version: the responses that its clients expect where /v1 answers differently."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

import pytest

from storage.settings import DatabaseSettings
from tests.ingress.house import STAY, TODAY, WAIT, House, StandInWorker
from tests.ingress.managers import HOTEL, ROOM, Manager, Worker, open_worker
from tests.ingress.people import ANNA, sign_up
from tests.support.client import Answer
from topics.kafka.settings import KafkaSettings
from topics.messages.commands import ReserveStay
from topics.messages.events import BookingReserved

WRITTEN_AT = "2026-11-01T12:00:00Z"


@pytest.fixture
async def worker(kafka_settings: KafkaSettings, database: DatabaseSettings) -> AsyncIterator[Worker]:
    async with open_worker(kafka_settings, database) as worker:
        yield worker


@pytest.fixture
def manager(house: House) -> Manager:
    return Manager(house)


async def without_version(manager: Manager, house: House, method: str, path: str, body: Any = None) -> Answer:
    """Send a manager's request to the path without a version."""
    return await house.ask(method, f"/admin{path}", body, headers=house.manager_header(manager.user_id))


async def reserve(house: House, stand_in: StandInWorker, mount: str) -> Answer:
    """Ask for a stay and wait for the decision: reserved."""
    asking = asyncio.create_task(house.post(f"{mount}/bookings/init", STAY, user=1, headers=WAIT))
    command = await stand_in.next_command()
    assert isinstance(command.message, ReserveStay)
    stay = command.message
    times = dict.fromkeys(("created_at", "updated_at"), datetime(2026, 11, 1, 12, tzinfo=UTC))
    await stand_in.write_booking(stay.booking_id, 1, "RESERVED", **times)
    reserved = BookingReserved(
        room_id=1,
        booking_id=stay.booking_id,
        user_id=1,
        hotel_id=1,
        check_in=stay.check_in,
        check_out=stay.check_out,
        rooms_count=1,
        amount_minor=24000,
        currency="EUR",
        hold_expires_at=datetime(2030, 1, 1, tzinfo=UTC),
    )
    await stand_in.publish(command, reserved)
    return await asking


async def test_a_stay_that_was_reserved_is_answered_200_with_the_whole_row(
    house: House, stand_in: StandInWorker
) -> None:
    reserved = await reserve(house, stand_in, "")

    assert reserved.status == 200
    assert "Deprecation" in reserved.headers
    row = {name: reserved.body[name] for name in ("booking_status", "user_id", "created_at", "updated_at")}
    assert row == {"booking_status": "RESERVED", "user_id": 1, "created_at": WRITTEN_AT, "updated_at": WRITTEN_AT}


async def test_a_stay_that_was_reserved_is_answered_201_under_a_version(house: House, stand_in: StandInWorker) -> None:
    reserved = await reserve(house, stand_in, "/v1")

    assert (reserved.status, reserved.body["booking_status"], reserved.body["user_id"]) == (201, "RESERVED", 1)


@pytest.mark.parametrize("mount", ["", "/v1"])
async def test_every_response_that_has_a_booking_names_its_user_and_its_last_change(
    house: House, stand_in: StandInWorker, mount: str
) -> None:
    await stand_in.connection.execute("update hotel set owner_id = 2 where id = 1")
    booking_id = await stand_in.add_booking(1, updated_at=datetime(2026, 11, 1, 12, tzinfo=UTC))

    one = (await house.get(f"{mount}/bookings/{booking_id}", user=1)).body
    (own,) = (await house.get(f"{mount}/users/myBookings", user=1)).body
    of_hotel = await house.get(f"{mount}/admin/hotels/1/bookings", headers=house.manager_header(2))

    for booking in (one, own, *of_hotel.body):
        assert (booking["user_id"], booking["updated_at"]) == (1, WRITTEN_AT), booking


async def test_a_request_that_is_not_decided_yet_names_its_user_too(house: House, stand_in: StandInWorker) -> None:
    pending = await house.post("/bookings/init", STAY, user=1, headers={"Prefer": "wait=0"})

    assert (pending.status, pending.body["user_id"]) == (202, 1)
    assert UUID(pending.body["id"]) == (await stand_in.next_command()).message.booking_id  # type: ignore[attr-defined]


async def test_a_put_of_a_hotel_changes_the_fields_that_are_sent_and_no_others(house: House, manager: Manager) -> None:
    hotel_id = await manager.hotel()
    before = (await manager.ask("GET", f"/hotels/{hotel_id}")).body

    put = await without_version(manager, house, "PUT", f"/hotels/{hotel_id}", {"name": "The Beacon", "stars": 5})

    assert put.status == 200, put
    assert put.body | {"updated_at": ""} == before | {"name": "The Beacon", "stars": 5, "updated_at": ""}


async def test_a_put_of_a_hotel_merges_its_contact_too(house: House, manager: Manager) -> None:
    hotel_id = await manager.hotel()

    put = await without_version(manager, house, "PUT", f"/hotels/{hotel_id}", {"contact_info": {"phone": "+351 1"}})

    assert put.body["contact_info"] == HOTEL["contact_info"] | {"phone": "+351 1"}


async def test_a_put_of_a_room_changes_the_fields_that_are_sent_and_no_others(
    house: House, manager: Manager, worker: Worker
) -> None:
    hotel_id = await manager.hotel()
    room_id = await manager.room(hotel_id)
    path = f"/hotels/{hotel_id}/rooms/{room_id}"
    before = (await manager.ask("GET", path)).body

    put = await without_version(manager, house, "PUT", path, {"base_price": "99.00"})

    assert put.status == 200, put
    assert put.body | {"updated_at": ""} == before | {"base_price": "99.00", "updated_at": ""}
    assert (await without_version(manager, house, "PUT", path, {"total_count": 7})).body["total_count"] == 7


async def test_a_put_of_a_room_with_the_same_total_leaves_nights_that_have_another(
    house: House, manager: Manager, worker: Worker
) -> None:
    hotel_id = await manager.hotel()
    room_id = await manager.room(hotel_id)
    night = f"start_date={TODAY}&end_date={TODAY}"
    changed = await manager.ask("PATCH", f"/inventory/rooms/{room_id}?{night}", {"total_count": 2})
    assert changed.status == 200, changed

    put = await without_version(manager, house, "PUT", f"/hotels/{hotel_id}/rooms/{room_id}", ROOM)

    assert put.status == 200, put
    (night_now,) = (await manager.ask("GET", f"/inventory/rooms/{room_id}?{night}")).body
    assert night_now["total_count"] == 2


async def test_a_put_of_a_saved_guest_changes_the_fields_that_are_sent_and_no_others(house: House) -> None:
    saved = (await house.post("/v1/users/guests", {"name": "Ada", "age": 36, "gender": "FEMALE"}, user=1)).body

    put = await house.ask("PUT", f"/users/guests/{saved['id']}", {"age": 37}, user=1)
    replaced = await house.ask("PUT", f"/v1/users/guests/{saved['id']}", {"name": "Ada"}, user=1)

    assert (put.status, put.body) == (200, saved | {"age": 37})
    assert replaced.body == saved | {"age": None, "gender": None}


async def test_nights_have_ids_their_hotel_and_without_a_version_the_old_name_of_the_count(
    house: House, manager: Manager, worker: Worker
) -> None:
    hotel_id = await manager.hotel()
    room_id = await manager.room(hotel_id)
    await worker.sell(room_id, TODAY, date.fromordinal(TODAY.toordinal() + 1), rooms=2)
    path = f"/inventory/rooms/{room_id}?start_date={TODAY}&end_date={TODAY}"

    (old,) = (await without_version(manager, house, "GET", path)).body
    (new,) = (await manager.ask("GET", path)).body
    (changed,) = (await without_version(manager, house, "PATCH", path, {"closed": True})).body

    of_it = {"id": room_id * 100_000 + (TODAY - date(1970, 1, 1)).days, "hotel_id": hotel_id, "city": "Lisbon"}
    for night in (old, new, changed):
        assert {name: night[name] for name in of_it} == of_it
        assert night["booked_count"] == 2
    assert old == new | {"book_count": 2}
    assert changed["book_count"] == 2


@pytest.mark.parametrize("mount", ["", "/v1"])
async def test_a_hotel_has_its_phone_and_its_address_by_their_flat_names_too(
    house: House, stand_in: StandInWorker, mount: str
) -> None:
    await stand_in.connection.execute(
        "update hotel set contact_phone = '+41', contact_email = 'a@b.example' where id = 1"
    )

    hotel = (await house.get(f"{mount}/hotels/1/info")).body

    assert (hotel["contact_phone"], hotel["contact_email"]) == ("+41", "a@b.example")
    assert hotel["contact"] == {"phone": "+41", "email": "a@b.example", "address": None}


@pytest.mark.parametrize("password", ["password1", "x" * 73, "correct horse"])
async def test_a_known_address_is_refused_before_its_password(house: House, password: str) -> None:
    await sign_up(house)

    known = await house.post("/auth/signup", ANNA | {"password": password})

    assert (known.status, known.body) == (400, {"detail": "already registered"})


async def test_under_a_version_the_password_of_a_known_address_is_refused_first(house: House) -> None:
    await sign_up(house)

    known = await house.post("/v1/auth/signup", ANNA | {"password": "password1"})

    assert (known.status, known.body["errors"][0]["field"]) == (422, "password")


async def test_a_weak_password_of_a_new_address_is_refused_everywhere(house: House) -> None:
    weak = await house.post("/auth/signup", ANNA | {"password": "password1"})

    assert (weak.status, weak.body["errors"][0]["field"]) == (422, "password")
