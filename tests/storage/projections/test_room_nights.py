"""A night's price and its taken rooms are those of the events, and a hotel's lowest price follows."""

import asyncio
from datetime import date
from typing import Any
from uuid import UUID

import msgspec
import pytest
from psycopg import AsyncConnection

from storage.projections.room_nights import NightNotOpened, StayNotInLedger
from storage.settings import DatabaseSettings
from tests.storage.projections.log import (
    apply,
    changed,
    consumers,
    cut,
    in_one_batch,
    night,
    on_the_log,
    opened,
    partition_batch,
    reserved,
    rows,
)
from tests.support.locks import somebody_waits
from tests.support.waiting import wait_until
from topics.messages.events import (
    BlockReleased,
    BookingCancelled,
    BookingConfirmed,
    BookingExpired,
    BookingRefunded,
    BookingRejected,
    BookingReserved,
    DisputeClosed,
    DisputeOpened,
    Event,
    GuestsAdded,
    GuestsChanged,
    GuestsCheckedIn,
    GuestsCheckedOut,
    GuestsDidNotArrive,
    NightsBlocked,
    RefundClosed,
    RefundFailed,
)
from topics.messages.values import BlockReason, CancelReason, DisputeResult, RefundClosing, Rejection, Terms


async def min_prices(database: DatabaseSettings) -> dict[tuple[int, date], int]:
    found = await rows(database, "select hotel_id, date, min_price_minor from hotel_min_price")
    return {(hotel_id, day): price for hotel_id, day, price in found}


async def taken(database: DatabaseSettings) -> dict[tuple[int, date], int]:
    found = await rows(database, "select room_id, date, taken_count from room_night where taken_count <> 0")
    return {(room_id, day): count for room_id, day, count in found}


def cancelled(event: BookingReserved, freed_from: date | None = None) -> BookingCancelled:
    return BookingCancelled(
        room_id=event.room_id, booking_id=event.booking_id, reason=CancelReason.BY_GUEST, freed_from=freed_from
    )


def expired(event: BookingReserved) -> BookingExpired:
    return BookingExpired(room_id=event.room_id, booking_id=event.booking_id)


def confirmed(event: BookingReserved, *, late: bool = False) -> BookingConfirmed:
    return BookingConfirmed(
        room_id=event.room_id, booking_id=event.booking_id, amount_minor=1, currency="EUR", late=late
    )


# How many rooms are taken.


async def test_a_stay_takes_its_rooms_on_its_nights_and_not_on_the_day_of_departure(database: DatabaseSettings) -> None:
    await apply(database, in_one_batch([opened(1, 0, 3, 9_000), reserved(1, 1, 0, 2, rooms_count=3)]))

    assert await taken(database) == {(1, night(0)): 3, (1, night(1)): 3}


@pytest.mark.parametrize("payments", [0, 1], ids=["unpaid", "paid"])
async def test_a_cancelled_stay_gives_its_rooms_back(payments: int, database: DatabaseSettings) -> None:
    stay, other = reserved(1, 1, 0, 2, rooms_count=2), reserved(2, 1, 0, 1)
    await apply(database, in_one_batch([opened(1, 0, 3, 9_000), stay, other, *[confirmed(stay)] * payments]))

    await apply(database, [on_the_log([cancelled(stay)])])

    assert await taken(database) == {(1, night(0)): 1}


@pytest.mark.parametrize(
    ("freed_from", "left"), [(0, []), (1, [0]), (2, [0, 1]), (3, [0, 1, 2])], ids=["all", "two", "one", "none"]
)
@pytest.mark.parametrize("together", [True, False], ids=["in one batch", "in two"])
async def test_a_stay_cancelled_after_check_in_gives_back_the_nights_to_come(
    freed_from: int, left: list[int], *, together: bool, database: DatabaseSettings
) -> None:
    stay = reserved(1, 1, 0, 3, rooms_count=2)
    events: list[Event] = [opened(1, 0, 4, 9_000), stay, confirmed(stay)]
    ended = cancelled(stay, night(freed_from))

    await apply(database, cut(on_the_log([*events, ended]), [4] if together else [3]))

    assert await taken(database) == {(1, night(day)): 2 for day in left}
    freed = [(night(freed_from), night(3))] if freed_from < 3 else []
    changes = await rows(database, "select first_night, end_night from room_night_change where position = 4")
    assert changes == freed


