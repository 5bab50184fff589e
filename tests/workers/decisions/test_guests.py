"""Guests are named by the booking's own user, as often as they like until payment is requested."""

from tests.support.scenario import given
from tests.workers.decisions.words import (
    ADAS,
    ADD_GUESTS,
    ANOTHER_ROOM,
    BEN,
    BOUGHT,
    CALLED_OFF,
    DEADLINE,
    GUESTS,
    HELD,
    NAMED,
    OPENED,
    OVER,
    PAYABLE,
    RESERVE,
    RESERVED,
    WAITING,
    but,
    refused,
    rejected,
    repeated,
)
from topics.messages.values import BookingStatus, Refusal, Rejection


def test_guests_are_named_for_a_held_stay() -> None:
    given(*HELD).when(ADD_GUESTS).then(GUESTS).with_booking(
        ADAS, status=BookingStatus.GUESTS_ADDED, guest_ids=(1, 2), hold_expires_at=DEADLINE, version=2
    )


def test_guests_are_named_again_in_place_of_those_before() -> None:
    others = but(ADD_GUESTS, guest_ids=(3,))
    given(*NAMED).when(others).then(but(GUESTS, guest_ids=(3,))).with_booking(ADAS, guest_ids=(3,), version=3)


def test_the_same_guests_twice_change_nothing() -> None:
    given(*NAMED).when(ADD_GUESTS).then(repeated(ADD_GUESTS, BookingStatus.GUESTS_ADDED)).with_booking(ADAS, version=2)


def test_the_same_guests_in_another_order_or_twice_over_are_the_same_guests() -> None:
    muddled = but(ADD_GUESTS, guest_ids=(2, 1, 2))
    given(*HELD).when(muddled).then(GUESTS).when(ADD_GUESTS).then(
        repeated(ADD_GUESTS, BookingStatus.GUESTS_ADDED)
    ).when(muddled).then(repeated(muddled, BookingStatus.GUESTS_ADDED))


def test_the_same_guests_once_payment_was_asked_for_change_nothing() -> None:
    given(*WAITING).when(ADD_GUESTS).then(repeated(ADD_GUESTS, BookingStatus.PAYMENTS_PENDING))


def test_the_same_guests_once_the_stay_is_paid_change_nothing() -> None:
    given(*BOUGHT).when(ADD_GUESTS).then(repeated(ADD_GUESTS, BookingStatus.CONFIRMED))


def test_nobody_is_not_a_guest() -> None:
    nobody = but(ADD_GUESTS, guest_ids=())
    given(*HELD).when(nobody).then(refused(nobody, Refusal.NO_GUESTS, BookingStatus.RESERVED))
    given(*NAMED).when(nobody).then(refused(nobody, Refusal.NO_GUESTS, BookingStatus.GUESTS_ADDED)).with_booking(
        ADAS, guest_ids=(1, 2)
    )


def test_other_guests_come_too_late_once_payment_was_asked_for() -> None:
    others = but(ADD_GUESTS, guest_ids=(3,))
    for so_far, status in (
        (PAYABLE, BookingStatus.PAYMENTS_PENDING),
        (BOUGHT, BookingStatus.CONFIRMED),
        (CALLED_OFF, BookingStatus.CANCELLED),
    ):
        given(*so_far).when(others).then(refused(others, Refusal.WRONG_STATUS, status))


def test_an_ended_hold_takes_no_guests() -> None:
    given(*OVER).when(ADD_GUESTS).then(refused(ADD_GUESTS, Refusal.HOLD_EXPIRED, BookingStatus.EXPIRED))


def test_a_refused_request_takes_no_guests() -> None:
    given(OPENED, rejected(RESERVE, Rejection.SOLD_OUT)).when(ADD_GUESTS).then(
        refused(ADD_GUESTS, Refusal.WRONG_STATUS, BookingStatus.REJECTED)
    )


def test_a_stranger_names_no_guests() -> None:
    stranger = but(ADD_GUESTS, user_id=BEN)
    given(*HELD).when(stranger).then(refused(stranger, Refusal.NOT_YOUR_BOOKING, BookingStatus.RESERVED))


def test_nobody_names_guests_for_a_stay_that_a_trusted_writer_made() -> None:
    given(OPENED, but(RESERVED, user_id=None)).when(ADD_GUESTS).then(
        refused(ADD_GUESTS, Refusal.NOT_YOUR_BOOKING, BookingStatus.RESERVED)
    )


def test_a_booking_that_is_not_there_takes_no_guests() -> None:
    given(OPENED).when(ADD_GUESTS).then(refused(ADD_GUESTS, Refusal.BOOKING_NOT_FOUND, None))


def test_a_booking_of_another_room_takes_no_guests() -> None:
    stray = but(ADD_GUESTS, room_id=ANOTHER_ROOM)
    given(*HELD).when(stray).then(refused(stray, Refusal.BOOKING_NOT_FOUND, None)).with_booking(
        ADAS, guest_ids=(), status=BookingStatus.RESERVED, version=1
    )


def test_a_request_wrong_in_many_ways_is_refused_for_the_first() -> None:
    """In the order of `Refusal`: found, theirs, in time, in a fitting status, and with guests."""
    everything = but(ADD_GUESTS, room_id=ANOTHER_ROOM, user_id=BEN, guest_ids=())
    given(*OVER).when(everything).then(refused(everything, Refusal.BOOKING_NOT_FOUND, None))
    here = but(everything, room_id=ADD_GUESTS.room_id)
    given(*OVER).when(here).then(refused(here, Refusal.NOT_YOUR_BOOKING, BookingStatus.EXPIRED))
    hers = but(here, user_id=ADD_GUESTS.user_id)
    given(*OVER).when(hers).then(refused(hers, Refusal.HOLD_EXPIRED, BookingStatus.EXPIRED))
    given(*BOUGHT).when(hers).then(refused(hers, Refusal.WRONG_STATUS, BookingStatus.CONFIRMED))
    given(*NAMED).when(hers).then(refused(hers, Refusal.NO_GUESTS, BookingStatus.GUESTS_ADDED))
