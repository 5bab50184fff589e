"""Stays are reserved at the nights' prices, or rejected with a reason."""

from collections.abc import Sequence
from uuid import UUID

import pytest
from msgspec.structs import replace

from tests.support.scenario import NOON, given
from tests.workers.decisions.words import (
    ADA,
    ADAS,
    ANOTHER_ROOM,
    BEN_RESERVED,
    BEN_RESERVES,
    BENS,
    CANCELLED,
    CHANGED,
    CONFIRMED_FREE,
    DEADLINE,
    EXPIRED,
    HELD,
    LATER,
    MILLISECOND,
    OPENED,
    PAID,
    RESERVE,
    RESERVED,
    ROOM,
    SECOND,
    but,
    march,
    nights,
    priced,
    refused,
    rejected,
    repeated,
)
from tests.workers.decisions.words_of_sale import QUOTED, STANDARD, TERMS, TERMS_SET
from topics.messages.events import Event, InventoryOpened, SaleTermsChanged
from topics.messages.sale import ArrivalRule, Party
from topics.messages.values import (
    MAX_AMOUNT_MINOR,
    MAX_PRICE_MINOR,
    MAX_ROOMS,
    BookingStatus,
    Refusal,
    Rejection,
    Terms,
)

LAST_ROOM = but(OPENED, total_count=1)
AT_HOTEL_RESERVED = but(RESERVED, terms=Terms.AT_HOTEL, hold_expires_at=None)

#: The request with an Idempotency-Key, and the event of its booking.
KEYED = but(RESERVE, request_hash="ours")
OURS = but(RESERVED, request_hash="ours")


def test_a_free_stay_is_held_for_fifteen_minutes() -> None:
    given(OPENED).when(RESERVE, at=NOON).then(RESERVED).with_booking(
        ADAS, status=BookingStatus.RESERVED, hold_expires_at=DEADLINE, amount_minor=200_00, version=1
    )


def test_a_hold_lasts_as_long_as_in_the_command() -> None:
    given(OPENED).when(but(RESERVE, hold_seconds=60), at=DEADLINE - 60_000 * MILLISECOND).then(RESERVED)


def test_a_held_stay_takes_its_nights_and_not_the_day_of_departure() -> None:
    scenario = given(OPENED).when(RESERVE).then(RESERVED)
    scenario.with_night(ROOM, march(10), reserved_count=1, booked_count=0, free_count=1)
    scenario.with_night(ROOM, march(11), reserved_count=1, booked_count=0, free_count=1)
    scenario.with_night(ROOM, march(12), reserved_count=0, booked_count=0, free_count=2)


def test_one_guest_leaves_on_the_day_the_next_arrives() -> None:
    given(LAST_ROOM).when(RESERVE).then(RESERVED).when(but(BEN_RESERVES, check_in=march(12), check_out=march(14))).then(
        but(BEN_RESERVED, check_in=march(12), check_out=march(14))
    )


def test_one_guest_arrives_on_the_day_the_next_but_earlier_guest_leaves() -> None:
    given(LAST_ROOM).when(but(RESERVE, check_in=march(12), check_out=march(14))).then(
        but(RESERVED, check_in=march(12), check_out=march(14))
    ).when(BEN_RESERVES).then(BEN_RESERVED)


def test_the_last_room_is_sold_once() -> None:
    given(LAST_ROOM).when(RESERVE).then(RESERVED).when(BEN_RESERVES).then(
        rejected(BEN_RESERVES, Rejection.SOLD_OUT)
    ).with_booking(BENS, status=BookingStatus.REJECTED, rejection=Rejection.SOLD_OUT).with_night(
        ROOM, march(10), reserved_count=1
    )


def test_two_stays_that_share_a_single_night_do_not_both_get_the_last_room() -> None:
    ben = but(BEN_RESERVES, check_in=march(11), check_out=march(15))
    given(LAST_ROOM).when(RESERVE).then(RESERVED).when(ben).then(rejected(ben, Rejection.SOLD_OUT)).with_night(
        ROOM, march(14), reserved_count=0
    )


