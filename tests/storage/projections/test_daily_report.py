"""A hotel's sales for each night are those of its confirmed bookings, however the log comes in batches."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date, timedelta
from fractions import Fraction
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import AsyncConnection

from storage.projections.daily_report import BookingNotInLedger
from storage.settings import DatabaseSettings
from tests.storage.projections.log import (
    FIRST,
    HOTEL_OF,
    Log,
    cut,
    night,
    on_the_log,
    partition_batch,
    rows,
    write_change,
)
from tests.support.locks import somebody_waits
from tests.support.waiting import wait_until
from topics.messages.events import (
    BookingCancelled,
    BookingConfirmed,
    BookingEvent,
    BookingExpired,
    BookingRefunded,
    DisputeClosed,
    DisputeOpened,
    GuestsAdded,
    GuestsCheckedIn,
    GuestsCheckedOut,
    GuestsDidNotArrive,
    RefundClosed,
    RefundFailed,
    StayBefore,
    StayChanged,
)
from topics.messages.sale import AppliedPolicy
from topics.messages.values import CancelReason, DisputeResult, RefundClosing, Terms, nights_of
from workers.projections.daily_report import DailyReport

# Hotel and night -> arrivals, staying, nights, revenue_minor.
Report = dict[tuple[int, date], tuple[int, int, int, int]]


@dataclass(frozen=True, kw_only=True)
class Stay:
    """A booking as the ledger has it."""

    id: UUID
    hotel_id: int = 10
    room_id: int = 1
    check_in: date = FIRST
    check_out: date = FIRST + timedelta(days=2)
    rooms_count: int = 1
    amount_minor: int = 24_000
    currency: str = "EUR"
    night_amounts_minor: list[int] | None = None
    terms: str = Terms.PREPAID.value

    @property
    def payment(self) -> str:
        return f"pi_{self.id.int}"

    @property
    def paid_now(self) -> bool:
        return self.terms == Terms.PREPAID

    def confirmed(self, *, late: bool = False) -> BookingConfirmed:
        return BookingConfirmed(
            room_id=self.room_id,
            booking_id=self.id,
            amount_minor=self.amount_minor,
            currency=self.currency,
            session_id=f"cs_{self.id.int}" if self.paid_now else None,
            payment_intent=self.payment if self.paid_now else None,
            late=late,
        )

    def cancelled(self, freed_from: date | None = None, *, kept_minor: int | None = None) -> BookingCancelled:
        return BookingCancelled(
            room_id=self.room_id,
            booking_id=self.id,
            reason=CancelReason.BY_GUEST,
            freed_from=freed_from,
            policy=None if kept_minor is None else AppliedPolicy(kept_minor=kept_minor),
        )

    def departed(self, freed_from: date, kept_minor: int) -> GuestsCheckedOut:
        policy = AppliedPolicy(kept_minor=kept_minor)
        return GuestsCheckedOut(room_id=self.room_id, booking_id=self.id, freed_from=freed_from, policy=policy)

    def no_show(self, freed_from: date, kept_minor: int) -> GuestsDidNotArrive:
        policy = AppliedPolicy(kept_minor=kept_minor)
        return GuestsDidNotArrive(room_id=self.room_id, booking_id=self.id, freed_from=freed_from, policy=policy)

    def refunded(
        self, refund_id: str, amount_minor: int, *, payment: str | None = None, by_hand: bool = True
    ) -> BookingRefunded:
        return BookingRefunded(
            room_id=self.room_id,
            booking_id=self.id,
            payment_intent=payment or self.payment,
            refund_id=refund_id,
            amount_minor=amount_minor,
            by_hand=by_hand,
        )

    def refund_failed(self, refund_id: str, amount_minor: int) -> RefundFailed:
        return RefundFailed(
            room_id=self.room_id,
            booking_id=self.id,
            payment_intent=self.payment,
            refund_id=refund_id,
            amount_minor=amount_minor,
            failure="expired_or_canceled_card",
            by_hand=True,
        )

    def refund_closed(self, amount_minor: int) -> RefundClosed:
        return RefundClosed(
            room_id=self.room_id,
            booking_id=self.id,
            payment_intent=self.payment,
            amount_minor=amount_minor,
            currency=self.currency,
            reason=RefundClosing.PAID_OTHERWISE,
        )

    def dispute_opened(self, dispute_id: str, amount_minor: int) -> DisputeOpened:
        return DisputeOpened(
            room_id=self.room_id,
            booking_id=self.id,
            payment_intent=self.payment,
            dispute_id=dispute_id,
            amount_minor=amount_minor,
            currency=self.currency,
            reason="fraudulent",
        )

    def dispute_closed(
        self, dispute_id: str, amount_minor: int, outcome: DisputeResult, *, payment: str | None = None
    ) -> DisputeClosed:
        return DisputeClosed(
            room_id=self.room_id,
            booking_id=self.id,
            payment_intent=payment or self.payment,
            dispute_id=dispute_id,
            amount_minor=amount_minor,
            currency=self.currency,
            result=outcome,
        )


async def write_ledger(database: DatabaseSettings, *stays: Stay, changes: Iterable[StayChanged] = ()) -> None:
    """Write bookings as the reservations role does before it publishes their events, and the changes of their stays."""
    row = "id, hotel_id, room_id, check_in, check_out, rooms_count, amount_minor, currency, night_amounts_minor, terms"
    placeholders = ", ".join(f"%({name})s" for name in row.split(", "))
    async with await AsyncConnection.connect(database.conninfo(), autocommit=True) as connection:
        await connection.cursor().executemany(
            f"insert into booking ({row}, status, version, created_at, updated_at)"
            f" values ({placeholders}, 'CONFIRMED', 1, now(), now())".encode(),
            [asdict(stay) for stay in stays],
        )
        for change in changes:
            await write_change(connection, change)


async def count(connection: AsyncConnection, log: Log) -> None:
    """Apply a batch by the consumer."""
    consumer = DailyReport()
    batches = [partition_batch(consumer, number, received) for number, received in log.items()]
    assert all(not outgoing for outgoing in await consumer.handle(connection, batches))


async def apply(database: DatabaseSettings, *batches: Sequence[BookingEvent]) -> None:
    """Apply these batches by the consumer, each in a transaction of its own."""
    await apply_log(database, [on_the_log(batch) for batch in batches])


async def apply_log(database: DatabaseSettings, batches: Iterable[Log]) -> None:
    async with await AsyncConnection.connect(database.conninfo(), autocommit=True) as connection:
        for batch in batches:
            async with connection.transaction():
                await count(connection, batch)


async def report(database: DatabaseSettings) -> Report:
    found = await rows(
        database, "select hotel_id, date, arrivals, staying, nights, revenue_minor from daily_report order by 1, 2"
    )
    return {(hotel_id, day): tuple(counts) for hotel_id, day, *counts in found}


async def fees(database: DatabaseSettings) -> dict[tuple[int, date], int]:
    found = await rows(database, "select hotel_id, date, fees_minor from daily_report where fees_minor <> 0 order by 2")
    return {(hotel_id, day): fees_minor for hotel_id, day, fees_minor in found}


async def everything(database: DatabaseSettings) -> list[list[tuple[Any, ...]]]:
    return [
        await rows(database, "select * from daily_report order by hotel_id, date"),
        await rows(database, "select * from reported_stay order by booking_id"),
    ]


async def revenues(database: DatabaseSettings) -> list[int]:
    """Return the revenue of each night of the only hotel."""
    return [revenue for *_, revenue in (await report(database)).values()]


async def forget(database: DatabaseSettings, tables: str = "daily_report, reported_stay") -> None:
    async with await AsyncConnection.connect(database.conninfo()) as connection:
        await connection.execute(f"truncate {tables}".encode())


# The figures that a manager sees.


async def test_a_confirmed_stay_counts_for_each_of_its_nights(database: DatabaseSettings) -> None:
    stay = Stay(id=UUID(int=1), rooms_count=2, amount_minor=40_000)
    await write_ledger(database, stay)

    await apply(database, [stay.confirmed()])

    assert await report(database) == {(10, night(0)): (1, 1, 2, 20_000), (10, night(1)): (0, 1, 2, 20_000)}


async def test_money_that_does_not_divide_goes_to_the_first_nights(database: DatabaseSettings) -> None:
    stay = Stay(id=UUID(int=1), check_out=night(3), amount_minor=10_001)
    await write_ledger(database, stay)

    await apply(database, [stay.confirmed()])

    assert await revenues(database) == [3_334, 3_334, 3_333]


async def test_each_night_counts_with_its_own_amount(database: DatabaseSettings) -> None:
    new_year = Stay(
        id=UUID(int=1),
        check_in=date(2026, 12, 30),
        check_out=date(2027, 1, 2),
        amount_minor=110_000,
        night_amounts_minor=[10_000, 90_000, 10_000],
    )
    await write_ledger(database, new_year)

    await apply(database, [new_year.confirmed()])

    months = await rows(
        database, "select to_char(date, 'YYYY-MM'), sum(revenue_minor)::int from daily_report group by 1 order by 1"
    )
    assert months == [("2026-12", 100_000), ("2027-01", 10_000)]


async def test_stays_of_rooms_in_different_partitions_add_up(database: DatabaseSettings) -> None:
    stays = [Stay(id=UUID(int=1)), Stay(id=UUID(int=2), room_id=2, check_in=night(1), check_out=night(2))]
    await write_ledger(database, *stays)

    await apply(database, [stay.confirmed() for stay in stays])

    assert await report(database) == {(10, night(0)): (1, 1, 1, 12_000), (10, night(1)): (1, 2, 2, 36_000)}


async def test_a_stay_that_is_paid_late_counts(database: DatabaseSettings) -> None:
    stay = Stay(id=UUID(int=1))
    await write_ledger(database, stay)

    await apply(
        database,
        [BookingExpired(room_id=1, booking_id=stay.id)],
        [stay.confirmed(late=True)],
    )

    assert set(await report(database)) == {(10, night(0)), (10, night(1))}


async def test_a_cancelled_stay_counts_no_longer(database: DatabaseSettings) -> None:
    kept, cancelled = Stay(id=UUID(int=1)), Stay(id=UUID(int=2), check_out=night(3), rooms_count=3)
    await write_ledger(database, kept, cancelled)
    await apply(database, [kept.confirmed()])
    before = await everything(database)

    await apply(database, [cancelled.confirmed()], [cancelled.cancelled()])

    assert await everything(database) == before


async def test_a_stay_confirmed_and_cancelled_in_one_batch_leaves_nothing(database: DatabaseSettings) -> None:
    stay = Stay(id=UUID(int=1))
    await write_ledger(database, stay)

    await apply(database, [stay.confirmed(), stay.cancelled()])

    assert await everything(database) == [[], []]


async def test_cancelling_what_was_never_paid_takes_nothing_off(database: DatabaseSettings) -> None:
    paid, unpaid = Stay(id=UUID(int=1)), Stay(id=UUID(int=2))
    await write_ledger(database, paid, unpaid)
    await apply(database, [paid.confirmed()])
    before = await everything(database)

    await apply(database, [unpaid.cancelled()])

    assert await everything(database) == before


async def test_events_that_come_again_count_once(database: DatabaseSettings) -> None:
    kept, cancelled = Stay(id=UUID(int=1)), Stay(id=UUID(int=2))
    await write_ledger(database, kept, cancelled)
    batches = [kept.confirmed(), cancelled.confirmed()], [cancelled.cancelled()]
    await apply(database, *batches)
    before = await everything(database)

    await apply(database, batches[0][:1], batches[1])

    assert await everything(database) == before


async def test_hundreds_of_bookings_are_a_few_statements(database: DatabaseSettings) -> None:
    stays = [Stay(id=UUID(int=number), check_in=night(number % 7), check_out=night(9)) for number in range(1, 501)]
    await write_ledger(database, *stays)
    statements = []
    async with await AsyncConnection.connect(database.conninfo()) as connection:
        execute = connection.execute

        async def counted(query: Any, *values: Any) -> Any:
            statements.append(query)
            return await execute(query, *values)

        connection.execute = counted  # type: ignore[method-assign, assignment]
        await count(connection, on_the_log([stay.confirmed() for stay in stays]))

    assert len(statements) <= 2


async def test_a_confirmed_booking_that_the_ledger_does_not_have_stops_the_role(database: DatabaseSettings) -> None:
    with pytest.raises(BookingNotInLedger, match="00000000-0000-0000-0000-000000000007"):
        await apply(database, [Stay(id=UUID(int=7)).confirmed()])

    assert await everything(database) == [[], []]


# Money that left again.

CONFIRMED = Stay(id=UUID(int=1), check_out=night(3), amount_minor=110_000, night_amounts_minor=[10_000, 90_000, 10_000])
WON, LOST = DisputeResult.WON, DisputeResult.LOST


@pytest.mark.parametrize(
    ("events", "revenue"),
    [
        ([CONFIRMED.refunded("re_1", 11_000)], [9_000, 81_000, 9_000]),
        ([CONFIRMED.refunded("re_1", 5), CONFIRMED.refunded("re_2", 6)], [9_999, 89_991, 9_999]),
        # 0.09, 0.82 and 0.09 of a minor unit.
        ([CONFIRMED.refunded("re_1", 1)], [10_000, 89_999, 10_000]),
        ([CONFIRMED.refunded("re_1", 110_000)], [0, 0, 0]),
        ([CONFIRMED.refunded("re_1", 500), CONFIRMED.refund_failed("re_1", 500)], [10_000, 90_000, 10_000]),
        ([CONFIRMED.refund_failed("re_1", 500)], [10_000, 90_000, 10_000]),
        ([CONFIRMED.dispute_opened("dp_1", 110_000)], [10_000, 90_000, 10_000]),
        ([CONFIRMED.dispute_closed("dp_1", 110_000, WON)], [10_000, 90_000, 10_000]),
        ([CONFIRMED.dispute_closed("dp_1", 110_000, LOST)], [0, 0, 0]),
        # A bank may take all of a payment of which a part was refunded before.
        ([CONFIRMED.refunded("re_1", 100), CONFIRMED.dispute_closed("dp_1", 110_000, LOST)], [0, 0, 0]),
        # A second payment of the guest never was revenue.
        ([CONFIRMED.refunded("re_1", 110_000, payment="pi_second")], [10_000, 90_000, 10_000]),
        ([CONFIRMED.dispute_closed("dp_1", 110_000, LOST, payment="pi_second")], [10_000, 90_000, 10_000]),
    ],
    ids=[
        "a part by hand",
        "two parts by hand",
        "one minor unit",
        "all by hand and the booking stays",
        "a refund that failed",
        "a refund that failed at once",
        "a dispute",
        "a dispute that was won",
        "a dispute that was lost",
        "more than was paid",
        "a refund of a second payment",
        "a lost dispute of a second payment",
    ],
)
@pytest.mark.parametrize("together", [True, False], ids=["in one batch", "each in its own"])
async def test_revenue_is_net_of_what_left_again(
    events: list[BookingEvent], revenue: list[int], *, together: bool, database: DatabaseSettings
) -> None:
    await write_ledger(database, CONFIRMED)
    history = [CONFIRMED.confirmed(), *events]

    await apply(database, *([history] if together else [[event] for event in history]))

    assert await revenues(database) == revenue
    # The counts of bookings and rooms are as before.
    assert [counts[:3] for counts in (await report(database)).values()] == [(1, 1, 1), (0, 1, 1), (0, 1, 1)]


async def test_deductions_of_an_estimated_booking_follow_its_even_shares(database: DatabaseSettings) -> None:
    stay = Stay(id=UUID(int=1), check_out=night(3), amount_minor=10_001)
    await write_ledger(database, stay)

    await apply(database, [stay.confirmed()], [stay.refunded("re_1", 5_000)])

    assert await revenues(database) == [1_667, 1_667, 1_667]


async def test_a_refund_of_a_booking_that_is_cancelled_leaves_nothing(database: DatabaseSettings) -> None:
    await write_ledger(database, CONFIRMED)

    # Cancelled by the hotel during the stay: it is refunded in full, the nights that are past, too.
    await apply(database, [CONFIRMED.confirmed()], [CONFIRMED.refunded("re_1", 100)])
    await apply(
        database,
        [CONFIRMED.cancelled(freed_from=night(1))],
        [CONFIRMED.refunded("re_2", 109_900, by_hand=False), CONFIRMED.refund_failed("re_2", 109_900)],
        [CONFIRMED.dispute_closed("dp_1", 100, LOST)],
    )

    assert await everything(database) == [[], []]


async def test_deductions_that_come_again_count_once_and_the_last_word_on_a_refund_stays(
    database: DatabaseSettings,
) -> None:
    await write_ledger(database, CONFIRMED)
    history = [
        CONFIRMED.confirmed(),
        CONFIRMED.refunded("re_1", 100),
        CONFIRMED.refunded("re_2", 1_000),
        CONFIRMED.refund_failed("re_1", 100),
        CONFIRMED.dispute_closed("dp_1", 10_000, LOST),
    ]
    await apply(database, history)
    before = await everything(database)
    assert sum(await revenues(database)) == 99_000

    # An operator sets the cursor back: to the beginning, and into the middle.
    for first in range(len(history)):
        await apply(database, *([event] for event in history[first:]))
        assert await everything(database) == before


async def test_the_ledger_may_be_ahead_of_the_events(database: DatabaseSettings) -> None:
    await write_ledger(database, CONFIRMED)
    refunded = '[{"payment_intent": "pi_1", "state": "refunded", "refunds": [["re_1", 110000, true]]}]'
    async with await AsyncConnection.connect(database.conninfo()) as connection:
        await connection.execute("update booking set status = 'CANCELLED', payments = %s", (refunded,))

    await apply(database, [CONFIRMED.confirmed()], [CONFIRMED.refunded("re_1", 1_100)])

    assert await revenues(database) == [9_900, 89_100, 9_900]


async def test_a_row_of_0_1_0_gets_its_payment_from_the_ledger(database: DatabaseSettings) -> None:
    await write_ledger(database, CONFIRMED)
    await apply(database, [CONFIRMED.confirmed()])
    payments = '[{"payment_intent": "pi_second", "state": "refunded"}, {"payment_intent": "pi_1", "state": "kept"}]'
    async with await AsyncConnection.connect(database.conninfo()) as connection:
        await connection.execute("update reported_stay set payment_intent = null")
        await connection.execute("update booking set payments = %s", (payments,))

    await apply(database, [CONFIRMED.refunded("re_1", 1_100), CONFIRMED.refunded("re_2", 7, payment="pi_second")])

    assert await revenues(database) == [9_900, 89_100, 9_900]
    assert await rows(database, "select payment_intent, deductions from reported_stay") == [("pi_1", {"re_1": 1_100})]


# Stays that ended early.


@pytest.mark.parametrize(
    ("end", "revenue", "fee"),
    [
        (CONFIRMED.cancelled(kept_minor=55_000), {}, (0, 55_000)),
        (CONFIRMED.cancelled(kept_minor=110_000), {}, (0, 110_000)),
        (CONFIRMED.cancelled(kept_minor=0), {}, None),
        (CONFIRMED.no_show(night(0), 10_000), {}, (0, 10_000)),
        (CONFIRMED.no_show(night(0), 0), {}, None),
        # The nights before the hotel noticed are past and stay sold, with no more than what is kept.
        (CONFIRMED.no_show(night(1), 110_000), {0: 10_000}, (1, 100_000)),
        (CONFIRMED.no_show(night(2), 10_000), {0: 1_000, 1: 9_000}, None),
        (CONFIRMED.no_show(night(3), 110_000), {0: 10_000, 1: 90_000, 2: 10_000}, None),
        (CONFIRMED.departed(night(1), 60_000), {0: 10_000}, (1, 50_000)),
        (CONFIRMED.departed(night(2), 100_000), {0: 10_000, 1: 90_000}, None),
        (CONFIRMED.departed(night(0), 110_000), {}, (0, 110_000)),
    ],
    ids=[
        "cancelled for a half",
        "cancelled for all",
        "cancelled for nothing",
        "no show for a night",
        "no show for nothing",
        "no show, a day late",
        "no show, two days late, for a night",
        "no show, after the stay",
        "early departure for a half",
        "early departure for nothing more",
        "departure on the first day",
    ],
)
@pytest.mark.parametrize("together", [True, False], ids=["in one batch", "each in its own"])
async def test_a_stay_that_ended_early_counts_with_the_nights_that_stay_sold_and_a_fee(
    end: BookingEvent,
    revenue: dict[int, int],
    fee: tuple[int, int] | None,
    *,
    together: bool,
    database: DatabaseSettings,
) -> None:
    await write_ledger(database, CONFIRMED)
    arrived = [GuestsCheckedIn(room_id=1, booking_id=CONFIRMED.id)] if isinstance(end, GuestsCheckedOut) else []
    history = [CONFIRMED.confirmed(), *arrived, end]

    await apply(database, *([history] if together else [[event] for event in history]))

    expected = {(10, night(day)): (int(day == 0), 1, 1, amount) for day, amount in revenue.items()}
    if fee is not None:
        expected.setdefault((10, night(fee[0])), (0, 0, 0, 0))
    assert await report(database) == expected
    assert await fees(database) == ({} if fee is None else {(10, night(fee[0])): fee[1]})


async def test_a_stay_that_ends_on_its_last_day_counts_as_before(database: DatabaseSettings) -> None:
    await write_ledger(database, CONFIRMED)
    await apply(database, [CONFIRMED.confirmed()])
    before = await everything(database)

    await apply(database, [GuestsCheckedIn(room_id=1, booking_id=CONFIRMED.id)])
    await apply(database, [GuestsCheckedOut(room_id=1, booking_id=CONFIRMED.id)])

    assert await everything(database) == before


AT_HOTEL = Stay(
    id=UUID(int=1),
    check_out=night(3),
    amount_minor=110_000,
    night_amounts_minor=[10_000, 90_000, 10_000],
    terms=Terms.AT_HOTEL.value,
)


@pytest.mark.parametrize(
    ("end", "revenue"),
    [
        (AT_HOTEL.cancelled(kept_minor=55_000), {}),
        (AT_HOTEL.no_show(night(0), 110_000), {}),
        (AT_HOTEL.no_show(night(1), 110_000), {0: 0}),
        (AT_HOTEL.departed(night(2), 110_000), {0: 10_000, 1: 90_000}),
    ],
    ids=["cancelled", "no show", "no show, a day late", "early departure"],
)
@pytest.mark.parametrize("together", [True, False], ids=["in one batch", "each in its own"])
async def test_nothing_is_kept_of_a_stay_that_is_paid_at_the_hotel_but_the_nights_stayed(
    end: BookingEvent, revenue: dict[int, int], *, together: bool, database: DatabaseSettings
) -> None:
    await write_ledger(database, AT_HOTEL)
    history = [AT_HOTEL.confirmed(), end]

    await apply(database, *([history] if together else [[event] for event in history]))

    assert await report(database) == {
        (10, night(day)): (int(day == 0), 1, 1, amount) for day, amount in revenue.items()
    }
    assert await fees(database) == {}


@pytest.mark.parametrize(
    ("events", "kept"),
    [
        # 110,000 were paid, and the policy keeps 60,000 of them: 10,000 for the night that was slept, and a fee.
        ([CONFIRMED.refunded("re_1", 50_000, by_hand=False)], 60_000),
        ([CONFIRMED.refunded("re_1", 50_000, by_hand=False), CONFIRMED.refunded("re_2", 5_000)], 55_000),
        ([CONFIRMED.refunded("re_1", 50_000)], 60_000),
        ([CONFIRMED.refunded("re_1", 50_000, by_hand=False), CONFIRMED.dispute_closed("dp", 55_000, LOST)], 5_000),
        ([CONFIRMED.dispute_closed("dp", 110_000, LOST)], 0),
        ([CONFIRMED.refunded("re_1", 50_000, by_hand=False), CONFIRMED.refund_failed("re_1", 50_000)], 60_000),
    ],
    ids=["as asked for", "more by hand", "by hand instead", "a lost dispute", "all disputed", "a refund that failed"],
)
@pytest.mark.parametrize("together", [True, False], ids=["in one batch", "each in its own"])
async def test_the_hotel_keeps_no_more_than_is_left_of_the_payment(
    events: list[BookingEvent], kept: int, *, together: bool, database: DatabaseSettings
) -> None:
    await write_ledger(database, CONFIRMED)
    history = [CONFIRMED.confirmed(), CONFIRMED.departed(night(1), 60_000), *events]

    await apply(database, *([history] if together else [[event] for event in history]))

    assert (await revenues(database))[0] == min(kept, 10_000)
    assert sum((await fees(database)).values()) == max(0, kept - 10_000)


async def test_the_fees_of_several_stays_add_up_and_a_night_without_any_has_no_row(database: DatabaseSettings) -> None:
    stays = [Stay(id=UUID(int=number), room_id=number) for number in (1, 2)]
    await write_ledger(database, *stays)
    await apply(database, [stay.confirmed() for stay in stays], [stay.cancelled(kept_minor=700) for stay in stays])
    assert await fees(database) == {(10, night(0)): 1_400}

    await apply(database, [stay.dispute_closed("dp", 24_000, LOST) for stay in stays])

    assert await report(database) == {}


# Workers of their own for the partitions of one hotel.


async def test_workers_that_deduct_write_nights_in_the_same_order(database: DatabaseSettings) -> None:
    early, late = (Stay(id=UUID(int=number), check_in=night(number), check_out=night(number + 1)) for number in (1, 9))
    other = Stay(id=UUID(int=2), room_id=2, check_in=night(1), check_out=night(10))
    await write_ledger(database, early, late, other)
    await apply(database, [early.confirmed(), late.confirmed()], [other.confirmed()])

    refund = early.refunded("re_1", 1_000)
    await at_once(database, [refund], [other.refunded("re_2", 9)], [late.refunded("re_3", 2_000), early.cancelled()])

    found = await report(database)
    # A ninth of the other stay, less a ninth of its refund.
    assert found[10, night(1)] == (1, 1, 1, 2_666)
    assert found[10, night(9)] == (1, 2, 2, 24_000 - 2_000 + 2_665)


async def test_a_worker_that_counts_a_night_waits_for_the_one_that_empties_it(database: DatabaseSettings) -> None:
    gone, coming = Stay(id=UUID(int=1)), Stay(id=UUID(int=2), room_id=2)
    await write_ledger(database, gone, coming)
    await apply(database, [gone.confirmed()])

    await at_once(database, [gone.cancelled()], [coming.confirmed()])

    assert await report(database) == {(10, night(0)): (1, 1, 1, 12_000), (10, night(1)): (0, 1, 1, 12_000)}


async def test_workers_of_one_hotel_write_its_nights_in_the_same_order(database: DatabaseSettings) -> None:
    early, late = (Stay(id=UUID(int=number), check_in=night(number), check_out=night(number + 1)) for number in (0, 9))
    other_late = Stay(id=UUID(int=1), room_id=2, check_in=late.check_in, check_out=late.check_out)
    other_early = Stay(id=UUID(int=2), room_id=2)
    await write_ledger(database, early, late, other_early, other_late)

    # In whatever order its bookings came, the second waits at the first night and holds no other meanwhile.
    await at_once(database, [early.confirmed()], [other_late.confirmed(), other_early.confirmed()], [late.confirmed()])

    assert (await report(database))[10, late.check_in] == (2, 2, 2, 48_000)


async def at_once(
    database: DatabaseSettings, first: list[BookingEvent], second: list[BookingEvent], then: Sequence[BookingEvent] = ()
) -> None:
    """Let a second worker begin before the first has committed; `then` is what the first does meanwhile."""
    async with (
        await AsyncConnection.connect(database.conninfo()) as one,
        await AsyncConnection.connect(database.conninfo()) as other,
    ):
        await count(one, on_the_log(first))
        waiting = asyncio.create_task(count(other, on_the_log(second)))
        await wait_until(lambda: somebody_waits(database), message="the second worker waits for the first")
        await one.execute("set local lock_timeout = '5s'")
        await count(one, on_the_log(then))
        await one.commit()
        await waiting


# Any log, in any batches.


@st.composite
def logs(draw: st.DrawFn) -> tuple[list[Stay], list[BookingEvent]]:
    """Return bookings and their events, in any order that keeps each booking's own."""
    stays = []
    histories: list[list[BookingEvent]] = []
    for number in range(1, draw(st.integers(1, 8)) + 1):
        room = draw(st.integers(1, 4))
        first = draw(st.integers(0, 4))
        end = draw(st.integers(first + 1, 7))
        by_night = draw(st.none() | st.lists(st.integers(0, 400), min_size=end - first, max_size=end - first))
        stay = Stay(
            id=UUID(int=number),
            room_id=room,
            hotel_id=HOTEL_OF[room],
            check_in=night(first),
            check_out=night(end),
            rooms_count=draw(st.integers(1, 3)),
            amount_minor=draw(st.integers(0, 999)) if by_night is None else sum(by_night),
            night_amounts_minor=by_night,
        )
        begun = [GuestsAdded(room_id=room, booking_id=stay.id, guest_ids=(1,))]
        stays.append(stay)
        histories.append([*begun, *draw(_histories(stay))])
    events: list[BookingEvent] = []
    while histories := [history for history in histories if history]:
        events.append(draw(st.sampled_from(histories)).pop(0))
    return stays, events


