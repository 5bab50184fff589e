"""A guest or the hotel changes a stay: other dates, another number of rooms, other people."""

from datetime import date, timedelta
from typing import Any
from uuid import UUID

import pytest
from msgspec.structs import replace

from tests.support.scenario import NOON, Scenario, given
from tests.workers.decisions.words import (
    ADAS,
    BEN,
    BEN_RESERVED,
    BENS,
    BOUGHT,
    CHECK_IN,
    CHECK_OUT,
    CONFIRMED_FREE,
    HELD,
    LAST_DAY,
    MILLISECOND,
    OPENED,
    PAYABLE,
    RESERVED,
    ROOM,
    SECOND_DAY,
    but,
    march,
    nights,
    refused,
    repeated,
)
from tests.workers.decisions.words import CHANGED as NIGHTS_CHANGED
from tests.workers.decisions.words_at_hotel import ARRIVE, ARRIVED, LEAVE, NO_SHOW
from tests.workers.decisions.words_of_changes import (
    ANOTHER_CHANGE,
    ASKED_MORE,
    BEFORE,
    CAN_PAY_MORE,
    FIRST_CHANGE,
    HELD_LONGER,
    IS_LONGER,
    IS_SHORTER,
    LENGTHENED,
    LONGER,
    LONGER_QUOTED,
    PART_BACK,
    QUOTED_LONGER,
    SHORTENED,
    SHORTER,
    THIRD_NIGHT,
    WANTS_MORE,
    WITHDRAW,
    ended,
    not_changed,
)
from tests.workers.decisions.words_of_codes import SPRING
from tests.workers.decisions.words_of_sale import SAVER, SOLD, SOLD_SAVER, STANDARD, TERMS, TERMS_SET
from topics.messages.commands import ChangeStay, Command
from topics.messages.events import (
    BookingReserved,
    ChangeHeld,
    Event,
    GuestsCheckedOut,
    GuestsDidNotArrive,
    RoomsHeld,
    StayChanged,
)
from topics.messages.sale import AppliedPolicy, ArrivalRule, CancellationPolicy, Discount, Kept, Party
from topics.messages.values import (
    MAX_CHANGES,
    MAX_NIGHTS,
    MAX_PAYMENTS_ASKED,
    BookingStatus,
    ChangeEnd,
    Refusal,
    Rejection,
    Terms,
)
from workers.decisions.state import MAX_ENDED_CHANGES, EarlierStay

BY_HOTEL = but(LONGER, user_id=None)
AT_HOTEL = (OPENED, but(RESERVED, terms=Terms.AT_HOTEL, hold_expires_at=None), CONFIRMED_FREE)
SAME_PRICE = but(IS_LONGER, amount_minor=200_00, held=(), extra_minor=0, session_id=None, payment_intent=None)
LATER_DATES = but(LONGER, check_in=march(12), check_out=march(14))
IS_LATER = but(SAME_PRICE, check_in=march(12), check_out=march(14), night_amounts_minor=(100_00, 100_00))


# Dearer, cheaper, the same


def test_a_dearer_change_is_held_and_the_booking_stays_what_it_was() -> None:
    scenario = given(*BOUGHT).when(LONGER).then(HELD_LONGER, ASKED_MORE)
    scenario.with_booking(
        ADAS, status=BookingStatus.CONFIRMED, check_out=march(12), amount_minor=200_00, earlier_stays=()
    )
    scenario.with_night(ROOM, march(11), booked_count=1, reserved_count=0)
    scenario.with_night(ROOM, march(12), booked_count=0, reserved_count=1)


def test_a_cheaper_change_takes_place_at_once_and_the_difference_goes_back() -> None:
    scenario = given(*BOUGHT).when(SHORTER).then(IS_SHORTER, PART_BACK)
    scenario.with_booking(
        ADAS,
        status=BookingStatus.CONFIRMED,
        check_out=march(11),
        amount_minor=100_00,
        night_amounts_minor=(100_00,),
        earlier_stays=(EarlierStay(change_id=FIRST_CHANGE, stay=BEFORE),),
    )
    scenario.with_night(ROOM, march(10), booked_count=1).with_night(ROOM, march(11), booked_count=0)


def test_a_stay_of_the_same_price_moves_at_once_and_the_old_nights_are_on_sale() -> None:
    scenario = given(*BOUGHT).when(LATER_DATES).then(IS_LATER)
    for day, booked_count in ((10, 0), (11, 0), (12, 1), (13, 1)):
        scenario.with_night(ROOM, march(day), booked_count=booked_count, reserved_count=0)