def test_a_group_gets_all_its_rooms_or_none() -> None:
    group = but(RESERVE, rooms_count=3)
    given(OPENED).when(group).then(rejected(group, Rejection.SOLD_OUT)).with_night(
        ROOM, march(10), reserved_count=0
    ).when(but(BEN_RESERVES, rooms_count=2)).then(priced(but(BEN_RESERVED, rooms_count=2), 200_00, 200_00)).with_night(
        ROOM, march(10), reserved_count=2
    )


def test_a_stay_ends_no_earlier_than_it_begins() -> None:
    for check_out in (march(10), march(9)):
        command = but(RESERVE, check_out=check_out)
        given(OPENED).when(command).then(rejected(command, Rejection.NO_NIGHTS))


def test_nobody_reserves_no_rooms() -> None:
    for rooms_count in (0, -1):
        command = but(RESERVE, rooms_count=rooms_count)
        given(OPENED).when(command).then(rejected(command, Rejection.NO_ROOMS))


def test_an_agreed_rate_is_not_negative() -> None:
    command = but(RESERVE, agreed_nightly_minor=-1)
    given(OPENED).when(command).then(rejected(command, Rejection.NEGATIVE_RATE))


def test_every_night_must_be_on_sale() -> None:
    for stay in (
        {"check_in": march(9)},
        {"check_in": march(14), "check_out": march(16)},
        {"check_in": march(20), "check_out": march(21)},
    ):
        command = but(RESERVE, **stay)
        given(OPENED).when(command).then(rejected(command, Rejection.NIGHT_NOT_OPEN))


def test_nights_of_one_room_do_not_serve_another() -> None:
    command = but(RESERVE, room_id=ANOTHER_ROOM)
    given(OPENED).when(command).then(rejected(command, Rejection.NIGHT_NOT_OPEN))


def test_a_room_is_reserved_at_its_own_hotel() -> None:
    command = but(RESERVE, hotel_id=2)
    given(OPENED).when(command).then(rejected(command, Rejection.ROOM_OF_ANOTHER_HOTEL))


def test_one_closed_night_closes_the_stay() -> None:
    given(OPENED, but(CHANGED, ranges=nights(11), closed=True)).when(RESERVE).then(
        rejected(RESERVE, Rejection.NIGHT_CLOSED)
    )


def test_a_night_that_is_on_sale_again_can_be_reserved() -> None:
    given(OPENED, but(CHANGED, closed=True), but(CHANGED, closed=False)).when(RESERVE).then(RESERVED)


@pytest.mark.parametrize("first", list(Rejection))
def test_a_request_wrong_in_many_ways_is_refused_for_the_first(first: Rejection) -> None:
    wrongs = list(Rejection)[list(Rejection).index(first) :]
    command = but(
        RESERVE,
        # A leg of a trip, by a plan that is paid at the hotel.
        trip_id=UUID(int=9),
        trip_room_id=ANOTHER_ROOM,
        # The code's own partition refuses its use for one reason.
        code_rejection=first if Rejection.CODE_USED_BY_ACCOUNT in wrongs else None,
        account_share_percent=0 if Rejection.ACCOUNT_SHARE in wrongs else None,
        check_out=march(9) if Rejection.NO_NIGHTS in wrongs else march(13),
        rooms_count=0 if Rejection.NO_ROOMS in wrongs else 1,
        agreed_nightly_minor=-1 if Rejection.NEGATIVE_RATE in wrongs else None,
        hotel_id=2 if Rejection.ROOM_OF_ANOTHER_HOTEL in wrongs else 1,
        quoted=replace(QUOTED, good_until=NOON - SECOND) if Rejection.QUOTE_EXPIRED in wrongs else None,
        plan_id="unknown" if Rejection.NO_SUCH_PLAN in wrongs else None,
        party=Party(adults=0 if Rejection.NO_ADULT in wrongs else 9 if Rejection.PARTY_TOO_LARGE in wrongs else 2),
    )
    opened: list[Event] = [
        but(OPENED, end_night=march(12), total_count=0 if Rejection.SOLD_OUT in wrongs else 3),
        but(OPENED, first_night=march(13)),
    ]
    if Rejection.ACCOUNT_SHARE in wrongs and Rejection.SOLD_OUT not in wrongs:
        opened.append(but(RESERVED, booking_id=BENS, check_out=march(11), rooms_count=2))
    expensive = but(CHANGED, price_minor=MAX_PRICE_MINOR) if Rejection.NOT_CHARGEABLE in wrongs else CHANGED
    if Rejection.NIGHT_NOT_OPEN not in wrongs:
        opened.append(but(OPENED, first_night=march(12), end_night=march(13)))
    closed = [but(CHANGED, ranges=nights(11), closed=True)] if Rejection.NIGHT_CLOSED in wrongs else []
    given(*opened, sold_by_rules(wrongs), expensive, *closed).when(command).then(rejected(command, first))


