"""The guests of a booking stay as they were named, also when the account's address book changes."""

import asyncio
from typing import Any
from uuid import UUID, uuid4

import pytest

from storage.settings import DatabaseSettings
from tests.ingress.conftest import ingress_settings, run_ingress
from tests.ingress.house import STAY_TIMES, WAIT, House, StandInWorker
from topics.kafka.settings import KafkaSettings
from topics.messages.commands import AddGuests, ChangeGuests
from topics.messages.events import CommandRefused, GuestsChanged
from topics.messages.releases import Release
from topics.messages.values import BookingStatus, Refusal

GUEST, MANAGER = 1, 2
KEY = {"Idempotency-Key": "once"}


async def saved(house: House, name: str = "Ada", **fields: Any) -> int:
    """Save a guest in the address book of the account."""
    return int((await house.post("/v1/users/guests", {"name": name, "age": 33} | fields, user=GUEST)).body["id"])


async def decided_guests(stand_in: StandInWorker, command: AddGuests | ChangeGuests) -> None:
    """Write the guests of a command into the ledger as the worker does."""
    await stand_in.connection.execute("delete from booking_guest where booking_id = %s", (command.booking_id,))
    for guest_id in command.guest_ids:
        await stand_in.connection.execute(
            "insert into booking_guest (booking_id, guest_id) values (%s, %s)", (command.booking_id, guest_id)
        )
    await stand_in.connection.execute(
        "update booking set guest_list_id = %s where id = %s", (command.guest_list_id, command.booking_id)
    )


async def named(house: House, stand_in: StandInWorker, booking_id: UUID, guest_ids: list[int]) -> AddGuests:
    """Name the guests of a booking; return the command."""
    answered = await house.post(f"/v1/bookings/{booking_id}/addGuests", guest_ids, user=GUEST)
    assert answered.status == 202, answered
    command = (await stand_in.next_command()).message
    assert isinstance(command, AddGuests)
    await decided_guests(stand_in, command)
    return command


async def shown(house: House, booking_id: UUID) -> Any:
    """Return the guests of a booking as their account sees them."""
    return (await house.get(f"/v1/bookings/{booking_id}", user=GUEST)).body["guests"]


async def seen_by_hotel(house: House, booking_id: UUID) -> Any:
    """Return the guests of a booking as the hotel sees them."""
    listed = (await house.get("/v1/admin/hotels/1/bookings", headers=house.manager_header(MANAGER))).body
    (guests,) = (booking["guests"] for booking in listed if booking["id"] == str(booking_id))
    return guests


@pytest.fixture
async def hotel_of_manager(stand_in: StandInWorker, house: House) -> None:
    """Hotel 1 is the manager's."""
    await stand_in.connection.execute("update hotel set owner_id = %s where id = 1", (MANAGER,))


@pytest.mark.usefixtures("hotel_of_manager")
async def test_a_guest_renamed_or_deleted_after_being_named_stays_the_same_for_guest_and_hotel(
    house: House, stand_in: StandInWorker
) -> None:
    booking_id, ada, bo = await stand_in.add_booking(GUEST), await saved(house), await saved(house, "Bo", gender="MALE")
    await named(house, stand_in, booking_id, [ada, bo])
    await stand_in.connection.execute("update booking set status = 'CONFIRMED'")

    renamed = await house.ask("PATCH", f"/v1/users/guests/{ada}", {"name": "Mallory", "age": 5}, user=GUEST)
    assert renamed.body["name"] == "Mallory"
    await stand_in.connection.execute("delete from guest where id = %s", (bo,))

    assert await shown(house, booking_id) == [
        {"id": ada, "name": "Ada", "gender": None, "age": 33},
        {"id": bo, "name": "Bo", "gender": "MALE", "age": 33},
    ]
    assert await seen_by_hotel(house, booking_id) == [{"id": ada, "name": "Ada"}, {"id": bo, "name": "Bo"}]


@pytest.mark.usefixtures("hotel_of_manager")
async def test_a_booking_from_before_guest_lists_shows_the_address_book(house: House, stand_in: StandInWorker) -> None:
    booking_id, ada = await stand_in.add_booking(GUEST), await saved(house)
    await stand_in.connection.execute("insert into booking_guest values (%s, %s)", (booking_id, ada))
    await house.ask("PATCH", f"/v1/users/guests/{ada}", {"name": "Ada Lovelace"}, user=GUEST)

    assert [guest["name"] for guest in await shown(house, booking_id)] == ["Ada Lovelace"]
    assert await seen_by_hotel(house, booking_id) == [{"id": ada, "name": "Ada Lovelace"}]


