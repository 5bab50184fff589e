"""Trips over HTTP: one request for several room types, and their legs in bookings, lists and refusals."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from psycopg.types.json import Jsonb

from ingress.application import BOOKING_IDS
from ingress.log.commands import answers_to
from storage.settings import DatabaseSettings
from tests.ingress.conftest import ingress_settings, run_ingress
from tests.ingress.house import STAY, STAY_TIMES, TODAY, WAIT, House, LoggedCommand, StandInWorker
from tests.support.client import Answer
from tests.support.hotels import HotelsInTables
from topics.kafka.settings import KafkaSettings
from topics.messages.commands import AddGuests, ClaimCode, ReserveTrip
from topics.messages.events import (
    BookingCancelled,
    BookingRejected,
    BookingReserved,
    CodeUnchanged,
    CommandRefused,
    CommandRepeated,
    Event,
    TripCancelRequested,
    TripRejected,
    TripReserved,
)
from topics.messages.releases import Release
from topics.messages.sale import Party
from topics.messages.values import BookingStatus, CancelReason, Refusal, Rejection

GUEST, MANAGER = 1, 2
ARRIVAL = TODAY + timedelta(days=10)
#: Room type 3 of hotel 1, which sleeps four.
SUITE = 3
TRIP: dict[str, Any] = {
    "hotel_id": 1,
    "check_in_date": STAY["check_in_date"],
    "check_out_date": STAY["check_out_date"],
    "legs": [{"room_id": 1, "rooms_count": 2}, {"room_id": SUITE, "adults": 2, "children": [4]}],
}


@pytest.fixture
async def rooms(house: House, stand_in: StandInWorker) -> StandInWorker:
    """A second room type in hotel 1, which is the manager's, with a night on sale."""
    hotels = HotelsInTables(stand_in.connection)
    assert await hotels.room(1, type="suite", capacity=4) == SUITE
    await hotels.nights(1, SUITE, ARRIVAL, ARRIVAL + timedelta(days=2), price_minor=20_000)
    await stand_in.connection.execute("update hotel set owner_id = %s where id = 1", (MANAGER,))
    return stand_in


async def ask(house: House, *, headers: dict[str, str] | None = None, **changes: Any) -> Answer:
    return await house.post("/v1/trips", TRIP | changes, user=GUEST, headers=headers or {})


async def write_trip(stand_in: StandInWorker, command: ReserveTrip, status: str, *legs: str, **columns: Any) -> None:
    """Write a trip as its worker does, and those of its legs for which there is a status."""
    written = [
        {"booking_id": str(leg.booking_id), "room_id": leg.room_id, "rooms_count": leg.rooms_count}
        for leg in command.legs
    ]
    held = status not in ("RESERVING", "REJECTED")
    money = {"amount_minor": 109_004 if held else 0, "currency": "EUR" if held else ""}
    common = {"check_in": command.check_in, "check_out": command.check_out}
    trip = {"rooms_count": 0, "legs": Jsonb(written), "room_id": command.room_id, **common, **money, **columns}
    await stand_in.write_booking(command.booking_id, GUEST, status, **trip)
    for leg, leg_status in zip(command.legs, legs, strict=False):
        refused = {"amount_minor": 0, "currency": "", "rejection": columns.get("rejection")}
        await stand_in.write_booking(
            leg.booking_id,
            GUEST,
            leg_status,
            room_id=leg.room_id,
            rooms_count=leg.rooms_count,
            trip_id=command.booking_id,
            trip_room_id=command.room_id,
            **common,
            **(refused if leg_status == "REJECTED" else {"amount_minor": 54_502, "currency": "EUR"}),
        )


async def known_trip(house: House, stand_in: StandInWorker, status: str, *legs: str, **columns: Any) -> ReserveTrip:
    """Ask for a trip, and write it as its worker does."""
    assert (await ask(house)).status == 202
    command = (await stand_in.next_command()).message
    assert isinstance(command, ReserveTrip)
    await write_trip(stand_in, command, status, *legs, **columns)
    return command


