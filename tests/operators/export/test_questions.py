"""Four questions of a hotel are answered from an export with the ledger's own figures; the page shows those."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from msgspec.structs import replace

from operators.export.columns import COLUMNS
from sandbox.replay import _record
from sandbox.trace import TraceStep, read_trace
from storage.settings import DatabaseSettings
from tests.operators.decided_ledger import write_ledger
from tests.operators.decided_log import HOLD_SECONDS, PRICE, DecidedLog
from tests.operators.export.conftest import Export
from tests.operators.export.questions import (
    CANCELLATIONS,
    OCCUPANCY,
    PAGE,
    QUESTIONS,
    REVENUE,
    Question,
    as_text,
    asked,
    check_against,
)
from tests.operators.export.records import at, record, reserved, write
from tests.operators.trips import trips_of
from tests.sandbox.test_replay import first_rows
from tests.storage.projections.log import apply, in_one_batch, night, opened, rows, stay_changed
from tests.storage.projections.log import reserved as booked
from tests.support.log import open_log, open_processor, process_all
from tests.system.trace.replayed import ReplayedTrace
from topics.catalogue import BOOKING_COMMANDS
from topics.kafka.settings import KafkaSettings
from topics.messages.commands import CancelBooking, ChangeInventory, ExpireHold, OpenInventory, ReserveStay
from topics.messages.events import (
    BookingCancelled,
    BookingConfirmed,
    BookingEvent,
    BookingRefunded,
    BookingReserved,
    DisputeClosed,
    DisputeOpened,
    Event,
    GuestsCheckedOut,
    GuestsDidNotArrive,
    RefundFailed,
    StayChanged,
)
from topics.messages.sale import AppliedPolicy
from topics.messages.values import CancelReason, DisputeResult, Terms
from workers.reservations.handler import build

# Nights opened, stays refused, reserved and confirmed at once, cancelled, and cancellations refused.
EVENTS_OF_THE_TRACE = 18 + 716 + 2 * 118_674 + 44_189 + 35


def test_a_few_guests_are_counted_as_the_ledger_counts_them(
    timed: KafkaSettings, database: DatabaseSettings, export: Export, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asyncio.run(book(timed, database, first_rows(150, folder.parent)))
    assert export().exit_code == 0
    monkeypatch.chdir(folder.parent)

    answers = check_against(database)

    _, lead_times = answers["lead_time"]
    assert sum(row[1] for row in lead_times) > 100
    _, nights = answers["occupancy"]
    assert len({row[3] for row in nights}) > 1
    partly = "select count(*) from read_parquet('export/*.parquet') where freed_from > date '2015-07-01'"
    assert asked(partly)[1] == [(1,)]


async def book(settings: KafkaSettings, database: DatabaseSettings, trace: Path) -> None:
    """Have a worker decide the trace; then a manager takes rooms off sale, where no more are sold than that."""
    steps = read_trace(trace, rooms=20)
    last = steps[-1]
    nights = [step.command for step in steps if isinstance(step.command, OpenInventory)]
    fewer = ChangeInventory(
        room_id=nights[0].room_id,
        first_night=nights[0].first_night,
        end_night=nights[0].end_night,
        total_count=3,
    )
    # A hotel cancels a stay on its second day: the first night was sold all the same.
    staying = longest_stay(steps)
    second_day = datetime.combine(staying.check_in + timedelta(days=1), time(12), tzinfo=UTC)
    assert second_day > last.time
    left_early = CancelBooking(room_id=staying.room_id, booking_id=staying.booking_id, reason=CancelReason.BY_HOTEL)
    steps = [*steps, last._replace(command=fewer), TraceStep(second_day, left_early)]
    role = build(settings, database)
    async with open_log(settings) as log, open_processor(role, log, database) as processor:
        topic = settings.topic(BOOKING_COMMANDS)
        await log.write(*(_record(topic, step) for step in steps))
        await process_all(processor, role, log)


def longest_stay(steps: Sequence[TraceStep]) -> ReserveStay:
    """Return the longest stay that was not cancelled and begins after all that the trace has."""
    commands = [step.command for step in steps]
    cancelled = {command.booking_id for command in commands if isinstance(command, CancelBooking)}
    stays = [
        command
        for command in commands
        if isinstance(command, ReserveStay)
        and command.booking_id not in cancelled
        and command.check_in >= steps[-1].time.date()
    ]
    return max(stays, key=lambda stay: stay.check_out - stay.check_in)


def test_a_month_earns_the_amounts_of_its_nights_net_of_what_left_again(
    timed: KafkaSettings, export: Export, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(timed, sold(1, 110_000, (10_000, 90_000, 10_000)))
    assert export("--until", "2026-03-03", "--out", str(folder.parent / "first" / "export")).exit_code == 0
    monkeypatch.chdir(folder.parent / "first")
    assert asked(REVENUE.sql)[1] == [("2026-12", "EUR", 2, 100_000, 0), ("2027-01", "EUR", 1, 10_000, 0)]

    about: dict[str, Any] = {"room_id": 1, "booking_id": UUID(int=1), "payment_intent": "pi_1"}
    refund = BookingRefunded(**about, refund_id="re_1", amount_minor=5_500, by_hand=True)
    failed = BookingRefunded(**about, refund_id="re_2", amount_minor=99, by_hand=True)
    lost: dict[str, Any] = {"dispute_id": "dp_1", "amount_minor": 5_500, "currency": "EUR"}
    others = [*sold(2, 10_001, ()), *sold(3, 999, (333, 333, 333))]
    put(
        timed,
        [
            *others[:2],
            refund,
            failed,
            RefundFailed(**about, refund_id="re_2", amount_minor=99, failure="unknown", by_hand=True),
            DisputeOpened(**about, **lost, reason="fraudulent"),
            DisputeClosed(**about, **lost, result=DisputeResult.LOST),
            BookingRefunded(**{**about, "payment_intent": "pi_second"}, refund_id="re_3", amount_minor=110_000),
            *others[2:],
            BookingCancelled(room_id=1, booking_id=UUID(int=3), reason=CancelReason.BY_GUEST),
        ],
        after=2,
    )
    assert export("--until", "2026-03-03").exit_code == 0
    monkeypatch.chdir(folder.parent)

    # The stay from before amounts by night has even shares.
    assert asked(REVENUE.sql)[1] == [
        ("2026-12", "EUR", 4, 90_000 + 3_334 + 3_334, 0),
        ("2027-01", "EUR", 2, 9_000 + 3_333, 0),
    ]


def test_a_month_earns_as_the_report_counts_it(
    timed: KafkaSettings, database: DatabaseSettings, export: Export, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Changed stays, several payments, fees, and stays that are paid at the hotel count as in the read model."""
    events = [event for number, ends in enumerate(ENDS, start=1) for event in changed_and_ended(number, *ends)]
    put(timed, [opened(1, -60, 60, 9_000), *events])
    asyncio.run(apply(database, in_one_batch([opened(1, -60, 60, 9_000), *events])))
    assert export("--until", "2026-03-03").exit_code == 0
    monkeypatch.chdir(folder.parent)

    report = asyncio.run(
        rows(
            database,
            """select to_char(date, 'YYYY-MM'), currency, sum(revenue_minor)::int, sum(fees_minor)::int
               from daily_report group by 1, 2 order by 1""",
        )
    )
    answer = [(month, currency, revenue, fees) for month, currency, _, revenue, fees in asked(REVENUE.sql)[1]]
    assert len(report) > 1
    assert answer == report
    assert sum(fees for *_, fees in report) > 0
    occupied: dict[date, int] = dict(asked(f"select night::date, sold from ({OCCUPANCY.sql}) where sold > 0")[1])
    taken = dict(asyncio.run(rows(database, "select date, taken_count from room_night where taken_count > 0")))
    assert occupied == taken


