"""The ledger in memory is no second implementation: all that it did gives the same rows on PostgreSQL.

The steps of all transactions are repeated in their order, each transaction on a connection of its own. So a statement
sees there what was committed when it ran here, and waits for a lock that it did not wait for here until it fails.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import fields, replace
from datetime import datetime
from typing import Any, Final, Self

import pytest
from psycopg import AsyncConnection

from storage.database import connect
from storage.ledger import CURSORS, LEDGER
from storage.payment_statements import PAYMENTS
from storage.payments import RefundRow
from storage.settings import DatabaseSettings
from tests.simulation import hotels
from tests.simulation.database import Statement
from tests.simulation.plan import Plan
from tests.simulation.world import Result, simulate

#: Statements whose results depend on the server's clock in another way than by `now()`, and one that is not repeated.
_BY_THE_CLOCK: Final = frozenset({"record_dead_letter"})
_NOT_REPEATED: Final = frozenset({"due_holds"})
#: This seed's run has all statements of payments today; after a change of the code it may be a later one's.
FIRST_SEED: Final = 21
MAX_RUNS: Final = 100
_TABLES: Final = {
    "inventory": (
        "select room_id, date, hotel_id, total_count, booked_count, reserved_count, price_minor, surge_milli, closed,"
        " currency, allowance_count, blocked_count from inventory"
    ),
    "room_block": "select room_id, id, first_night, end_night, rooms_count, reason, released from room_block",
    "promo_code": "select id, hotel_id, version, terms, used_count from promo_code",
    "promo_code_use": "select code_id, booking_id, user_id, returned from promo_code_use",
}
#: The columns of payments' tables, as the rows in memory have them.
_PAYMENT_TABLES: Final = {
    "checkout_session": (
        *("booking_id", "attempt", "room_id", "status", "params", "idempotency_key", "session_id", "url"),
        *("payment_intent", "expires_at", "causation", "correlation", "actor", "failures", "last_error"),
        *("next_attempt_at", "created_at", "updated_at"),
    ),
    "refund": (
        *("payment_intent", "booking_id", "room_id", "status", "params", "idempotency_key", "amount_minor"),
        *("currency", "reason", "refund_id", "causation", "correlation", "actor", "failures", "refusals"),
        *("last_error", "next_attempt_at", "created_at", "updated_at"),
    ),
    "payment_refund": (
        *("refund_id", "payment_intent", "booking_id", "amount_minor", "currency", "status", "by_hand", "failure"),
        *("created_at", "updated_at"),
    ),
}
#: The server's `now()` is that of the simulation: names are looked up in this schema before PostgreSQL's own.
_SIMULATED_CLOCK: Final = """
create schema simulated;
create function simulated.now() returns timestamptz language sql stable
    as 'select current_setting(''simulated.now'')::timestamptz';