def event_of(trip: ReserveTrip, kind: type[Event], /, **fields: Any) -> Event:
    return kind(room_id=trip.room_id, booking_id=trip.booking_id, **fields)


def reserved(command: ReserveTrip) -> Event:
    return event_of(command, TripReserved, amount_minor=109_004, currency="EUR", night_amounts_minor=())


def rejected(command: ReserveTrip, reason: Rejection) -> Event:
    stay = {"user_id": GUEST, "hotel_id": 1, "check_in": command.check_in, "check_out": command.check_out}
    return event_of(command, TripRejected, **stay, legs=(), reason=reason, leg_id=command.legs[1].booking_id)


async def sent(house: House, stand_in: StandInWorker) -> tuple[asyncio.Task[Answer], LoggedCommand, ReserveTrip]:
    """Ask for a trip and wait; return the task, and the command."""
    asking = asyncio.create_task(ask(house, headers=WAIT))
    logged = await stand_in.next_command()
    assert isinstance(logged.message, ReserveTrip)
    return asking, logged, logged.message


async def test_a_request_is_one_command_with_an_id_for_each_leg(house: House, rooms: StandInWorker) -> None:
    key = {"Idempotency-Key": "once"}
    first, again = await ask(house, headers=key), await ask(house, headers=key)
    logged, repeated = await rooms.next_command(), await rooms.next_command()

    command = logged.message
    assert isinstance(command, ReserveTrip)
    assert (first.status, again.body) == (202, first.body)
    assert (repeated.envelope.id, repeated.message) == (logged.envelope.id, command)
    assert first.body == {
        "id": str(command.booking_id),
        "booking_status": "PENDING",
        "legs": [{"id": str(leg.booking_id), "room_id": leg.room_id} for leg in command.legs],
    }
    assert first.headers["Location"] == f"/v1/trips/{command.booking_id}"
    assert logged.key == b"1"
    plain, suite = command.legs
    assert (plain.room_id, plain.rooms_count, plain.party) == (1, 2, None)
    assert (suite.room_id, suite.rooms_count, suite.party) == (SUITE, 1, Party(adults=2, child_ages=(4,)))
    assert (command.user_id, command.stay_times, command.discount) == (GUEST, STAY_TIMES, None)
    ids = [command.booking_id, plain.booking_id, suite.booking_id]
    assert len(set(ids)) == 3
    assert all(house.app[BOOKING_IDS].was_issued_to(GUEST, id) for id in ids)
    assert not any(house.app[BOOKING_IDS].was_issued_to(MANAGER, id) for id in ids)
    other = await ask(house, headers=key, legs=TRIP["legs"][:1])
    assert other.status == 422


async def test_a_request_that_waits_gets_the_trip_with_its_legs(house: House, rooms: StandInWorker) -> None:
    asking, logged, command = await sent(house, rooms)
    end = datetime.now(UTC) + timedelta(minutes=15)
    await write_trip(rooms, command, "RESERVED", "RESERVED", "RESERVED", hold_expires_at=end)
    await rooms.publish(logged, reserved(command))

    trip = await asking
    assert (trip.status, trip.body["booking_status"], trip.body["amount"]) == (201, "RESERVED", "1090.04"), trip
    assert datetime.fromisoformat(trip.body["hold_expires_at"]) == end
    assert [(leg["room_id"], leg["rooms_count"], leg["amount"]) for leg in trip.body["legs"]] == [
        (1, 2, "545.02"),
        (SUITE, 1, "545.02"),
    ]
    assert not trip.body.keys() & {"room_id", "rooms_count"}
    shown = await house.get(f"/v1/trips/{command.booking_id}", user=GUEST)
    assert (shown.status, shown.body) == (200, trip.body)


