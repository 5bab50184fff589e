"""The movements of money by hotel: the same rows from any batches, and from events that come again."""

from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace
from psycopg import AsyncConnection

from storage import engines
from storage.database import TOOL_LIMITS
from storage.reads import statements
from storage.settings import DatabaseSettings
from tests.pricing.test_movements import OPENED, PAID, cancelled, changed, closed, failed, refunded, requested
from tests.storage.projections.log import (
    T0,
    apply,
    cut,
    in_one_batch,
    night,
    on_the_log,
    opened,
    reserved,
    rows,
    stay_of,
)
from topics.messages.events import Event
from topics.messages.values import DisputeResult

STAY = (opened(1, 0, 1, 9_000), reserved(1, 1, 0, 1))
MONEY = (
    PAID,
    requested("pi_2", 20_000),
    refunded("re_2", 20_000, intent="pi_2"),
    refunded("re_1", 5_000, by_hand=True),
    failed("re_1", 5_000),
    OPENED,
    closed(DisputeResult.LOST),
)
COLUMNS = "sequence, hotel_id, time, kind, payment_intent, object_id, amount_minor, change_minor, currency"


def row(sequence: int, kind: str, objects: tuple[str, str], amount: int, change: int) -> tuple[Any, ...]:
    """Return a row; `objects` are the payment intent and the object of the movement."""
    return (sequence, 10, T0 + timedelta(seconds=sequence - 1), kind, *objects, amount, change, "EUR")


ROWS = [
    row(3, "payment", ("pi_1", "pi_1"), 20_000, 20_000),
    row(4, "payment", ("pi_2", "pi_2"), 20_000, 20_000),
    row(5, "refund", ("pi_2", "re_2"), 20_000, -20_000),
    row(6, "refund", ("pi_1", "re_1"), 5_000, -5_000),
    row(7, "refund_failed", ("pi_1", "re_1"), 5_000, 5_000),
    row(8, "dispute_opened", ("pi_1", "dp_1"), 20_000, -20_000),
    row(9, "dispute_lost", ("pi_1", "dp_1"), 20_000, 0),
]


async def written(database: DatabaseSettings) -> list[tuple[Any, ...]]:
    return await rows(database, f"select {COLUMNS} from money_movement order by sequence")


@pytest.mark.parametrize("size", [1, 2, 100])
async def test_movements_are_the_same_in_any_batches(database: DatabaseSettings, size: int) -> None:
    await apply(database, cut(on_the_log([*STAY, *MONEY]), [size]))

    assert await written(database) == ROWS


async def test_events_that_come_again_change_nothing(database: DatabaseSettings) -> None:
    log = on_the_log([*STAY, *MONEY])
    await apply(database, [log])

    await apply(database, cut(log, [1]))

    assert await written(database) == ROWS


@pytest.mark.parametrize("size", [1, 2, 100])
async def test_a_policy_keeps_of_the_payment_that_bought_the_stay(database: DatabaseSettings, size: int) -> None:
    events = [*STAY, requested("pi_2", 20_000), PAID, cancelled(5_000), requested("pi_1", 15_000, retained_minor=5_000)]
    await apply(database, cut(on_the_log(events), [size]))

    assert await written(database) == [
        row(3, "payment", ("pi_2", "pi_2"), 20_000, 20_000),
        row(4, "payment", ("pi_1", "pi_1"), 20_000, 20_000),
        row(5, "kept_by_policy", ("pi_1", "pi_1"), 5_000, 0),
    ]


@pytest.mark.parametrize("size", [1, 2, 100])
async def test_a_payment_of_a_change_pays_the_booking_and_the_policy_keeps_under_the_first(
    database: DatabaseSettings, size: int
) -> None:
    # The names of the payments are not in the order of their arrival.
    dates: dict[str, Any] = {"check_in": night(0), "check_out": night(1), "night_amounts_minor": (25_000,)}
    dearer = replace(changed(25_000, 5_000, "pi_0"), before=stay_of(reserved(1, 1, 0, 1)), **dates)
    events = [*STAY, PAID, dearer, cancelled(23_000), requested("pi_0", 2_000, retained_minor=3_000)]
    await apply(database, cut(on_the_log(events), [size]))

    assert await written(database) == [
        row(3, "payment", ("pi_1", "pi_1"), 20_000, 20_000),
        row(4, "payment", ("pi_0", "pi_0"), 5_000, 5_000),
        row(5, "kept_by_policy", ("pi_1", "pi_1"), 23_000, 0),
    ]
    pays = await rows(database, "select payment_intent from money_movement where pays_booking order by sequence")
    assert pays == [("pi_1",), ("pi_0",)]


async def test_money_of_a_booking_that_the_ledger_does_not_have_belongs_to_no_hotel(
    database: DatabaseSettings,
) -> None:
    events: list[Event] = [opened(1, 0, 1, 9_000), requested("pi_3", 100)]
    await apply(database, in_one_batch(events))

    assert await rows(database, "select hotel_id, kind, object_id from money_movement") == [(None, "payment", "pi_3")]


async def test_payments_of_a_booking_that_was_decided_in_two_rooms_are_both_there(database: DatabaseSettings) -> None:
    """A failover lost the decision of room 1, whose payment had arrived, and one key made the booking in room 2."""
    first, second = reserved(1, 1, 0, 1), reserved(1, 2, 0, 1)
    paid = (replace(PAID, room_id=1), replace(PAID, room_id=2, payment_intent="pi_2"))
    log = on_the_log([opened(1, 0, 1, 9_000), opened(2, 0, 1, 9_000), first, second, *paid])
    await apply(database, [log])
    await apply(database, cut(log, [1]))

    found = await rows(database, "select partition, sequence, payment_intent from money_movement order by partition")

    assert found == [(1, 3, "pi_1"), (2, 3, "pi_2")]


async def test_a_page_of_a_statement_may_end_between_movements_of_one_moment_and_sequence(
    database: DatabaseSettings,
) -> None:
    async with await AsyncConnection.connect(database.conninfo()) as connection:
        await connection.execute(
            "insert into money_movement (booking_id, partition, sequence, hotel_id, time, kind, payment_intent,"
            " object_id, amount_minor, change_minor, currency)"
            " select %s, number, 3, 10, %s, 'payment', 'pi', 'pi', 1, 1, 'EUR' from generate_series(1, 2) as number",
            (reserved(1, 1, 0, 1).booking_id, T0),
        )
    engine = engines.async_engine(database, "innkeeper test", TOOL_LIMITS)
    async with engine.connect() as reading:
        (first,) = await statements.movements(reading, 10, T0, T0 + timedelta(days=1), limit=1)
        position = statements.ByTime(first.time, first.booking_id, first.partition, first.sequence)
        rest = await statements.movements(reading, 10, T0, T0 + timedelta(days=1), after=position)
    await engine.dispose()

    assert [first.partition, *(row.partition for row in rest)] == [1, 2]


async def test_a_month_of_a_hotel_is_found_by_the_index(database: DatabaseSettings) -> None:
    query = (
        "explain select * from money_movement where hotel_id = 10 and time >= '2026-11-01' and time < '2026-12-01'"
        " order by time, booking_id, partition, sequence limit 101"
    )
    async with await AsyncConnection.connect(database.conninfo()) as connection:
        # A small table is read as a whole; the plan of a large one is asked for.
        await connection.execute("set enable_seqscan = off")
        plan = [line for (line,) in await (await connection.execute(query.encode())).fetchall()]

    assert any("money_movement_hotel" in line for line in plan), plan
    assert not any("Sort" in line for line in plan), plan