@pytest.mark.parametrize(("freed_from", "left"), [(0, []), (1, [0]), (3, [0, 1, 2])], ids=["all", "two", "none"])
@pytest.mark.parametrize("kind", [GuestsCheckedOut, GuestsDidNotArrive])
@pytest.mark.parametrize("together", [True, False], ids=["in one batch", "in two"])
async def test_guests_who_leave_early_or_never_arrive_give_back_the_nights_to_come(
    freed_from: int, left: list[int], kind: type[Any], *, together: bool, database: DatabaseSettings
) -> None:
    stay = reserved(1, 1, 0, 3, rooms_count=2)
    events: list[Event] = [opened(1, 0, 4, 9_000), stay, confirmed(stay)]
    ended = kind(room_id=1, booking_id=stay.booking_id, freed_from=night(freed_from))

    await apply(database, cut(on_the_log([*events, ended]), [4] if together else [3]))

    assert await taken(database) == {(1, night(day)): 2 for day in left}
    freed = [(night(freed_from), night(3))] if freed_from < 3 else []
    assert await rows(database, "select first_night, end_night from room_night_change where position = 4") == freed


async def test_guests_who_arrive_and_leave_on_their_last_day_keep_their_nights(database: DatabaseSettings) -> None:
    stay = reserved(1, 1, 0, 2)
    about: dict[str, Any] = {"room_id": 1, "booking_id": stay.booking_id}
    events: list[Event] = [opened(1, 0, 3, 9_000), stay, confirmed(stay)]
    await apply(database, in_one_batch([*events, GuestsCheckedIn(**about), GuestsCheckedOut(**about)]))

    assert await taken(database) == {(1, night(0)): 1, (1, night(1)): 1}


async def blocked(database: DatabaseSettings) -> list[tuple[int, ...]]:
    return await rows(
        database, "select total_count, allowance_count, taken_count, blocked_count from room_night order by date"
    )


def block(kind: type[NightsBlocked] | type[BlockReleased], first: int, end: int) -> Event:
    more: dict[str, Any] = {"reason": BlockReason.GROUP} if kind is NightsBlocked else {}
    dates: dict[str, Any] = {"first_night": night(first), "end_night": night(end)}
    return kind(room_id=1, block_id=UUID(int=9), rooms_count=2, **dates, **more)


@pytest.mark.parametrize("sizes", [[9], [1], [2, 1]], ids=["in one batch", "one by one", "mixed"])
async def test_a_block_takes_rooms_off_sale_until_it_is_released(sizes: list[int], database: DatabaseSettings) -> None:
    events = [opened(1, 0, 3, 9_000), block(NightsBlocked, 0, 2), reserved(1, 1, 1, 3)]
    await apply(database, cut(on_the_log(events), sizes))

    assert await blocked(database) == [(5, 0, 0, 2), (5, 0, 1, 2), (5, 0, 1, 0)]
    changes = await rows(database, "select first_night, end_night from room_night_change where position = 2")
    assert changes == [(night(0), night(2))]

    await apply(database, in_one_batch([block(BlockReleased, 0, 2)]))

    assert await blocked(database) == [(5, 0, 0, 0), (5, 0, 1, 0), (5, 0, 1, 0)]


@pytest.mark.parametrize("sizes", [[9], [1]], ids=["in one batch", "one by one"])
async def test_an_allowance_changes_and_the_total_stays(sizes: list[int], database: DatabaseSettings) -> None:
    events = [
        opened(1, 0, 2, 9_000),
        changed(1, [0, 1], allowance_count=3),
        changed(1, [1], total_count=7, allowance_count=0),
    ]
    await apply(database, cut(on_the_log(events), sizes))

    assert await blocked(database) == [(5, 3, 0, 0), (7, 0, 0, 0)]


async def test_a_log_that_is_read_again_opens_a_night_without_its_block_and_allowance(
    database: DatabaseSettings,
) -> None:
    events = [opened(1, 0, 1, 9_000), changed(1, [0], allowance_count=3), block(NightsBlocked, 0, 1)]
    await apply(database, in_one_batch(events))

    await apply(database, in_one_batch(events[:1]))
    assert await blocked(database) == [(5, 0, 0, 0)]

    await apply(database, in_one_batch(events))
    assert await blocked(database) == [(5, 3, 0, 2)]


async def test_money_guests_and_disputes_change_no_night(database: DatabaseSettings) -> None:
    stay = reserved(1, 1, 0, 2)
    about: dict[str, Any] = {"room_id": 1, "booking_id": stay.booking_id}
    money: dict[str, Any] = {**about, "payment_intent": "pi", "amount_minor": 1}
    await apply(database, in_one_batch([opened(1, 0, 2, 9_000), stay, confirmed(stay)]))
    before = await rows(database, "select * from room_night order by date")

    await apply(
        database,
        in_one_batch(
            [
                GuestsChanged(**about, guest_ids=(2,), guest_list_id=UUID(int=9)),
                BookingRefunded(**money, refund_id="re", by_hand=True),
                RefundFailed(**money, refund_id="re", failure="unknown"),
                RefundClosed(**money, currency="EUR", reason=RefundClosing.PAID_OTHERWISE),
                DisputeOpened(**money, dispute_id="dp", currency="EUR", reason="fraudulent"),
                DisputeClosed(**money, dispute_id="dp", currency="EUR", result=DisputeResult.LOST),
            ]
        ),
    )

    assert await rows(database, "select * from room_night order by date") == before
    assert len(await rows(database, "select * from room_night_change")) == 2