async def test_a_refused_leg_refuses_the_trip_and_is_named(house: House, rooms: StandInWorker) -> None:
    asking, logged, command = await sent(house, rooms)
    await write_trip(rooms, command, "REJECTED", "CANCELLED", "REJECTED", rejection="sold_out")
    await rooms.publish(logged, rejected(command, Rejection.SOLD_OUT))

    refused = await asking
    assert (refused.status, refused.body["reason"], refused.body["booking_status"]) == (409, "sold_out", "REJECTED")
    assert (refused.body["id"], refused.body["leg_number"]) == (str(command.booking_id), 2)
    assert refused.body["leg_id"] == str(command.legs[1].booking_id)
    assert f"(leg 2, of room type {SUITE})" in refused.body["detail"]
    shown = (await house.get(f"/v1/trips/{command.booking_id}", user=GUEST)).body
    assert (shown["booking_status"], shown["reason"], "amount" in shown) == ("REJECTED", "sold_out", False)
    assert [leg["booking_status"] for leg in shown["legs"]] == ["CANCELLED", "REJECTED"]
    assert shown["legs"][1]["reason"] == "sold_out"


async def test_the_bookings_in_the_way_of_a_leg_are_others_than_its_trip(house: House, rooms: StandInWorker) -> None:
    other = await known_trip(house, rooms, "RESERVED", "RESERVED", "RESERVED")
    asking, logged, command = await sent(house, rooms)
    await write_trip(rooms, command, "REJECTED", "RESERVED", "REJECTED", rejection="account_share")
    await rooms.connection.execute("update booking set room_id = 3 where trip_id = %s", (command.booking_id,))
    await rooms.publish(logged, rejected(command, Rejection.ACCOUNT_SHARE))

    # The other leg of the trip holds its nights still, until it is released.
    assert (await asking).body["unpaid_bookings"] == [str(other.booking_id)]


async def test_a_trip_that_is_refused_as_a_whole_has_no_leg_to_name(house: House, rooms: StandInWorker) -> None:
    asking, logged, command = await sent(house, rooms)
    await write_trip(rooms, command, "REJECTED", rejection="not_chargeable")
    await rooms.publish(logged, rejected(command, Rejection.NOT_CHARGEABLE))
    refused = await asking
    assert (refused.status, refused.body["reason"], "leg_id" in refused.body) == (409, "not_chargeable", False)
    assert "one payment must be from" in refused.body["detail"]


async def test_a_trip_whose_rooms_have_not_all_answered_is_still_being_reserved(
    house: House, rooms: StandInWorker
) -> None:
    asking, logged, command = await sent(house, rooms)
    await write_trip(rooms, command, "RESERVING", "RESERVED")
    # A repeated command of one leg answers the request, too.
    await rooms.publish(
        logged, event_of(command, CommandRepeated, command="booking.reserve.v1", booking_status=BookingStatus.RESERVING)
    )

    pending = await asking
    assert (pending.status, pending.body["booking_status"]) == (202, "RESERVING")
    shown = (await house.get(f"/v1/trips/{command.booking_id}", user=GUEST)).body
    assert [leg["booking_status"] for leg in shown["legs"]] == ["RESERVED", "PENDING"]
    status = f"/bookings/{command.booking_id}/status"
    assert (await house.get(f"/v1{status}", user=GUEST)).body["booking_status"] == "RESERVING"
    assert (await house.get(status, user=GUEST)).body["booking_status"] == "PENDING"
    listed = await house.get("/users/myBookings?status=PENDING", user=GUEST)
    assert [(each["id"], each["booking_status"]) for each in listed.body] == [(str(command.booking_id), "PENDING")]
    leg = await house.get(f"/v1/bookings/{command.legs[1].booking_id}/status", user=GUEST)
    assert leg.body["booking_status"] == "PENDING"
    named = await house.post(f"/v1/bookings/{command.booking_id}/addGuests", [1], user=GUEST)
    assert (named.status, named.body["reason"]) == (409, "pending")


async def test_a_trip_that_the_log_refuses_is_refused(house: House, rooms: StandInWorker) -> None:
    asking, logged, command = await sent(house, rooms)
    refusal = {"command": ReserveTrip.message_type, "reason": Refusal.WRONG_STATUS}
    await rooms.publish(logged, event_of(command, CommandRefused, **refusal, booking_status=BookingStatus.EXPIRED))
    refused = await asking
    assert (refused.status, refused.body["reason"], refused.body["booking_status"]) == (409, "wrong_status", "EXPIRED")


