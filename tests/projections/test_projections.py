"""Read models are what the events say, however they come in batches, and the same when they are rebuilt."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import AsyncConnection

from storage.cursors import Cursor, CursorKey
from storage.room_nights import NightNotOpened
from storage.settings import DatabaseSettings
from tests.support.waiting import wait_until
from topics.catalogue import BOOKING_EVENTS
from topics.envelope import Envelope, encode_headers, encode_value
from topics.events import (
    BookingCancelled,
    BookingEvent,
    BookingExpired,
    BookingRejected,
    CommandRefused,
    Event,
    GuestsAdded,
    InventoryChanged,
    InventoryOpened,
)
from topics.settings import KafkaSettings
from topics.values import CancelReason, Refusal, Rejection
from workers.projections import build
from workers.role import Consumer, Received, Run

FIRST = date(2027, 2, 26)
T0 = datetime(2026, 11, 1, 12, tzinfo=UTC)
# Which hotel a room belongs to; rooms of one hotel lie in different partitions.
HOTEL_OF = {1: 10, 2: 10, 3: 10, 4: 20}
PARTITIONS = 3


@dataclass
class LogRecord:
    """A record as the Kafka client hands it over."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


def night(days: int) -> date:
    return FIRST + timedelta(days=days)


def opened(room_id: int, first: int, end: int, price_minor: int) -> InventoryOpened:
    return InventoryOpened(
        room_id=room_id,
        hotel_id=HOTEL_OF[room_id],
        first_night=night(first),
        end_night=night(end),
        total_count=5,
        price_minor=price_minor,
        currency="EUR",
    )


def changed(room_id: int, days: Sequence[int], **values: Any) -> InventoryChanged:
    return InventoryChanged(room_id=room_id, nights=tuple(night(day) for day in days), **values)


def on_the_log(events: Sequence[Event]) -> dict[int, list[Received]]:
    """Return what the adapter hands over: by partition, in order, with sequences."""
    log: dict[int, list[Received]] = defaultdict(list)
    for number, event in enumerate(events):
        partition = event.room_id % PARTITIONS
        sequence = len(log[partition]) + 1
        time = T0 + timedelta(seconds=number)
        subject = str(event.booking_id) if isinstance(event, BookingEvent) else f"room/{event.room_id}"
        envelope = Envelope(
            id=f"command-{number}:0",
            type=event.wire,
            source="innkeeper/reservations",
            subject=subject,
            time=time,
            causation=f"command-{number}",
            sequence=sequence,
        )
        record = LogRecord(
            BOOKING_EVENTS.name,
            partition,
            sequence - 1,
            int(time.timestamp() * 1000),
            b"%d" % event.room_id,
            encode_value(event),
            encode_headers(envelope),
        )
        log[partition].append(Received(envelope, event, record, time))
    return log


def consumers() -> dict[str, Consumer]:
    role = build(KafkaSettings(_env_file=None), DatabaseSettings(_env_file=None))
    return {consumer.name: consumer for consumer in role.consumers}


def run_of(consumer: Consumer, partition: int, received: list[Received]) -> Run:
    key = CursorKey(consumer.name, BOOKING_EVENTS.name, partition, 1)
    return Run(BOOKING_EVENTS, partition, Cursor(key, -1, -1, 0, None, None), received)


async def apply(database: DatabaseSettings, batches: Sequence[dict[int, list[Received]]]) -> None:
    """Hand every batch to both consumers, each batch in a transaction of its own."""
    async with await AsyncConnection.connect(database.conninfo(), autocommit=True) as connection:
        for batch in batches:
            async with connection.transaction():
                for consumer in consumers().values():
                    runs = [run_of(consumer, partition, received) for partition, received in batch.items()]
                    assert all(not outgoing for outgoing in await consumer.handle(connection, runs))


def in_one_batch(events: Sequence[Event]) -> list[dict[int, list[Received]]]:
    return [on_the_log(events)]


def cut(log: dict[int, list[Received]], sizes: Sequence[int]) -> list[dict[int, list[Received]]]:
    """Cut every partition into runs of these sizes, in turn, and batch the runs that come at the same time."""
    waiting = {partition: list(received) for partition, received in log.items()}
    batches = []
    turn = 0
    while any(waiting.values()):
        batch = {}
        for partition, received in waiting.items():
            size = sizes[turn % len(sizes)]
            turn += 1
            if received:
                batch[partition] = received[:size]
                waiting[partition] = received[size:]
        batches.append(batch)
    return batches


async def rows(database: DatabaseSettings, query: str) -> list[tuple[Any, ...]]:
    async with await AsyncConnection.connect(database.conninfo()) as connection:
        return await (await connection.execute(query)).fetchall()


async def min_prices(database: DatabaseSettings) -> dict[tuple[int, date], int]:
    found = await rows(database, "select hotel_id, date, min_price_minor from hotel_min_price")
    return {(hotel_id, day): price for hotel_id, day, price in found}


