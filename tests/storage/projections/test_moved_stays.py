"""A stay that moves to another room gives its nights and its revenue to a leg there, in any order of the partitions.

The ledger has the booking as a trip long before the events come so far.
"""

import itertools
from typing import Any
from uuid import UUID

import pytest
from msgspec.structs import replace
from psycopg import AsyncConnection

from storage.settings import DatabaseSettings
from tests.storage.projections.log import (
    Log,
    apply,
    cut,
    night,
    on_the_log,
    opened,
    reserved,
    rows,
    stay_changed,
    write_ledger,
)
from topics.messages.events import (
    BookingCancelled,
    BookingConfirmed,
    BookingExpired,
    BookingRefunded,
    Event,
    LegEnded,
    RefundClosed,
    RefundFailed,
)
from topics.messages.sale import AppliedPolicy
from topics.messages.values import CancelReason, RefundClosing, RefundReason

SIZES = pytest.mark.parametrize("sizes", [[99], [1], [2, 3]], ids=["in one batch", "one by one", "mixed"])
#: The rooms of the booking and of the leg, each in the partition of its number.
HERE, THERE = 1, 2

#: Two rooms for two nights, for 240.00 together; a change adds a night that is paid by a second payment; then one room
#: of another type, for two other nights, which are cheaper.
STAY = replace(reserved(1, HERE, 0, 2, 2), amount_minor=24_000, night_amounts_minor=(12_000, 12_000))
LONGER = stay_changed(
    STAY, 71, 0, 3, 2, amount_minor=36_000, night_amounts_minor=(12_000,) * 3, extra_minor=12_000,
    session_id="cs_2", payment_intent="pi_2",
)  # fmt: skip
MOVED = stay_changed(LONGER, 72, 5, 7, 1, amount_minor=20_000, night_amounts_minor=(8_000, 12_000), to_room_id=THERE)
LEG = replace(
    reserved(72, THERE, 5, 7, 1, trip_id=STAY.booking_id, trip_room_id=HERE),
    amount_minor=20_000,
    night_amounts_minor=(8_000, 12_000),
)
ABOUT: dict[str, Any] = {"room_id": HERE, "booking_id": STAY.booking_id}
CONFIRMED = BookingConfirmed(**ABOUT, amount_minor=24_000, currency="EUR", session_id="cs_1", payment_intent="pi_1")
EXPIRED, LATE = BookingExpired(**ABOUT), replace(CONFIRMED, late=True)
LEG_CONFIRMED = BookingConfirmed(room_id=THERE, booking_id=LEG.booking_id, amount_minor=20_000, currency="EUR")
LEG_CANCELLED = BookingCancelled(
    room_id=THERE, booking_id=LEG.booking_id, reason=CancelReason.BY_GUEST, policy=AppliedPolicy(kept_minor=5_000)
)
LEG_ENDED = LegEnded(
    **ABOUT, leg_id=LEG.booking_id, kept_minor=5_000, reason=RefundReason.BOOKING_CANCELLED,
    cancel_reason=CancelReason.BY_GUEST,
)  # fmt: skip
CANCELLED = BookingCancelled(**ABOUT, reason=CancelReason.BY_GUEST, policy=AppliedPolicy(kept_minor=5_000))
#: The night of room 1 on which the leg begins was never opened.
OPENED = (opened(HERE, 0, 4, 9_000), opened(THERE, 4, 9, 8_000))


def refunded(id: str, amount_minor: int, *, payment: str = "pi_1", by_hand: bool = True) -> BookingRefunded:
    return BookingRefunded(**ABOUT, payment_intent=payment, refund_id=id, amount_minor=amount_minor, by_hand=by_hand)


async def taken(database: DatabaseSettings) -> dict[tuple[int, int], int]:
    found = await rows(database, "select room_id, date, taken_count from room_night where taken_count <> 0")
    return {(room_id, (day - night(0)).days): count for room_id, day, count in found}


async def revenue(database: DatabaseSettings) -> dict[int, tuple[int, int]]:
    """Return the revenue and the fees of each night."""
    found = await rows(database, "select date, revenue_minor, fees_minor from daily_report")
    return {(day - night(0)).days: (earned, fees) for day, earned, fees in found}