@pytest.mark.usefixtures("rooms")
async def test_only_a_trip_of_the_caller_is_shown(house: House, stand_in: StandInWorker) -> None:
    pending = (await ask(house)).body["id"]
    plain = await stand_in.add_booking(GUEST)

    assert (await house.get(f"/v1/trips/{pending}", user=GUEST)).body == {"id": pending, "booking_status": "PENDING"}
    for user, trip_id in ((MANAGER, pending), (GUEST, plain), (GUEST, uuid4())):
        missing = await house.get(f"/v1/trips/{trip_id}", user=user)
        assert (missing.status, missing.body["detail"]) == (404, "no such trip")


@pytest.mark.usefixtures("rooms")
@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        ({"legs": []}, 422, "legs"),
        ({"legs": [{"room_id": 1}] * 6}, 422, "legs"),
        ({"legs": [{"room_id": 1, "rooms_count": 11}]}, 422, "legs.0.rooms_count"),
        ({"legs": [{"room_id": 1}, {"room_id": 2}]}, 404, "the hotel has no such room"),
        ({"legs": [{"room_id": 1}, {"room_id": 99}]}, 404, "the hotel has no such room"),
        ({"hotel_id": 2, "legs": [{"room_id": 2}]}, 409, "takes no bookings"),
        ({"check_out_date": TRIP["check_in_date"]}, 422, "check_out_date must be after"),
        ({"legs": [{"room_id": SUITE, "adults": 5}]}, 409, "the rooms do not hold so many people"),
        ({"legs": [{"room_id": SUITE, "children": [1]}]}, 422, "adults"),
        ({"legs": [{"room_id": 1}, {"room_id": SUITE, "quote": "x"}]}, 422, "legs.1.quote"),
        ({"promo_code": "NONE"}, 409, "no such promo code"),
        ({"accepted_terms": "with space"}, 422, "accepted_terms"),
    ],
)
async def test_a_trip_that_makes_no_sense_is_refused_at_once(
    house: House, changes: dict[str, Any], status: int, words: str
) -> None:
    refused = await ask(house, **changes)
    assert (refused.status, words in refused.body["detail"]) == (status, True), refused


async def test_each_leg_may_have_its_own_quote(house: House, rooms: StandInWorker) -> None:
    async def quoted(leg: dict[str, Any]) -> str:
        days = {name: TRIP[name] for name in ("hotel_id", "check_in_date", "check_out_date")}
        return str((await house.post("/v1/quotes", {**days, **leg}, user=GUEST)).body["offers"][0]["token"])

    plain, suite = [{**leg, "quote": await quoted(leg)} for leg in TRIP["legs"]]
    assert (await ask(house, legs=[plain, suite])).status == 202
    command = (await rooms.next_command()).message
    assert isinstance(command, ReserveTrip)
    assert [None if leg.quoted is None else leg.quoted.amount_minor for leg in command.legs] == [69_004, 40_000]

    swapped = await ask(house, legs=[plain, {"room_id": SUITE, "quote": plain["quote"]}])
    assert (swapped.status, swapped.body["errors"][0]["field"]) == (422, "legs.1.room_id")


async def test_a_promo_code_is_claimed_for_the_whole_trip(house: House, rooms: StandInWorker) -> None:
    await rooms.connection.execute("insert into promo_code_name (hotel_id, code) values (1, 'SUMMER')")
    key = {"Idempotency-Key": "once"}
    asking = asyncio.create_task(ask(house, headers=WAIT | key, promo_code="summer"))
    logged = await rooms.next_command()
    claim = logged.message
    assert isinstance(claim, ClaimCode)
    assert (claim.reserve, claim.code_id, logged.key) == (None, 1, b"1")
    assert claim.trip is not None
    await rooms.publish(logged, CodeUnchanged(code_id=1, command=ClaimCode.message_type))
    assert (await asking).status == 202

    asking = asyncio.create_task(ask(house, headers=WAIT | key, promo_code="summer"))
    logged = await rooms.next_command()
    await write_trip(rooms, claim.trip, "RESERVED", "RESERVED", "RESERVED")
    await rooms.publish(logged, reserved(claim.trip))
    assert (await asking).status == 201

    # A leg that its room holds or refuses follows from the claim too, and is not its answer.
    assert {BookingReserved, BookingRejected}.isdisjoint(answers_to(claim).events)