def sold_by_rules(wrongs: Sequence[Rejection]) -> SaleTermsChanged:
    """Return the event that sells the room by a plan whose rules exclude a stay of three nights for these reasons."""
    rule = ArrivalRule(
        first_day=march(1),
        end_day=march(31),
        stop_sell=Rejection.STOP_SELL in wrongs,
        closed_to_arrival=Rejection.CLOSED_TO_ARRIVAL in wrongs,
        closed_to_departure=Rejection.CLOSED_TO_DEPARTURE in wrongs,
        min_nights=4 if Rejection.MIN_STAY in wrongs else None,
        max_nights=2 if Rejection.MAX_STAY in wrongs else None,
        advance_days=60 if Rejection.ADVANCE_PURCHASE in wrongs else None,
    )
    return but(TERMS_SET, terms=replace(TERMS, plans=(replace(STANDARD, rules=(rule,), terms=Terms.AT_HOTEL),)))


def test_a_refused_request_stays_refused_when_rooms_come_free() -> None:
    given(LAST_ROOM, BEN_RESERVED).when(RESERVE).then(rejected(RESERVE, Rejection.SOLD_OUT)).when(
        RESERVE, at=LATER
    ).then(repeated(RESERVE, BookingStatus.REJECTED)).with_booking(ADAS, version=1)


def test_the_same_request_twice_holds_one_stay() -> None:
    given(OPENED).when(RESERVE).then(RESERVED).when(RESERVE, at=NOON + MILLISECOND).then(
        repeated(RESERVE, BookingStatus.RESERVED)
    ).with_night(ROOM, march(10), reserved_count=1).with_booking(ADAS, hold_expires_at=DEADLINE, version=1)


def test_the_same_request_long_after_holds_nothing_again() -> None:
    given(*HELD).when(RESERVE, at=LATER).then(EXPIRED, repeated(RESERVE, BookingStatus.EXPIRED)).with_night(
        ROOM, march(10), reserved_count=0
    )


def test_a_request_with_a_key_is_its_booking_whatever_became_of_that() -> None:
    kept = but(RESERVED, request_hash="ours")
    given(OPENED).when(KEYED).then(kept).with_booking(ADAS, request_hash="ours").when(KEYED).then(
        repeated(KEYED, BookingStatus.RESERVED)
    ).with_night(ROOM, march(10), reserved_count=1)
    given(OPENED, kept).when(KEYED, at=LATER).then(EXPIRED, repeated(KEYED, BookingStatus.EXPIRED))
    refusal = but(rejected(KEYED, Rejection.SOLD_OUT), request_hash="ours")
    given(LAST_ROOM, BEN_RESERVED).when(KEYED).then(refusal).when(KEYED).then(repeated(KEYED, BookingStatus.REJECTED))


@pytest.mark.parametrize(
    ("first", "status", "reserved_count"),
    [
        (OURS, BookingStatus.RESERVED, 1),
        (but(rejected(KEYED, Rejection.SOLD_OUT), request_hash="ours"), BookingStatus.REJECTED, 0),
    ],
)
def test_another_request_with_the_key_of_a_booking_is_refused_and_sells_nothing(
    first: Event, status: BookingStatus, reserved_count: int
) -> None:
    other = but(KEYED, rooms_count=2, request_hash="another")
    given(OPENED, first).when(other).then(refused(other, Refusal.ANOTHER_REQUEST, status)).with_night(
        ROOM, march(10), reserved_count=reserved_count
    ).with_booking(ADAS, status=status, rooms_count=1, request_hash="ours")


def test_another_request_with_the_key_of_a_booking_is_refused_in_every_room() -> None:
    other = but(KEYED, room_id=ANOTHER_ROOM, request_hash="another")
    there: InventoryOpened = but(OPENED, room_id=ANOTHER_ROOM)
    given(OPENED, there, OURS).when(other).then(refused(other, Refusal.ANOTHER_REQUEST, None)).with_booking(
        ADAS, room_id=ROOM, status=BookingStatus.RESERVED
    ).with_night(ANOTHER_ROOM, march(10), reserved_count=0)


