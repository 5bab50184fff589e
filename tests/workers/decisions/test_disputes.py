"""Payments that the cardholder disputes at the bank: opened, won, lost, before and after a refund is due."""

import pytest
from msgspec.structs import replace

from tests.support.scenario import given
from tests.workers.decisions.words import (
    ADAS,
    ANOTHER_ROOM,
    BOUGHT,
    CANCEL,
    CANCELLED,
    CLOSE_REFUND,
    DISPUTE,
    DISPUTE_LOST,
    DISPUTE_WON,
    DISPUTED,
    FAIL_REFUND,
    HAND_REFUND,
    LOST,
    OPENED,
    PAYABLE,
    RECORD_REFUND,
    REFUND_CLOSED,
    REFUND_FAILED,
    REFUNDED,
    REFUNDED_BY_HAND,
    ROOM,
    SENT_BACK,
    WON,
    but,
    march,
    refused,
    repeated,
)
from topics.messages.commands import RecordDispute
from topics.messages.values import BookingStatus, Refusal
from workers.decisions import Payment, PaymentState, RefundMade
from workers.decisions.state import Dispute

KEPT = Payment("pi_1", "cs_1", 200_00, PaymentState.KEPT)
LEAVING = Payment("pi_1", "cs_1", 200_00, PaymentState.REFUND_REQUESTED, due_minor=200_00)
SENDING = (*BOUGHT, CANCELLED, SENT_BACK)
OPEN_DISPUTE, WON_DISPUTE, LOST_DISPUTE = (Dispute("dp_1", 200_00, state) for state in ("open", "won", "lost"))


def test_a_disputed_payment_still_pays_the_stay() -> None:
    given(*BOUGHT).when(DISPUTE).then(DISPUTED).with_booking(
        ADAS, status=BookingStatus.CONFIRMED, payments=(replace(KEPT, disputes=(OPEN_DISPUTE,)),)
    ).with_night(ROOM, march(10), booked_count=1).when(DISPUTE).then(repeated(DISPUTE, BookingStatus.CONFIRMED))


def test_a_dispute_that_the_hotel_wins_changes_nothing_else() -> None:
    given(*BOUGHT, DISPUTED).when(DISPUTE_WON).then(WON).with_booking(
        ADAS, payments=(replace(KEPT, disputes=(WON_DISPUTE,)),)
    ).when(DISPUTE_WON).then(repeated(DISPUTE_WON, BookingStatus.CONFIRMED)).when(CANCEL).then(CANCELLED, SENT_BACK)


def test_a_lost_dispute_takes_the_money_and_leaves_the_guest_the_room() -> None:
    scenario = given(*BOUGHT, DISPUTED).when(DISPUTE_LOST).then(LOST)
    scenario.with_booking(
        ADAS, status=BookingStatus.CONFIRMED, payments=(replace(KEPT, disputes=(LOST_DISPUTE,)),)
    ).when(CANCEL).then(CANCELLED).with_booking(
        ADAS, payments=(replace(KEPT, state=PaymentState.REFUNDED, disputes=(LOST_DISPUTE,)),)
    )


def test_after_a_part_was_lost_a_cancellation_sends_the_rest() -> None:
    lost = but(LOST, amount_minor=50_00)
    given(*BOUGHT, DISPUTED, lost).when(CANCEL).then(
        CANCELLED, but(SENT_BACK, amount_minor=150_00, total_minor=200_00)
    ).with_booking(
        ADAS, payments=(replace(LEAVING, due_minor=150_00, disputes=(replace(LOST_DISPUTE, amount_minor=50_00),)),)
    )


def test_a_stay_is_cancelled_while_its_payment_is_disputed() -> None:
    scenario = given(*BOUGHT, DISPUTED).when(CANCEL).then(CANCELLED, SENT_BACK)
    scenario.with_booking(ADAS, payments=(replace(LEAVING, disputes=(OPEN_DISPUTE,)),))


def test_a_dispute_that_is_lost_after_a_refund_is_due_takes_what_is_due() -> None:
    gone = replace(LEAVING, state=PaymentState.REFUNDED, due_minor=0, disputes=(LOST_DISPUTE,))
    given(*SENDING, DISPUTED).when(DISPUTE_LOST).then(LOST).with_booking(
        ADAS, status=BookingStatus.CANCELLED, payments=(gone,)
    ).when(CLOSE_REFUND).then(refused(CLOSE_REFUND, Refusal.NOTHING_DUE, BookingStatus.CANCELLED))


