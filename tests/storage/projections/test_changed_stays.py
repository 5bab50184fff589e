"""A changed stay takes its new nights and counts with its new amounts, wherever a batch ends or a worker begins again.

The ledger has the stay after all of its changes, as it has for a rebuild.
"""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import pytest
from psycopg import AsyncConnection

from storage.settings import DatabaseSettings
from tests.storage.projections import test_daily_report as sales
from tests.storage.projections.log import (
    apply,
    change_ended,
    change_held,
    cut,
    night,
    on_the_log,
    opened,
    reserved,
    rooms_held,
    rows,
    stay_changed,
    stay_of,
    write_change,
)
from topics.messages.events import (
    BookingCancelled,
    BookingConfirmed,
    BookingEvent,
    BookingExpired,
    BookingReserved,
    Event,
    GuestsCheckedOut,
    GuestsDidNotArrive,
    StayChanged,
)
from topics.messages.sale import AppliedPolicy
from topics.messages.values import CancelReason, DisputeResult, Terms

Nights = dict[int, int]
SIZES = pytest.mark.parametrize("sizes", [[99], [1], [2, 3]], ids=["in one batch", "one by one", "mixed"])


# The nights of rooms.

#: Two rooms for two nights, then three rooms for three nights from the second of them on.
FIRST = reserved(1, 1, 0, 2, rooms_count=2)
CHANGED = stay_changed(FIRST, 1, 1, 4, 3, held=rooms_held(stay_of(FIRST), night(1), night(4), 3))
HELD = change_held(CHANGED)
CONFIRMED = BookingConfirmed(room_id=1, booking_id=FIRST.booking_id, amount_minor=1, currency="EUR")


async def taken(database: DatabaseSettings) -> Nights:
    found = await rows(database, "select date, taken_count from room_night where taken_count <> 0")
    return {(day - night(0)).days: count for day, count in found}


async def changes(database: DatabaseSettings, position: int) -> list[tuple[int, int, int]]:
    found = await rows(
        database, f"select room_id, first_night, end_night from room_night_change where position = {position}"
    )
    return [(room_id, (first - night(0)).days, (end - night(0)).days) for room_id, first, end in found]


@SIZES
async def test_a_change_that_is_held_takes_rooms_beside_those_of_the_stay(
    sizes: list[int], database: DatabaseSettings
) -> None:
    await apply(database, cut(on_the_log([opened(1, 0, 5, 9_000), FIRST, CONFIRMED, HELD]), sizes))

    assert await taken(database) == {0: 2, 1: 3, 2: 3, 3: 3}
    assert await changes(database, 4) == [(1, 1, 4)]


@SIZES
async def test_a_change_that_ends_gives_back_what_it_held(sizes: list[int], database: DatabaseSettings) -> None:
    await apply(database, cut(on_the_log([opened(1, 0, 5, 9_000), FIRST, CONFIRMED, HELD, change_ended(HELD)]), sizes))

    assert await taken(database) == {0: 2, 1: 2}
    assert await changes(database, 5) == [(1, 1, 4)]


@SIZES
async def test_a_changed_stay_takes_its_new_nights_alone(sizes: list[int], database: DatabaseSettings) -> None:
    await apply(database, cut(on_the_log([opened(1, 0, 5, 9_000), FIRST, CONFIRMED, HELD, CHANGED]), sizes))

    assert await taken(database) == {1: 3, 2: 3, 3: 3}
    assert await changes(database, 5) == [(1, 0, 4)]


@SIZES
async def test_a_change_that_takes_place_at_once_swaps_the_nights(sizes: list[int], database: DatabaseSettings) -> None:
    shorter = stay_changed(FIRST, 1, 4, 5)
    await apply(database, cut(on_the_log([opened(1, 0, 5, 9_000), FIRST, CONFIRMED, shorter]), sizes))

    assert await taken(database) == {4: 1}
    # An index of searches reads the old and the new nights again.
    assert await changes(database, 4) == [(1, 0, 5)]


