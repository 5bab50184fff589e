"""A stay as its hotel records it: arrival, departure, early departure and no-show, by its manager alone."""

import asyncio
from collections.abc import Mapping
from datetime import date
from typing import Any
from uuid import UUID, uuid4

import pytest

from storage.settings import DatabaseSettings
from tests.ingress.house import STAY_TIMES, WAIT, House, StandInWorker
from tests.ingress.managers import Manager, Worker, open_worker
from tests.support.client import Answer
from topics.kafka.settings import KafkaSettings
from topics.messages.commands import CheckIn, CheckOut, Command, MarkNoShow
from topics.messages.events import CommandRefused, GuestsCheckedIn
from topics.messages.values import BookingStatus, Refusal

GUEST, MANAGER, OTHER_MANAGER = 1, 2, 3
COMMANDS: Mapping[str, type[Command]] = {"check-in": CheckIn, "check-out": CheckOut, "no-show": MarkNoShow}


@pytest.fixture
async def desk(stand_in: StandInWorker, house: House) -> StandInWorker:
    """The stand-in worker; hotel 1 is the manager's."""
    await stand_in.connection.execute("update hotel set owner_id = %s where id = 1", (MANAGER,))
    return stand_in


async def record(
    house: House,
    what: str,
    booking_id: UUID,
    *,
    hotel_id: int = 1,
    manager: int = MANAGER,
    headers: Mapping[str, str] = {},
    prefix: str = "/v1",
) -> Answer:
    path = f"{prefix}/admin/hotels/{hotel_id}/bookings/{booking_id}/{what}"
    return await house.post(path, headers=house.manager_header(manager) | dict(headers))


@pytest.mark.parametrize("what", COMMANDS)
async def test_a_manager_records_and_finds_the_decision_in_the_list(
    house: House, desk: StandInWorker, what: str
) -> None:
    booking_id = await desk.add_booking(GUEST, "CONFIRMED")

    answered = [await record(house, what, booking_id, headers={"Idempotency-Key": "once"}) for _ in range(2)]

    for answer in answered:
        assert (answer.status, answer.body) == (202, {"id": str(booking_id), "booking_status": "CONFIRMED"})
        assert answer.headers["Location"] == "/v1/admin/hotels/1/bookings"
    first, second = await desk.next_command(), await desk.next_command()
    assert first.message == COMMANDS[what](room_id=1, booking_id=booking_id, stay_times=STAY_TIMES)
    assert first.envelope.id == second.envelope.id


async def test_an_arrival_that_was_waited_for_shows_the_booking(house: House, desk: StandInWorker) -> None:
    booking_id = await desk.add_booking(GUEST, "CONFIRMED")
    asking = asyncio.create_task(record(house, "check-in", booking_id, headers=WAIT))
    command = await desk.next_command()
    await desk.connection.execute("update booking set status = 'CHECKED_IN' where id = %s", (booking_id,))
    await desk.publish(command, GuestsCheckedIn(room_id=1, booking_id=booking_id))

    answered = await asking

    assert (answered.status, answered.headers["Preference-Applied"]) == (200, WAIT["Prefer"])
    assert answered.body == {
        "id": str(booking_id),
        "booking_status": "CHECKED_IN",
        "goes_back": "0.00",
        "currency": "EUR",
        "refunds": [],
    }


@pytest.mark.parametrize(
    ("reason", "words"), [(Refusal.BEFORE_ARRIVAL, "it is too early"), (Refusal.STAY_OVER, "the stay is over")]
)
async def test_a_refusal_has_its_reason_in_words(
    house: House, desk: StandInWorker, reason: Refusal, words: str
) -> None:
    booking_id = await desk.add_booking(GUEST, "CONFIRMED")
    asking = asyncio.create_task(record(house, "no-show", booking_id, headers=WAIT))
    refused = CommandRefused(
        room_id=1,
        booking_id=booking_id,
        command=MarkNoShow.message_type,
        reason=reason,
        booking_status=BookingStatus.CONFIRMED,
    )
    await desk.publish(await desk.next_command(), refused)
    answered = await asking
    assert (answered.status, answered.body["reason"]) == (409, str(reason))
    assert words in answered.body["detail"]