def test_a_request_is_the_same_one_if_one_of_both_has_no_hash() -> None:
    """A worker of 0.1.0 decided the first, or the row of the key has ids that an older release made."""
    given(OPENED, RESERVED).when(KEYED).then(repeated(KEYED, BookingStatus.RESERVED))
    given(OPENED, OURS).when(RESERVE).then(repeated(RESERVE, BookingStatus.RESERVED))


def test_a_booking_id_that_another_room_spent_is_no_booking_here() -> None:
    command = but(RESERVE, room_id=ANOTHER_ROOM)
    there: InventoryOpened = but(OPENED, room_id=ANOTHER_ROOM)
    given(*HELD, there).when(command).then(refused(command, Refusal.BOOKING_NOT_FOUND, None)).with_booking(
        ADAS, room_id=ROOM, status=BookingStatus.RESERVED
    ).with_night(ANOTHER_ROOM, march(10), reserved_count=0)


def test_the_amount_is_the_sum_of_the_nights_times_the_rooms() -> None:
    given(OPENED, but(CHANGED, ranges=nights(11), price_minor=150_50)).when(but(RESERVE, rooms_count=2)).then(
        priced(but(RESERVED, rooms_count=2), 2 * 100_00, 2 * 150_50)
    )


@pytest.mark.parametrize(
    ("price_minor", "surge_milli", "night_minor"),
    [
        (333, 1500, 500),  # 499.5 goes up
        (1, 1499, 1),
        (1, 1500, 2),  # to even would be 2 as well,
        (3, 1500, 5),  # but not here: 4.5
        (1, 499, 0),
        (1, 500, 1),  # 0.5 goes up, also to odd
        (99_99, 1000, 99_99),
        (0, 10_000, 0),
    ],
)
def test_a_night_is_rounded_half_up_to_the_minor_unit(price_minor: int, surge_milli: int, night_minor: int) -> None:
    changed = but(CHANGED, price_minor=price_minor, surge_milli=surge_milli)
    # Stripe would not charge so little, and is not asked to.
    reserved = priced(AT_HOTEL_RESERVED, night_minor, night_minor)
    given(OPENED, changed).when(but(RESERVE, terms=Terms.AT_HOTEL)).then(
        reserved, but(CONFIRMED_FREE, amount_minor=2 * night_minor)
    )


def test_each_night_is_rounded_before_the_rooms_are_counted() -> None:
    changed = but(CHANGED, price_minor=101, surge_milli=1500)
    given(OPENED, changed).when(but(RESERVE, rooms_count=2)).then(priced(but(RESERVED, rooms_count=2), 304, 304))


def test_an_agreed_rate_is_the_price_of_every_night_whatever_they_cost() -> None:
    given(OPENED, but(CHANGED, surge_milli=3000)).when(but(RESERVE, agreed_nightly_minor=70_01, rooms_count=2)).then(
        priced(but(RESERVED, rooms_count=2), 140_02, 140_02)
    )


def test_the_amounts_of_the_nights_add_up_with_surge_and_several_rooms() -> None:
    changes = (but(CHANGED, ranges=nights(10), surge_milli=1499), but(CHANGED, ranges=nights(12), price_minor=900_01))
    three_nights = but(RESERVE, check_out=march(13), rooms_count=2)
    given(OPENED, *changes).when(three_nights).then(
        priced(but(RESERVED, check_out=march(13), rooms_count=2), 2 * 149_90, 2 * 100_00, 2 * 900_01)
    ).with_booking(ADAS, night_amounts_minor=(299_80, 200_00, 1800_02), amount_minor=2299_82)


def test_an_agreed_rate_of_nothing_is_a_rate() -> None:
    given(OPENED).when(but(RESERVE, agreed_nightly_minor=0)).then(priced(RESERVED, 0, 0))


def test_the_amount_is_in_the_currency_of_the_nights() -> None:
    given(but(OPENED, currency="JPY", price_minor=9_000)).when(RESERVE).then(
        priced(but(RESERVED, currency="JPY"), 9_000, 9_000)
    )


