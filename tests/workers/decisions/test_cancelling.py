"""A stay that ends before its time: its nights go back on sale, and the money goes back to the guest."""

import pytest

from tests.support.scenario import given
from tests.workers.decisions.words import (
    ADAS,
    ANOTHER_ROOM,
    BEN,
    BEN_RESERVED,
    BEN_RESERVES,
    BOUGHT,
    CALLED_OFF,
    CANCEL,
    CANCELLED,
    CONFIRMED_FREE,
    EXPIRED,
    HELD,
    LATER,
    NAMED,
    OPENED,
    OVER,
    PAID,
    PAYABLE,
    REFUNDED,
    RESERVE,
    RESERVED,
    ROOM,
    SENT_BACK,
    WAITING,
    but,
    march,
    refused,
    rejected,
    repeated,
)
from topics.messages.events import Event
from topics.messages.values import BookingStatus, CancelReason, RefundReason, Refusal, Rejection, Terms
from workers.decisions import Payment, PaymentState


def test_an_unpaid_stay_is_called_off_and_nothing_is_refunded() -> None:
    for so_far in (HELD, NAMED, WAITING, PAYABLE):
        given(*so_far).when(CANCEL).then(CANCELLED).with_booking(
            ADAS, status=BookingStatus.CANCELLED, cancel_reason=CancelReason.BY_GUEST, hold_expires_at=None
        ).with_night(ROOM, march(10), reserved_count=0, booked_count=0)


def test_a_paid_stay_is_called_off_and_refunded_in_full() -> None:
    given(*BOUGHT).when(CANCEL, at=LATER).then(CANCELLED, SENT_BACK).with_booking(
        ADAS,
        status=BookingStatus.CANCELLED,
        payments=(Payment("pi_1", "cs_1", 200_00, PaymentState.REFUND_REQUESTED, due_minor=200_00),),
    ).with_night(ROOM, march(10), reserved_count=0, booked_count=0).with_night(
        ROOM, march(11), reserved_count=0, booked_count=0
    )


def test_a_stay_that_was_paid_late_is_called_off_and_refunded_too() -> None:
    given(*PAYABLE, EXPIRED, but(PAID, late=True)).when(CANCEL, at=LATER).then(CANCELLED, SENT_BACK)


def test_calling_off_refunds_what_was_kept_and_not_what_already_goes_back() -> None:
    second = but(SENT_BACK, payment_intent="pi_2", reason=RefundReason.SECOND_PAYMENT)
    given(*BOUGHT, second).when(CANCEL).then(CANCELLED, SENT_BACK)


def test_a_stay_paid_at_the_hotel_is_called_off_without_a_refund() -> None:
    reserved = but(RESERVED, terms=Terms.AT_HOTEL, hold_expires_at=None)
    given(OPENED, reserved, CONFIRMED_FREE).when(CANCEL).then(CANCELLED).with_night(
        ROOM, march(10), reserved_count=0, booked_count=0
    )


def test_the_next_guest_gets_the_nights_at_once() -> None:
    given(but(OPENED, total_count=1), *BOUGHT[1:]).when(BEN_RESERVES).then(rejected(BEN_RESERVES, Rejection.SOLD_OUT))
    given(but(OPENED, total_count=1), *BOUGHT[1:]).when(CANCEL).then(CANCELLED, SENT_BACK).when(BEN_RESERVES).then(
        BEN_RESERVED
    )


def test_calling_off_twice_gives_back_one_room_and_one_refund() -> None:
    given(*BOUGHT, BEN_RESERVED, CANCELLED, SENT_BACK).when(CANCEL).then(
        repeated(CANCEL, BookingStatus.CANCELLED)
    ).with_night(ROOM, march(10), reserved_count=1, booked_count=0)
    given(*BOUGHT, CANCELLED, SENT_BACK, REFUNDED).when(CANCEL, at=LATER).then(
        repeated(CANCEL, BookingStatus.CANCELLED)
    )


def test_the_hotel_may_call_off_any_stay() -> None:
    by_hotel = but(CANCEL, user_id=None, reason=CancelReason.BY_HOTEL)
    given(*BOUGHT).when(by_hotel).then(but(CANCELLED, reason=CancelReason.BY_HOTEL), SENT_BACK).with_booking(
        ADAS, cancel_reason=CancelReason.BY_HOTEL
    )


def test_the_first_reason_for_calling_off_stays() -> None:
    by_hotel = but(CANCEL, user_id=None, reason=CancelReason.BY_HOTEL)
    given(*CALLED_OFF).when(by_hotel).then(repeated(by_hotel, BookingStatus.CANCELLED)).with_booking(
        ADAS, cancel_reason=CancelReason.BY_GUEST
    )


def test_an_ended_hold_is_not_called_off() -> None:
    given(*OVER).when(CANCEL).then(refused(CANCEL, Refusal.HOLD_EXPIRED, BookingStatus.EXPIRED))


def test_a_refused_request_is_not_called_off() -> None:
    given(OPENED, rejected(RESERVE, Rejection.SOLD_OUT)).when(CANCEL).then(
        refused(CANCEL, Refusal.WRONG_STATUS, BookingStatus.REJECTED)
    )


@pytest.mark.parametrize("so_far", [HELD, BOUGHT, CALLED_OFF, OVER])
def test_a_stranger_calls_nothing_off(so_far: tuple[Event, ...]) -> None:
    stranger = but(CANCEL, user_id=BEN)
    before = given(*so_far).bookings[ADAS]
    given(*so_far).when(stranger).then(refused(stranger, Refusal.NOT_YOUR_BOOKING, before.status)).with_booking(
        ADAS, status=before.status, version=before.version
    )


def test_a_user_calls_off_nothing_that_a_trusted_writer_reserved() -> None:
    given(OPENED, but(RESERVED, user_id=None)).when(CANCEL).then(
        refused(CANCEL, Refusal.NOT_YOUR_BOOKING, BookingStatus.RESERVED)
    )


def test_a_booking_that_is_not_there_is_not_called_off() -> None:
    given(OPENED).when(CANCEL).then(refused(CANCEL, Refusal.BOOKING_NOT_FOUND, None))


def test_a_booking_of_another_room_is_not_called_off() -> None:
    stray = but(CANCEL, room_id=ANOTHER_ROOM, user_id=BEN)
    given(*BOUGHT).when(stray).then(refused(stray, Refusal.BOOKING_NOT_FOUND, None)).with_booking(
        ADAS, status=BookingStatus.CONFIRMED
    ).with_night(ROOM, march(10), booked_count=1)
