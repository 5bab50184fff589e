"""A manager opens nights, prices them and closes them, and never takes back a sold one."""

from datetime import timedelta

import pytest

from tests.support.scenario import given
from tests.workers.decisions.words import (
    ANOTHER_ROOM,
    BEN_RESERVED,
    BEN_RESERVES,
    BOUGHT,
    CALLED_OFF,
    CHANGE,
    CHANGED,
    HELD,
    OPEN,
    OPENED,
    RESERVE,
    RESERVED,
    ROOM,
    but,
    march,
    nights,
    rejected,
)
from topics.messages.commands import ChangeInventory, OpenInventory
from topics.messages.events import InventoryUnchanged, RefusedNight
from topics.messages.values import (
    MAX_NIGHTS,
    MAX_PRICE_MINOR,
    MAX_ROOMS,
    MAX_SURGE_MILLI,
    InventoryRefusal,
    NightRefusal,
    Rejection,
)


def unchanged(command: OpenInventory | ChangeInventory, reason: InventoryRefusal | None) -> InventoryUnchanged:
    return InventoryUnchanged(room_id=command.room_id, command=command.message_type, reason=reason)


def refusing(reason: NightRefusal, *days: int) -> tuple[RefusedNight, ...]:
    return tuple(RefusedNight(night=march(day), reason=reason) for day in days)


# Opening


def test_nights_are_put_on_sale() -> None:
    scenario = given().when(OPEN).then(OPENED)
    assert sorted(scenario.nights[ROOM]) == [march(day) for day in (10, 11, 12, 13, 14)]
    scenario.with_night(
        ROOM,
        march(14),
        hotel_id=1,
        total_count=2,
        booked_count=0,
        reserved_count=0,
        price_minor=100_00,
        surge_milli=1000,
        closed=False,
        currency="EUR",
    )


def test_nights_opened_twice_stay_as_they_are() -> None:
    dearer = but(OPEN, price_minor=200_00, total_count=9)
    given(*HELD).when(OPEN).then(unchanged(OPEN, None)).when(dearer).then(unchanged(dearer, None)).with_night(
        ROOM, march(10), price_minor=100_00, total_count=2, reserved_count=1
    )


def test_only_the_nights_between_those_that_are_open_are_new() -> None:
    given(but(OPENED, first_night=march(11), end_night=march(12)), but(OPENED, first_night=march(14))).when(
        but(OPEN, end_night=march(17))
    ).then(
        but(OPENED, end_night=march(11)),
        but(OPENED, first_night=march(12), end_night=march(14)),
        but(OPENED, first_night=march(15), end_night=march(17)),
    )


def test_one_rooms_nights_are_not_anothers() -> None:
    elsewhere = but(OPEN, room_id=ANOTHER_ROOM)
    given(OPENED).when(elsewhere).then(but(OPENED, room_id=ANOTHER_ROOM))


def test_no_nights_cannot_be_opened() -> None:
    for end_night in (march(10), march(9)):
        command = but(OPEN, end_night=end_night)
        given().when(command).then(unchanged(command, InventoryRefusal.NO_NIGHTS))


def test_only_so_many_nights_are_opened_at_once() -> None:
    most = march(10) + timedelta(days=MAX_NIGHTS)
    given().when(but(OPEN, end_night=most)).then(but(OPENED, end_night=most))
    command = but(OPEN, end_night=most + timedelta(days=1))
    given().when(command).then(unchanged(command, InventoryRefusal.TOO_MANY_NIGHTS))


def test_a_room_has_a_sensible_number_of_rooms() -> None:
    for total_count in (0, MAX_ROOMS):
        given().when(but(OPEN, total_count=total_count)).then(but(OPENED, total_count=total_count))
    for total_count in (-1, MAX_ROOMS + 1):
        command = but(OPEN, total_count=total_count)
        given().when(command).then(unchanged(command, InventoryRefusal.COUNT_OUT_OF_RANGE))


def test_a_night_has_a_sensible_price() -> None:
    for price_minor in (0, MAX_PRICE_MINOR):
        given().when(but(OPEN, price_minor=price_minor)).then(but(OPENED, price_minor=price_minor))
    for price_minor in (-1, MAX_PRICE_MINOR + 1):
        command = but(OPEN, price_minor=price_minor)
        given().when(command).then(unchanged(command, InventoryRefusal.PRICE_OUT_OF_RANGE))


# Changing