def test_a_night_is_rounded_to_the_step_that_stripe_charges_in() -> None:
    given(but(OPENED, currency="KWD", price_minor=12_345)).when(but(RESERVE, rooms_count=2)).then(
        priced(but(RESERVED, currency="KWD", rooms_count=2), 24_700, 24_700)
    )


def test_a_stay_paid_at_the_hotel_is_confirmed_at_once_and_held_by_no_deadline() -> None:
    command = but(RESERVE, terms=Terms.AT_HOTEL, user_id=None)
    reserved = but(RESERVED, terms=Terms.AT_HOTEL, user_id=None, hold_expires_at=None)
    scenario = given(OPENED).when(command).then(reserved, CONFIRMED_FREE)
    scenario.with_booking(ADAS, status=BookingStatus.CONFIRMED, hold_expires_at=None, payments=(), version=2)
    scenario.with_night(ROOM, march(10), reserved_count=0, booked_count=1)


def test_a_stay_paid_at_the_hotel_is_refused_for_the_same_reasons() -> None:
    command = but(RESERVE, terms=Terms.AT_HOTEL, rooms_count=3)
    given(OPENED).when(command).then(rejected(command, Rejection.SOLD_OUT)).with_booking(ADAS, terms=Terms.AT_HOTEL)


def test_a_stay_paid_at_the_hotel_is_still_confirmed_a_year_later() -> None:
    command = but(RESERVE, terms=Terms.AT_HOTEL)
    reserved = but(RESERVED, terms=Terms.AT_HOTEL, hold_expires_at=None)
    given(OPENED, reserved, CONFIRMED_FREE).when(command, at=NOON.replace(year=2027)).then(
        repeated(command, BookingStatus.CONFIRMED)
    ).with_booking(ADAS, user_id=ADA)


# Amounts that nobody can pay


def test_an_amount_that_stripe_cannot_charge_is_refused_before_anything_is_held() -> None:
    cheap = but(CHANGED, price_minor=24)
    given(OPENED, cheap).when(RESERVE).then(rejected(RESERVE, Rejection.NOT_CHARGEABLE)).with_night(
        ROOM, march(10), reserved_count=0
    )


def test_an_amount_that_stripe_cannot_charge_can_be_paid_at_the_hotel() -> None:
    at_hotel = but(RESERVE, terms=Terms.AT_HOTEL)
    given(OPENED, but(CHANGED, price_minor=24)).when(at_hotel).then(
        priced(AT_HOTEL_RESERVED, 24, 24), but(CONFIRMED_FREE, amount_minor=48)
    )


