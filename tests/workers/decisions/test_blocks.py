"""A hotel takes rooms off sale and puts them on sale again, and sells more rooms than it has as far as it allows."""

from datetime import date, timedelta

import pytest

from tests.support.scenario import given
from tests.workers.decisions.test_inventory import refusing
from tests.workers.decisions.words import (
    ANOTHER_ROOM,
    BEN_RESERVED,
    BEN_RESERVES,
    BENS,
    BOUGHT,
    CANCEL,
    CANCELLED,
    CHANGE,
    CHANGED,
    EXPIRED,
    HELD,
    LATER,
    OPENED,
    PAID,
    PAY,
    PAYABLE,
    RESERVE,
    RESERVED,
    ROOM,
    SENT_BACK,
    but,
    march,
    nights,
    rejected,
)
from tests.workers.decisions.words_at_hotel import (
    ANOTHER_BLOCK,
    BLOCK,
    BLOCKED,
    RELEASE,
    RELEASED,
    unchanged,
)
from topics.messages.commands import BlockNights
from topics.messages.events import InventoryUnchanged
from topics.messages.values import (
    MAX_NIGHTS,
    MAX_ROOMS,
    BlockReason,
    InventoryRefusal,
    NightRefusal,
    RefundReason,
    Rejection,
)

CLOSED = but(CHANGED, closed=True)
INT32 = 2**31


# Blocking


@pytest.mark.parametrize("reason", BlockReason)
def test_rooms_are_taken_off_sale(reason: BlockReason) -> None:
    scenario = given(OPENED).when(but(BLOCK, reason=reason)).then(but(BLOCKED, reason=reason))
    for day, blocked_count in ((10, 1), (11, 1), (12, 0)):
        scenario.with_night(ROOM, march(day), blocked_count=blocked_count, booked_count=0, reserved_count=0)


def test_a_block_leaves_fewer_rooms_to_sell() -> None:
    scenario = given(OPENED, BLOCKED).when(RESERVE).then(RESERVED)
    scenario.when(BEN_RESERVES).then(rejected(BEN_RESERVES, Rejection.SOLD_OUT))


def test_all_nights_are_blocked_or_none() -> None:
    given(OPENED, but(RESERVED, check_in=march(11), rooms_count=2)).when(BLOCK).then(
        unchanged(BLOCK, InventoryRefusal.NIGHT_NOT_FREE)
    ).with_night(ROOM, march(10), blocked_count=0)
    for first, end in ((9, 11), (14, 16), (20, 22)):
        command = but(BLOCK, first_night=march(first), end_night=march(end))
        given(OPENED).when(command).then(unchanged(command, InventoryRefusal.NIGHT_NOT_OPEN)).with_night(
            ROOM, march(10), blocked_count=0
        )


def test_as_many_rooms_as_are_free_can_be_blocked() -> None:
    for rooms_count in (1, 2):
        given(OPENED).when(but(BLOCK, rooms_count=rooms_count)).then(but(BLOCKED, rooms_count=rooms_count))
    command = but(BLOCK, rooms_count=3)
    given(OPENED).when(command).then(unchanged(command, InventoryRefusal.NIGHT_NOT_FREE))


def test_a_closed_night_is_blocked_like_any_other() -> None:
    given(OPENED, CLOSED).when(BLOCK).then(BLOCKED).with_night(ROOM, march(10), closed=True, blocked_count=1)


def test_a_block_that_comes_again_changes_nothing() -> None:
    given(OPENED).when(BLOCK).then(BLOCKED).when(BLOCK).then(unchanged(BLOCK, None)).with_night(
        ROOM, march(10), blocked_count=1
    )


@pytest.mark.parametrize(
    "other",
    [
        but(BLOCK, rooms_count=2),
        but(BLOCK, first_night=march(11)),
        but(BLOCK, end_night=march(13)),
        but(BLOCK, reason=BlockReason.GROUP),
        but(BLOCK, end_night=march(9)),
    ],
)
def test_another_block_of_the_same_id_is_refused(other: BlockNights) -> None:
    given(OPENED, BLOCKED).when(other).then(unchanged(other, InventoryRefusal.BLOCK_EXISTS))
    given(OPENED, BLOCKED, RELEASED).when(other).then(unchanged(other, InventoryRefusal.BLOCK_EXISTS))


def test_blocks_add_up() -> None:
    second = but(BLOCK, block_id=ANOTHER_BLOCK, first_night=march(11), end_night=march(13))
    given(OPENED).when(BLOCK).when(second).with_night(ROOM, march(10), blocked_count=1).with_night(
        ROOM, march(11), blocked_count=2
    ).with_night(ROOM, march(12), blocked_count=1)