@st.composite
def _histories(draw: st.DrawFn, stay: Stay) -> list[BookingEvent]:
    """Return what happens to a stay from its confirmation on, if it is confirmed."""
    if draw(st.integers(0, 3)) == 0:
        return []
    history: list[BookingEvent] = [stay.confirmed()]
    left, made, payments = stay.amount_minor, dict[str, int](), [stay.payment]
    for number in range(draw(st.integers(0, 5))):
        match draw(st.sampled_from(["refund", "refund", "fail", "lose", "win", "second", "change", "change"])):
            case "refund" if left:
                refund_id = f"re_{stay.id.int}_{number}"
                made[refund_id] = draw(st.integers(1, left))
                left -= made[refund_id]
                payment = draw(st.sampled_from(payments))
                history.append(stay.refunded(refund_id, made[refund_id], payment=payment))
            case "fail" if made:
                refund_id = draw(st.sampled_from(sorted(made)))
                left += made[refund_id]
                history.append(stay.refund_failed(refund_id, made.pop(refund_id)))
            case "lose" | "win" as ended:
                dispute_id, amount_minor = f"dp_{stay.id.int}_{number}", draw(st.integers(1, 1 + stay.amount_minor))
                history.append(stay.dispute_opened(dispute_id, amount_minor))
                history.append(stay.dispute_closed(dispute_id, amount_minor, LOST if ended == "lose" else WON))
            case "second":
                history.append(stay.refunded(f"re_second_{number}", stay.amount_minor, payment="pi_second"))
            case "change":
                change = draw(_changes(stay, number))
                history.append(change)
                left += change.extra_minor
                if change.payment_intent is not None:
                    payments.append(change.payment_intent)
                back = min(left, max(0, stay.amount_minor - change.amount_minor))
                if back and draw(st.booleans()):
                    history.append(stay.refunded(f"re_{stay.id.int}_{number}_back", back, by_hand=False))
                    left -= back
                stay = changed(stay, change)
    return [*history, *draw(_ends(stay, left))]