async def test_a_trip_counts_as_one_unpaid_booking(
    kafka_settings: KafkaSettings, database: DatabaseSettings, house: House, rooms: StandInWorker
) -> None:
    settings = ingress_settings(max_unpaid_bookings=1)
    async with run_ingress(settings, kafka_settings, database) as strict:
        command = await known_trip(strict, rooms, "RESERVING", "RESERVED", "RESERVED")
        at_cap = await ask(strict)
        end = datetime.now(UTC) + timedelta(minutes=15)
        await rooms.connection.execute(
            "update booking set status = 'RESERVED', hold_expires_at = %s where id = %s", (end, command.booking_id)
        )
        held = await strict.post("/v1/bookings/init", STAY, user=GUEST)
        await rooms.connection.execute("update booking set status = 'CONFIRMED'")
        after = await ask(strict)
    assert (at_cap.status, at_cap.body["unpaid_bookings"]) == (429, [str(command.booking_id)])
    assert (held.status, held.body["unpaid_bookings"]) == (429, [str(command.booking_id)])
    assert after.status == 202


async def test_a_trip_has_the_places_of_all_its_legs(house: House, rooms: StandInWorker) -> None:
    command = await known_trip(house, rooms, "RESERVED", "RESERVED", "RESERVED")
    path = f"/v1/bookings/{command.booking_id}/addGuests"
    people = [(await house.post("/v1/users/guests", {"name": f"P{n}"}, user=GUEST)).body["id"] for n in range(9)]

    many = await house.post(path, people, user=GUEST)
    assert (many.status, many.body["detail"]) == (422, "9 guests do not fit: there is place for 8")
    assert (await house.post(path, people[:8], user=GUEST)).status == 202
    message = (await rooms.next_command()).message
    assert isinstance(message, AddGuests)
    assert (message.booking_id, message.room_id, len(message.guest_ids)) == (command.booking_id, 1, 8)

    # A confirmed leg has the guests and the list of names of its trip.
    leg_id = command.legs[1].booking_id
    await rooms.connection.execute(
        "update booking set status = 'CONFIRMED', guest_list_id = %s", (message.guest_list_id,)
    )
    leg = (await house.get(f"/v1/bookings/{leg_id}", user=GUEST)).body
    assert (len(leg["guests"]), leg["trip_id"], "legs" in leg) == (8, str(command.booking_id), False)
    trip = (await house.get(f"/v1/bookings/{command.booking_id}", user=GUEST)).body
    assert (trip["rooms_count"], "trip_id" in trip) == (0, False)
    assert trip["legs"] == [{"id": str(each.booking_id), "room_id": each.room_id} for each in command.legs]


async def test_a_paid_trip_that_is_cancelled_ends_later(house: House, rooms: StandInWorker) -> None:
    command = await known_trip(house, rooms, "CONFIRMED", "CONFIRMED", "CONFIRMED")
    guests_own = f"/v1/bookings/{command.booking_id}/cancel"
    hotels_own = f"/v1/admin/hotels/1/bookings/{command.booking_id}/cancel"

    async def cancelled(path: str, event: Event, **body: str) -> Answer:
        manager = path is hotels_own
        headers = WAIT | (house.manager_header(MANAGER) if manager else house.user_header(GUEST))
        asking = asyncio.create_task(house.post(path, body if manager else None, headers=headers))
        await rooms.publish(await rooms.next_command(), event)
        return await asking

    requested = event_of(command, TripCancelRequested, user_id=GUEST, reason=CancelReason.BY_GUEST)
    ended = event_of(command, BookingCancelled, reason=CancelReason.BY_GUEST)
    for path, body in ((guests_own, {}), (hotels_own, {"reason": "overbooked"})):
        answer = await cancelled(path, requested, **body)
        assert (answer.status, answer.body["booking_status"]) == (202, "CONFIRMED"), answer
        assert (await cancelled(path, ended, **body)).status == 204


