"""Rules by the hotel's clock: until when a stay can be cancelled, changed and bought, and which nights come free.

The hotel is in Vancouver: check-in is at 15:00 on 10 March, check-out at 11:00 on 12 March, on the clocks there.
"""

from datetime import datetime, timedelta

import pytest

from tests.support.scenario import given
from tests.workers.decisions.words import (
    ADAS,
    BOUGHT,
    CANCEL,
    CANCELLED,
    CHANGE_GUESTS,
    CHECK_IN,
    CHECK_OUT,
    CONFIRMED_FREE,
    EXPIRED,
    HAND_REFUND,
    LAST_DAY,
    OPENED,
    OTHER_GUESTS,
    OVER,
    PAID,
    PAY,
    PAYABLE,
    REFUNDED_BY_HAND,
    RESERVED,
    ROOM,
    SECOND,
    SECOND_DAY,
    SENT_BACK,
    TIMES,
    but,
    march,
    refused,
    repeated,
)
from topics.messages.values import BookingStatus, CancelReason, HotelReason, RefundReason, Refusal, StayTimes, Terms

BY_HOTEL = but(CANCEL, user_id=None, reason=CancelReason.BY_HOTEL, hotel_reason=HotelReason.ROOM_UNUSABLE)
CANCELLED_BY_HOTEL = but(CANCELLED, reason=CancelReason.BY_HOTEL, hotel_reason=HotelReason.ROOM_UNUSABLE)
AT_HOTEL = (OPENED, but(RESERVED, terms=Terms.AT_HOTEL, hold_expires_at=None), CONFIRMED_FREE)


# Cancelling


def test_a_guest_cancels_until_check_in() -> None:
    given(*BOUGHT).when(CANCEL, at=CHECK_IN - SECOND).then(CANCELLED, SENT_BACK)
    for at in (CHECK_IN, CHECK_IN + SECOND, CHECK_OUT - SECOND):
        given(*BOUGHT).when(CANCEL, at=at).then(
            refused(CANCEL, Refusal.CHECK_IN_PASSED, BookingStatus.CONFIRMED)
        ).with_night(ROOM, march(11), booked_count=1)


def test_nobody_cancels_a_stay_that_is_over() -> None:
    for at in (CHECK_OUT, CHECK_OUT + SECOND, CHECK_OUT + timedelta(days=3000)):
        for command in (CANCEL, BY_HOTEL):
            given(*BOUGHT).when(command, at=at).then(refused(command, Refusal.STAY_OVER, BookingStatus.CONFIRMED))


def test_the_same_times_hold_for_a_stay_paid_at_the_hotel() -> None:
    given(*AT_HOTEL).when(CANCEL, at=CHECK_IN - SECOND).then(CANCELLED)
    given(*AT_HOTEL).when(CANCEL, at=CHECK_IN).then(refused(CANCEL, Refusal.CHECK_IN_PASSED, BookingStatus.CONFIRMED))


@pytest.mark.parametrize("reason", HotelReason)
def test_a_hotel_cancels_with_a_reason_and_the_guest_gets_everything_back(reason: HotelReason) -> None:
    given(*BOUGHT).when(but(BY_HOTEL, hotel_reason=reason), at=CHECK_IN).then(
        but(CANCELLED_BY_HOTEL, hotel_reason=reason), SENT_BACK
    ).with_night(ROOM, march(10), booked_count=0).with_night(ROOM, march(11), booked_count=0)


@pytest.mark.parametrize(
    ("at", "freed_from"),
    [
        (SECOND_DAY - SECOND, None),
        (SECOND_DAY, march(11)),
        (LAST_DAY - SECOND, march(11)),
        (LAST_DAY, march(12)),
        (CHECK_OUT - SECOND, march(12)),
    ],
)
def test_nights_that_are_past_never_go_back_on_sale(at: datetime, freed_from: object) -> None:
    first, second = freed_from is not None, freed_from == march(12)
    given(*BOUGHT).when(BY_HOTEL, at=at).then(but(CANCELLED_BY_HOTEL, freed_from=freed_from), SENT_BACK).with_booking(
        ADAS, status=BookingStatus.CANCELLED, freed_from=freed_from
    ).with_night(ROOM, march(10), booked_count=int(first)).with_night(
        ROOM, march(11), booked_count=int(second)
    ).with_night(ROOM, march(12), booked_count=0)


def test_nights_that_are_past_stay_booked_after_a_refund_by_hand_too() -> None:
    given(*BOUGHT).when(but(HAND_REFUND, cancel_if_full=True), at=SECOND_DAY).then(
        REFUNDED_BY_HAND, but(CANCELLED, reason=CancelReason.REFUNDED_BY_HAND, freed_from=march(11))
    ).with_night(ROOM, march(10), booked_count=1).with_night(ROOM, march(11), booked_count=0)


