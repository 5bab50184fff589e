"""A request that was on a log which is lost ends for its client: it is REJECTED, and can be sent again."""

import time
from typing import Any
from unittest.mock import patch
from uuid import UUID

import psycopg
import pytest
from psycopg.types.json import Jsonb

from ingress.application import DATABASE
from ingress.bookings.ids import BookingIds, issued_at
from ingress.bookings.undecided import UndecidedBookings
from storage import lost_log
from storage.settings import DatabaseSettings
from tests.ingress.conftest import ingress_settings, run_ingress
from tests.ingress.house import STAY, House, StandInWorker
from tests.support.client import Answer
from topics.kafka.settings import KafkaSettings

GUEST = 1
EARLIER_NS = 10 * 60 * 1_000_000_000
TRIP = {
    "hotel_id": 1,
    "check_in_date": STAY["check_in_date"],
    "check_out_date": STAY["check_out_date"],
    "legs": [{"room_id": 1, "rooms_count": 1}, {"room_id": 1, "rooms_count": 1}],
}
KEYED = {"Idempotency-Key": "once"}
WORDS = "the system lost this request, and will not decide it: ask again"


async def ask(house: House, headers: dict[str, str] | None = None) -> str:
    """Ask for a stay, and return the id of the booking."""
    accepted = await house.post("/v1/bookings/init", STAY, user=GUEST, headers=headers or {})
    assert accepted.status == 202, accepted
    return str(accepted.body["id"])


async def ask_before(house: House, headers: dict[str, str] | None = None) -> str:
    """Ask for a stay some time before the restore, as all requests were that were on the lost log."""
    with patch.object(time, "time_ns", return_value=time.time_ns() - EARLIER_NS):
        return await ask(house, headers)


async def claim_code(stand_in: StandInWorker, booking_id: UUID) -> None:
    """Leave what the claim of a promo code leaves, before its booking is asked for."""
    await stand_in.connection.execute(
        "insert into promo_code (id, hotel_id, version, terms, used_count) values (1, 1, 1, '{}', 1)"
    )
    await stand_in.connection.execute(
        "insert into promo_code_use (code_id, booking_id, user_id, returned) values (1, %s, 1, false)", (booking_id,)
    )


async def lose_log(database: DatabaseSettings) -> None:
    """Leave what a restore leaves that goes on without the log's commands."""
    async with await psycopg.AsyncConnection.connect(database.conninfo()) as connection:
        await lost_log.forget_requests(connection)
        await connection.execute(
            "insert into operator_action (who, action, target, details) values ('ines', 'restore', '', %s)",
            (Jsonb({"events": 3, **lost_log.MARK}),),
        )


async def shown(house: House, booking_id: str, path: str = "/status") -> Answer:
    return await house.get(f"/v1/bookings/{booking_id}{path}", user=GUEST)


@pytest.mark.parametrize("headers", [None, KEYED], ids=["without a key", "with a key"])
async def test_a_lost_request_is_rejected_and_one_that_is_sent_again_waits(
    house: House,
    stand_in: StandInWorker,
    kafka_settings: KafkaSettings,
    database: DatabaseSettings,
    headers: dict[str, str] | None,
) -> None:
    booking_id = await ask_before(house, headers)
    await lose_log(database)

    async with run_ingress(ingress_settings(), kafka_settings, database) as restarted:
        lost: dict[str, Any] = {"id": booking_id, "booking_status": "REJECTED", "reason": "lost", "detail": WORDS}
        for path in ("", "/status"):
            answer = await shown(restarted, booking_id, path)
            assert (answer.status, answer.body) == (200, lost)
        for path in ("payments", "cancel"):
            late = await restarted.post(f"/v1/bookings/{booking_id}/{path}", user=GUEST)
            assert (late.status, late.body["reason"]) == (409, "lost")
        assert (await restarted.get(f"/v1/bookings/{booking_id}/status", user=2)).status == 404

        again = await ask(restarted, headers)
        assert (again == booking_id) is (headers is not None)
        assert (await shown(restarted, again)).body == {"id": again, "booking_status": "PENDING"}


@pytest.mark.parametrize("headers", [None, KEYED], ids=["without a key", "with a key"])
async def test_a_request_whose_promo_code_was_claimed_waits_and_keeps_its_key(
    house: House,
    stand_in: StandInWorker,
    kafka_settings: KafkaSettings,
    database: DatabaseSettings,
    headers: dict[str, str] | None,
) -> None:
    booking_id = await ask_before(house, headers)
    await claim_code(stand_in, UUID(booking_id))
    await lose_log(database)

    async with run_ingress(ingress_settings(), kafka_settings, database) as restarted:
        assert (await shown(restarted, booking_id)).body == {"id": booking_id, "booking_status": "PENDING"}
    keys = await (await stand_in.connection.execute("select count(*) from idempotency_key")).fetchone()
    assert keys == (0 if headers is None else 1,)