def test_a_stay_that_overlaps_itself_needs_only_the_rooms_that_it_does_not_have() -> None:
    last_room = but(OPENED, total_count=1)
    moved = but(LONGER, check_in=march(11), check_out=march(13))
    given(last_room, *BOUGHT[1:]).when(moved).then(but(IS_LATER, check_in=march(11), check_out=march(13))).with_night(
        ROOM, march(11), booked_count=1
    ).with_night(ROOM, march(10), booked_count=0)


def test_more_rooms_are_held_beside_the_bookings_own() -> None:
    more = but(LONGER, check_out=march(13), rooms_count=2)
    held = (
        RoomsHeld(first_night=march(10), end_night=march(12), rooms_count=1),
        RoomsHeld(first_night=march(12), end_night=march(13), rooms_count=2),
    )
    given(*BOUGHT).when(more).then(
        but(
            HELD_LONGER,
            rooms_count=2,
            amount_minor=600_00,
            extra_minor=400_00,
            night_amounts_minor=(200_00, 200_00, 200_00),
            held=held,
        ),
        but(ASKED_MORE, amount_minor=400_00),
    ).with_night(ROOM, march(10), booked_count=1, reserved_count=1).with_night(ROOM, march(12), reserved_count=2)


def test_fewer_rooms_are_cheaper() -> None:
    two = but(RESERVED, rooms_count=2, amount_minor=400_00, night_amounts_minor=(200_00, 200_00))
    paid = (*HELD[:1], two, *PAYABLE[2:], but(BOUGHT[-1], amount_minor=400_00))
    one = but(LONGER, check_out=march(12), rooms_count=1)
    before = replace(BEFORE, rooms_count=2, amount_minor=400_00, night_amounts_minor=(200_00, 200_00))
    given(*paid).when(one).then(
        but(IS_LATER, check_in=march(10), check_out=march(12), before=before), but(PART_BACK, amount_minor=200_00)
    ).with_night(ROOM, march(11), booked_count=1)


def test_a_night_of_the_stay_keeps_its_price_and_a_new_one_costs_todays() -> None:
    dearer = but(NIGHTS_CHANGED, ranges=nights(10, 11, 12), price_minor=150_00, surge_milli=1_500)
    given(*BOUGHT, dearer).when(LONGER).then(
        but(HELD_LONGER, amount_minor=425_00, extra_minor=225_00, night_amounts_minor=(100_00, 100_00, 225_00)),
        but(ASKED_MORE, amount_minor=225_00),
    )


def test_more_rooms_of_a_night_of_the_stay_cost_todays_price() -> None:
    dearer = but(NIGHTS_CHANGED, ranges=nights(10, 11), price_minor=150_00)
    two = but(LONGER, check_out=march(12), rooms_count=2)
    for sold in (BOUGHT, SOLD):
        scenario = given(*sold, dearer).when(two)
        held, asked = scenario.answer
        assert isinstance(held, ChangeHeld)
        assert (held.night_amounts_minor, held.extra_minor) == ((250_00, 250_00), 300_00)
        assert asked == but(ASKED_MORE, amount_minor=300_00)


def test_a_booking_of_an_older_release_has_one_price_for_all_its_nights() -> None:
    older = but(RESERVED, amount_minor=200_01, night_amounts_minor=())
    paid = (OPENED, older, *PAYABLE[2:], but(BOUGHT[-1], amount_minor=200_01))
    given(*paid).when(SHORTER).then(
        but(
            IS_SHORTER,
            amount_minor=100_01,
            night_amounts_minor=(100_01,),
            before=replace(BEFORE, amount_minor=200_01, night_amounts_minor=()),
        ),
        PART_BACK,
    )


def test_a_stay_that_is_paid_at_the_hotel_changes_at_once_whatever_it_costs() -> None:
    given(*AT_HOTEL).when(LONGER).then(
        but(IS_LONGER, held=(), extra_minor=0, session_id=None, payment_intent=None)
    ).with_night(ROOM, march(12), booked_count=1)
    given(*AT_HOTEL).when(SHORTER).then(IS_SHORTER).with_booking(ADAS, amount_minor=100_00, payments=())


def test_a_stay_that_was_free_can_become_dearer() -> None:
    free = but(RESERVED, amount_minor=0, night_amounts_minor=(0, 0))
    given(OPENED, free, but(CONFIRMED_FREE, amount_minor=0)).when(LONGER).then(
        but(HELD_LONGER, amount_minor=100_00, night_amounts_minor=(0, 0, 100_00)), but(ASKED_MORE, attempt=1)
    )


