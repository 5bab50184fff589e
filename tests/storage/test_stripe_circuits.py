"""The circuits of payments workers as ingress and operators see them: only those of workers that wrote lately."""

from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from storage import stripe_circuits
from storage.database import TOOL_LIMITS, connect
from storage.engines import async_engine
from storage.settings import DatabaseSettings
from storage.stripe_circuits import Circuit, CircuitState

SINCE = datetime(2026, 11, 30, 12, tzinfo=UTC)
REASON = "calls in a row without an answer: 5, the last: ReadTimeout"


async def report(connection: psycopg.AsyncConnection, worker: str, state: CircuitState) -> None:
    is_closed = state is CircuitState.CLOSED
    await stripe_circuits.report(
        connection, worker, state, since=None if is_closed else SINCE, reason=None if is_closed else REASON
    )


async def worst(database: DatabaseSettings) -> CircuitState | None:
    engine = async_engine(database, "innkeeper test", TOOL_LIMITS)
    async with engine.connect() as connection:
        found = await stripe_circuits.worst(connection)
    await engine.dispose()
    return found


async def test_each_worker_has_its_own_and_the_worst_is_named(database: DatabaseSettings) -> None:
    async with await connect(database, "test") as connection:
        await report(connection, "b:1", CircuitState.HALF_OPEN)
        await report(connection, "a:1", CircuitState.CLOSED)
        half_open = Circuit(worker="b:1", state=CircuitState.HALF_OPEN, since=SINCE, reason=REASON)
        assert await stripe_circuits.not_closed(connection) == [half_open]
        assert await worst(database) is CircuitState.HALF_OPEN

        await report(connection, "a:1", CircuitState.OPEN)

        an_open, *others = await stripe_circuits.not_closed(connection)
        assert (an_open.state, others) == (CircuitState.OPEN, [half_open])
        assert str(an_open) == f"Stripe: open since 2026-11-30 12:00:00 UTC for a:1, {REASON}"
        assert str(half_open).startswith("Stripe: half open since ")
        assert str(half_open).endswith("; the next call decides")
        assert await worst(database) is CircuitState.OPEN
        for worker in ("a:1", "b:1"):
            await report(connection, worker, CircuitState.CLOSED)
        assert (await stripe_circuits.not_closed(connection), await worst(database)) == ([], None)


@pytest.mark.parametrize(
    ("age", "shown", "rows"), [(timedelta(seconds=50), 1, 2), (timedelta(seconds=61), 0, 2), (timedelta(hours=2), 0, 1)]
)
async def test_a_worker_that_died_does_not_claim_for_ever_that_its_circuit_is_open(
    database: DatabaseSettings, age: timedelta, shown: int, rows: int
) -> None:
    async with await connect(database, "test") as connection:
        await report(connection, "died:1", CircuitState.OPEN)
        await connection.execute("update stripe_circuit set seen_at = now() - %s", (age,))

        await report(connection, "works:1", CircuitState.CLOSED)

        assert len(await stripe_circuits.not_closed(connection)) == shown
        assert await worst(database) is (CircuitState.OPEN if shown else None)
        assert (await connection.execute("select from stripe_circuit")).rowcount == rows
