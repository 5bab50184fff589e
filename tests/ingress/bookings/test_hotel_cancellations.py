"""A hotel cancels a guest's booking: by its manager alone, with a reason, and with all the money back."""

import asyncio
from collections.abc import Mapping
from typing import Any
from uuid import UUID, uuid4

import pytest

from storage.settings import DatabaseSettings
from tests.ingress.house import STAY_TIMES, WAIT, House, StandInWorker
from tests.ingress.managers import Manager, open_worker
from tests.support.client import Answer
from tests.support.hotels import HotelsInTables
from topics.kafka.settings import KafkaSettings
from topics.messages.commands import CancelBooking
from topics.messages.events import BookingCancelled, CommandRefused
from topics.messages.values import BookingStatus, CancelReason, HotelReason, Refusal

GUEST, MANAGER, OTHER_MANAGER = 1, 2, 3
OVERBOOKED = {"reason": "overbooked"}


@pytest.fixture
async def desk(stand_in: StandInWorker, house: House) -> StandInWorker:
    """The stand-in worker; hotel 1 is the manager's, hotel 3 with room 3 the other manager's."""
    await stand_in.connection.execute(
        "insert into app_user (email, password_hash, name) values ('three@example.com', 'x', 'Three')"
    )
    await stand_in.connection.execute("update hotel set owner_id = %s where id = 1", (MANAGER,))
    hotels = HotelsInTables(stand_in.connection)
    await hotels.room(await hotels.hotel(owner_id=OTHER_MANAGER))
    return stand_in


async def cancel(
    house: House,
    booking_id: UUID,
    *,
    hotel_id: int = 1,
    manager: int = MANAGER,
    body: object = OVERBOOKED,
    headers: Mapping[str, str] = {},
) -> Answer:
    """Ask for a cancellation as a manager."""
    path = f"/v1/admin/hotels/{hotel_id}/bookings/{booking_id}/cancel"
    return await house.post(path, body, headers=house.manager_header(manager) | dict(headers))


async def test_a_manager_cancels_with_a_reason(house: House, desk: StandInWorker) -> None:
    booking_id = await desk.add_booking(GUEST, "CONFIRMED")
    asking = asyncio.create_task(cancel(house, booking_id, headers=WAIT))
    command = await desk.next_command()
    assert command.message == CancelBooking(
        room_id=1,
        booking_id=booking_id,
        reason=CancelReason.BY_HOTEL,
        hotel_reason=HotelReason.OVERBOOKED,
        stay_times=STAY_TIMES,
    )
    cancelled = BookingCancelled(
        room_id=1, booking_id=booking_id, reason=CancelReason.BY_HOTEL, hotel_reason=HotelReason.OVERBOOKED
    )
    await desk.publish(command, cancelled)

    answered = await asking
    assert (answered.status, answered.body, answered.headers["Preference-Applied"]) == (204, None, WAIT["Prefer"])


async def test_a_manager_who_does_not_wait_finds_the_decision_in_the_list(house: House, desk: StandInWorker) -> None:
    booking_id = await desk.add_booking(GUEST, "CONFIRMED")
    answered = await cancel(house, booking_id)
    assert (answered.status, answered.body) == (202, {"id": str(booking_id), "booking_status": "CONFIRMED"})
    assert answered.headers["Location"] == "/v1/admin/hotels/1/bookings"
    listed = await house.get(answered.headers["Location"], headers=house.manager_header(MANAGER))
    assert [booking["id"] for booking in listed.body] == [str(booking_id)]


async def test_the_same_request_twice_is_one_command(house: House, desk: StandInWorker) -> None:
    booking_id, key = await desk.add_booking(GUEST, "CONFIRMED"), {"Idempotency-Key": "once"}
    for _ in range(2):
        assert (await cancel(house, booking_id, headers=key)).status == 202
    assert (await cancel(house, booking_id, body={"reason": "other"}, headers=key)).status == 422
    first, second = [await desk.next_command() for _ in range(2)]
    assert first.envelope.id == second.envelope.id


async def test_a_refusal_has_its_reason_in_words(house: House, desk: StandInWorker) -> None:
    booking_id = await desk.add_booking(GUEST, "CONFIRMED")
    asking = asyncio.create_task(cancel(house, booking_id, headers=WAIT))
    refused = CommandRefused(
        room_id=1,
        booking_id=booking_id,
        command=CancelBooking.message_type,
        reason=Refusal.STAY_OVER,
        booking_status=BookingStatus.CONFIRMED,
    )
    await desk.publish(await desk.next_command(), refused)
    answered = await asking
    assert (answered.status, answered.body["reason"]) == (409, "stay_over")
    assert "the stay is over" in answered.body["detail"]