def test_the_hotel_changes_a_stay_too() -> None:
    given(*BOUGHT).when(BY_HOTEL).then(HELD_LONGER, ASKED_MORE)
    given(*BOUGHT).when(but(SHORTER, user_id=None)).then(IS_SHORTER, PART_BACK)


# Twice, and nothing new


@pytest.mark.parametrize(
    ("so_far", "command"),
    [
        (WANTS_MORE, LONGER),
        (LENGTHENED, LONGER),
        (SHORTENED, but(SHORTER, check_out=march(14))),
        ((*WANTS_MORE, ended(ChangeEnd.WITHDRAWN)), LONGER),
        ((*WANTS_MORE, ended(ChangeEnd.EXPIRED)), LONGER),
        ((*BOUGHT, not_changed(LONGER, Rejection.SOLD_OUT)), LONGER),
        (BOUGHT, but(LONGER, check_out=march(12))),
    ],
    ids=["held already", "took place", "took place with other dates", "withdrawn", "expired", "rejected", "as it is"],
)
def test_a_change_that_has_had_its_effect_is_repeated(so_far: tuple[Event, ...], command: ChangeStay) -> None:
    given(*so_far).when(command).then(repeated(command, BookingStatus.CONFIRMED))


@pytest.mark.parametrize(
    ("so_far", "attempt"),
    [
        ((*WANTS_MORE, ended(ChangeEnd.WITHDRAWN)), 3),
        ((*BOUGHT, not_changed(LONGER, Rejection.SOLD_OUT)), 2),
    ],
    ids=["withdrawn", "rejected"],
)
def test_the_stay_of_a_change_that_ended_can_be_asked_for_by_another_change(
    so_far: tuple[Event, ...], attempt: int
) -> None:
    again = but(LONGER, change_id=ANOTHER_CHANGE)
    given(*so_far).with_booking(ADAS, ended_change_ids=(FIRST_CHANGE,)).when(again).then(
        but(HELD_LONGER, change_id=ANOTHER_CHANGE), but(ASKED_MORE, attempt=attempt)
    )


def test_an_answer_that_a_change_is_not_possible_does_not_count_as_an_event_of_the_booking() -> None:
    version = given(*BOUGHT).bookings[ADAS].version
    given(*BOUGHT, not_changed(LONGER, Rejection.SOLD_OUT)).with_booking(ADAS, version=version)


def test_another_change_takes_the_place_of_the_one_that_is_held() -> None:
    shorter = but(SHORTER, change_id=ANOTHER_CHANGE)
    given(*CAN_PAY_MORE).when(shorter).then(
        ended(ChangeEnd.REPLACED), but(IS_SHORTER, change_id=ANOTHER_CHANGE), PART_BACK
    ).with_booking(ADAS, pending_change=None, hold_expires_at=None).with_night(ROOM, march(12), reserved_count=0)


def test_the_rooms_of_the_change_that_is_replaced_are_free_for_the_other() -> None:
    last_room = but(OPENED, total_count=1)
    longer = but(LONGER, change_id=ANOTHER_CHANGE, check_out=march(14))
    held = replace(THIRD_NIGHT[0], end_night=march(14))
    given(last_room, *WANTS_MORE[1:]).when(longer).then(
        ended(ChangeEnd.REPLACED),
        but(
            HELD_LONGER,
            change_id=ANOTHER_CHANGE,
            check_out=march(14),
            amount_minor=400_00,
            extra_minor=200_00,
            night_amounts_minor=(100_00,) * 4,
            held=(held,),
        ),
        but(ASKED_MORE, attempt=3, amount_minor=200_00),
    ).with_night(ROOM, march(12), reserved_count=1)


def test_a_change_that_is_not_possible_leaves_the_one_that_is_held() -> None:
    too_long = but(LONGER, change_id=ANOTHER_CHANGE, check_out=march(20))
    given(*WANTS_MORE).when(too_long).then(not_changed(too_long, Rejection.NIGHT_NOT_OPEN)).with_booking(
        ADAS, hold_expires_at=HELD_LONGER.hold_expires_at
    ).with_night(ROOM, march(12), reserved_count=1)


# Rejections


def changing(*events: Event, sold: tuple[Event, ...] = BOUGHT) -> Scenario:
    return given(*sold, *events)


def test_a_change_to_no_nights_or_no_rooms_is_rejected() -> None:
    for check_out in (march(10), march(9)):
        none = but(LONGER, check_out=check_out)
        changing().when(none).then(not_changed(none, Rejection.NO_NIGHTS))
    none = but(LONGER, rooms_count=0)
    changing().when(none).then(not_changed(none, Rejection.NO_ROOMS))