@st.composite
def _changes(draw: st.DrawFn, stay: Stay, number: int) -> StayChanged:
    """Return a change of a stay to any nights and any price, with the payment of a dearer one."""
    first = draw(st.integers(0, 5))
    nights = draw(st.integers(1, 7 - first))
    amounts = draw(st.lists(st.integers(0, 400), min_size=nights, max_size=nights))
    extra_minor = max(0, sum(amounts) - stay.amount_minor)
    return StayChanged(
        room_id=stay.room_id,
        booking_id=stay.id,
        change_id=UUID(int=1_000 * stay.id.int + number),
        check_in=night(first),
        check_out=night(first + nights),
        rooms_count=draw(st.integers(1, 3)),
        amount_minor=sum(amounts),
        currency=stay.currency,
        night_amounts_minor=tuple(amounts),
        before=StayBefore(
            check_in=stay.check_in,
            check_out=stay.check_out,
            rooms_count=stay.rooms_count,
            amount_minor=stay.amount_minor,
            night_amounts_minor=tuple(stay.night_amounts_minor or ()),
        ),
        extra_minor=extra_minor,
        session_id=f"cs_{stay.id.int}_{number}" if extra_minor else None,
        payment_intent=f"pi_{stay.id.int}_{number}" if extra_minor else None,
    )