async def test_a_booking_is_its_hotels_managers_alone(house: House, desk: StandInWorker) -> None:
    booking_id = await desk.add_booking(GUEST, "CONFIRMED")
    # A request that named the other manager's hotel for this room was refused, and has both ids.
    confused = await desk.add_booking(GUEST, "REJECTED", hotel_id=3, room_id=1)
    for refused in (
        await cancel(house, booking_id, manager=OTHER_MANAGER),
        await cancel(house, booking_id, hotel_id=3, manager=OTHER_MANAGER),
        await cancel(house, booking_id, hotel_id=3),
        await cancel(house, confused, hotel_id=3, manager=OTHER_MANAGER),
        await cancel(house, uuid4()),
    ):
        assert (refused.status, refused.body) == (404, {"detail": "no such booking"})
    path = f"/v1/admin/hotels/1/bookings/{booking_id}/cancel"
    assert (await house.post(path, OVERBOOKED, user=GUEST)).status == 403
    assert (await house.post(path, OVERBOOKED)).status == 401


async def test_a_cancellation_needs_a_known_reason(house: House, desk: StandInWorker) -> None:
    booking_id = await desk.add_booking(GUEST, "CONFIRMED")
    senseless: list[Any] = [{}, {"reason": "rain"}, {"reason": None}, {"reason": 1}, {"reason": "other", "sum": 1}, []]
    for body in senseless:
        assert (await cancel(house, booking_id, body=body)).status == 422, body
    for reason in HotelReason:
        assert (await cancel(house, booking_id, body={"reason": reason.value})).status == 202
        command = (await desk.next_command()).message
        assert isinstance(command, CancelBooking)
        assert command.hotel_reason is reason


async def test_a_real_worker_cancels_for_the_hotel_and_frees_the_nights(
    house: House, kafka_settings: KafkaSettings, database: DatabaseSettings
) -> None:
    async with open_worker(kafka_settings, database) as worker:
        manager = Manager(house, MANAGER)
        hotel_id = await manager.hotel()
        room_id = await manager.room(hotel_id)
        (first,), (end,) = await worker.rows(
            "select date from inventory where room_id = %s and date > current_date order by date limit 2", room_id
        )
        booking_id = await worker.sell(room_id, first, end)

        path = f"/hotels/{hotel_id}/bookings/{booking_id}/cancel"
        answered = await house.post(
            f"/v1/admin{path}", {"reason": "room_unusable"}, headers=house.manager_header(MANAGER) | WAIT
        )

        assert answered.status == 204
        rows = await worker.rows("select status, cancel_reason from booking where id = %s", booking_id)
        assert rows == [("CANCELLED", "by_hotel")]
        booked = await worker.rows(
            "select booked_count from inventory where room_id = %s and date = %s", room_id, first
        )
        assert booked == [(0,)]


async def test_after_check_in_the_hotel_alone_cancels(
    house: House, kafka_settings: KafkaSettings, database: DatabaseSettings
) -> None:
    async with open_worker(kafka_settings, database) as worker:
        manager = Manager(house, MANAGER)
        # It is noon at the hotel, so check-in has passed.
        hotel_id = await manager.hotel(check_in_time="00:00", check_out_time="11:00")
        room_id = await manager.room(hotel_id)
        (today,), (_,), (end,) = await worker.rows(
            "select date from inventory where room_id = %s order by date limit 3", room_id
        )
        booking_id = await worker.sell(room_id, today, end)
        await worker.connection.execute("update booking set user_id = %s where id = %s", (GUEST, booking_id))
        guest_id = (await house.post("/v1/users/guests", {"name": "Ada"}, user=GUEST)).body["id"]

        for prefix in ("/v1", ""):
            refused = await house.post(f"{prefix}/bookings/{booking_id}/cancel", user=GUEST, headers=WAIT)
            assert (refused.status, refused.body["reason"]) == (409, "check_in_passed")
        changed = await house.ask("PUT", f"/v1/bookings/{booking_id}/guests", [guest_id], user=GUEST, headers=WAIT)
        assert (changed.status, changed.body["reason"]) == (409, "check_in_passed")

        cancelled = await cancel(house, booking_id, hotel_id=hotel_id, headers=WAIT)
        assert cancelled.status == 204
        assert (await cancel(house, booking_id, hotel_id=hotel_id, headers=WAIT)).status == 204


async def test_after_check_out_nobody_cancels(
    house: House, kafka_settings: KafkaSettings, database: DatabaseSettings
) -> None:
    async with open_worker(kafka_settings, database) as worker:
        manager = Manager(house, MANAGER)
        hotel_id = await manager.hotel(check_out_time="11:00")
        room_id = await manager.room(hotel_id)
        (today,), (end,) = await worker.rows(
            "select date from inventory where room_id = %s order by date limit 2", room_id
        )
        booking_id = await worker.sell(room_id, today, end)
        await worker.connection.execute(
            "update booking set user_id = %s, check_in = check_in - 2, check_out = check_out - 1 where id = %s",
            (GUEST, booking_id),
        )

        for refused in (
            await house.post(f"/v1/bookings/{booking_id}/cancel", user=GUEST, headers=WAIT),
            await cancel(house, booking_id, hotel_id=hotel_id, headers=WAIT),
        ):
            assert (refused.status, refused.body["reason"]) == (409, "stay_over")
