"""What those who watch an ingress are told of the workers behind it."""

import psycopg

from storage.settings import DatabaseSettings
from tests.ingress.house import House
from topics import pauses

ALL_READY = {"database": "ready", "broker": "ready", "events": "ready"}


async def test_a_role_that_an_operator_holds_is_named_and_bookings_are_taken_all_the_same(
    house: House, database: DatabaseSettings
) -> None:
    assert (await house.get("/health/ready")).body["parts"] == ALL_READY
    async with await psycopg.AsyncConnection.connect(database.conninfo(), autocommit=True) as connection:
        await pauses.begin(connection, "reservations", who="anna", reason=None)
        held = await house.get("/health/ready")
        await pauses.end(connection, "reservations", who="anna")

    assert (held.status, held.body["parts"]) == (200, {**ALL_READY, "reservations": "paused"})
    assert (await house.get("/health/ready")).body["parts"] == ALL_READY