def test_another_room_has_blocks_of_its_own() -> None:
    """Both rooms may have the same block id, and neither changes the other's."""
    elsewhere = but(BLOCK, room_id=ANOTHER_ROOM, rooms_count=2)
    scenario = given(OPENED, but(OPENED, room_id=ANOTHER_ROOM)).when(BLOCK).then(BLOCKED)
    scenario.when(elsewhere).then(but(BLOCKED, room_id=ANOTHER_ROOM, rooms_count=2))
    scenario.when(RELEASE).then(RELEASED).with_night(ROOM, march(10), blocked_count=0).with_night(
        ANOTHER_ROOM, march(10), blocked_count=2
    )
    unknown = but(RELEASE, room_id=ANOTHER_ROOM, block_id=ANOTHER_BLOCK)
    scenario.when(unknown).then(unchanged(unknown, InventoryRefusal.NO_SUCH_BLOCK))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"end_night": march(10)}, InventoryRefusal.NO_NIGHTS),
        ({"end_night": date.min}, InventoryRefusal.NO_NIGHTS),
        ({"first_night": date.max, "end_night": date.min}, InventoryRefusal.NO_NIGHTS),
        ({"first_night": date.min, "end_night": date.max}, InventoryRefusal.TOO_MANY_NIGHTS),
        ({"end_night": march(10) + timedelta(days=MAX_NIGHTS + 1)}, InventoryRefusal.TOO_MANY_NIGHTS),
        ({"end_night": march(10) + timedelta(days=MAX_NIGHTS)}, InventoryRefusal.NIGHT_NOT_OPEN),
        ({"first_night": date.max - timedelta(days=1), "end_night": date.max}, InventoryRefusal.NIGHT_NOT_OPEN),
        ({"rooms_count": 0}, InventoryRefusal.COUNT_OUT_OF_RANGE),
        ({"rooms_count": -INT32}, InventoryRefusal.COUNT_OUT_OF_RANGE),
        ({"rooms_count": MAX_ROOMS + 1}, InventoryRefusal.COUNT_OUT_OF_RANGE),
        ({"rooms_count": INT32 - 1}, InventoryRefusal.COUNT_OUT_OF_RANGE),
        ({"rooms_count": MAX_ROOMS}, InventoryRefusal.NIGHT_NOT_FREE),
    ],
)
def test_a_block_has_sensible_values(changes: dict[str, object], reason: InventoryRefusal) -> None:
    command = but(BLOCK, **changes)
    given(OPENED).when(command).then(unchanged(command, reason))


# Releasing


def test_a_released_block_is_on_sale_again() -> None:
    given(OPENED, but(BLOCKED, rooms_count=2)).when(RELEASE).then(but(RELEASED, rooms_count=2)).with_night(
        ROOM, march(10), blocked_count=0
    ).when(RESERVE).then(RESERVED)


def test_a_block_is_released_once_and_a_late_copy_of_it_does_not_block_again() -> None:
    given(OPENED).when(BLOCK).when(RELEASE).then(RELEASED).when(RELEASE).then(unchanged(RELEASE, None)).when(
        BLOCK
    ).then(unchanged(BLOCK, None)).with_night(ROOM, march(10), blocked_count=0)


def test_a_block_that_nobody_made_cannot_be_released() -> None:
    given(OPENED).when(RELEASE).then(unchanged(RELEASE, InventoryRefusal.NO_SUCH_BLOCK))
    given().when(RELEASE).then(unchanged(RELEASE, InventoryRefusal.NO_SUCH_BLOCK))


# A total, and more than that


def test_more_rooms_than_the_total_are_sold_up_to_the_allowance() -> None:
    allow = but(CHANGE, allowance_count=1)
    three = but(RESERVE, rooms_count=3)
    given(OPENED).when(three).then(rejected(three, Rejection.SOLD_OUT))
    scenario = given(OPENED).when(allow).then(but(CHANGED, allowance_count=1))
    scenario.with_night(ROOM, march(10), total_count=2, allowance_count=1).with_night(
        ROOM, march(12), allowance_count=0
    )
    scenario.when(but(RESERVE, rooms_count=4)).then(rejected(but(RESERVE, rooms_count=4), Rejection.SOLD_OUT))
    again = but(three, booking_id=BENS)
    scenario.when(again).then(
        but(RESERVED, booking_id=BENS, rooms_count=3, amount_minor=600_00, night_amounts_minor=(300_00, 300_00))
    )


def test_a_block_counts_within_the_allowance() -> None:
    command = but(BLOCK, rooms_count=3)
    given(OPENED, but(CHANGED, allowance_count=1)).when(command).then(but(BLOCKED, rooms_count=3))


TAKEN = (OPENED, but(CHANGED, allowance_count=2), but(RESERVED, rooms_count=2), but(BEN_RESERVED, rooms_count=1))


