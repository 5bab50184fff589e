"""A guest or the hotel changes a stay: other dates, another number of rooms, other people."""

from tests.support.scenario import given
from tests.workers.decisions.words import ADAS, BOUGHT, CANCEL, CANCELLED, ROOM, SENT_BACK, but, march
from tests.workers.decisions.words_of_changes import (
    ASKED_MORE,
    CAN_PAY_MORE,
    CHANGE_DEADLINE,
    HELD_LONGER,
    IS_LONGER,
    IS_SHORTER,
    LENGTHENED,
    LONGER,
    PART_BACK,
    PAY_MORE,
    RECORD_SECOND,
    SECOND_SESSION,
    SHORTER,
    WANTS_MORE,
    WITHDRAW,
    ended,
)
from topics.messages.values import BookingStatus, ChangeEnd, RefundReason

# Dearer, cheaper


def test_a_dearer_change_is_held_and_its_payment_changes_the_stay() -> None:
    scenario = given(*BOUGHT).when(LONGER).then(HELD_LONGER, ASKED_MORE)
    scenario.with_booking(ADAS, status=BookingStatus.CONFIRMED, check_out=march(12), amount_minor=200_00)
    scenario.with_night(ROOM, march(12), reserved_count=1, booked_count=0)
    scenario.when(RECORD_SECOND).then(SECOND_SESSION)
    scenario.when(PAY_MORE).then(IS_LONGER).with_booking(ADAS, check_out=march(13), amount_minor=300_00)
    scenario.with_night(ROOM, march(12), reserved_count=0, booked_count=1)


def test_a_cheaper_change_takes_place_at_once_and_the_difference_goes_back() -> None:
    scenario = given(*BOUGHT).when(SHORTER).then(IS_SHORTER, PART_BACK)
    scenario.with_booking(ADAS, check_out=march(11), amount_minor=100_00)
    scenario.with_night(ROOM, march(10), booked_count=1).with_night(ROOM, march(11), booked_count=0)


def test_a_change_that_is_not_paid_leaves_the_booking_as_it_was() -> None:
    given(*CAN_PAY_MORE).when(PAY_MORE, at=CHANGE_DEADLINE).then(
        ended(ChangeEnd.EXPIRED),
        but(
            SENT_BACK,
            session_id="cs_2",
            payment_intent="pi_2",
            amount_minor=100_00,
            reason=RefundReason.CHANGE_ENDED,
        ),
    ).with_night(ROOM, march(12), reserved_count=0, booked_count=0)


def test_a_change_is_withdrawn() -> None:
    given(*WANTS_MORE).when(WITHDRAW).then(ended(ChangeEnd.WITHDRAWN))


def test_a_cancellation_of_a_longer_stay_sends_both_payments_back() -> None:
    given(*LENGTHENED).when(CANCEL).then(
        CANCELLED, SENT_BACK, but(SENT_BACK, session_id="cs_2", payment_intent="pi_2", amount_minor=100_00)
    )