async def test_a_stay_reserved_and_cancelled_at_once_takes_nothing(database: DatabaseSettings) -> None:
    stay = reserved(1, 1, 0, 2)
    await apply(database, in_one_batch([opened(1, 0, 3, 9_000), stay, cancelled(stay)]))

    assert await taken(database) == {}


async def test_a_payment_in_time_takes_no_room_twice_and_a_late_one_takes_it_again(database: DatabaseSettings) -> None:
    stay, late = reserved(1, 1, 0, 1), reserved(2, 1, 0, 1)
    events: list[Event] = [opened(1, 0, 1, 9_000), stay, late, confirmed(stay), expired(late)]
    await apply(database, in_one_batch(events))
    assert await taken(database) == {(1, night(0)): 1}

    await apply(database, [on_the_log([confirmed(late, late=True)])])
    assert await taken(database) == {(1, night(0)): 2}

    await apply(database, [on_the_log([cancelled(late)])])
    assert await taken(database) == {(1, night(0)): 1}


async def test_a_stay_paid_at_the_hotel_takes_its_rooms_once(database: DatabaseSettings) -> None:
    stay = reserved(1, 1, 0, 1, terms=Terms.AT_HOTEL)
    await apply(database, in_one_batch([opened(1, 0, 1, 9_000), stay, confirmed(stay)]))

    assert await taken(database) == {(1, night(0)): 1}


async def test_a_refused_stay_and_named_guests_take_nothing(database: DatabaseSettings) -> None:
    refused = BookingRejected(
        room_id=1,
        booking_id=UUID(int=1),
        hotel_id=10,
        check_in=night(0),
        check_out=night(1),
        rooms_count=1,
        reason=Rejection.SOLD_OUT,
    )
    named = GuestsAdded(room_id=1, booking_id=UUID(int=2), guest_ids=(1,))
    await apply(database, in_one_batch([opened(1, 0, 1, 9_000), refused, named]))

    assert await taken(database) == {}


async def test_each_event_that_changes_nights_leaves_its_place_and_which_nights(database: DatabaseSettings) -> None:
    # Room 1 is in partition 1, room 2 in partition 2.
    stay = reserved(1, 1, 0, 2)
    await apply(
        database,
        in_one_batch([opened(1, 0, 3, 9_000), changed(1, [1], closed=True), stay, confirmed(stay), opened(2, 0, 1, 1)]),
    )
    await apply(database, in_one_batch([opened(2, 1, 2, 1)]))

    assert await rows(database, "select * from room_night_change order by partition, position") == [
        (1, 1, 1, night(0), night(3)),
        (1, 2, 1, night(1), night(2)),
        (1, 3, 1, night(0), night(2)),
        (2, 1, 2, night(0), night(1)),
    ]


async def test_a_manager_changes_what_is_named_and_nothing_else(database: DatabaseSettings) -> None:
    await apply(database, in_one_batch([opened(1, 0, 1, 9_000), reserved(1, 1, 0, 1)]))
    await apply(
        database,
        in_one_batch([changed(1, [0], surge_milli=1_500), changed(1, [0], price_minor=8_000), reserved(2, 1, 0, 1)]),
    )
    await apply(database, in_one_batch([changed(1, [0], total_count=9), changed(1, [0], closed=True)]))

    assert await rows(
        database,
        "select total_count, taken_count, price_minor, surge_milli, closed, hotel_id, currency from room_night",
    ) == [(9, 2, 8_000, 1_500, True, 10, "EUR")]


async def test_a_change_of_a_night_that_was_never_opened_stops_the_role(database: DatabaseSettings) -> None:
    with pytest.raises(NightNotOpened, match="1 of 2 nights were never opened; the first is 2027-02-27 of room 1"):
        await apply(database, [on_the_log([opened(1, 0, 1, 9_000)]), on_the_log([changed(1, [0, 1], price_minor=1)])])


async def test_an_end_of_a_stay_that_the_ledger_does_not_have_stops_the_role(database: DatabaseSettings) -> None:
    with pytest.raises(StayNotInLedger, match=str(UUID(int=1))):
        await apply(database, in_one_batch([opened(1, 0, 1, 9_000), expired(reserved(1, 1, 0, 1))]))