def test_neither_total_nor_allowance_falls_below_what_is_taken() -> None:
    for values in ({"allowance_count": 0}, {"total_count": 0}, {"total_count": 1, "allowance_count": 1}):
        command = but(CHANGE, **values)
        given(*TAKEN).when(command).then(
            but(CHANGED, **values, ranges=(), refused=refusing(NightRefusal.TOTAL_BELOW_SOLD, 10, 11))
        ).with_night(ROOM, march(10), total_count=2, allowance_count=2)


def test_total_and_allowance_may_move_together() -> None:
    for total_count, allowance_count in ((2, 1), (0, 3), (3, 0)):
        values = {"total_count": total_count, "allowance_count": allowance_count}
        given(*TAKEN).when(but(CHANGE, **values)).then(but(CHANGED, **values)).with_night(ROOM, march(10), **values)


def test_blocked_rooms_are_taken_rooms_for_the_total() -> None:
    command = but(CHANGE, end_night=march(13), total_count=0)
    given(OPENED, BLOCKED).when(command).then(
        but(CHANGED, total_count=0, ranges=nights(12), refused=refusing(NightRefusal.TOTAL_BELOW_SOLD, 10, 11))
    )


def test_a_price_changes_whatever_is_sold() -> None:
    given(*TAKEN).when(but(CHANGE, price_minor=1_00)).then(but(CHANGED, price_minor=1_00))


def test_late_money_buys_a_stay_within_the_allowance() -> None:
    full = (*PAYABLE, EXPIRED, but(BEN_RESERVED, rooms_count=2))
    given(*full).when(PAY, at=LATER).then(but(SENT_BACK, reason=RefundReason.NIGHTS_GONE))
    given(*full, but(CHANGED, allowance_count=1)).when(PAY, at=LATER).then(but(PAID, late=True)).with_night(
        ROOM, march(10), booked_count=1, reserved_count=2, total_count=2
    )


def test_late_money_does_not_buy_a_blocked_night() -> None:
    given(*PAYABLE, EXPIRED, but(BLOCKED, rooms_count=2)).when(PAY, at=LATER).then(
        but(SENT_BACK, reason=RefundReason.NIGHTS_GONE)
    )


def test_a_cancellation_frees_a_night_that_is_sold_beyond_its_total() -> None:
    sold = (*BOUGHT, but(CHANGED, allowance_count=1), but(BEN_RESERVED, rooms_count=2))
    given(*sold).when(CANCEL).then(CANCELLED, SENT_BACK).with_night(ROOM, march(10), booked_count=0, reserved_count=2)


@pytest.mark.parametrize("allowance_count", [-INT32, -1, MAX_ROOMS + 1, INT32 - 1])
def test_an_allowance_has_a_sensible_number_of_rooms(allowance_count: int) -> None:
    command = but(CHANGE, allowance_count=allowance_count)
    given(*HELD).when(command).then(
        InventoryUnchanged(room_id=ROOM, command=command.message_type, reason=InventoryRefusal.COUNT_OUT_OF_RANGE)
    )


def test_the_largest_allowance_beside_the_largest_total_is_sold() -> None:
    most = but(CHANGE, total_count=MAX_ROOMS, allowance_count=MAX_ROOMS)
    given(OPENED).when(most).then(but(CHANGED, total_count=MAX_ROOMS, allowance_count=MAX_ROOMS)).with_night(
        ROOM, march(10), free_count=2 * MAX_ROOMS
    )


def test_all_nights_get_the_allowance_or_none() -> None:
    command = but(CHANGE, end_night=march(13), allowance_count=0, all_or_none=True)
    given(*TAKEN).when(command).then(
        but(CHANGED, ranges=(), allowance_count=0, refused=refusing(NightRefusal.TOTAL_BELOW_SOLD, 10, 11))
    )


#: The reasons for which a block is refused, in their order.
REFUSALS = [
    InventoryRefusal.NO_NIGHTS,
    InventoryRefusal.TOO_MANY_NIGHTS,
    InventoryRefusal.COUNT_OUT_OF_RANGE,
    InventoryRefusal.NIGHT_NOT_OPEN,
    InventoryRefusal.NIGHT_NOT_FREE,
]


@pytest.mark.parametrize("first", REFUSALS)
def test_a_block_wrong_in_many_ways_is_refused_for_the_first(first: InventoryRefusal) -> None:
    wrongs = REFUSALS[REFUSALS.index(first) :]
    end_night = march(16) if InventoryRefusal.NIGHT_NOT_OPEN in wrongs else march(12)
    if InventoryRefusal.TOO_MANY_NIGHTS in wrongs:
        end_night = march(10) + timedelta(days=MAX_NIGHTS + 1)
    if InventoryRefusal.NO_NIGHTS in wrongs:
        end_night = march(10)
    rooms_count = 0 if InventoryRefusal.COUNT_OUT_OF_RANGE in wrongs else 3
    command = but(BLOCK, end_night=end_night, rooms_count=rooms_count)
    given(OPENED).when(command).then(unchanged(command, first))