def test_a_cancelled_stay_is_cancelled_whenever_the_command_comes_again() -> None:
    given(*BOUGHT, CANCELLED, SENT_BACK).when(CANCEL, at=CHECK_OUT + SECOND).then(
        repeated(CANCEL, BookingStatus.CANCELLED)
    )


def test_a_hold_is_cancelled_after_check_in_and_gives_all_its_nights_back() -> None:
    tonight = but(RESERVED, hold_expires_at=SECOND_DAY + timedelta(minutes=15))
    given(OPENED, tonight).when(CANCEL, at=SECOND_DAY).then(CANCELLED).with_night(
        ROOM, march(10), reserved_count=0
    ).with_night(ROOM, march(11), reserved_count=0)


# Times of the booking and of the hotel


def test_the_times_of_the_booking_count_whatever_the_hotel_has_now() -> None:
    midnight = StayTimes(time_zone="UTC", check_in_time=TIMES.check_out_time, check_out_time=TIMES.check_out_time)
    given(*BOUGHT).when(but(CANCEL, stay_times=midnight), at=CHECK_IN - SECOND).then(CANCELLED, SENT_BACK)


def test_a_booking_without_times_has_those_of_the_command() -> None:
    no_times = (OPENED, but(RESERVED, stay_times=None), PAID)
    with_times = but(CANCEL, stay_times=TIMES)
    given(*no_times).when(with_times, at=CHECK_IN - SECOND).then(CANCELLED, SENT_BACK)
    given(*no_times).when(with_times, at=CHECK_IN).then(
        refused(with_times, Refusal.CHECK_IN_PASSED, BookingStatus.CONFIRMED)
    )


# Other guests


def test_a_guest_names_others_until_check_in() -> None:
    given(*BOUGHT).when(CHANGE_GUESTS, at=CHECK_IN - SECOND).then(OTHER_GUESTS)
    given(*BOUGHT).when(CHANGE_GUESTS, at=CHECK_IN).then(
        refused(CHANGE_GUESTS, Refusal.CHECK_IN_PASSED, BookingStatus.CONFIRMED)
    )
    given(*BOUGHT).when(CHANGE_GUESTS, at=CHECK_OUT).then(
        refused(CHANGE_GUESTS, Refusal.STAY_OVER, BookingStatus.CONFIRMED)
    )


def test_the_same_other_guests_after_check_in_change_nothing() -> None:
    given(*BOUGHT, OTHER_GUESTS).when(CHANGE_GUESTS, at=CHECK_IN).then(repeated(CHANGE_GUESTS, BookingStatus.CONFIRMED))


# Money that comes late


@pytest.mark.parametrize("at", [CHECK_IN, SECOND_DAY - SECOND])
def test_late_money_buys_the_stay_until_the_end_of_its_first_day(at: datetime) -> None:
    given(*PAYABLE, EXPIRED).when(PAY, at=at).then(but(PAID, late=True))


@pytest.mark.parametrize("at", [SECOND_DAY, LAST_DAY, CHECK_OUT + timedelta(days=3000)])
def test_late_money_goes_back_when_the_first_night_is_past(at: datetime) -> None:
    given(*PAYABLE, EXPIRED).when(PAY, at=at).then(but(SENT_BACK, reason=RefundReason.NIGHTS_GONE)).with_night(
        ROOM, march(11), booked_count=0
    )


def test_money_that_comes_while_the_hold_lasts_buys_the_stay_whatever_the_day() -> None:
    tonight = but(RESERVED, hold_expires_at=SECOND_DAY + timedelta(minutes=15))
    given(OPENED, tonight, *PAYABLE[2:]).when(PAY, at=SECOND_DAY).then(PAID)


def test_the_first_reason_in_the_order_of_the_refusals_is_given() -> None:
    """In the order of `Refusal`: a fitting status, a stay that is not over, before check-in, and with guests."""
    nobody = but(CHANGE_GUESTS, guest_ids=())
    given(*OVER).when(nobody, at=CHECK_OUT).then(refused(nobody, Refusal.WRONG_STATUS, BookingStatus.EXPIRED))
    given(*BOUGHT).when(nobody, at=CHECK_OUT).then(refused(nobody, Refusal.STAY_OVER, BookingStatus.CONFIRMED))
    given(*BOUGHT).when(nobody, at=CHECK_IN).then(refused(nobody, Refusal.CHECK_IN_PASSED, BookingStatus.CONFIRMED))
    given(*BOUGHT).when(nobody).then(refused(nobody, Refusal.NO_GUESTS, BookingStatus.CONFIRMED))