@pytest.mark.usefixtures("hotel_of_manager")
async def test_erased_names_are_shown_to_nobody(house: House, stand_in: StandInWorker) -> None:
    booking_id, ada = await stand_in.add_booking(GUEST), await saved(house)
    await named(house, stand_in, booking_id, [ada])
    await stand_in.connection.execute("update guest_list set guests = null, erased_at = now()")

    assert await shown(house, booking_id) == []
    assert await seen_by_hotel(house, booking_id) == [{"id": ada, "name": None}]


async def test_a_list_of_another_booking_is_not_shown(house: House, stand_in: StandInWorker) -> None:
    theirs, mine, ada = await stand_in.add_booking(GUEST), await stand_in.add_booking(GUEST), await saved(house)
    command = await named(house, stand_in, theirs, [ada])
    await stand_in.connection.execute(
        "update booking set guest_list_id = %s where id = %s", (command.guest_list_id, mine)
    )
    assert await shown(house, mine) == []


async def test_a_repeated_request_keeps_the_names_of_the_first(house: House, stand_in: StandInWorker) -> None:
    booking_id, ada = await stand_in.add_booking(GUEST), await saved(house)
    path = f"/v1/bookings/{booking_id}/addGuests"
    for name in ("Ada", "Mallory"):
        await house.ask("PATCH", f"/v1/users/guests/{ada}", {"name": name}, user=GUEST)
        assert (await house.post(path, [ada], user=GUEST, headers=KEY)).status == 202
    await stand_in.connection.execute("delete from guest")
    assert (await house.post(path, [ada], user=GUEST, headers=KEY)).status == 202

    first, *repeated = [await stand_in.next_command() for _ in range(3)]
    assert {command.envelope.id for command in repeated} == {first.envelope.id}
    assert {command.message for command in repeated} == {first.message}
    kept = await (await stand_in.connection.execute("select guests from guest_list")).fetchall()
    assert kept == [([{"id": ada, "name": "Ada", "gender": None, "age": 33}],)]


async def test_the_list_is_stored_before_the_command_is_sent(house: House, stand_in: StandInWorker) -> None:
    booking_id, ada = await stand_in.add_booking(GUEST), await saved(house)
    await stand_in.connection.execute("alter table guest_list add check (user_id <> 1)")
    answered = await house.post(f"/v1/bookings/{booking_id}/addGuests", [ada], user=GUEST)
    assert answered.status == 500

    await stand_in.connection.execute("alter table guest_list drop constraint guest_list_user_id_check")
    await house.post(f"/v1/bookings/{booking_id}/cancel", user=GUEST)
    assert not isinstance((await stand_in.next_command()).message, AddGuests)


@pytest.mark.usefixtures("hotel_of_manager")
async def test_guests_of_a_paid_stay_are_changed_and_the_hotel_sees_the_new_names(
    house: House, stand_in: StandInWorker
) -> None:
    booking_id, ada, bo = await stand_in.add_booking(GUEST), await saved(house), await saved(house, "Bo")
    await named(house, stand_in, booking_id, [ada])
    await stand_in.connection.execute("update booking set status = 'CONFIRMED'")

    asking = asyncio.create_task(house.ask("PUT", f"/v1/bookings/{booking_id}/guests", [bo], user=GUEST, headers=WAIT))
    logged = await stand_in.next_command()
    command = logged.message
    assert isinstance(command, ChangeGuests)
    assert command == ChangeGuests(
        room_id=1,
        booking_id=booking_id,
        user_id=GUEST,
        guest_ids=(bo,),
        guest_list_id=command.guest_list_id,
        stay_times=STAY_TIMES,
    )
    await decided_guests(stand_in, command)
    changed = GuestsChanged(room_id=1, booking_id=booking_id, guest_ids=(bo,), guest_list_id=command.guest_list_id)
    await stand_in.publish(logged, changed)

    answered = await asking
    assert (answered.status, [guest["name"] for guest in answered.body["guests"]]) == (200, ["Bo"])
    assert await seen_by_hotel(house, booking_id) == [{"id": bo, "name": "Bo"}]