ABOUT: dict[str, Any] = {"room_id": 1, "booking_id": FIRST.booking_id}


@pytest.mark.parametrize(
    ("end", "left"),
    [
        (BookingCancelled(**ABOUT, reason=CancelReason.BY_GUEST), {}),
        (BookingCancelled(**ABOUT, reason=CancelReason.BY_HOTEL, freed_from=night(2)), {1: 3}),
        (GuestsCheckedOut(**ABOUT, freed_from=night(3)), {1: 3, 2: 3}),
        (GuestsDidNotArrive(**ABOUT, freed_from=night(2)), {1: 3}),
    ],
    ids=["cancelled", "cancelled during the stay", "early departure", "no show"],
)
@SIZES
async def test_the_end_of_a_changed_stay_gives_back_its_present_nights(
    end: Event, left: Nights, sizes: list[int], database: DatabaseSettings
) -> None:
    again = stay_changed(FIRST, 1, 0, 2)
    last = stay_changed(again, 2, 1, 4, 3)
    await apply(database, cut(on_the_log([opened(1, 0, 5, 9_000), FIRST, CONFIRMED, again, last, end]), sizes))

    assert await taken(database) == left


@SIZES
async def test_a_hold_that_ended_before_any_change_gives_back_the_first_nights(
    sizes: list[int], database: DatabaseSettings
) -> None:
    expired = BookingExpired(**ABOUT)
    late = BookingConfirmed(**ABOUT, amount_minor=1, currency="EUR", late=True)
    log = on_the_log([opened(1, 0, 5, 9_000), FIRST, expired, late, HELD, CHANGED])

    await apply(database, cut(log, sizes))
    assert await taken(database) == {1: 3, 2: 3, 3: 3}

    # The log comes again while the ledger has the last stay: nights begin at their opening.
    for count, counted in ((3, {}), (4, {0: 2, 1: 2}), (6, {1: 3, 2: 3, 3: 3})):
        await apply(database, [{1: log[1][:count]}])
        assert await taken(database) == counted


# The sales of hotels.

#: Two nights of 120.00; for 240.00 a third is added later.
BOUGHT = BookingReserved(
    room_id=1,
    booking_id=UUID(int=1),
    user_id=7,
    hotel_id=10,
    check_in=night(0),
    check_out=night(2),
    rooms_count=1,
    amount_minor=24_000,
    currency="EUR",
    night_amounts_minor=(12_000, 12_000),
)
SALE = sales.Stay(id=BOUGHT.booking_id, night_amounts_minor=list(BOUGHT.night_amounts_minor))
DEARER = stay_changed(
    BOUGHT,
    1,
    1,
    4,
    2,
    amount_minor=48_000,
    night_amounts_minor=(12_000, 12_000, 24_000),
    extra_minor=24_000,
    session_id="cs_more",
    payment_intent="pi_more",
)
#: 20.00 of the 120.00 that the guest gave up are kept, and are in the night that is left.
CHEAPER = stay_changed(BOUGHT, 1, 1, 2, amount_minor=14_000, night_amounts_minor=(14_000,))
LOST = DisputeResult.LOST


async def count(database: DatabaseSettings, *batches: Sequence[BookingEvent], stay: sales.Stay = SALE) -> None:
    """Apply the batches while the ledger has the stay after all of its changes."""
    events = (event for batch in batches for event in batch)
    await sales.write_ledger(database, stay, changes=(event for event in events if isinstance(event, StayChanged)))
    await sales.apply(database, *batches)


def batched(events: Sequence[BookingEvent], *, together: bool) -> list[Sequence[BookingEvent]]:
    return [events] if together else [[event] for event in events]


TOGETHER = pytest.mark.parametrize("together", [True, False], ids=["in one batch", "each in its own"])