def changed(stay: Stay, change: StayChanged) -> Stay:
    return replace(
        stay,
        check_in=change.check_in,
        check_out=change.check_out,
        rooms_count=change.rooms_count,
        amount_minor=change.amount_minor,
        night_amounts_minor=list(change.night_amounts_minor),
    )


@st.composite
def _ends(draw: st.DrawFn, stay: Stay, left: int) -> list[BookingEvent]:
    """Return how a stay ends early, if it does, with the refunds of a payment of which so much is left."""
    day = draw(st.integers(0, (stay.check_out - stay.check_in).days))
    freed_from, kept = stay.check_in + timedelta(days=day), draw(st.integers(0, stay.amount_minor))
    end: BookingEvent
    match draw(st.sampled_from(["never", "hotel", "guest", "no show", "departure"])):
        case "hotel":
            end, kept = stay.cancelled(draw(st.none() | st.just(freed_from))), 0
        case "guest":
            end = stay.cancelled(kept_minor=kept)
        case "no show":
            end = stay.no_show(freed_from, kept)
        case "departure" if freed_from < stay.check_out:
            end = stay.departed(freed_from, kept)
        case _:
            return []
    ended: list[BookingEvent] = [end]
    if left > kept:
        ended.append(stay.refunded(f"re_{stay.id.int}", left - kept, by_hand=False))
        left = kept
    if left and draw(st.booleans()):
        ended.append(stay.refunded(f"re_{stay.id.int}_late", draw(st.integers(1, left))))
    return ended