def test_a_dispute_that_is_won_after_a_refund_is_due_leaves_it_due() -> None:
    given(*SENDING, DISPUTED).when(DISPUTE_WON).then(WON).with_booking(
        ADAS, payments=(replace(LEAVING, disputes=(WON_DISPUTE,)),)
    ).when(RECORD_REFUND).then(REFUNDED)


def test_a_part_that_is_lost_after_a_refund_is_due_leaves_the_rest_due() -> None:
    lost = but(DISPUTE_LOST, amount_minor=50_00)
    given(*SENDING, DISPUTED).when(lost).then(but(LOST, amount_minor=50_00)).with_booking(
        ADAS, payments=(replace(LEAVING, due_minor=150_00, disputes=(replace(LOST_DISPUTE, amount_minor=50_00),)),)
    )


def test_a_refund_that_fails_after_the_bank_took_the_money_is_not_due_again() -> None:
    failed = replace(LEAVING, state=PaymentState.REFUNDED, due_minor=0, failed_refund_ids=("re_1",))
    given(*SENDING, REFUNDED, DISPUTED, LOST).when(FAIL_REFUND).then(REFUND_FAILED).with_booking(
        ADAS, payments=(replace(failed, disputes=(LOST_DISPUTE,)),)
    )


def test_the_bank_may_take_again_what_went_back_and_that_is_no_money_of_the_guest() -> None:
    part = but(REFUNDED_BY_HAND, amount_minor=50_00)
    given(*BOUGHT, part, DISPUTED, LOST).when(CANCEL).then(CANCELLED)
    given(*BOUGHT, DISPUTED, LOST).when(but(HAND_REFUND, amount_minor=50_00)).then(part).with_booking(
        ADAS,
        payments=(replace(KEPT, refunds=(RefundMade("re_hand", 50_00, by_hand=True),), disputes=(LOST_DISPUTE,)),),
    )


def test_money_that_is_lost_after_an_operator_ended_its_refund_is_not_both() -> None:
    gone = replace(LEAVING, state=PaymentState.REFUNDED, due_minor=0, disputes=(LOST_DISPUTE,))
    given(*SENDING, REFUND_CLOSED, DISPUTED).when(DISPUTE_LOST).then(LOST).with_booking(ADAS, payments=(gone,))


@pytest.mark.parametrize("ended", [DISPUTE_LOST, DISPUTE_WON])
def test_an_end_that_comes_before_its_beginning_records_both(ended: RecordDispute) -> None:
    scenario = given(*BOUGHT).when(ended).then(DISPUTED, LOST if ended is DISPUTE_LOST else WON)
    scenario.when(DISPUTE).then(repeated(DISPUTE, BookingStatus.CONFIRMED))


def test_the_first_outcome_of_a_dispute_counts() -> None:
    given(*BOUGHT, DISPUTED, WON).when(DISPUTE_LOST).then(repeated(DISPUTE_LOST, BookingStatus.CONFIRMED))


def test_a_payment_can_be_disputed_twice() -> None:
    second = but(DISPUTE, dispute_id="dp_2", amount_minor=50_00)
    given(*BOUGHT, DISPUTED, WON).when(second).then(but(DISPUTED, dispute_id="dp_2", amount_minor=50_00)).with_booking(
        ADAS, payments=(replace(KEPT, disputes=(WON_DISPUTE, Dispute("dp_2", 50_00, "open"))),)
    )


def test_a_dispute_of_money_that_never_came_is_refused() -> None:
    given(*PAYABLE).when(DISPUTE).then(refused(DISPUTE, Refusal.UNKNOWN_PAYMENT, BookingStatus.PAYMENTS_PENDING))
    given(OPENED).when(DISPUTE).then(refused(DISPUTE, Refusal.BOOKING_NOT_FOUND, None))
    stray = but(DISPUTE, room_id=ANOTHER_ROOM)
    given(*BOUGHT).when(stray).then(refused(stray, Refusal.BOOKING_NOT_FOUND, None)).with_booking(
        ADAS, payments=(KEPT,)
    )