def test_price_surge_closing_and_total_are_changed_and_the_rest_is_kept() -> None:
    command = but(CHANGE, price_minor=120_00, surge_milli=1500, closed=True, total_count=5)
    changed = but(CHANGED, price_minor=120_00, surge_milli=1500, closed=True, total_count=5)
    given(*HELD).when(command).then(changed).with_night(
        ROOM,
        march(11),
        hotel_id=1,
        total_count=5,
        booked_count=0,
        reserved_count=1,
        price_minor=120_00,
        surge_milli=1500,
        closed=True,
        currency="EUR",
    ).with_night(ROOM, march(12), total_count=2, price_minor=100_00, surge_milli=1000, closed=False)


def test_a_value_that_is_not_named_is_kept() -> None:
    scenario = given(OPENED).when(but(CHANGE, surge_milli=1500)).then(but(CHANGED, surge_milli=1500))
    scenario.when(but(CHANGE, closed=True)).then(but(CHANGED, closed=True))
    scenario.when(but(CHANGE, price_minor=0)).then(but(CHANGED, price_minor=0))
    scenario.with_night(ROOM, march(10), price_minor=0, surge_milli=1500, closed=True, total_count=2)
    scenario.when(but(CHANGE, closed=False)).then(but(CHANGED, closed=False)).with_night(ROOM, march(10), closed=False)


def test_the_same_change_twice_leaves_the_same_nights() -> None:
    command = but(CHANGE, price_minor=120_00)
    changed = but(CHANGED, price_minor=120_00)
    scenario = given(OPENED).when(command).then(changed)
    once = dict(scenario.nights[ROOM])
    scenario.when(command).then(changed)
    assert scenario.nights[ROOM] == once


def test_a_new_price_leaves_those_who_reserved_before_alone() -> None:
    given(*HELD).when(but(CHANGE, price_minor=1)).then(but(CHANGED, price_minor=1)).with_booking(
        RESERVE.booking_id, amount_minor=200_00
    )


def test_the_total_never_goes_below_what_is_reserved_or_booked() -> None:
    """One room is booked and one is reserved on the 10th and 11th; the 12th is free."""
    one = but(CHANGE, end_night=march(13), total_count=1, price_minor=90_00)
    scenario = (
        given(*BOUGHT, BEN_RESERVED)
        .when(one)
        .then(
            but(
                CHANGED,
                ranges=nights(12),
                total_count=1,
                price_minor=90_00,
                refused=refusing(NightRefusal.TOTAL_BELOW_SOLD, 10, 11),
            )
        )
    )
    scenario.with_night(ROOM, march(10), total_count=2, price_minor=100_00)
    scenario.with_night(ROOM, march(12), total_count=1, price_minor=90_00)


def test_the_total_may_go_down_to_exactly_what_is_sold() -> None:
    given(*BOUGHT).when(but(CHANGE, total_count=1)).then(but(CHANGED, total_count=1)).with_night(
        ROOM, march(10), total_count=1, free_count=0
    )
    given(OPENED).when(but(CHANGE, total_count=0)).then(but(CHANGED, total_count=0))


def test_all_or_none_leaves_every_night_alone_when_one_is_sold_beyond_the_new_total() -> None:
    """One room is booked and one is reserved on the 10th and 11th; the 12th is free."""
    one = but(CHANGE, end_night=march(13), total_count=1, closed=True, all_or_none=True)
    scenario = given(*BOUGHT, BEN_RESERVED)
    before = dict(scenario.nights[ROOM])
    scenario.when(one).then(
        but(
            CHANGED,
            ranges=(),
            total_count=1,
            closed=True,
            refused=refusing(NightRefusal.TOTAL_BELOW_SOLD, 10, 11),
        )
    )
    assert scenario.nights[ROOM] == before


def test_all_or_none_changes_all_when_none_is_sold_beyond_the_new_total() -> None:
    one = but(CHANGE, end_night=march(13), total_count=1, all_or_none=True)
    given(*BOUGHT).when(one).then(but(CHANGED, ranges=nights(10, 11, 12), total_count=1)).with_night(
        ROOM, march(12), total_count=1
    )


def test_a_night_that_is_not_on_sale_keeps_none_of_the_others_from_changing() -> None:
    command = but(CHANGE, first_night=march(8), end_night=march(11), total_count=0, all_or_none=True)
    given(OPENED).when(command).then(
        but(CHANGED, ranges=nights(10), total_count=0, refused=refusing(NightRefusal.NOT_OPEN, 8, 9))
    ).with_night(ROOM, march(10), total_count=0)
    given(*HELD).when(command).then(
        but(
            CHANGED,
            ranges=(),
            total_count=0,
            refused=(*refusing(NightRefusal.NOT_OPEN, 8, 9), *refusing(NightRefusal.TOTAL_BELOW_SOLD, 10)),
        )
    ).with_night(ROOM, march(10), total_count=2)