async def everything(database: DatabaseSettings) -> list[list[tuple[Any, ...]]]:
    return [
        await rows(database, "select * from booking_timeline order by booking_id, sequence"),
        await rows(database, "select * from room_price order by room_id, date"),
        await rows(database, "select * from hotel_min_price order by hotel_id, date"),
    ]


async def forget_everything(database: DatabaseSettings) -> None:
    async with await AsyncConnection.connect(database.conninfo()) as connection:
        await connection.execute("truncate booking_timeline, room_price, hotel_min_price")


# What a guest or an operator sees.


async def test_a_hotel_costs_what_its_cheapest_room_costs(database: DatabaseSettings) -> None:
    await apply(database, in_one_batch([opened(1, 0, 2, 9_000), opened(2, 1, 3, 8_000), opened(4, 0, 1, 5_000)]))

    assert await min_prices(database) == {
        (10, night(0)): 9_000,
        (10, night(1)): 8_000,
        (10, night(2)): 8_000,
        (20, night(0)): 5_000,
    }


async def test_a_surge_is_part_of_the_price_and_rounds_half_up(database: DatabaseSettings) -> None:
    await apply(database, in_one_batch([opened(1, 0, 1, 9_999), changed(1, [0], surge_milli=1_500)]))

    assert await min_prices(database) == {(10, night(0)): 14_999}  # 14,998.5


async def test_a_closed_room_does_not_count_and_an_opened_again_one_does(database: DatabaseSettings) -> None:
    events: list[Event] = [opened(1, 0, 1, 9_000), opened(2, 0, 1, 8_000), changed(2, [0], closed=True)]
    await apply(database, in_one_batch(events))
    assert await min_prices(database) == {(10, night(0)): 9_000}

    await forget_everything(database)
    await apply(database, in_one_batch([*events, changed(2, [0], closed=False)]))
    assert await min_prices(database) == {(10, night(0)): 8_000}


async def test_a_night_with_every_room_closed_has_no_price(database: DatabaseSettings) -> None:
    await apply(database, in_one_batch([opened(1, 0, 2, 9_000)]))
    await apply(database, in_one_batch([changed(1, [0], closed=True)]))

    assert await min_prices(database) == {(10, night(1)): 9_000}


async def test_a_change_of_how_many_rooms_there_are_changes_no_price(database: DatabaseSettings) -> None:
    await apply(database, in_one_batch([opened(1, 0, 1, 9_000), changed(1, [0], total_count=1)]))

    assert await min_prices(database) == {(10, night(0)): 9_000}


async def test_a_change_of_a_night_that_was_never_opened_stops_the_role(database: DatabaseSettings) -> None:
    with pytest.raises(NightNotOpened, match="room 1: 2 nights change, 1 of them were opened before"):
        await apply(database, in_one_batch([opened(1, 0, 1, 9_000), changed(1, [0, 1], price_minor=1)]))


async def test_a_booking_tells_its_whole_history_in_order(database: DatabaseSettings) -> None:
    booking, other = UUID(int=1), UUID(int=2)
    await apply(
        database,
        in_one_batch(
            [
                opened(1, 0, 1, 9_000),
                GuestsAdded(room_id=1, booking_id=booking, guest_ids=(7,)),
                BookingExpired(room_id=1, booking_id=other),
                BookingCancelled(room_id=1, booking_id=booking, reason=CancelReason.BY_GUEST),
            ]
        ),
    )

    found = await rows(
        database,
        f"select sequence, type, event_id, causation, time, event from booking_timeline"
        f" where booking_id = '{booking}' order by sequence",
    )
    assert found == [
        (
            2,
            "booking.guests_added.v1",
            "command-1:0",
            "command-1",
            T0 + timedelta(seconds=1),
            {"room_id": 1, "booking_id": str(booking), "guest_ids": [7]},
        ),
        (
            4,
            "booking.cancelled.v1",
            "command-3:0",
            "command-3",
            T0 + timedelta(seconds=3),
            {"room_id": 1, "booking_id": str(booking), "reason": "by_guest"},
        ),
    ]


async def test_events_that_come_again_change_nothing(database: DatabaseSettings) -> None:
    log = on_the_log(
        [
            opened(1, 0, 3, 9_000),
            changed(1, [1], closed=True),
            GuestsAdded(room_id=1, booking_id=UUID(int=1), guest_ids=(7,)),
        ]
    )
    await apply(database, [log])
    before = await everything(database)

    await apply(database, [log])

    assert await everything(database) == before


# Workers of their own for the partitions of one hotel.


@pytest.mark.parametrize("first_price", [5_000, 8_000], ids=["the first is cheaper", "the second is cheaper"])
async def test_two_workers_that_change_one_hotel_at_once_both_count(
    first_price: int, database: DatabaseSettings
) -> None:
    await apply(database, in_one_batch([opened(1, 0, 1, 9_000), opened(2, 0, 1, 9_500)]))
    consumer = consumers()["hotel_min_price"]
    of_first = on_the_log([changed(1, [0], price_minor=first_price)])[1]
    of_second = on_the_log([changed(2, [0], price_minor=13_000 - first_price)])[2]

    async with (
        await AsyncConnection.connect(database.conninfo()) as first,
        await AsyncConnection.connect(database.conninfo()) as second,
    ):
        await consumer.handle(first, [run_of(consumer, 1, of_first)])
        waiting = asyncio.create_task(consumer.handle(second, [run_of(consumer, 2, of_second)]))
        await wait_until(lambda: somebody_waits(database), message="the second worker waits for the first")
        await first.commit()
        await waiting

    assert await min_prices(database) == {(10, night(0)): 5_000}


