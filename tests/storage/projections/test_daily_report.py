"""A hotel's sales for each night are those of its confirmed bookings, however the log comes in batches."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import AsyncConnection

from storage.projections.daily_report import BookingNotInLedger
from storage.settings import DatabaseSettings
from tests.storage.projections.log import FIRST, HOTEL_OF, Log, cut, night, on_the_log, partition_batch, rows
from tests.support.locks import somebody_waits
from tests.support.waiting import wait_until
from topics.messages.events import BookingCancelled, BookingConfirmed, BookingEvent, BookingExpired, GuestsAdded
from topics.messages.values import CancelReason, nights_of
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

    def confirmed(self, *, late: bool = False) -> BookingConfirmed:
        return BookingConfirmed(
            room_id=self.room_id, booking_id=self.id, amount_minor=self.amount_minor, currency=self.currency, late=late
        )

    def cancelled(self) -> BookingCancelled:
        return BookingCancelled(room_id=self.room_id, booking_id=self.id, reason=CancelReason.BY_GUEST)


async def write_ledger(database: DatabaseSettings, *stays: Stay) -> None:
    """Write bookings as the reservations role does before it publishes their events."""
    row = "id, hotel_id, room_id, check_in, check_out, rooms_count, amount_minor, currency"
    placeholders = ", ".join(f"%({name})s" for name in row.split(", "))
    async with await AsyncConnection.connect(database.conninfo(), autocommit=True) as connection:
        await connection.cursor().executemany(
            f"insert into booking ({row}, status, terms, version, created_at, updated_at)"
            f" values ({placeholders}, 'CONFIRMED', 'prepaid', 1, now(), now())".encode(),
            [asdict(stay) for stay in stays],
        )


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


async def everything(database: DatabaseSettings) -> list[list[tuple[Any, ...]]]:
    return [
        await rows(database, "select * from daily_report order by hotel_id, date"),
        await rows(database, "select * from reported_stay order by booking_id"),
    ]


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

    assert [revenue for *_, revenue in (await report(database)).values()] == [3_334, 3_334, 3_333]


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


# Workers of their own for the partitions of one hotel.


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
        stay = Stay(
            id=UUID(int=number),
            room_id=room,
            hotel_id=HOTEL_OF[room],
            check_in=night(first),
            check_out=night(draw(st.integers(first + 1, 7))),
            rooms_count=draw(st.integers(1, 3)),
            amount_minor=draw(st.integers(0, 999)),
        )
        begun = [GuestsAdded(room_id=room, booking_id=stay.id, guest_ids=(1,))]
        stays.append(stay)
        histories.append([*begun, *[stay.confirmed(), stay.cancelled()][: draw(st.integers(0, 2))]])
    events: list[BookingEvent] = []
    while histories := [history for history in histories if history]:
        events.append(draw(st.sampled_from(histories)).pop(0))
    return stays, events


def by_hand(stays: Sequence[Stay], events: Sequence[BookingEvent]) -> Report:
    of = {stay.id: stay for stay in stays}
    confirmed: dict[UUID, Stay] = {}
    for event in events:
        if isinstance(event, BookingConfirmed):
            confirmed[event.booking_id] = of[event.booking_id]
        if isinstance(event, BookingCancelled):
            del confirmed[event.booking_id]
    sold: dict[tuple[int, date], list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for stay in confirmed.values():
        left = stay.amount_minor
        nights = nights_of(stay.check_in, stay.check_out)
        for number, day in enumerate(nights):
            share = -(-left // (len(nights) - number))
            left -= share
            for column, more in enumerate((number == 0, 1, stay.rooms_count, share)):
                sold[stay.hotel_id, day][column] += more
    return {key: (counts[0], counts[1], counts[2], counts[3]) for key, counts in sold.items()}


batch_sizes = st.lists(st.integers(1, 6), min_size=1, max_size=4)


@given(log=logs(), sizes=batch_sizes, again=batch_sizes)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_a_rebuild_gives_the_same_rows_however_the_log_comes_in_batches(
    log: tuple[list[Stay], list[BookingEvent]], sizes: list[int], again: list[int], database: DatabaseSettings
) -> None:
    stays, events = log
    await forget(database, "daily_report, reported_stay, booking")
    await write_ledger(database, *stays)
    await apply_log(database, cut(on_the_log(events), sizes))
    first = await everything(database)

    assert await report(database) == by_hand(stays, events)

    await forget(database)
    await apply_log(database, cut(on_the_log(events), again))
    assert await everything(database) == first