def test_a_room_is_taken_off_sale_whole_or_not_at_all() -> None:
    """The command of a deleted room."""
    off_sale = but(CHANGE, end_night=march(15), total_count=0, closed=True, all_or_none=True)
    given(*CALLED_OFF).when(off_sale).then(
        but(CHANGED, ranges=nights(*range(10, 15)), total_count=0, closed=True)
    ).when(BEN_RESERVES).then(rejected(BEN_RESERVES, Rejection.NIGHT_CLOSED))


def test_nights_that_are_not_on_sale_are_not_changed() -> None:
    command = but(CHANGE, first_night=march(8), end_night=march(11), price_minor=90_00)
    scenario = (
        given(OPENED)
        .when(command)
        .then(but(CHANGED, ranges=nights(10), price_minor=90_00, refused=refusing(NightRefusal.NOT_OPEN, 8, 9)))
    )
    assert march(8) not in scenario.nights[ROOM]


def test_a_change_of_nothing_but_nights_that_are_not_on_sale_lists_them() -> None:
    command = but(CHANGE, room_id=ANOTHER_ROOM, closed=True)
    given(OPENED).when(command).then(
        but(
            CHANGED,
            room_id=ANOTHER_ROOM,
            ranges=(),
            closed=True,
            refused=refusing(NightRefusal.NOT_OPEN, 10, 11),
        )
    ).with_night(ROOM, march(10), closed=False)


def test_a_change_is_refused_as_a_whole_when_its_values_are_out_of_range() -> None:
    for values, reason in (
        ({"end_night": march(10)}, InventoryRefusal.NO_NIGHTS),
        ({"end_night": march(10) + timedelta(days=MAX_NIGHTS + 1)}, InventoryRefusal.TOO_MANY_NIGHTS),
        ({"total_count": -1}, InventoryRefusal.COUNT_OUT_OF_RANGE),
        ({"total_count": MAX_ROOMS + 1}, InventoryRefusal.COUNT_OUT_OF_RANGE),
        ({"price_minor": -1}, InventoryRefusal.PRICE_OUT_OF_RANGE),
        ({"price_minor": MAX_PRICE_MINOR + 1}, InventoryRefusal.PRICE_OUT_OF_RANGE),
        ({"surge_milli": 0}, InventoryRefusal.SURGE_OUT_OF_RANGE),
        ({"surge_milli": MAX_SURGE_MILLI + 1}, InventoryRefusal.SURGE_OUT_OF_RANGE),
    ):
        command = but(CHANGE, **values)
        given(OPENED).when(command).then(unchanged(command, reason)).with_night(
            ROOM, march(10), total_count=2, price_minor=100_00, surge_milli=1000
        )


#: The reasons for which a change is refused, in their order; the others are those of blocks and sale terms.
REFUSALS = list(InventoryRefusal)[: list(InventoryRefusal).index(InventoryRefusal.NIGHT_NOT_OPEN)]


@pytest.mark.parametrize("first", REFUSALS)
def test_a_change_wrong_in_many_ways_is_refused_for_the_first(first: InventoryRefusal) -> None:
    wrongs = REFUSALS[REFUSALS.index(first) :]
    end_night = march(12)
    if InventoryRefusal.TOO_MANY_NIGHTS in wrongs:
        end_night = march(10) + timedelta(days=MAX_NIGHTS + 1)
    if InventoryRefusal.NO_NIGHTS in wrongs:
        end_night = march(10)
    command = but(
        CHANGE,
        end_night=end_night,
        total_count=-1 if InventoryRefusal.COUNT_OUT_OF_RANGE in wrongs else 1,
        price_minor=-1 if InventoryRefusal.PRICE_OUT_OF_RANGE in wrongs else 1,
        surge_milli=0 if InventoryRefusal.SURGE_OUT_OF_RANGE in wrongs else 1,
    )
    given(OPENED).when(command).then(unchanged(command, first))


def test_a_night_closed_while_a_guest_holds_it_stays_the_guests() -> None:
    given(OPENED, RESERVED).when(but(CHANGE, closed=True)).then(but(CHANGED, closed=True)).with_night(
        ROOM, march(10), reserved_count=1, closed=True
    )