@dataclass
class Sold:
    """A confirmed booking: its present stay, the money that its payments brought and that left them, and what is kept.

    `kept` is what the hotel keeps of a stay that ended early.
    """

    stay: Stay
    paid: int
    left: dict[str, int]
    kept: int | None = None
    freed_from: date | None = None

    def apply(self, event: BookingEvent) -> None:
        match event:
            case StayChanged():
                self.stay = changed(self.stay, event)
                self.paid += event.extra_minor
            case BookingCancelled() | GuestsDidNotArrive() | GuestsCheckedOut() if event.policy is not None:
                self.kept, self.freed_from = event.policy.kept_minor, event.freed_from or self.stay.check_in
            case BookingRefunded() if event.payment_intent != "pi_second":
                self.left[event.refund_id] = event.amount_minor
            case RefundFailed():
                del self.left[event.refund_id]
            case DisputeClosed(result=DisputeResult.LOST):
                self.left[event.dispute_id] = event.amount_minor


def by_hand(stays: Sequence[Stay], events: Sequence[BookingEvent]) -> dict[tuple[int, date], list[int]]:
    """Return arrivals, staying, nights, revenue and fees of each night of each hotel."""
    of = {stay.id: stay for stay in stays}
    confirmed: dict[UUID, Sold] = {}
    for event in events:
        if isinstance(event, BookingConfirmed):
            confirmed[event.booking_id] = Sold(of[event.booking_id], event.amount_minor, {})
        if event.booking_id in confirmed:
            confirmed[event.booking_id].apply(event)
        if isinstance(event, BookingCancelled) and not (event.policy and event.policy.kept_minor):
            del confirmed[event.booking_id]
    sold: dict[tuple[int, date], list[int]] = defaultdict(lambda: [0, 0, 0, 0, 0])
    for history in confirmed.values():
        stay = history.stay
        revenue, fee = _net_by_hand(stay, history)
        for number, (day, amount) in enumerate(revenue.items()):
            for column, more in enumerate((number == 0, 1, stay.rooms_count, amount)):
                sold[stay.hotel_id, day][column] += more
        if fee:
            assert history.freed_from is not None
            sold[stay.hotel_id, history.freed_from][4] += fee
    return dict(sold)