async def test_guests_of_a_stay_that_has_begun_are_not_changed(house: House, stand_in: StandInWorker) -> None:
    booking_id, ada = await stand_in.add_booking(GUEST, "CONFIRMED"), await saved(house)
    asking = asyncio.create_task(house.ask("PUT", f"/v1/bookings/{booking_id}/guests", [ada], user=GUEST, headers=WAIT))
    refused = CommandRefused(
        room_id=1,
        booking_id=booking_id,
        command=ChangeGuests.message_type,
        reason=Refusal.CHECK_IN_PASSED,
        booking_status=BookingStatus.CONFIRMED,
    )
    await stand_in.publish(await stand_in.next_command(), refused)

    answered = await asking
    assert (answered.status, answered.body["reason"]) == (409, "check_in_passed")
    assert "the hotel alone" in answered.body["detail"]


async def test_a_change_of_guests_is_checked_as_their_first_naming(house: House, stand_in: StandInWorker) -> None:
    booking_id, ada = await stand_in.add_booking(GUEST, "CONFIRMED"), await saved(house)
    path = f"/v1/bookings/{booking_id}/guests"
    for body, status in (([999], 404), ([ada, ada], 422), ([], 422), ({"guests": [ada]}, 422)):
        assert (await house.ask("PUT", path, body, user=GUEST)).status == status
    assert (await house.ask("PUT", path, [ada], user=2)).status == 404
    assert (await house.ask("PUT", f"/v1/bookings/{uuid4()}/guests", [ada], user=GUEST)).status == 404


async def test_no_older_worker_gets_a_change_of_guests(
    kafka_settings: KafkaSettings, database: DatabaseSettings, house: House, stand_in: StandInWorker
) -> None:
    booking_id, ada = await stand_in.add_booking(GUEST, "CONFIRMED"), await saved(house)
    during_rollout = kafka_settings.model_copy(update={"log_readable_by": Release.V0_1_0})
    async with run_ingress(ingress_settings(), during_rollout, database) as new:
        refused = await new.ask("PUT", f"/v1/bookings/{booking_id}/guests", [ada], user=GUEST)
        assert (refused.status, refused.body["reason"]) == (503, "release_rolling_out")
        assert ("new release" in refused.body["detail"], "Retry-After" in refused.headers) == (True, True)

        assert (await new.post(f"/v1/bookings/{booking_id}/cancel", user=GUEST)).status == 202
        assert await kept_lists(stand_in) == 0
    assert not isinstance((await stand_in.next_command()).message, ChangeGuests)


async def kept_lists(stand_in: StandInWorker) -> int:
    """Return how many lists of guests are stored."""
    (count,) = await (await stand_in.connection.execute("select count(*) from guest_list")).fetchone() or (None,)
    return int(count)


@pytest.mark.parametrize("status", ["RESERVED", "GUESTS_ADDED", "PAYMENTS_PENDING", "CANCELLED", "EXPIRED", "REJECTED"])
async def test_guests_of_a_booking_that_is_not_confirmed_are_not_changed_and_not_stored(
    house: House, stand_in: StandInWorker, status: str
) -> None:
    booking_id, ada = await stand_in.add_booking(GUEST, status), await saved(house)
    refused = await house.ask("PUT", f"/v1/bookings/{booking_id}/guests", [ada], user=GUEST, headers=KEY)
    assert (refused.status, refused.body) == (
        409,
        {
            "detail": "refused: the booking's status does not allow it",
            "reason": "wrong_status",
            "id": str(booking_id),
            "booking_status": status,
        },
    )
    assert await kept_lists(stand_in) == 0
    # A request that was refused at once has not used its key.
    await stand_in.connection.execute("update booking set status = 'CONFIRMED'")
    changed = await house.ask("PUT", f"/v1/bookings/{booking_id}/guests", [ada], user=GUEST, headers=KEY)
    assert (changed.status, await kept_lists(stand_in)) == (202, 1)


@pytest.mark.parametrize("status", ["PAYMENTS_PENDING", "CONFIRMED", "CANCELLED", "EXPIRED", "REJECTED"])
async def test_a_naming_of_guests_that_comes_too_late_is_decided_and_not_stored(
    house: House, stand_in: StandInWorker, status: str
) -> None:
    booking_id, ada = await stand_in.add_booking(GUEST, status), await saved(house)
    assert (await house.post(f"/v1/bookings/{booking_id}/addGuests", [ada], user=GUEST)).status == 202
    assert isinstance((await stand_in.next_command()).message, AddGuests)
    assert await kept_lists(stand_in) == 0