@TOGETHER
async def test_a_changed_stay_counts_with_its_new_nights_and_amounts(
    *, together: bool, database: DatabaseSettings
) -> None:
    await count(database, *batched([SALE.confirmed(), DEARER], together=together))

    assert await sales.report(database) == {
        (10, night(1)): (1, 1, 2, 12_000),
        (10, night(2)): (0, 1, 2, 12_000),
        (10, night(3)): (0, 1, 2, 24_000),
    }


async def test_a_stay_counts_as_it_was_confirmed_until_its_change_is_read(database: DatabaseSettings) -> None:
    await count(database, [SALE.confirmed()], [DEARER])
    whole = await sales.everything(database)

    await sales.forget(database)
    await sales.apply(database, [SALE.confirmed()])
    assert await sales.report(database) == {(10, night(0)): (1, 1, 1, 12_000), (10, night(1)): (0, 1, 1, 12_000)}

    await sales.apply(database, [SALE.refunded("re_1", 2_400)])
    assert await sales.revenues(database) == [10_800, 10_800]

    await sales.apply(database, [SALE.refund_failed("re_1", 2_400)], [DEARER])
    assert await sales.everything(database) == whole


async def test_a_stay_from_before_amounts_by_night_counts_with_those_of_its_change(database: DatabaseSettings) -> None:
    estimated = sales.Stay(id=SALE.id)
    await count(database, [estimated.confirmed()], stay=estimated)
    assert await sales.revenues(database) == [12_000, 12_000]

    async with await AsyncConnection.connect(database.conninfo(), autocommit=True) as connection:
        await write_change(connection, stay_changed(reserved(1, 1, 0, 2), 1, 1, 2))
    for batches in ([[CHEAPER]], [[estimated.confirmed(), CHEAPER]]):
        await sales.apply(database, *batches)
        assert await sales.revenues(database) == [14_000]
        assert await rows(database, "select count(*) from reported_stay where night_amounts_minor is null") == [(0,)]
        await sales.forget(database)


@pytest.mark.parametrize(
    ("events", "revenue"),
    [
        ([DEARER, SALE.refunded("re_1", 4_800, payment="pi_more")], [10_800, 10_800, 21_600]),
        ([DEARER, SALE.refunded("re_1", 4_800)], [10_800, 10_800, 21_600]),
        ([SALE.refunded("re_1", 4_800), DEARER], [10_800, 10_800, 21_600]),
        ([DEARER, SALE.dispute_closed("dp_1", 24_000, LOST, payment="pi_more")], [6_000, 6_000, 12_000]),
        ([DEARER, SALE.refunded("re_1", 24_000, payment="pi_of_a_change_that_ended")], [12_000, 12_000, 24_000]),
        ([CHEAPER, SALE.refunded("re_1", 10_000, by_hand=False)], [14_000]),
        ([CHEAPER, SALE.refunded("re_1", 10_000, by_hand=False), SALE.refunded("re_2", 1_000)], [13_000]),
        # A refund as goodwill before the change; both refunds count once.
        ([SALE.refunded("re_2", 1_000), CHEAPER, SALE.refunded("re_1", 10_000, by_hand=False)], [13_000]),
        ([CHEAPER, SALE.refunded("re_1", 10_000), SALE.refund_failed("re_1", 10_000)], [14_000]),
        ([CHEAPER, SALE.dispute_closed("dp_1", 24_000, LOST)], [0]),
    ],
    ids=[
        "a part of the second payment",
        "a part of the first payment",
        "a part before the change",
        "a lost dispute of the second payment",
        "a payment that paid nothing",
        "the refund of a cheaper change",
        "a part by hand after it",
        "a part by hand before it",
        "its refund failed",
        "a lost dispute",
    ],
)
@TOGETHER
async def test_the_refund_of_a_cheaper_change_is_no_deduction_and_all_paying_payments_have_some(
    events: list[BookingEvent], revenue: list[int], *, together: bool, database: DatabaseSettings
) -> None:
    history = [SALE.confirmed(), *events]
    await count(database, *batched(history, together=together))
    before = await sales.everything(database)

    assert await sales.revenues(database) == revenue

    # An operator sets the cursor back: to the beginning, and into the middle.
    for first in range(len(history)):
        await sales.apply(database, *([event] for event in history[first:]))
        assert await sales.everything(database) == before