async def test_a_stay_is_recorded_by_its_hotels_manager_alone(house: House, desk: StandInWorker) -> None:
    booking_id = await desk.add_booking(GUEST, "CONFIRMED")
    for what in COMMANDS:
        for refused in (
            await record(house, what, booking_id, manager=OTHER_MANAGER),
            await record(house, what, booking_id, hotel_id=2),
            await record(house, what, uuid4()),
        ):
            assert (refused.status, refused.body) == (404, {"detail": "no such booking"})
        path = f"/v1/admin/hotels/1/bookings/{booking_id}/{what}"
        assert (await house.post(path, user=GUEST)).status == 403


@pytest.mark.parametrize("status", ["CHECKED_IN", "CHECKED_OUT", "NO_SHOW"])
async def test_clients_without_a_version_see_a_confirmed_booking(
    house: House, desk: StandInWorker, status: str
) -> None:
    booking_id = await desk.add_booking(GUEST, status)
    manager = house.manager_header(MANAGER)

    async def shown(prefix: str, expected: str) -> list[list[dict[str, Any]]]:
        query = f"?status={expected}"
        return [
            [(await house.get(f"{prefix}/bookings/{booking_id}", user=GUEST)).body],
            [(await house.get(f"{prefix}/bookings/{booking_id}/status", user=GUEST)).body],
            (await house.get(f"{prefix}/users/myBookings{query}", user=GUEST)).body,
            (await house.get(f"{prefix}/admin/hotels/1/bookings{query}", headers=manager)).body,
        ]

    for prefix, expected in (("", "CONFIRMED"), ("/v1", status), ("", "CONFIRMED")):
        for found in await shown(prefix, expected):
            assert [booking["booking_status"] for booking in found] == [expected], (prefix, found)
    assert (await house.get("/v1/users/myBookings?status=CONFIRMED", user=GUEST)).body == []


async def test_a_refusal_shows_clients_without_a_version_a_confirmed_booking(house: House, desk: StandInWorker) -> None:
    booking_id = await desk.add_booking(GUEST, "CHECKED_IN")
    changed = await house.ask("PUT", f"/bookings/{booking_id}/guests", [1], user=GUEST)
    versioned = await house.ask("PUT", f"/v1/bookings/{booking_id}/guests", [1], user=GUEST)
    assert (changed.status, changed.body["booking_status"]) == (409, "CONFIRMED")
    assert (versioned.status, versioned.body["booking_status"]) == (409, "CHECKED_IN")


async def nights_of(worker: Worker, room_id: int) -> list[date]:
    return [
        night for (night,) in await worker.rows("select date from inventory where room_id = %s order by date", room_id)
    ]


async def test_a_real_worker_checks_in_and_out_early_and_frees_the_nights(
    house: House, kafka_settings: KafkaSettings, database: DatabaseSettings
) -> None:
    async with open_worker(kafka_settings, database) as worker:
        manager = Manager(house, MANAGER)
        # It is noon at the hotel.
        hotel_id = await manager.hotel(check_in_time="00:00", check_out_time="23:00")
        room_id = await manager.room(hotel_id)
        nights = await nights_of(worker, room_id)
        staying, missing, later = [await worker.sell(room_id, nights[first], nights[first + 3]) for first in (0, 0, 10)]

        async def recorded(what: str, booking_id: UUID) -> Answer:
            return await record(house, what, booking_id, hotel_id=hotel_id, headers=WAIT)

        early = [await recorded(what, later) for what in ("check-in", "no-show")]
        assert [(answer.status, answer.body["reason"]) for answer in early] == [(409, "before_arrival")] * 2
        not_in = await recorded("check-out", staying)
        assert (not_in.status, not_in.body["reason"]) == (409, "wrong_status")
        for _ in range(2):
            arrived = await recorded("check-in", staying)
            assert (arrived.status, arrived.body["booking_status"]) == (200, "CHECKED_IN")

        left = await recorded("check-out", staying)
        gone = await recorded("no-show", missing)

        for answer, status in ((left, "CHECKED_OUT"), (gone, "NO_SHOW")):
            # It was sold without sale terms, so the hotel keeps all; nothing was paid in advance.
            assert answer.status == 200, answer
            assert answer.body["booking_status"] == status
            assert (answer.body["freed_from"], answer.body["kept"]) == (str(nights[0]), "360.00")
            assert (answer.body["goes_back"], answer.body["refunds"]) == ("0.00", [])
        booked = await worker.rows(
            "select booked_count from inventory where room_id = %s order by date limit 3", room_id
        )
        assert booked == [(0,)] * 3