# The price of a hotel.


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


@pytest.mark.parametrize(("currency", "lowest"), [("KWD", 18_520), ("MGA", 18_500), ("UGX", 18_518), ("EUR", 18_518)])
async def test_the_lowest_price_is_rounded_to_what_can_be_charged(
    currency: str, lowest: int, database: DatabaseSettings
) -> None:
    night_opened = msgspec.structs.replace(opened(1, 0, 1, 12_345), currency=currency)
    await apply(database, in_one_batch([night_opened, changed(1, [0], surge_milli=1_500)]))

    assert await min_prices(database) == {(10, night(0)): lowest}  # 18,517.5


async def test_a_closed_room_does_not_count_and_an_opened_again_one_does(database: DatabaseSettings) -> None:
    await apply(database, in_one_batch([opened(1, 0, 1, 9_000), opened(2, 0, 1, 8_000), changed(2, [0], closed=True)]))
    assert await min_prices(database) == {(10, night(0)): 9_000}

    await apply(database, in_one_batch([changed(2, [0], closed=False)]))
    assert await min_prices(database) == {(10, night(0)): 8_000}


async def test_a_night_with_every_room_closed_has_no_price(database: DatabaseSettings) -> None:
    await apply(database, in_one_batch([opened(1, 0, 2, 9_000)]))
    await apply(database, in_one_batch([changed(1, [0], closed=True)]))

    assert await min_prices(database) == {(10, night(1)): 9_000}


async def test_neither_a_stay_nor_how_many_rooms_there_are_changes_a_price(database: DatabaseSettings) -> None:
    await apply(database, in_one_batch([opened(1, 0, 1, 9_000), changed(1, [0], total_count=1), reserved(1, 1, 0, 1)]))

    assert await min_prices(database) == {(10, night(0)): 9_000}


# Workers of their own for the partitions of one hotel.


@pytest.mark.parametrize("first_price", [5_000, 8_000], ids=["the first is cheaper", "the second is cheaper"])
async def test_two_workers_that_change_one_hotel_at_once_both_count(
    first_price: int, database: DatabaseSettings
) -> None:
    await apply(database, in_one_batch([opened(1, 0, 1, 9_000), opened(2, 0, 1, 9_500)]))
    consumer = consumers()["room_nights"]
    of_first = on_the_log([changed(1, [0], price_minor=first_price)])[1]
    of_second = on_the_log([changed(2, [0], price_minor=13_000 - first_price)])[2]

    async with (
        await AsyncConnection.connect(database.conninfo()) as first,
        await AsyncConnection.connect(database.conninfo()) as second,
    ):
        await consumer.handle(first, [partition_batch(consumer, 1, of_first)])
        waiting = asyncio.create_task(consumer.handle(second, [partition_batch(consumer, 2, of_second)]))
        await wait_until(lambda: somebody_waits(database), message="the second worker waits for the first")
        await first.commit()
        await waiting

    assert await min_prices(database) == {(10, night(0)): 5_000}


async def test_workers_of_different_hotels_do_not_wait_for_each_other(database: DatabaseSettings) -> None:
    consumer = consumers()["room_nights"]
    async with (
        await AsyncConnection.connect(database.conninfo()) as first,
        await AsyncConnection.connect(database.conninfo()) as second,
    ):
        await consumer.handle(first, [partition_batch(consumer, 0, on_the_log([opened(1, 0, 1, 9_000)])[1])])
        await second.execute("set lock_timeout = '1ms'")
        await consumer.handle(second, [partition_batch(consumer, 1, on_the_log([opened(4, 0, 1, 5_000)])[1])])

    assert await min_prices(database) == {(10, night(0)): 9_000, (20, night(0)): 5_000}


async def test_workers_of_one_hotel_do_not_wait_for_each_other_to_count_stays(database: DatabaseSettings) -> None:
    await apply(database, in_one_batch([opened(1, 0, 1, 9_000), opened(2, 0, 1, 9_500)]))
    consumer = consumers()["room_nights"]
    async with (
        await AsyncConnection.connect(database.conninfo()) as first,
        await AsyncConnection.connect(database.conninfo()) as second,
    ):
        await consumer.handle(first, [partition_batch(consumer, 1, on_the_log([reserved(1, 1, 0, 1)])[1])])
        await second.execute("set lock_timeout = '1ms'")
        await consumer.handle(second, [partition_batch(consumer, 2, on_the_log([reserved(2, 2, 0, 1)])[2])])

    assert await taken(database) == {(1, night(0)): 1, (2, night(0)): 1}