def test_a_trip_counts_by_its_legs(
    timed: KafkaSettings, database: DatabaseSettings, export: Export, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    history = DecidedLog()
    for command, clock in trips_of(date(2027, 2, 27), PRICE, HOLD_SECONDS):
        history.after(command, clock=clock, seconds=HOLD_SECONDS if isinstance(command, ExpireHold) else 1)
    events = [logged.event for logged in history.events]
    put(timed, events)
    asyncio.run(write_ledger(timed, database, history))
    asyncio.run(apply(database, in_one_batch(events)))
    assert export("--until", "2026-03-03").exit_code == 0
    monkeypatch.chdir(folder.parent)

    # Six legs were bought: two of them are to come, three were cancelled, and of one nobody arrived.
    report = "select sum(nights)::int, sum(revenue_minor)::int, sum(fees_minor)::int from daily_report"
    assert asyncio.run(rows(database, report)) == [(4, 4 * PRICE, 3 * PRICE + PRICE // 2)]
    assert [row[2:] for row in asked(REVENUE.sql)[1]] == [(4, 4 * PRICE, 3 * PRICE + PRICE // 2)]
    assert asked(CANCELLATIONS.sql)[1] == [("2027-02", 6, 3, 50.0)]
    occupied: dict[date, int] = dict(asked(f"select night::date, sold from ({OCCUPANCY.sql}) where sold > 0")[1])
    taken = "select date, sum(taken_count)::int from room_night where taken_count > 0 group by date"
    assert occupied == dict(asyncio.run(rows(database, taken)))


#: Stays that are changed or not, and what happens to them then; every payment of theirs is named after them.
ENDS: Sequence[tuple[Terms, Sequence[int], Sequence[str]]] = [
    (Terms.PREPAID, (), ()),
    (Terms.PREPAID, (50_000,), ()),
    (Terms.PREPAID, (50_000,), ("refund",)),
    (Terms.PREPAID, (10_000,), ("refund of the change", "refund")),
    (Terms.PREPAID, (10_000, 44_000), ("refund of the change", "lost")),
    (Terms.PREPAID, (), ("cancelled",)),
    (Terms.PREPAID, (50_000,), ("cancelled",)),
    (Terms.PREPAID, (50_000,), ("cancelled for nothing",)),
    (Terms.PREPAID, (50_000,), ("departed", "refund")),
    (Terms.PREPAID, (10_000,), ("no show", "refund of the change")),
    (Terms.AT_HOTEL, (50_000,), ()),
    (Terms.AT_HOTEL, (50_000,), ("departed",)),
    (Terms.AT_HOTEL, (), ("cancelled",)),
    (Terms.AT_HOTEL, (50_000,), ("no show",)),
]


def changed_and_ended(
    number: int, terms: Terms, amounts_minor: Sequence[int], ends: Sequence[str]
) -> Iterator[BookingEvent]:
    """Yield the events of a stay of 30,000 in three nights, whose changes begin a night later each."""
    prices: dict[str, Any] = {"amount_minor": 30_000, "night_amounts_minor": (10_000, 15_000, 5_000)}
    stay = replace(booked(number, 1, 1, 4), terms=terms, **prices)
    about: dict[str, Any] = {"room_id": 1, "booking_id": stay.booking_id}
    prepaid = terms is Terms.PREPAID
    intent = f"pi_{number}" if prepaid else None
    yield stay
    yield BookingConfirmed(**about, amount_minor=30_000, currency="EUR", session_id="cs", payment_intent=intent)
    present: BookingReserved | StayChanged = stay
    for count, amount_minor in enumerate(amounts_minor, start=1):
        extra_minor = max(0, amount_minor - present.amount_minor) if prepaid else 0
        price: dict[str, Any] = {
            "amount_minor": amount_minor,
            "night_amounts_minor": (amount_minor - 4_000, 1_000, 3_000),
        }
        if extra_minor:
            price |= {"extra_minor": extra_minor, "session_id": "cs", "payment_intent": f"pi_{number}_{count}"}
        present = stay_changed(present, 100 * number + count, 1 + count, 4 + count, **price)
        yield present
    freed = night(3)
    policy = AppliedPolicy(kept_minor=7_000)
    for end in ends:
        match end:
            case "refund" | "refund of the change":
                amount_minor = 20_000 if end == "refund of the change" else 2_000
                yield BookingRefunded(**about, payment_intent=f"pi_{number}", refund_id=end, amount_minor=amount_minor)
            case "lost":
                dispute: dict[str, Any] = {"dispute_id": "dp", "currency": "EUR", "result": DisputeResult.LOST}
                yield DisputeClosed(**about, payment_intent=f"pi_{number}_2", amount_minor=9_000, **dispute)
            case "cancelled":
                yield BookingCancelled(**about, reason=CancelReason.BY_GUEST, policy=policy)
            case "cancelled for nothing":
                yield BookingCancelled(**about, reason=CancelReason.BY_GUEST, policy=AppliedPolicy(kept_minor=0))
            case "departed":
                yield GuestsCheckedOut(**about, freed_from=freed, policy=policy)
            case "no show":
                yield GuestsDidNotArrive(**about, freed_from=freed, policy=policy)


def sold(number: int, amount_minor: int, night_amounts_minor: tuple[int, ...]) -> list[Event]:
    """Return the events of a stay of three nights around new year."""
    stay = replace(
        reserved(number),
        check_in=date(2026, 12, 30),
        check_out=date(2027, 1, 2),
        amount_minor=amount_minor,
        night_amounts_minor=night_amounts_minor,
    )
    paid = BookingConfirmed(
        room_id=1,
        booking_id=stay.booking_id,
        amount_minor=amount_minor,
        currency="EUR",
        session_id=f"cs_{number}",
        payment_intent=f"pi_{number}",
    )
    return [stay, paid]


def put(settings: KafkaSettings, events: Sequence[Event], *, after: int = 0) -> None:
    """Write events into one partition, behind the `after` events that it has."""
    records = [record(settings, number, at(0), event) for number, event in enumerate(events, start=after + 1)]
    asyncio.run(write(settings, records))


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.name)
def test_the_page_shows_what_the_example_asks(question: Question) -> None:
    assert f"```sql\n{question.sql}```" in PAGE.read_text()


def test_the_page_names_every_column_and_who_fills_it() -> None:
    page = PAGE.read_text()

    for column in COLUMNS:
        filled_by = ", ".join(f"`{family}`" for family in column.families)
        named_if_few = f" {filled_by} |" if 0 < len(column.families) <= 5 else ""
        assert f"| `{column.name}` | {column.shape} |{named_if_few}" in page


@pytest.mark.trace
@pytest.mark.timeout(1800)
async def test_the_pages_figures_are_those_of_the_whole_trace(
    replayed_trace: ReplayedTrace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = await export_all(replayed_trace.kafka.kafka_url, tmp_path / "export")
    monkeypatch.chdir(tmp_path)
    answers = check_against(replayed_trace.database)

    page = PAGE.read_text()
    # An event that is on the log twice is exported once.
    assert f" {EVENTS_OF_THE_TRACE:,} events (" in summary
    assert f"{EVENTS_OF_THE_TRACE:,} events" in page
    for question in QUESTIONS:
        assert as_text(answers[question.name]) in page


async def export_all(kafka_url: str, folder: Path) -> str:
    """Export as an analyst does; return the line that it ends with."""
    command = (sys.executable, "-m", "operators", "export", "booking.events", "--out", str(folder))
    process = await asyncio.create_subprocess_exec(*command, env={**os.environ, "KAFKA_URL": kafka_url}, stderr=PIPE)
    _, summary = await process.communicate()
    assert process.returncode == 0, summary
    return summary.decode()