def test_nights_that_are_not_on_sale_are_rejected() -> None:
    for check_out in (march(16), march(10) + timedelta(days=MAX_NIGHTS + 1)):
        beyond = but(LONGER, check_out=check_out)
        changing().when(beyond).then(not_changed(beyond, Rejection.NIGHT_NOT_OPEN))


def test_a_night_of_another_hotel_is_rejected() -> None:
    of_another = but(OPENED, hotel_id=2, first_night=march(15), end_night=march(16))
    beyond = but(LONGER, check_out=march(16))
    changing(of_another).when(beyond).then(not_changed(beyond, Rejection.ROOM_OF_ANOTHER_HOTEL))


def test_a_night_that_is_closed_is_rejected_unless_the_booking_has_it_already() -> None:
    closed = but(NIGHTS_CHANGED, ranges=nights(12), closed=True)
    changing(closed).when(LONGER).then(not_changed(LONGER, Rejection.NIGHT_CLOSED))
    own_closed = but(NIGHTS_CHANGED, ranges=nights(10, 11), closed=True)
    changing(own_closed).when(LONGER).then(HELD_LONGER, ASKED_MORE)
    more = but(LONGER, check_out=march(12), rooms_count=2)
    changing(own_closed).when(more).then(not_changed(more, Rejection.NIGHT_CLOSED))


def test_a_night_that_is_sold_out_is_rejected_and_the_booking_stays() -> None:
    bens = but(BEN_RESERVED, check_in=march(12), check_out=march(13), rooms_count=2)
    changing(bens).when(LONGER).then(not_changed(LONGER, Rejection.SOLD_OUT)).with_booking(
        ADAS, check_out=march(12), pending_change=None
    )


def test_nights_that_have_another_currency_by_now_cannot_be_paid_together() -> None:
    dollars = but(OPENED, first_night=march(15), end_night=march(16), currency="USD")
    moved = but(LONGER, check_out=march(16))
    changing(dollars).when(moved).then(not_changed(moved, Rejection.NOT_CHARGEABLE))


@pytest.mark.parametrize(("price_minor", "possible"), [(49, False), (50, True), (10**12, False)])
def test_a_difference_that_no_card_can_pay_is_rejected(
    price_minor: int,
    possible: bool,  # noqa: FBT001 - A parameter of the test.
) -> None:
    cheap = but(NIGHTS_CHANGED, ranges=nights(12), price_minor=price_minor)
    scenario = changing(cheap).when(LONGER)
    if possible:
        held, _ = scenario.answer
        assert isinstance(held, ChangeHeld)
        assert held.extra_minor == price_minor
    else:
        scenario.then(not_changed(LONGER, Rejection.NOT_CHARGEABLE))


def test_an_amount_beyond_the_ledger_is_rejected_at_the_hotel_too() -> None:
    dear = but(NIGHTS_CHANGED, ranges=nights(12), price_minor=10**12)
    given(*AT_HOTEL, dear).when(LONGER).then(not_changed(LONGER, Rejection.NOT_CHARGEABLE))


TEN_ROOMS = but(OPENED, total_count=10)
SHARED = but(LONGER, rooms_count=4, account_share_percent=30)


def test_an_account_holds_its_share_with_changes_too() -> None:
    changing(sold=(TEN_ROOMS, *BOUGHT[1:])).when(SHARED).then(not_changed(SHARED, Rejection.ACCOUNT_SHARE))
    three_more = but(SHARED, check_out=march(12))
    scenario = changing(sold=(TEN_ROOMS, *BOUGHT[1:])).when(three_more)
    assert isinstance(scenario.answer[0], ChangeHeld)
    # The rooms of a change that is replaced do not count.
    again = but(three_more, change_id=ANOTHER_CHANGE)
    assert isinstance(scenario.when(again).answer[1], ChangeHeld)
    another_stay = but(RESERVED, booking_id=UUID(int=3), check_in=march(12), check_out=march(13), rooms_count=3)
    one_more = but(LONGER, account_share_percent=30)
    changing(another_stay, sold=(TEN_ROOMS, *BOUGHT[1:])).when(one_more).then(
        not_changed(one_more, Rejection.ACCOUNT_SHARE)
    )


def test_the_share_does_not_count_for_the_hotel_nor_for_a_change_that_is_paid_already() -> None:
    by_hotel = but(SHARED, user_id=None)
    assert isinstance(changing(sold=(TEN_ROOMS, *BOUGHT[1:])).when(by_hotel).answer[0], ChangeHeld)
    moved = but(LATER_DATES, account_share_percent=0)
    bens = but(RESERVED, booking_id=BENS, check_in=march(12), check_out=march(14), rooms_count=3)
    changing(bens, sold=(TEN_ROOMS, *BOUGHT[1:])).when(moved).then(IS_LATER)


