"""A month in which money moves in every way is the same in report, statement, ledger, audit and an analyst's SQL."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from psycopg import AsyncConnection
from sqlalchemy.ext.asyncio import create_async_engine

from operators.audit.read_models import compare_read_models
from operators.audit.report import Report
from operators.export.files import day_file
from operators.export.formats import Format
from pricing.movements import MovementKind
from storage.reads.statements import movement_sums
from storage.settings import DatabaseSettings
from tests.operators.all_money import (
    ARRIVED,
    CHANGED_UNPAID,
    CLOSED_TRIP,
    GIVEN_BACK_TRIP,
    LEFT_UNPAID,
    MISSED_UNPAID,
    TRIP,
    TRIPS,
    all_money,
    closed_minor,
    kept_minor,
    leg,
)
from tests.operators.audit.test_read_models import expected, written
from tests.operators.decided_ledger import write_ledger
from tests.operators.decided_log import DecidedLog
from tests.operators.export.questions import REVENUE, asked
from tests.storage.projections.log import T0, Log, apply, cut, on_the_log, rows
from topics.kafka.settings import KafkaSettings
from topics.messages.values import Terms

_REPORTED = """
select booking_id, (select sum(n) from unnest(night_amounts_minor) as n)::int
                   - coalesce((select sum(n) from unnest(night_deductions_minor) as n), 0)::int
from reported_stay
"""
_BY_MONTH = """
select to_char(date, 'YYYY-MM'), currency, sum(nights)::int, sum(revenue_minor)::int, sum(fees_minor)::int
from daily_report group by 1, 2 order by 1
"""
_TABLES = ("reported_stay", "reported_trip", "daily_report")


@pytest.fixture
async def history(database: DatabaseSettings) -> DecidedLog:
    """Return the month, with the ledger as it leaves it."""
    history = all_money()
    await write_ledger(KafkaSettings(_env_file=None), database, history)
    return history


def log_of(history: DecidedLog) -> Log:
    return on_the_log([logged.event for logged in history.events])


async def reported(database: DatabaseSettings) -> dict[UUID, int]:
    """Return the revenue and the fee of each stay that the report counts."""
    return dict(await rows(database, _REPORTED))


async def test_reports_and_the_ledger_agree_on_what_the_hotel_keeps_of_each_booking(
    history: DecidedLog, database: DatabaseSettings
) -> None:
    await apply(database, [log_of(history)])

    found = await reported(database)
    for booking in history.bookings.values():
        if booking.legs:
            legs = [found.get(each.booking_id, 0) for each in booking.legs]
            assert sum(legs) == kept_minor(booking), booking.id
        elif booking.terms is Terms.PREPAID and booking.trip_id is None:
            assert found.get(booking.id, 0) == kept_minor(booking), booking.id
    # The legs keep 333.40, 239.34 and 960.41, and of the 33.31 given back 7.243, 5.200 and 20.866 are theirs.
    assert [found[leg(TRIP, number)] for number in range(3)] == [33_340 - 724, 23_934 - 520, 96_041 - 2_087]
    assert not {leg(GIVEN_BACK_TRIP, number) for number in range(3)} & found.keys()


async def test_a_stay_that_is_paid_at_the_hotel_counts_without_the_taxes_that_prepaid_guests_pay_there_too(
    history: DecidedLog, database: DatabaseSettings
) -> None:
    await apply(database, [log_of(history)])

    found = await reported(database)
    for id, nights in ((ARRIVED, 3), (LEFT_UNPAID, 1), (CHANGED_UNPAID, 2)):
        booking = history.bookings[id]
        assert booking.sale is not None
        lines = [line for line in booking.sale.lines if not line.included and line.id != "city"]
        booked_nights = (booking.check_out - booking.check_in).days
        assert sum(line.amount_minor for line in lines) == booking.amount_minor - 2 * 213 * booked_nights
        assert found[id] == sum(line.amount_minor for line in lines) * nights // booked_nights
    assert found[MISSED_UNPAID] == 0


async def test_report_statement_and_sql_have_the_same_sums(
    history: DecidedLog, database: DatabaseSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = log_of(history)
    await apply(database, [log])

    by_month = await rows(database, _BY_MONTH)
    found = await reported(database)
    at_hotel = sum(amount for id, amount in found.items() if history.bookings[id].terms is Terms.AT_HOTEL)
    total = sum(revenue + fees for *_, revenue, fees in by_month)
    assert len(by_month) == 2
    assert total == sum(found.values())

    # The statement has the money that came through Stripe, also that of a refund which an operator closed.
    sums = await statement(database)
    closed = sum(map(closed_minor, history.bookings.values()))
    assert closed > 0
    assert sum(sums.values()) == total - at_hotel + closed
    assert all(sums[kind] for kind in (MovementKind.PAYMENT, MovementKind.REFUND, MovementKind.REFUND_FAILED))

    folder = tmp_path / "export"
    folder.mkdir()
    with day_file(folder / "booking.events-2027-01-01.parquet", Format.PARQUET) as writer:
        for received in log.values():
            writer.write([each.record for each in received])
    monkeypatch.chdir(tmp_path)
    assert asked(REVENUE.sql)[1] == by_month


async def statement(database: DatabaseSettings) -> dict[str, int]:
    """Return the change of the balance by each kind of movement, as the hotel's statement sums it."""
    engine = create_async_engine(database.database_url.get_secret_value())
    try:
        async with engine.connect() as connection:
            found = await movement_sums(connection, 1, T0 - timedelta(days=1), T0 + timedelta(days=1))
            return {each.kind: each.change_minor for each in found}
    finally:
        await engine.dispose()