def _net_by_hand(stay: Stay, history: Sold) -> tuple[dict[date, int], int]:
    """Return the revenue of each night that is sold, and the fee."""
    nights = nights_of(stay.check_in, stay.check_out)
    amounts = list(stay.night_amounts_minor or ())
    if stay.night_amounts_minor is None:
        rest = stay.amount_minor
        for number in range(len(nights)):
            amounts.append(-(-rest // (len(nights) - number)))
            rest -= amounts[-1]
    left = min(stay.amount_minor, max(0, history.paid - sum(history.left.values())))
    if history.freed_from is None:
        taken = _one_by_one(stay.amount_minor - left, amounts)
        return {day: amount - part for day, amount, part in zip(nights, amounts, taken, strict=True)}, 0
    left = min(left, history.kept or 0)
    slept = [amount for day, amount in zip(nights, amounts, strict=True) if day < history.freed_from]
    earned = min(left, sum(slept))
    return dict(zip(nights, _one_by_one(earned, slept), strict=False)), left - earned


def _one_by_one(whole: int, weights: Sequence[int]) -> list[int]:
    """Return the shares: one minor unit after the other goes to the weight that is furthest behind."""
    shares = [Fraction(whole * weight, max(1, sum(weights))) for weight in weights]
    taken = [int(share) for share in shares]
    while sum(taken) < whole:
        behind = [share - part for share, part in zip(shares, taken, strict=True)]
        taken[behind.index(max(behind))] += 1
    return taken


batch_sizes = st.lists(st.integers(1, 6), min_size=1, max_size=4)


@given(log=logs(), sizes=batch_sizes, again=batch_sizes)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_a_rebuild_gives_the_same_rows_however_the_log_comes_in_batches(
    log: tuple[list[Stay], list[BookingEvent]], sizes: list[int], again: list[int], database: DatabaseSettings
) -> None:
    stays, events = log
    await forget(database, "daily_report, reported_stay, booking")
    await write_ledger(database, *stays, changes=[event for event in events if isinstance(event, StayChanged)])
    await apply_log(database, cut(on_the_log(events), sizes))
    first = await everything(database)

    found = await rows(
        database, "select hotel_id, date, arrivals, staying, nights, revenue_minor, fees_minor from daily_report"
    )
    assert {(hotel_id, day): counts for hotel_id, day, *counts in found} == by_hand(stays, events)

    for other in (again, [1]):
        await forget(database)
        await apply_log(database, cut(on_the_log(events), other))
        assert await everything(database) == first