def test_at_the_hotel_all_rooms_of_an_account_count() -> None:
    sold = (TEN_ROOMS, *AT_HOTEL[1:])
    three = but(SHARED, rooms_count=3)
    given(*sold).when(three).then(
        but(
            IS_LONGER,
            rooms_count=3,
            amount_minor=900_00,
            night_amounts_minor=(300_00,) * 3,
            held=(),
            extra_minor=0,
            session_id=None,
            payment_intent=None,
        )
    )
    given(*sold).when(SHARED).then(not_changed(SHARED, Rejection.ACCOUNT_SHARE))


RULE = ArrivalRule(first_day=march(1), end_day=march(31))


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        (replace(RULE, stop_sell=True), Rejection.STOP_SELL),
        (replace(RULE, closed_to_arrival=True), Rejection.CLOSED_TO_ARRIVAL),
        (replace(RULE, closed_to_departure=True), Rejection.CLOSED_TO_DEPARTURE),
        (replace(RULE, min_nights=4), Rejection.MIN_STAY),
        (replace(RULE, max_nights=2), Rejection.MAX_STAY),
        (replace(RULE, advance_days=10), Rejection.ADVANCE_PURCHASE),
    ],
    ids=lambda value: value.value if isinstance(value, Rejection) else "",
)
def test_the_rules_of_the_plan_by_the_new_arrival_count(rule: ArrivalRule, reason: Rejection) -> None:
    ruled = but(TERMS_SET, terms=replace(TERMS, version=2, plans=(replace(STANDARD, rules=(rule,)),)))
    given(*SOLD, ruled).when(LONGER).then(not_changed(LONGER, reason))


@pytest.mark.parametrize("more", [{}, {"check_out": march(12), "rooms_count": 2}], ids=["nights", "rooms"])
def test_the_rules_of_the_standard_plan_count_for_more_of_a_booking_that_was_sold_without_terms(
    more: dict[str, Any],
) -> None:
    ruled = but(TERMS_SET, terms=replace(TERMS, plans=(replace(STANDARD, rules=(replace(RULE, min_nights=7),)),)))
    longer = but(LONGER, **more)
    given(*BOUGHT, ruled).when(longer).then(not_changed(longer, Rejection.MIN_STAY))
    given(*BOUGHT, ruled).when(SHORTER).then(IS_SHORTER, PART_BACK)


# Promo codes


def with_code(
    percent_milli: int = 20_000, first_night: date | None = None, end_night: date | None = None
) -> tuple[Event, ...]:
    """Return the events of a stay that Ada paid for with a promo code for these dates."""
    discount = Discount(
        code_id=SPRING, code="SPRING", percent_milli=percent_milli, first_night=first_night, end_night=end_night
    )
    return (*SOLD[:2], *(_with_discount(event, discount) for event in SOLD[2:]))


def _with_discount(event: Event, discount: Discount) -> Event:
    if not isinstance(event, BookingReserved):
        return event
    assert event.sale is not None
    return but(event, sale=replace(event.sale, discount=discount))


def test_a_promo_code_counts_for_all_nights_of_a_changed_stay_or_the_change_is_rejected() -> None:
    sold = with_code(first_night=march(10), end_night=march(12))
    earlier = but(LONGER, check_in=march(9), check_out=march(12))
    for command in (LONGER, earlier):
        given(*sold).when(command).then(not_changed(command, Rejection.CODE_NOT_VALID))
    within = with_code(first_night=march(10), end_night=march(13))
    for command in (LONGER, but(LONGER, check_in=march(11))):
        answer = given(*within).when(command).answer
        assert isinstance(answer[0], ChangeHeld | StayChanged)


def test_rooms_that_a_code_makes_free_count_to_the_share_of_an_account() -> None:
    sold = (TEN_ROOMS, *with_code(100_000)[1:])
    many = but(LONGER, check_in=march(13), check_out=march(14), rooms_count=6, account_share_percent=50)
    given(*sold).when(many).then(not_changed(many, Rejection.ACCOUNT_SHARE))
    few = but(many, rooms_count=5)
    assert isinstance(given(*sold).when(few).answer[0], StayChanged)


# Refusals


