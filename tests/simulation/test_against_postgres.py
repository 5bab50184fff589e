"""The ledger in memory is no second implementation: all that it did gives the same rows on PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest
from psycopg import AsyncConnection

from storage.database import connect
from storage.ledger import CURSORS, LEDGER
from storage.settings import DatabaseSettings
from tests.simulation.database import Statement
from tests.simulation.plan import Plan
from tests.simulation.world import Result, simulate

#: Results that depend on the server's clock.
_BY_THE_CLOCK: Final = frozenset({"record_dead_letter", "due_holds"})
_TABLES: Final = {
    "inventory": (
        "select room_id, date, hotel_id, total_count, booked_count, reserved_count, price_minor, surge_milli, closed,"
        " currency, allowance_count, blocked_count from inventory"
    ),
    "room_block": "select room_id, id, first_night, end_night, rooms_count, reason, released from room_block",
    "promo_code": "select id, hotel_id, version, terms, used_count from promo_code",
    "promo_code_use": "select code_id, booking_id, user_id, returned from promo_code_use",
}


@pytest.fixture
async def connection(database: DatabaseSettings) -> AsyncIterator[AsyncConnection]:
    async with await connect(database, "a test") as connection:
        yield connection


async def test_each_batch_of_a_run_gives_the_same_rows_on_postgresql(connection: AsyncConnection) -> None:
    plan = Plan(seed=5, hours=2, steps_between_faults=100)
    result = await asyncio.to_thread(simulate, plan, records=True)
    assert not result.problems
    assert result.transactions

    for transaction in result.transactions:
        await repeat(connection, transaction)

    await compare_rows(connection, result)


async def repeat(connection: AsyncConnection, transaction: list[Statement]) -> None:
    """Run a transaction's statements on PostgreSQL, and compare what they return."""
    async with connection.transaction():
        for statement in transaction:
            if statement.name == "due_holds":
                continue
            function = getattr(CURSORS, statement.name, None) or getattr(LEDGER, statement.name)
            returned = await function(connection, *statement.arguments)
            if statement.name not in _BY_THE_CLOCK:
                assert in_order(returned) == in_order(statement.result), statement


async def compare_rows(connection: AsyncConnection, result: Result) -> None:
    """Compare all rows at the end."""
    rows = result.database.rows
    for table, query in _TABLES.items():
        found = await (await connection.execute(query.encode())).fetchall()
        assert in_order(found) == in_order(list(rows.table(table).values())), table
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


def _unpublished(rows: Any, key: Any) -> list[Any]:
    published = rows.get("log_cursor", key).published
    return [each for offset, records in rows.get("outbox", key) or () if offset > published for each in records]


def in_order(rows: Any) -> Any:
    """Return rows in an order that does not depend on the server."""
    return sorted((tuple(row) for row in rows), key=repr) if isinstance(rows, list) else rows