@pytest.mark.parametrize("terms", Terms)
@pytest.mark.parametrize("agreed_minor", [MAX_AMOUNT_MINOR // 2 + 1, 2**63 - 1])
def test_an_amount_beyond_what_the_ledger_holds_is_refused_on_any_terms(agreed_minor: int, terms: Terms) -> None:
    huge = but(RESERVE, agreed_nightly_minor=agreed_minor, terms=terms)
    given(OPENED).when(huge).then(rejected(huge, Rejection.NOT_CHARGEABLE)).with_booking(
        ADAS, amount_minor=0, night_amounts_minor=()
    )


def test_the_largest_amount_is_paid_at_the_hotel() -> None:
    half = MAX_AMOUNT_MINOR // 2
    largest = but(RESERVE, agreed_nightly_minor=half, terms=Terms.AT_HOTEL)
    given(OPENED).when(largest).then(
        priced(AT_HOTEL_RESERVED, half, half), but(CONFIRMED_FREE, amount_minor=MAX_AMOUNT_MINOR)
    )


def test_more_rooms_than_any_hotel_has_at_the_highest_price_are_refused() -> None:
    group = but(RESERVE, rooms_count=MAX_ROOMS)
    opened = but(OPENED, total_count=MAX_ROOMS, price_minor=MAX_PRICE_MINOR)
    given(opened, but(CHANGED, surge_milli=10_000)).when(group).then(rejected(group, Rejection.NOT_CHARGEABLE))


# The share of one account

THIRD = UUID(int=3)
TEN_ROOMS = but(OPENED, total_count=10)
#: An account may hold three of the ten rooms.
SHARED = but(RESERVE, account_share_percent=35)


def test_an_account_holds_its_share_of_a_night_and_no_more() -> None:
    three, four = but(SHARED, rooms_count=3), but(SHARED, rooms_count=4)
    given(TEN_ROOMS).when(four).then(rejected(four, Rejection.ACCOUNT_SHARE))
    given(TEN_ROOMS).when(three).then(priced(but(RESERVED, rooms_count=3), 300_00, 300_00))


def test_the_rooms_that_the_account_holds_already_count_night_by_night() -> None:
    held = but(RESERVED, booking_id=THIRD, rooms_count=3, check_in=march(11), check_out=march(13))
    given(TEN_ROOMS, held).when(SHARED).then(rejected(SHARED, Rejection.ACCOUNT_SHARE))
    until_then = but(SHARED, check_out=march(11))
    given(TEN_ROOMS, held).when(until_then).then(priced(but(RESERVED, check_out=march(11)), 100_00))
    afterwards = but(SHARED, check_in=march(13), check_out=march(14))
    given(TEN_ROOMS, held).when(afterwards).then(priced(but(RESERVED, check_in=march(13), check_out=march(14)), 100_00))


def test_two_rooms_are_within_every_share() -> None:
    given(LAST_ROOM).when(but(SHARED, account_share_percent=0)).then(RESERVED)
    two = but(SHARED, account_share_percent=0, rooms_count=2)
    for total in (2, 3):
        given(but(OPENED, total_count=total)).when(two).then(priced(but(RESERVED, rooms_count=2), 200_00, 200_00))
    one = but(SHARED, account_share_percent=0)
    given(TEN_ROOMS, but(RESERVED, booking_id=THIRD)).when(one).then(RESERVED)
    held = but(RESERVED, booking_id=THIRD, rooms_count=2)
    given(TEN_ROOMS, held).when(one).then(rejected(one, Rejection.ACCOUNT_SHARE))


def test_rooms_of_another_account_and_of_another_room_do_not_count() -> None:
    others = (
        but(RESERVED, booking_id=THIRD, user_id=BEN_RESERVES.user_id, rooms_count=3),
        but(TEN_ROOMS, room_id=ANOTHER_ROOM),
        but(RESERVED, booking_id=BENS, room_id=ANOTHER_ROOM, rooms_count=3),
    )
    given(TEN_ROOMS, *others).when(SHARED).then(RESERVED)


def test_a_stay_that_was_paid_or_ended_does_not_count() -> None:
    held = but(RESERVED, booking_id=THIRD, rooms_count=3)
    for event in (PAID, CANCELLED, EXPIRED):
        given(TEN_ROOMS, held, but(event, booking_id=THIRD)).when(SHARED).then(RESERVED)


def test_a_stay_to_be_paid_at_the_hotel_counts() -> None:
    at_hotel = but(AT_HOTEL_RESERVED, booking_id=THIRD, rooms_count=3)
    given(TEN_ROOMS, at_hotel, but(CONFIRMED_FREE, booking_id=THIRD)).when(SHARED).then(
        rejected(SHARED, Rejection.ACCOUNT_SHARE)
    )


def test_a_hold_counts_until_its_end_is_decided() -> None:
    held = but(RESERVED, booking_id=THIRD, rooms_count=3)
    given(TEN_ROOMS, held).when(SHARED, at=LATER).then(rejected(SHARED, Rejection.ACCOUNT_SHARE))


def test_the_share_is_of_all_rooms_whether_they_are_free_or_not() -> None:
    ben = but(BEN_RESERVED, booking_id=BENS, rooms_count=7)
    given(TEN_ROOMS, ben).when(but(SHARED, rooms_count=3)).then(priced(but(RESERVED, rooms_count=3), 300_00, 300_00))


def test_a_trusted_writer_without_an_account_has_no_share() -> None:
    nobodys = but(SHARED, user_id=None, rooms_count=10)
    given(TEN_ROOMS).when(nobodys).then(priced(but(RESERVED, user_id=None, rooms_count=10), 1000_00, 1000_00))


def test_without_a_share_an_account_may_hold_everything() -> None:
    given(TEN_ROOMS).when(but(RESERVE, rooms_count=10)).then(priced(but(RESERVED, rooms_count=10), 1000_00, 1000_00))
