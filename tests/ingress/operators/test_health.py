"""The health checks of an ingress, with the workers behind it."""

from datetime import UTC, datetime
from importlib.metadata import version

import psycopg

from storage import pauses, stripe_circuits
from storage.settings import DatabaseSettings
from storage.stripe_circuits import CircuitState
from tests.ingress.house import House
from tests.support.client import Answer
from tests.support.waiting import wait_until

ALL_READY = {"database": "ready", "broker": "ready", "events": "ready"}


async def test_a_role_that_an_operator_holds_is_named_and_bookings_are_taken_all_the_same(
    house: House, database: DatabaseSettings
) -> None:
    await must_show(house, ALL_READY)
    async with await psycopg.AsyncConnection.connect(database.conninfo(), autocommit=True) as connection:
        await pauses.begin(connection, "reservations", who="anna", reason=None)
        await must_show(house, {**ALL_READY, "reservations": "paused"})
        await pauses.end(connection, "reservations", who="anna")

    await must_show(house, ALL_READY)


async def test_stripe_that_does_not_answer_is_named_and_bookings_are_taken_all_the_same(
    house: House, database: DatabaseSettings
) -> None:
    async with await psycopg.AsyncConnection.connect(database.conninfo(), autocommit=True) as connection:
        for state, shown in ((CircuitState.OPEN, "open"), (CircuitState.HALF_OPEN, "half open")):
            await stripe_circuits.report(connection, "payments:1", state, since=datetime.now(UTC), reason="it is away")
            await must_show(house, {**ALL_READY, "stripe": shown})
        # The worker died with an open circuit.
        await connection.execute("update stripe_circuit set seen_at = now() - %s", (stripe_circuits.MAX_AGE,))

    await must_show(house, ALL_READY)


async def must_show(house: House, parts: dict[str, str]) -> None:
    """Check the states of the parts; on a machine that was frozen the broker may be away for a moment."""

    async def ready() -> Answer | None:
        answered = await house.get("/health/ready")
        return answered if answered.status == 200 else None

    answered = await wait_until(ready, message="the ingress is not ready")
    assert answered is not None
    assert answered.body["parts"] == parts
    assert answered.body["zone_data"] == version("tzdata")