alter table checkout_session alter created_at set default simulated.now(), alter updated_at set default simulated.now();
alter table refund alter created_at set default simulated.now(), alter updated_at set default simulated.now();
alter table payment_refund alter created_at set default simulated.now(), alter updated_at set default simulated.now();
alter table unattributed_object alter created_at set default simulated.now();
alter table stripe_circuit alter seen_at set default simulated.now();
"""


@pytest.fixture
async def connection(database: DatabaseSettings) -> AsyncIterator[AsyncConnection]:
    async with await connect(database, "a test") as connection:
        await connection.execute(_SIMULATED_CLOCK.encode())
        await connection.execute("update installation set id = %s", (hotels.INSTALLATION,))
        for hotel_id, room_ids in hotels.HOTELS.items():
            await _add_hotel(connection, hotel_id, room_ids)
        yield connection


async def _add_hotel(connection: AsyncConnection, hotel_id: int, room_ids: tuple[int, ...]) -> None:
    await connection.execute(
        "insert into hotel (id, name, city, currency, time_zone, on_full_refund) overriding system value"
        " values (%s, %s, 'Ulm', 'EUR', 'UTC', 'cancel')",
        (hotel_id, hotels.name_of(hotel_id)),
    )
    for room_id in room_ids:
        await connection.execute(
            "insert into room (id, hotel_id, type, base_price_minor, total_count, capacity) overriding system value"
            " values (%s, %s, %s, 10000, 7, 2)",
            (room_id, hotel_id, hotels.type_of(room_id)),
        )


async def test_each_step_of_a_run_gives_the_same_rows_on_postgresql(
    database: DatabaseSettings, connection: AsyncConnection
) -> None:
    result = await asyncio.to_thread(run_with_all_statements)
    assert not result.problems
    assert result.statements

    async with Replay(database) as replay:
        for statement in result.statements:
            await replay.repeat(statement)

    await compare_rows(connection, result)


def run_with_all_statements() -> Result:
    """Return the first run in which payments used each of its statements, the rare ones too."""
    wanted = {each.name for each in fields(PAYMENTS)}
    for seed in range(FIRST_SEED, FIRST_SEED + MAX_RUNS):
        result = simulate(Plan(seed=seed, hours=3, steps_between_faults=60), records=True)
        if wanted <= {statement.name for statement in result.statements or ()}:
            return result
    raise AssertionError("none of these runs has all statements of payments")


class Replay:
    """Repeats the steps of transactions, several of which may be open at once."""

    def __init__(self, database: DatabaseSettings) -> None:
        self._database = database
        self._open: dict[int, AsyncConnection] = {}
        self._idle: list[AsyncConnection] = []
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def repeat(self, statement: Statement) -> None:
        """Do one step, and compare what it returns."""
        match statement.name:
            case "begin":
                await self._begin(statement.transaction, statement.now)
            case "commit" | "undo":
                connection = self._open.pop(statement.transaction)
                await connection.execute("commit" if statement.name == "commit" else "rollback")
                self._idle.append(connection)
            case name if name not in _NOT_REPEATED:
                returned = await _call(self._open[statement.transaction], statement)
                if name not in _BY_THE_CLOCK:
                    assert in_order(returned) == in_order(statement.result), statement

    async def _begin(self, number: int, now: datetime) -> None:
        connection = self._idle.pop() if self._idle else await self._connect()
        await connection.execute("begin")
        await connection.execute("select set_config('simulated.now', %s, true)", (now.isoformat(),))
        self._open[number] = connection

    async def _connect(self) -> AsyncConnection:
        connection = await self._stack.enter_async_context(await connect(self._database, "a test"))
        await connection.execute("set search_path to simulated, public, pg_catalog")
        await connection.execute("set lock_timeout to '2s'")
        return connection


async def _call(connection: AsyncConnection, statement: Statement) -> Any:
    for statements in (CURSORS, LEDGER, PAYMENTS):
        function = getattr(statements, statement.name, None)
        if function is not None:
            return await function(connection, *statement.arguments, **statement.named)
    raise AssertionError(statement.name)


async def compare_rows(connection: AsyncConnection, result: Result) -> None:
    """Compare all rows at the end."""
    rows = result.database.rows
    for table, query in _TABLES.items():
        found = await (await connection.execute(query.encode())).fetchall()
        assert in_order(found) == in_order(list(rows.table(table).values())), table
    for table, columns in _PAYMENT_TABLES.items():
        found = await (await connection.execute(f"select {', '.join(columns)} from {table}".encode())).fetchall()
        assert found, table
        expected = [tuple(row[name] for name in columns) for row in _payment_rows(rows.table(table))]
        assert in_order(found) == in_order(expected), table
    bookings = rows.table("booking")
    loaded = await LEDGER.load_bookings(connection, bookings)
    assert in_order(loaded) == in_order(
        [(*row[:-2], list(rows.get("booking_guest", id) or ())) for id, row in bookings.items()]
    )
    cursors = rows.table("log_cursor")
    assert await CURSORS.lock(connection, cursors) == cursors
    assert [await CURSORS.unpublished(connection, key) for key in cursors] == [
        _unpublished(rows, key) for key in cursors
    ]


def _payment_rows(table: Mapping[Any, Any]) -> list[Mapping[str, Any]]:
    """Return single rows: those of a booking, or of a payment, are one value."""
    found = []
    for value in table.values():
        found += [value] if "status" in value else list(value.values())
    return found


def _unpublished(rows: Any, key: Any) -> list[Any]:
    published = rows.get("log_cursor", key).published
    return [each for offset, records in rows.get("outbox", key) or () if offset > published for each in records]


def in_order(rows: Any) -> Any:
    """Return rows in an order that does not depend on the server."""
    if isinstance(rows, RefundRow):
        return replace(rows, seen=tuple(sorted(rows.seen)), lost=tuple(sorted(rows.lost)))
    if not isinstance(rows, list):
        return rows
    return sorted((tuple(row) if isinstance(row, list | tuple) else row for row in rows), key=repr)