@pytest.mark.parametrize(
    ("so_far", "command", "at", "reason"),
    [
        ((OPENED,), LONGER, NOON, Refusal.BOOKING_NOT_FOUND),
        (BOUGHT, but(LONGER, user_id=BEN), NOON, Refusal.NOT_YOUR_BOOKING),
        (PAYABLE, LONGER, NOON, Refusal.WRONG_STATUS),
        ((*BOUGHT, ARRIVED), LONGER, SECOND_DAY, Refusal.WRONG_STATUS),
        (BOUGHT, LONGER, CHECK_OUT, Refusal.STAY_OVER),
        (BOUGHT, LONGER, CHECK_IN, Refusal.CHECK_IN_PASSED),
        (BOUGHT, BY_HOTEL, SECOND_DAY, Refusal.CHECK_IN_PASSED),
        (BOUGHT, but(LONGER, check_in=march(9)), SECOND_DAY - timedelta(days=1), Refusal.CHECK_IN_PASSED),
        (BOUGHT, but(LONGER, check_in=march(9), user_id=None), LAST_DAY, Refusal.CHECK_IN_PASSED),
    ],
    ids=["unknown", "stranger", "unpaid", "arrived", "over", "begun", "first night past", "into the past", "both"],
)
def test_a_change_that_cannot_be_is_refused(
    so_far: tuple[Event, ...], command: ChangeStay, at: object, reason: Refusal
) -> None:
    scenario = given(*so_far)
    status = scenario.bookings[ADAS].status if ADAS in scenario.bookings else None
    scenario.when(command, at=at).then(refused(command, reason, status))  # type: ignore[arg-type]


def test_a_guest_changes_a_stay_until_check_in_and_the_hotel_until_its_first_night_is_past() -> None:
    deadline = timedelta(minutes=15)
    for command, at in ((LONGER, CHECK_IN - MILLISECOND), (BY_HOTEL, SECOND_DAY - MILLISECOND)):
        given(*BOUGHT).when(command, at=at).then(but(HELD_LONGER, hold_expires_at=at + deadline), ASKED_MORE)


def test_a_booking_is_changed_only_so_many_times() -> None:
    changes = [
        but(
            IS_LONGER,
            change_id=UUID(int=1_000 + number),
            check_out=march(12),
            amount_minor=200_00,
            night_amounts_minor=(100_00, 100_00),
            held=(),
            extra_minor=0,
            session_id=None,
            payment_intent=None,
        )
        for number in range(MAX_CHANGES)
    ]
    given(*BOUGHT, *changes).when(LONGER).then(refused(LONGER, Refusal.TOO_MANY_CHANGES, BookingStatus.CONFIRMED))
    given(*BOUGHT, *changes[1:]).when(LONGER).then(HELD_LONGER, ASKED_MORE)


def rejected_changes(count: int) -> list[Event]:
    """Return events of changes that were rejected, the first of them `FIRST_CHANGE`."""
    ids = [FIRST_CHANGE, *(UUID(int=1_000 + number) for number in range(1, count))]
    return [but(not_changed(LONGER, Rejection.SOLD_OUT), change_id=id) for id in ids]


def test_changes_that_were_rejected_or_withdrawn_use_up_no_right() -> None:
    withdrawn = [
        event
        for number in range(MAX_CHANGES)
        for event in (
            but(HELD_LONGER, change_id=UUID(int=2_000 + number)),
            but(ASKED_MORE, attempt=2 + number),
            but(ended(ChangeEnd.WITHDRAWN), change_id=UUID(int=2_000 + number)),
        )
    ]
    another = but(LONGER, change_id=ANOTHER_CHANGE)
    given(*BOUGHT, *rejected_changes(MAX_CHANGES), *withdrawn).when(another).then(
        but(HELD_LONGER, change_id=ANOTHER_CHANGE), but(ASKED_MORE, attempt=2 + MAX_CHANGES)
    )


def test_rooms_are_not_held_without_end_by_changes_that_nobody_pays() -> None:
    scenario = given(*BOUGHT)
    for number in range(2, MAX_PAYMENTS_ASKED + 1):
        longer = but(LONGER, change_id=UUID(int=1_000 + number), check_out=march(13 + number % 2))
        assert isinstance(scenario.when(longer).answer[-2], ChangeHeld)
    last = but(LONGER, change_id=ANOTHER_CHANGE)
    scenario.when(last).then(refused(last, Refusal.TOO_MANY_CHANGES, BookingStatus.CONFIRMED))
    scenario.when(but(WITHDRAW, change_id=UUID(int=1_000 + MAX_PAYMENTS_ASKED))).with_booking(ADAS, pending_change=None)
    scenario.when(last).then(refused(last, Refusal.TOO_MANY_CHANGES, BookingStatus.CONFIRMED))