@pytest.mark.parametrize("headers", [None, KEYED], ids=["without a key", "with a key"])
async def test_the_legs_of_a_trip_wait_if_the_ledger_has_it_or_it_was_sent_since(
    house: House,
    stand_in: StandInWorker,
    kafka_settings: KafkaSettings,
    database: DatabaseSettings,
    headers: dict[str, str] | None,
) -> None:
    async def leg(where: House) -> tuple[str, str, str]:
        assert (await where.post("/v1/trips", TRIP, user=GUEST, headers=headers or {})).status == 202
        command = (await stand_in.next_command()).message
        first, second = command.legs  # type: ignore[attr-defined]
        return str(command.booking_id), str(first.booking_id), str(second.booking_id)  # type: ignore[attr-defined]

    with patch.object(time, "time_ns", return_value=time.time_ns() - EARLIER_NS):
        trip, first, _ = await leg(house)
    await lose_log(database)

    async with run_ingress(ingress_settings(), kafka_settings, database) as restarted:
        assert (await shown(restarted, first)).body["reason"] == "lost"
        new_trip, _, new_second = await leg(restarted)
        assert (new_trip == trip) is (headers is not None)
        assert (await shown(restarted, new_second)).body["booking_status"] == "PENDING"
        await stand_in.write_booking(
            UUID(trip), GUEST, "RESERVING", legs=Jsonb([{"booking_id": first, "room_id": 1, "rooms_count": 1}])
        )
        await stand_in.connection.execute("delete from idempotency_key")
        assert (await shown(restarted, first)).body["booking_status"] == "PENDING"


async def test_an_id_of_an_ingress_whose_clock_is_behind_the_database_waits(
    house: House, kafka_settings: KafkaSettings, database: DatabaseSettings
) -> None:
    await lose_log(database)
    async with run_ingress(ingress_settings(), kafka_settings, database) as restarted:
        with patch.object(time, "time_ns", return_value=time.time_ns() - 3_000_000_000):
            booking_id = await ask(restarted)

        assert (await shown(restarted, booking_id)).body == {"id": booking_id, "booking_status": "PENDING"}


async def test_the_list_of_lost_requests_has_those_of_the_desk_and_no_blocks_that_were_made(
    house: House, stand_in: StandInWorker, database: DatabaseSettings
) -> None:
    made, lost, of_desk = UUID(int=1), UUID(int=2), UUID(int=3)
    for number, block in enumerate((made, lost)):
        await stand_in.connection.execute(
            "insert into idempotency_key (user_id, endpoint, key, body_hash, command_id, booking_id)"
            " values (1, 'POST /v1/blocks', %s, '', '', %s)",
            (str(number), block),
        )
    await stand_in.connection.execute(
        "insert into room_block (room_id, id, first_night, end_night, rooms_count, reason, released)"
        " values (1, %s, '2030-01-01', '2030-01-02', 1, '', false)",
        (made,),
    )
    await stand_in.connection.execute(
        "insert into desk_booking (booking_id, hotel_id, manager_id, contact_name) values (%s, 1, 2, 'Ana')", (of_desk,)
    )

    found = await lost_log.lost_requests(stand_in.connection)

    assert [(id, user, endpoint) for id, user, endpoint, _ in found] == [
        (lost, 1, "POST /v1/blocks"),
        (of_desk, 2, "POST /v1/admin/hotels/1/bookings"),
    ]
    await lost_log.forget_requests(stand_in.connection)
    left = await stand_in.connection.execute("select booking_id from idempotency_key")
    assert await left.fetchall() == [(made,)]


async def test_a_booking_of_the_desk_is_lost_unless_its_promo_code_was_claimed(
    house: House, stand_in: StandInWorker, database: DatabaseSettings
) -> None:
    lost, claimed = UUID(int=1), UUID(int=2)
    for booking_id in (lost, claimed):
        await stand_in.connection.execute(
            "insert into desk_booking (booking_id, hotel_id, manager_id, contact_name) values (%s, 1, 2, 'Ana')",
            (booking_id,),
        )
    await claim_code(stand_in, claimed)
    await lose_log(database)

    undecided = UndecidedBookings(house.app[DATABASE], BookingIds(b"a key"))
    async with house.app[DATABASE].reading() as connection:
        states = [await undecided.desk_state(connection, booking_id) for booking_id in (lost, claimed)]

    assert [state.booking_status for state in states] == ["REJECTED", "PENDING"]


async def test_other_actions_of_operators_lose_no_request(
    house: House, stand_in: StandInWorker, database: DatabaseSettings
) -> None:
    booking_id = await ask(house)
    async with await psycopg.AsyncConnection.connect(database.conninfo()) as connection:
        await connection.execute(
            "insert into operator_action (who, action, target, details) values ('ines', 'restore', '', '{}')"
        )

    assert (await shown(house, booking_id)).body == {"id": booking_id, "booking_status": "PENDING"}


def test_an_id_has_the_time_at_which_it_was_issued_unless_a_key_made_it() -> None:
    ids = BookingIds(b"a key")

    at = issued_at(ids.issue(7))

    assert at is not None
    assert at.year >= 2026
    assert issued_at(ids.of_request(7, bytes(16))) is None
    trip = ids.issue(7)
    assert issued_at(ids.of_leg(7, trip, 1)) == issued_at(trip)