@pytest.mark.parametrize(
    ("events", "revenue"),
    [
        ([], 14_000),
        ([SALE.refunded("re_2", 1_000)], 13_000),
        ([SALE.refunded("re_1", 10_000, by_hand=False)], 14_000),
        ([SALE.refunded("re_1", 10_000, by_hand=False), SALE.refunded("re_2", 1_000)], 13_000),
        ([SALE.refunded("re_2", 24_000)], 0),
    ],
    ids=["nothing more", "a part by hand", "it went back all the same", "and a part by hand", "all by hand"],
)
@TOGETHER
async def test_money_that_leaves_after_an_operator_closed_the_refund_of_a_cheaper_change_is_the_hotels(
    events: list[BookingEvent], revenue: int, *, together: bool, database: DatabaseSettings
) -> None:
    history = [SALE.confirmed(), CHEAPER, SALE.refund_closed(10_000), *events]
    await count(database, *batched(history, together=together))

    assert await sales.revenues(database) == [revenue]


@pytest.mark.parametrize(
    ("events", "revenue", "fee"),
    [
        ([DEARER, SALE.cancelled(kept_minor=30_000)], {}, {1: 30_000}),
        ([DEARER, SALE.cancelled(kept_minor=0)], {}, {}),
        ([DEARER, SALE.cancelled(kept_minor=30_000), SALE.refunded("re_1", 18_000, by_hand=False)], {}, {1: 30_000}),
        ([DEARER, SALE.departed(night(2), 30_000)], {1: 12_000}, {2: 18_000}),
        ([DEARER, SALE.no_show(night(2), 6_000)], {1: 6_000}, {}),
        # All that is kept are the costs of the change.
        ([CHEAPER, SALE.refunded("re_1", 10_000), SALE.cancelled(kept_minor=2_000)], {}, {1: 2_000}),
        (
            [CHEAPER, SALE.refunded("re_1", 10_000), SALE.cancelled(kept_minor=2_000), SALE.refunded("re_2", 13_000)],
            {},
            {1: 1_000},
        ),
    ],
    ids=[
        "cancelled",
        "cancelled for nothing",
        "cancelled and refunded",
        "early departure",
        "no show",
        "cancelled after a cheaper change",
        "refunded more by hand",
    ],
)
@TOGETHER
async def test_a_changed_stay_that_ended_early_counts_with_what_is_kept_of_all_payments(
    events: list[BookingEvent], revenue: Nights, fee: Nights, *, together: bool, database: DatabaseSettings
) -> None:
    await count(database, *batched([SALE.confirmed(), *events], together=together))

    found = await sales.report(database)
    assert {day: counts[3] for (_, day), counts in found.items() if counts[1]} == {
        night(day): amount for day, amount in revenue.items()
    }
    assert await sales.fees(database) == {(10, night(day)): amount for day, amount in fee.items()}
    assert len(found) == len(revenue) + len(fee)


@TOGETHER
async def test_a_changed_stay_that_is_paid_at_the_hotel_counts_with_its_new_amounts(
    *, together: bool, database: DatabaseSettings
) -> None:
    at_hotel = sales.Stay(id=SALE.id, night_amounts_minor=[12_000, 12_000], terms=Terms.AT_HOTEL.value)
    departed = GuestsCheckedOut(**ABOUT, freed_from=night(2), policy=AppliedPolicy(kept_minor=14_000))
    changed = stay_changed(BOUGHT, 1, 1, 4, amount_minor=30_000, night_amounts_minor=(10_000, 10_000, 10_000))

    history = [at_hotel.confirmed(), changed]
    await count(database, *batched(history, together=together), stay=at_hotel)
    assert await sales.revenues(database) == [10_000, 10_000, 10_000]

    await sales.apply(database, [departed])
    assert await sales.revenues(database) == [10_000]
    assert await sales.fees(database) == {}