@pytest.mark.parametrize(
    ("reason", "words"), [(Refusal.PART_OF_TRIP, "is a leg of a trip"), (Refusal.HAS_LEGS, "with the id of a leg")]
)
async def test_commands_for_the_other_of_leg_and_trip_are_refused_in_words(
    house: House, rooms: StandInWorker, reason: Refusal, words: str
) -> None:
    command = await known_trip(house, rooms, "RESERVED", "RESERVED", "RESERVED")
    booking_id = command.legs[0].booking_id if reason is Refusal.PART_OF_TRIP else command.booking_id
    asking = asyncio.create_task(house.post(f"/v1/bookings/{booking_id}/payments", user=GUEST, headers=WAIT))
    event = CommandRefused(
        room_id=1, booking_id=booking_id, command="booking.pay.v1", reason=reason, booking_status=BookingStatus.RESERVED
    )
    await rooms.publish(await rooms.next_command(), event)
    refused = await asking
    assert (refused.status, refused.body["reason"], words in refused.body["detail"]) == (409, reason, True)

    await rooms.connection.execute("update booking set status = 'CONFIRMED'")
    for path in ("changes", "changes/quote"):
        change = await house.post(f"/v1/bookings/{booking_id}/{path}", {"rooms_count": 1}, user=GUEST)
        assert (change.status, change.body["reason"], words in change.body["detail"]) == (409, reason, True), path


async def test_a_hotel_sees_the_legs_and_an_account_the_trip_too(house: House, rooms: StandInWorker) -> None:
    command = await known_trip(house, rooms, "CONFIRMED", "CONFIRMED", "CONFIRMED")
    manager, trip_id = house.manager_header(MANAGER), str(command.booking_id)

    listed = (await house.get("/v1/admin/hotels/1/bookings", headers=manager)).body
    assert {each["id"]: each["trip_id"] for each in listed} == {str(leg.booking_id): trip_id for leg in command.legs}
    missing = await house.get(f"/v1/admin/hotels/1/bookings/{trip_id}", headers=manager)
    assert missing.status == 404
    own = {each["id"]: each for each in (await house.get("/v1/users/myBookings", user=GUEST)).body}
    assert len(own) == 3
    assert [leg["room_id"] for leg in own[trip_id]["legs"]] == [1, SUITE]
    assert (own[trip_id]["room_type"], own[str(command.legs[1].booking_id)]["trip_id"]) == (None, trip_id)


async def test_a_trip_is_no_booking_whose_guests_are_walked(house: House, rooms: StandInWorker) -> None:
    command = await known_trip(house, rooms, "CONFIRMED", "CONFIRMED", "CONFIRMED")
    await rooms.connection.execute("update inventory set allowance_count = 1, booked_count = 11 where room_id = 1")
    days = {"start_date": str(ARRIVAL), "end_date": str(ARRIVAL)}
    path = "/v1/admin/hotels/1/walks"
    (night,) = (await house.get(path, params=days, headers=house.manager_header(MANAGER))).body
    assert [booking["id"] for booking in night["bookings"]] == [str(command.legs[0].booking_id)]


async def test_workers_of_the_release_before_get_no_trip(
    kafka_settings: KafkaSettings, database: DatabaseSettings, house: House, rooms: StandInWorker
) -> None:
    rolling = kafka_settings.model_copy(update={"log_readable_by": Release.V0_1_0})
    async with run_ingress(ingress_settings(), rolling, database) as old:
        refused = await ask(old)
    assert (refused.status, refused.body["reason"]) == (503, "release_rolling_out")


def test_the_ids_of_legs_are_the_same_each_time(house: House) -> None:
    ids = house.app[BOOKING_IDS]
    trip_id = ids.issue(GUEST)
    made = [ids.of_leg(GUEST, trip_id, number) for number in range(5)]
    assert made == [ids.of_leg(GUEST, trip_id, number) for number in range(5)]
    assert len({UUID(int=id.int) for id in (*made, trip_id, ids.of_leg(GUEST, ids.issue(GUEST), 0))}) == 7
    assert all(id.version == 8 and id.int >> 80 == trip_id.int >> 80 for id in made)