async def test_workers_of_different_hotels_do_not_wait_for_each_other(database: DatabaseSettings) -> None:
    consumer = consumers()["hotel_min_price"]
    async with (
        await AsyncConnection.connect(database.conninfo()) as first,
        await AsyncConnection.connect(database.conninfo()) as second,
    ):
        await consumer.handle(first, [run_of(consumer, 0, on_the_log([opened(1, 0, 1, 9_000)])[1])])
        await second.execute("set lock_timeout = '1ms'")
        await consumer.handle(second, [run_of(consumer, 1, on_the_log([opened(4, 0, 1, 5_000)])[1])])

    assert await min_prices(database) == {(10, night(0)): 9_000, (20, night(0)): 5_000}


async def somebody_waits(database: DatabaseSettings) -> bool:
    query = "select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
    return bool(await rows(database, query))


# Any log, in any batches.


@st.composite
def logs(draw: st.DrawFn) -> list[Event]:
    """Return events of four rooms in two hotels: nights opened once each, changed as often as managers like."""
    open_nights: dict[int, set[int]] = {room: set() for room in HOTEL_OF}
    events: list[Event] = []
    for _ in range(draw(st.integers(1, 25))):
        room = draw(st.sampled_from(sorted(HOTEL_OF)))
        kind = draw(st.sampled_from(["open", "change", "change", "booking"]))
        if kind == "open":
            first = draw(st.integers(0, 5))
            end = draw(st.integers(first + 1, 6))
            if open_nights[room].isdisjoint(range(first, end)):
                open_nights[room] |= set(range(first, end))
                events.append(opened(room, first, end, draw(st.integers(0, 9_999))))
        elif kind == "change" and open_nights[room]:
            events.append(
                changed(
                    room,
                    draw(st.lists(st.sampled_from(sorted(open_nights[room])), unique=True)),
                    price_minor=draw(st.none() | st.integers(0, 9_999)),
                    surge_milli=draw(st.none() | st.integers(1, 3_000)),
                    closed=draw(st.none() | st.booleans()),
                )
            )
        else:
            events.append(booking_event(draw, room))
    return events


def booking_event(draw: st.DrawFn, room: int) -> BookingEvent:
    booking_id = UUID(int=room * 10 + draw(st.integers(0, 2)))
    return draw(
        st.sampled_from(
            [
                GuestsAdded(room_id=room, booking_id=booking_id, guest_ids=(1, 2)),
                BookingExpired(room_id=room, booking_id=booking_id),
                BookingRejected(
                    room_id=room,
                    booking_id=booking_id,
                    hotel_id=HOTEL_OF[room],
                    check_in=FIRST,
                    check_out=FIRST,
                    rooms_count=1,
                    reason=Rejection.NO_NIGHTS,
                ),
                CommandRefused(
                    room_id=room, booking_id=booking_id, command="booking.cancel.v1", reason=Refusal.WRONG_STATUS
                ),
            ]
        )
    )


def lowest_by_hand(events: Sequence[Event]) -> dict[tuple[int, date], int]:
    prices: dict[tuple[int, date], list[Any]] = {}
    for event in events:
        if isinstance(event, InventoryOpened):
            day = event.first_night
            while day < event.end_night:
                prices[event.room_id, day] = [event.price_minor, 1000, False]
                day += timedelta(days=1)
        if isinstance(event, InventoryChanged):
            for day in event.nights:
                for place, value in enumerate((event.price_minor, event.surge_milli, event.closed)):
                    if value is not None:
                        prices[event.room_id, day][place] = value
    lowest: dict[tuple[int, date], int] = {}
    for (room, day), (price, surge, closed) in prices.items():
        cost = (price * surge + 500) // 1000
        if not closed:
            lowest[HOTEL_OF[room], day] = min(cost, lowest.get((HOTEL_OF[room], day), cost))
    return lowest


@given(
    events=logs(),
    sizes=st.lists(st.integers(1, 6), min_size=1, max_size=5),
    again=st.lists(st.integers(1, 6), min_size=1, max_size=5),
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_a_rebuild_gives_the_same_rows_however_the_log_comes_in_batches(
    events: list[Event], sizes: list[int], again: list[int], database: DatabaseSettings
) -> None:
    await forget_everything(database)
    log = on_the_log(events)
    await apply(database, cut(log, sizes))
    first = await everything(database)

    assert await min_prices(database) == lowest_by_hand(events)
    assert len(first[0]) == sum(isinstance(event, BookingEvent) for event in events)

    await forget_everything(database)
    await apply(database, cut(log, again))
    assert await everything(database) == first