def test_the_newest_changes_that_ended_are_known_again_and_a_forgotten_one_is_decided_anew() -> None:
    remembered = rejected_changes(MAX_ENDED_CHANGES)
    given(*BOUGHT, *remembered).when(LONGER).then(repeated(LONGER, BookingStatus.CONFIRMED))
    scenario = given(*BOUGHT, *rejected_changes(MAX_ENDED_CHANGES + 1)).when(LONGER).then(HELD_LONGER, ASKED_MORE)
    scenario.with_booking(ADAS, ended_change_ids=tuple(UUID(int=1_000 + n) for n in range(1, MAX_ENDED_CHANGES + 1)))


def test_a_change_that_took_place_is_never_forgotten() -> None:
    others = [but(event, change_id=UUID(int=5_000 + n)) for n, event in enumerate(rejected_changes(MAX_ENDED_CHANGES))]
    given(*SHORTENED, *others).when(SHORTER).then(repeated(SHORTER, BookingStatus.CONFIRMED))


# By a quote


HELD_AS_QUOTED = but(HELD_LONGER, amount_minor=299_99, extra_minor=99_99, night_amounts_minor=(100_00, 100_00, 99_99))


def test_a_change_costs_what_was_quoted_although_prices_have_changed() -> None:
    dearer = but(NIGHTS_CHANGED, ranges=nights(10, 11, 12), price_minor=500_00)
    for command in (LONGER_QUOTED, but(LONGER_QUOTED, user_id=None)):
        given(*BOUGHT, dearer).when(command).then(HELD_AS_QUOTED, but(ASKED_MORE, amount_minor=99_99))


def test_a_cheaper_change_gives_back_what_was_quoted() -> None:
    quoted = replace(QUOTED_LONGER, amount_minor=120_00, night_amounts_minor=(120_00,))
    given(*BOUGHT).when(but(SHORTER, quoted=quoted)).then(
        but(IS_SHORTER, amount_minor=120_00, night_amounts_minor=(120_00,)), but(PART_BACK, amount_minor=80_00)
    )


def test_a_quote_of_a_change_counts_until_its_end_and_for_the_stay_that_it_was_made_of() -> None:
    expired = not_changed(LONGER_QUOTED, Rejection.QUOTE_EXPIRED)
    at_last = QUOTED_LONGER.good_until
    until = at_last + timedelta(minutes=15)
    given(*BOUGHT).when(LONGER_QUOTED, at=at_last).then(
        but(HELD_AS_QUOTED, hold_expires_at=until), but(ASKED_MORE, amount_minor=99_99)
    )
    given(*BOUGHT).when(LONGER_QUOTED, at=at_last + MILLISECOND).then(expired)
    again = but(LONGER_QUOTED, change_id=ANOTHER_CHANGE)
    given(*SHORTENED).when(again).then(not_changed(again, Rejection.QUOTE_EXPIRED))
    for other in ({"currency": "USD"}, {"terms": Terms.AT_HOTEL}):
        given(*BOUGHT).when(but(LONGER, quoted=replace(QUOTED_LONGER, **other))).then(expired)


def test_a_quote_of_a_change_counts_also_after_a_change_that_was_not_paid() -> None:
    again = but(LONGER_QUOTED, change_id=ANOTHER_CHANGE)
    given(*WANTS_MORE, ended(ChangeEnd.WITHDRAWN)).when(again).then(
        but(HELD_AS_QUOTED, change_id=ANOTHER_CHANGE), but(ASKED_MORE, attempt=3, amount_minor=99_99)
    )


def test_a_quote_of_a_change_holds_no_nights_and_no_stopped_plan() -> None:
    bens = but(BEN_RESERVED, check_in=march(12), check_out=march(13), rooms_count=OPENED.total_count)
    given(*BOUGHT, bens).when(LONGER_QUOTED).then(not_changed(LONGER_QUOTED, Rejection.SOLD_OUT))
    closed = but(NIGHTS_CHANGED, ranges=nights(12), closed=True)
    given(*BOUGHT, closed).when(LONGER_QUOTED).then(not_changed(LONGER_QUOTED, Rejection.NIGHT_CLOSED))
    rules: dict[str, Any] = {"first_day": march(1), "end_day": march(31)}
    for rule, reason in (
        (ArrivalRule(**rules, stop_sell=True), Rejection.STOP_SELL),
        (ArrivalRule(**rules, min_nights=7, closed_to_arrival=True), None),
    ):
        terms = but(TERMS_SET, terms=replace(TERMS, version=2, plans=(replace(STANDARD, rules=(rule,)), SAVER)))
        scenario = given(*BOUGHT, terms).when(LONGER_QUOTED)
        if reason is None:
            scenario.then(HELD_AS_QUOTED, but(ASKED_MORE, amount_minor=99_99))
        else:
            scenario.then(not_changed(LONGER_QUOTED, reason))
    without = but(TERMS_SET, terms=replace(TERMS, version=2, plans=(SAVER,)))
    given(*SOLD, without).when(LONGER_QUOTED).then(not_changed(LONGER_QUOTED, Rejection.STOP_SELL))