@pytest.mark.parametrize(
    ("sizes", "turned"), [([3, 1, 7], False), ([1], True), ([1000], True)], ids=["batches", "turned", "turned at once"]
)
async def test_the_report_is_the_same_however_it_was_made_and_the_audit_agrees(
    sizes: Sequence[int], history: DecidedLog, database: DatabaseSettings, *, turned: bool
) -> None:
    """A leg may be read before its trip, or long after it: a rebuild reads the partitions otherwise than a worker."""
    log = log_of(history)
    pieces = cut(log, sizes)
    if turned:
        # All of one partition, then all of the next.
        pieces = [
            {number: batch[number]} for number in sorted(log, reverse=True) for batch in pieces if number in batch
        ]

    await apply(database, pieces)

    assert await written(database) == expected(log)
    live = await everything(database)
    async with await AsyncConnection.connect(database.conninfo()) as connection:
        await connection.execute(f"truncate {', '.join(_TABLES)}".encode())
    await apply(database, [log])
    assert await everything(database) == live


async def test_a_trip_whose_money_somebody_changed_is_named(history: DecidedLog, database: DatabaseSettings) -> None:
    log = log_of(history)
    await apply(database, [log])
    async with await AsyncConnection.connect(database.conninfo()) as connection:
        await connection.execute("update reported_trip set deductions = null where trip_id = %s", (CLOSED_TRIP,))
        await connection.execute(
            "update reported_stay set night_deductions_minor = null where booking_id = %s", (leg(TRIP, 0),)
        )

    report = Report()
    compare_read_models(expected(log), await written(database), report)

    problems = sorted(report.problems())
    assert [problem.split(":")[1] for problem in problems] == [
        f" reported_stay, booking {leg(TRIP, 0)}",
        f" reported_trip, trip {CLOSED_TRIP}",
    ]


async def everything(database: DatabaseSettings) -> list[list[tuple[Any, ...]]]:
    return [await rows(database, f"select * from {table} order by 1, 2") for table in _TABLES]


async def test_events_that_are_read_again_change_nothing(history: DecidedLog, database: DatabaseSettings) -> None:
    log = log_of(history)
    await apply(database, [log])
    before = await everything(database)

    await apply(database, cut(log, [50]))

    assert await everything(database) == before


def test_the_month_has_everything() -> None:
    history = all_money()
    assert all(not paid.due_minor for booking in history.bookings.values() for paid in booking.payments)
    assert closed_minor(history.bookings[CLOSED_TRIP]) > 0
    assert all(history.bookings[trip].payments for trip in TRIPS)