async def everything(database: DatabaseSettings) -> list[list[tuple[Any, ...]]]:
    tables = ("room_night", "room_night_change", "reported_stay", "reported_trip", "daily_report")
    return [await rows(database, f"select * from {table} order by 1, 2") for table in tables]


async def forget(database: DatabaseSettings) -> None:
    async with await AsyncConnection.connect(database.conninfo()) as connection:
        await connection.execute(
            "truncate room_night, room_night_change, hotel_min_price, reported_stay, reported_trip, daily_report,"
            " booking_timeline, money_movement"
        )


async def write_all(database: DatabaseSettings, log: Log) -> None:
    async with await AsyncConnection.connect(database.conninfo(), autocommit=True) as connection:
        await write_ledger(connection, log)


# The nights of rooms.


@SIZES
async def test_a_stay_that_moves_gives_its_nights_back_and_the_leg_has_those_of_the_other_room(
    sizes: list[int], database: DatabaseSettings
) -> None:
    log = on_the_log([*OPENED, STAY, CONFIRMED, LONGER, LEG, MOVED, LEG_CONFIRMED])
    await apply(database, cut(log, sizes))
    assert await taken(database) == {(THERE, 5): 1, (THERE, 6): 1}
    changes = "select room_id, first_night, end_night from room_night_change where (partition, position) = (1, 5)"
    assert await rows(database, changes) == [(HERE, night(0), night(3))]

    await apply(database, [{number: received[-1:] for number, received in on_the_log([CANCELLED]).items()}])
    assert await taken(database) == {(THERE, 5): 1, (THERE, 6): 1}, "a trip has no nights"


@SIZES
async def test_events_from_before_a_move_find_the_stay_of_then(sizes: list[int], database: DatabaseSettings) -> None:
    log = on_the_log([*OPENED, STAY, EXPIRED, LATE, LONGER, LEG, MOVED, LEG_CONFIRMED, LEG_CANCELLED, CANCELLED])
    await apply(database, cut(log, sizes))
    assert await taken(database) == {}
    whole = await everything(database)

    # The log comes again while the ledger has the last state: nights begin at their opening.
    first = {(HERE, 0): 2, (HERE, 1): 2}
    for count, counted in ((2, first), (3, {}), (4, first), (5, {**first, (HERE, 2): 2}), (6, {}), (7, {})):
        await forget(database)
        await apply(database, [{HERE: log[HERE][:count]}])
        assert await taken(database) == counted, count
    await forget(database)
    await apply(database, [log])
    assert await everything(database) == whole


# The sales of hotels.

HISTORY: tuple[Event, ...] = (*OPENED, STAY, CONFIRMED, LONGER, LEG, MOVED, LEG_CONFIRMED)


async def test_revenue_is_that_of_the_stay_until_its_move_is_read_and_of_the_leg_once_that_is_confirmed(
    database: DatabaseSettings,
) -> None:
    log = on_the_log(HISTORY)
    await write_all(database, log)

    before = {0: (12_000, 0), 1: (12_000, 0)}
    moved = {5: (8_000, 0), 6: (12_000, 0)}
    for pieces, counted in (
        ([{HERE: log[HERE][:3]}], before),
        ([{HERE: log[HERE][:4]}], {**before, 2: (12_000, 0)}),
        ([{HERE: log[HERE]}], {}),
        ([{THERE: log[THERE]}], moved),
        ([{THERE: log[THERE]}, {HERE: log[HERE][:3]}], {**before, **moved}),
        ([{THERE: log[THERE]}, {HERE: log[HERE]}], moved),
        ([{HERE: log[HERE]}, {THERE: log[THERE]}], moved),
    ):
        await forget(database)
        await apply(database, pieces)
        assert await revenue(database) == counted


