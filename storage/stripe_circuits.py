"""The circuit of each payments worker to Stripe: `stripe_circuit`.

The workers write it; the ingress and operators' tools read it. A worker writes its row when the state changes and every
`REPORT_SECONDS`, and deletes it when it ends in order. A row that is older than `MAX_AGE` is of a worker that died or
cannot write, and is not shown.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from psycopg import AsyncConnection
from psycopg.rows import args_row, scalar_row

from topics.times import to_the_second

if TYPE_CHECKING:
    # The operators' commands start without SQLAlchemy.
    from sqlalchemy.ext.asyncio import AsyncConnection as PooledConnection

Connection: TypeAlias = AsyncConnection[Any]
REPORT_SECONDS: Final = 15.0
MAX_AGE: Final = timedelta(minutes=1)
_KEPT: Final = timedelta(hours=1)


class CircuitState(StrEnum):
    """The states of a circuit breaker."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"

    @property
    def words(self) -> str:
        """The state in words."""
        return self.value.replace("_", " ")


@dataclass(frozen=True, kw_only=True, slots=True)
class Circuit:
    """The circuit of one worker that is not closed: since when (UTC), and why."""

    worker: str
    state: CircuitState
    since: datetime
    reason: str

    def __str__(self) -> str:
        then = "" if self.state is CircuitState.OPEN else "; the next call decides"
        since = to_the_second(self.since)
        return f"Stripe: {self.state.words} since {since} for {self.worker}, {self.reason}{then}"


async def report(
    connection: Connection, worker: str, state: CircuitState, *, since: datetime | None, reason: str | None
) -> None:
    """Write the state of a worker's circuit, and forget workers that have written nothing for long."""
    await connection.execute(
        "insert into stripe_circuit (worker, state, since, reason) values (%s, %s, %s, %s)"
        " on conflict (worker) do update set state = excluded.state, since = excluded.since, reason = excluded.reason,"
        " seen_at = now()",
        (worker, state, since, reason),
    )
    await connection.execute("delete from stripe_circuit where seen_at < now() - %s", (_KEPT,))


async def forget(connection: Connection, worker: str) -> None:
    """Delete the row of a worker that ends."""
    await connection.execute("delete from stripe_circuit where worker = %s", (worker,))


async def not_closed(connection: Connection) -> list[Circuit]:
    """Return the circuits that are not closed, by worker. Raises psycopg.Error."""
    cursor = connection.cursor(row_factory=args_row(_circuit))
    await cursor.execute(
        "select worker, state, since, reason from stripe_circuit where state <> 'closed' and seen_at > now() - %s"
        " order by worker",
        (MAX_AGE,),
    )
    return await cursor.fetchall()


async def worst(connection: "PooledConnection") -> CircuitState | None:
    """Return the worst state of a circuit that is not closed, None if all are closed, for the ingress.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: the database does not answer.
    """
    found = await connection.exec_driver_sql(
        "select state from stripe_circuit where state <> 'closed' and seen_at > now() - %s"
        " order by state = 'open' desc limit 1",
        (MAX_AGE,),
    )
    state = found.scalar()
    return None if state is None else CircuitState(state)


async def waiting_calls(connection: Connection) -> int:
    """Return how many calls to Stripe are due now. Raises psycopg.Error."""
    cursor = connection.cursor(row_factory=scalar_row)
    await cursor.execute(
        "select (select count(*) from checkout_session"
        " where next_attempt_at <= now() and status in ('creating', 'closing', 'complete'))"
        " + (select count(*) from refund where next_attempt_at <= now() and status <> 'failed')"
    )
    count = await cursor.fetchone()
    assert count is not None, "a query without groups has one row"
    return int(count)


def _circuit(worker: str, state: str, since: datetime, reason: str) -> Circuit:
    return Circuit(worker=worker, state=CircuitState(state), since=since, reason=reason)