def test_the_people_of_a_quote_have_their_places_and_guests_who_are_named_need_theirs() -> None:
    assert TERMS.capacity is not None
    crowd = but(LONGER_QUOTED, party=Party(adults=TERMS.capacity + 1))
    assert isinstance(given(*SOLD).when(crowd).answer[0], ChangeHeld)
    # Two guests are named.
    alone = but(LONGER_QUOTED, party=Party(adults=1))
    given(*SOLD).when(alone).then(not_changed(alone, Rejection.PARTY_TOO_LARGE))


# Withdrawing


def test_a_change_is_withdrawn_once_by_its_guest_or_the_hotel() -> None:
    for command in (WITHDRAW, but(WITHDRAW, user_id=None)):
        given(*CAN_PAY_MORE).when(command).then(ended(ChangeEnd.WITHDRAWN)).with_booking(
            ADAS, status=BookingStatus.CONFIRMED, pending_change=None, hold_expires_at=None, amount_minor=200_00
        ).with_night(ROOM, march(12), reserved_count=0).when(command).then(
            refused(command, Refusal.NO_SUCH_CHANGE, BookingStatus.CONFIRMED)
        )


def test_a_change_that_is_not_held_is_not_withdrawn() -> None:
    stranger = but(WITHDRAW, user_id=BEN)
    given(*WANTS_MORE).when(stranger).then(refused(stranger, Refusal.NOT_YOUR_BOOKING, BookingStatus.CONFIRMED))
    given(OPENED).when(WITHDRAW).then(refused(WITHDRAW, Refusal.BOOKING_NOT_FOUND, None))
    another = but(WITHDRAW, change_id=ANOTHER_CHANGE)
    given(*WANTS_MORE).when(another).then(refused(another, Refusal.NO_SUCH_CHANGE, BookingStatus.CONFIRMED))
    given(*LENGTHENED).when(WITHDRAW).then(refused(WITHDRAW, Refusal.NO_SUCH_CHANGE, BookingStatus.CONFIRMED))


# People


def test_a_change_of_the_people_alone_counts_as_one() -> None:
    none, many = (but(LONGER, check_out=march(12), party=Party(adults=adults)) for adults in (0, 4))
    given(*SOLD).when(none).then(not_changed(none, Rejection.NO_ADULT))
    given(*SOLD).when(many).then(not_changed(many, Rejection.PARTY_TOO_LARGE))
    same = but(LONGER, check_out=march(12), party=Party(adults=2))
    given(*SOLD).when(same).then(repeated(same, BookingStatus.CONFIRMED))
    # Two guests are named.
    one = but(same, party=Party(adults=1))
    given(*SOLD).when(one).then(not_changed(one, Rejection.PARTY_TOO_LARGE))


def test_the_plan_of_the_booking_must_still_be_sold() -> None:
    gone = but(TERMS_SET, terms=replace(TERMS, version=2, plans=(SAVER,)))
    given(*SOLD, gone).when(LONGER).then(not_changed(LONGER, Rejection.NO_SUCH_PLAN))


def test_no_end_of_a_changed_stay_costs_less_than_a_cancellation_at_the_change() -> None:
    free = CancellationPolicy(id="free", no_show=Kept(percent=0), early_departure_percent=0)
    terms = replace(TERMS, version=2, plans=(replace(SAVER, refundable=True, policy=free),))
    same_price = but(LONGER, check_in=march(11))
    ends: tuple[tuple[Command, ...], ...] = ((NO_SHOW,), (ARRIVE, LEAVE))
    for commands in ends:
        scenario = given(*SOLD_SAVER, but(TERMS_SET, terms=terms)).when(same_price)
        assert isinstance(scenario.answer[0], StayChanged)
        for command in commands:
            scenario.when(command, at=CHECK_IN + timedelta(days=1))
        (ended,) = scenario.answer
        assert isinstance(ended, GuestsDidNotArrive | GuestsCheckedOut)
        assert ended.policy == AppliedPolicy(kept_minor=180_00)