@pytest.mark.parametrize(
    ("events", "counted"),
    [
        # 360.00 were paid, and the leg costs 200.00.
        ([MOVED], {5: (8_000, 0), 6: (12_000, 0)}),
        ([MOVED, refunded("re_1", 12_000, payment="pi_2", by_hand=False)], {5: (8_000, 0), 6: (12_000, 0)}),
        (
            [
                MOVED,
                refunded("re_1", 12_000, payment="pi_2", by_hand=False),
                refunded("re_2", 4_000, by_hand=False),
                refunded("re_3", 5_000),
            ],
            {5: (6_000, 0), 6: (9_000, 0)},
        ),
        (
            [
                refunded("re_3", 5_000),
                MOVED,
                refunded("re_1", 12_000, payment="pi_2", by_hand=False),
                refunded("re_2", 4_000, by_hand=False),
            ],
            {5: (6_000, 0), 6: (9_000, 0)},
        ),
        # One that was made before, and fails afterwards.
        (
            [
                refunded("re_3", 21_000),
                MOVED,
                RefundFailed(**ABOUT, payment_intent="pi_1", refund_id="re_3", amount_minor=21_000, failure="x"),
                refunded("re_4", 17_000),
            ],
            {5: (7_600, 0), 6: (11_400, 0)},
        ),
        # An operator closes the refund of the move: the guest has the money otherwise.
        (
            [
                refunded("re_3", 1_000),
                MOVED,
                RefundClosed(
                    **ABOUT, payment_intent="pi_1", amount_minor=16_000, currency="EUR",
                    reason=RefundClosing.PAID_OTHERWISE,
                ),
            ],
            {5: (7_600, 0), 6: (11_400, 0)},
        ),
        # An operator closed a refund before the stay moved.
        (
            [
                RefundClosed(
                    **ABOUT, payment_intent="pi_1", amount_minor=16_000, currency="EUR",
                    reason=RefundClosing.PAID_OTHERWISE,
                ),
                refunded("re_3", 1_000),
                MOVED,
            ],
            {5: (7_600, 0), 6: (11_400, 0)},
        ),
        # It was carried out after all, by us: it counts once.
        (
            [
                RefundClosed(
                    **ABOUT, payment_intent="pi_1", amount_minor=16_000, currency="EUR",
                    reason=RefundClosing.PAID_OTHERWISE,
                ),
                refunded("re_3", 16_000, by_hand=False),
                MOVED,
            ],
            {5: (8_000, 0), 6: (12_000, 0)},
        ),
        # A payment that bought nothing.
        ([MOVED, refunded("re_9", 30_000, payment="pi_second")], {5: (8_000, 0), 6: (12_000, 0)}),
        ([MOVED, LEG_CANCELLED, LEG_ENDED, refunded("re_1", 31_000), CANCELLED], {5: (0, 5_000)}),
        ([MOVED, LEG_CANCELLED, LEG_ENDED, refunded("re_1", 31_000), refunded("re_2", 900)], {5: (0, 4_100)}),
    ],
)  # fmt: skip
@SIZES
async def test_money_that_left_the_payments_and_was_not_due_to_the_guest_is_the_legs(
    events: list[Event], counted: dict[int, tuple[int, int]], sizes: list[int], database: DatabaseSettings
) -> None:
    log = on_the_log([*HISTORY[:-2], LEG_CONFIRMED, *events])
    await write_all(database, log)

    live: list[list[tuple[Any, ...]]] = []
    for order in ([HERE, THERE], [THERE, HERE], None):
        await forget(database)
        pieces = cut(log, sizes)
        if order is not None:
            pieces = [{number: batch[number]} for number in order for batch in pieces if number in batch]
        await apply(database, pieces)
        assert await revenue(database) == counted
        live = live or await everything(database)
        assert await everything(database) == live

    # An operator sets a cursor back: to the beginning, and into the middle.
    for first, number in itertools.product(range(2, 7), (HERE, THERE)):
        await apply(database, cut({number: log[number][first:]}, [1]))
        assert (await everything(database))[2:] == live[2:], (first, number)


def test_the_ids_are_those_of_the_log() -> None:
    assert LEG.booking_id == MOVED.change_id == UUID(int=72)
    assert MOVED.before.amount_minor == LONGER.amount_minor
