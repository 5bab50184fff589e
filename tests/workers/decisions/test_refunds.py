"""Money that goes back: asked for by this product, made by hand at Stripe, failed, and ended by an operator."""

import pytest
from msgspec.structs import replace

from tests.support.scenario import given
from tests.workers.decisions.words import (
    ADAS,
    ANOTHER_ROOM,
    BOUGHT,
    CANCEL,
    CANCELLED,
    CHECK_OUT,
    CLOSE_REFUND,
    EXPIRED,
    FAIL_REFUND,
    HAND_REFUND,
    LATER,
    MILLISECOND,
    OPENED,
    PAYABLE,
    RECORD_REFUND,
    REFUND_CLOSED,
    REFUND_FAILED,
    REFUNDED,
    REFUNDED_BY_HAND,
    ROOM,
    SENT_BACK,
    but,
    march,
    refused,
    repeated,
)
from topics.messages.events import Event, RefundRequested
from topics.messages.values import BookingStatus, CancelReason, RefundClosing, RefundReason, Refusal
from workers.decisions import Payment, PaymentState, RefundMade

KEPT = Payment("pi_1", "cs_1", 200_00, PaymentState.KEPT)
LEAVING = Payment("pi_1", "cs_1", 200_00, PaymentState.REFUND_REQUESTED, due_minor=200_00)
GONE = Payment("pi_1", "cs_1", 200_00, PaymentState.REFUNDED, refunds=(RefundMade("re_1", 200_00),))
SENDING = (*BOUGHT, CANCELLED, SENT_BACK)


# Refunds that this product asked for


def test_a_refund_that_was_carried_out_is_recorded() -> None:
    given(*BOUGHT, CANCELLED, SENT_BACK).when(RECORD_REFUND, at=LATER).then(REFUNDED).with_booking(
        ADAS, status=BookingStatus.CANCELLED, payments=(GONE,)
    )


def test_a_refund_is_recorded_whatever_the_booking_became() -> None:
    late = (*PAYABLE, EXPIRED, but(SENT_BACK, reason=RefundReason.NIGHTS_GONE))
    given(*late).when(RECORD_REFUND, at=LATER).then(REFUNDED).with_booking(ADAS, status=BookingStatus.EXPIRED)


def test_a_refund_recorded_twice_is_recorded_once() -> None:
    given(*BOUGHT, CANCELLED, SENT_BACK, REFUNDED).when(RECORD_REFUND).then(
        repeated(RECORD_REFUND, BookingStatus.CANCELLED)
    )


def test_the_refund_of_one_payment_leaves_the_other_alone() -> None:
    second = but(SENT_BACK, payment_intent="pi_2", session_id="cs_2", reason=RefundReason.SECOND_PAYMENT)
    given(*BOUGHT, second).when(but(RECORD_REFUND, payment_intent="pi_2", refund_id="re_2")).then(
        but(REFUNDED, payment_intent="pi_2", refund_id="re_2")
    ).with_booking(
        ADAS,
        status=BookingStatus.CONFIRMED,
        payments=(KEPT, replace(GONE, payment_intent="pi_2", session_id="cs_2", refunds=(RefundMade("re_2", 200_00),))),
    )


def test_a_refund_of_money_that_never_came_is_refused() -> None:
    given(*PAYABLE).when(RECORD_REFUND).then(
        refused(RECORD_REFUND, Refusal.UNKNOWN_PAYMENT, BookingStatus.PAYMENTS_PENDING)
    )


def test_a_refund_that_nobody_asked_for_does_not_take_the_guests_room() -> None:
    given(*BOUGHT).when(RECORD_REFUND).then(
        refused(RECORD_REFUND, Refusal.UNKNOWN_PAYMENT, BookingStatus.CONFIRMED)
    ).with_booking(ADAS, payments=(KEPT,))


def test_a_refund_for_a_booking_that_is_not_there_is_refused() -> None:
    given(OPENED).when(RECORD_REFUND).then(refused(RECORD_REFUND, Refusal.BOOKING_NOT_FOUND, None))
    stray = but(RECORD_REFUND, room_id=ANOTHER_ROOM)
    given(*BOUGHT, CANCELLED, SENT_BACK).when(stray).then(refused(stray, Refusal.BOOKING_NOT_FOUND, None)).with_booking(
        ADAS, payments=(LEAVING,)
    )


def test_several_refunds_of_a_payment_are_recorded_one_by_one_with_their_own_amounts() -> None:
    first, second = but(RECORD_REFUND, amount_minor=50_00), but(RECORD_REFUND, refund_id="re_2", amount_minor=150_00)
    scenario = given(*SENDING).when(first).then(but(REFUNDED, amount_minor=50_00))
    scenario.with_booking(
        ADAS, payments=(replace(LEAVING, due_minor=150_00, refunds=(RefundMade("re_1", 50_00),)),)
    ).when(second).then(but(REFUNDED, refund_id="re_2", amount_minor=150_00)).with_booking(
        ADAS, payments=(replace(GONE, refunds=(RefundMade("re_1", 50_00), RefundMade("re_2", 150_00))),)
    ).when(first).then(repeated(first, BookingStatus.CANCELLED))


@pytest.mark.parametrize("amount_minor", [200_01, 0, -1])
def test_more_than_was_paid_or_nothing_at_all_is_never_refunded(amount_minor: int) -> None:
    wrong = but(RECORD_REFUND, amount_minor=amount_minor)
    given(*SENDING).when(wrong).then(repeated(wrong, BookingStatus.CANCELLED)).with_booking(ADAS, payments=(LEAVING,))


# Refunds made by hand at Stripe


def test_a_part_refunded_by_hand_is_recorded_and_the_guest_stays() -> None:
    part = but(HAND_REFUND, amount_minor=50_00, cancel_if_full=True)
    scenario = given(*BOUGHT).when(part).then(but(REFUNDED_BY_HAND, amount_minor=50_00))
    scenario.with_booking(
        ADAS,
        status=BookingStatus.CONFIRMED,
        payments=(replace(KEPT, refunds=(RefundMade("re_hand", 50_00, by_hand=True),)),),
    ).when(part).then(repeated(part, BookingStatus.CONFIRMED))


def test_after_a_part_was_refunded_by_hand_a_cancellation_sends_the_rest() -> None:
    part = but(REFUNDED_BY_HAND, amount_minor=50_00)
    given(*BOUGHT, part).when(CANCEL).then(
        CANCELLED, but(SENT_BACK, amount_minor=150_00, total_minor=200_00)
    ).with_booking(
        ADAS, payments=(replace(LEAVING, due_minor=150_00, refunds=(RefundMade("re_hand", 50_00, by_hand=True),)),)
    ).when(but(RECORD_REFUND, amount_minor=150_00)).then(but(REFUNDED, amount_minor=150_00)).with_booking(
        ADAS,
        payments=(replace(GONE, refunds=(RefundMade("re_hand", 50_00, by_hand=True), RefundMade("re_1", 150_00))),),
    )


def test_the_whole_payment_refunded_by_hand_ends_the_stay_if_the_hotel_wants_that() -> None:
    full = but(HAND_REFUND, cancel_if_full=True)
    given(*BOUGHT).when(full).then(REFUNDED_BY_HAND, but(CANCELLED, reason=CancelReason.REFUNDED_BY_HAND)).with_booking(
        ADAS,
        status=BookingStatus.CANCELLED,
        cancel_reason=CancelReason.REFUNDED_BY_HAND,
        payments=(replace(GONE, refunds=(RefundMade("re_hand", 200_00, by_hand=True),)),),
    ).with_night(ROOM, march(10), booked_count=0).when(full).then(repeated(full, BookingStatus.CANCELLED))


def test_the_last_part_refunded_by_hand_ends_the_stay_too() -> None:
    rest = but(HAND_REFUND, refund_id="re_2", amount_minor=150_00, cancel_if_full=True)
    given(*BOUGHT, but(REFUNDED_BY_HAND, amount_minor=50_00)).when(rest).then(
        but(REFUNDED_BY_HAND, refund_id="re_2", amount_minor=150_00),
        but(CANCELLED, reason=CancelReason.REFUNDED_BY_HAND),
    )


def test_the_whole_payment_refunded_by_hand_leaves_the_guest_the_room_if_the_hotel_wants_that() -> None:
    goodwill = replace(KEPT, refunds=(RefundMade("re_hand", 200_00, by_hand=True),))
    given(*BOUGHT).when(HAND_REFUND).then(REFUNDED_BY_HAND).with_booking(
        ADAS, status=BookingStatus.CONFIRMED, payments=(goodwill,)
    ).with_night(ROOM, march(10), booked_count=1).when(CANCEL).then(CANCELLED).with_booking(
        ADAS, payments=(replace(goodwill, state=PaymentState.REFUNDED),)
    )


def test_a_refund_by_hand_does_not_end_a_stay_that_is_over() -> None:
    full = but(HAND_REFUND, cancel_if_full=True)
    given(*BOUGHT).when(full, at=CHECK_OUT).then(REFUNDED_BY_HAND).with_booking(ADAS, status=BookingStatus.CONFIRMED)
    given(*BOUGHT).when(full, at=CHECK_OUT - MILLISECOND).then(
        REFUNDED_BY_HAND, but(CANCELLED, reason=CancelReason.REFUNDED_BY_HAND, freed_from=march(12))
    )


def test_a_refund_by_hand_of_money_that_goes_back_anyway_pays_what_is_due() -> None:
    given(*SENDING).when(but(HAND_REFUND, cancel_if_full=True)).then(REFUNDED_BY_HAND).with_booking(
        ADAS, payments=(replace(GONE, refunds=(RefundMade("re_hand", 200_00, by_hand=True),)),)
    )


def test_a_second_payment_refunded_by_hand_leaves_the_guest_the_room() -> None:
    second = but(SENT_BACK, payment_intent="pi_2", session_id="cs_2", reason=RefundReason.SECOND_PAYMENT)
    full = but(HAND_REFUND, payment_intent="pi_2", cancel_if_full=True)
    given(*BOUGHT, second).when(full).then(but(REFUNDED_BY_HAND, payment_intent="pi_2")).with_booking(
        ADAS, status=BookingStatus.CONFIRMED
    )


def test_a_refund_by_hand_of_money_that_never_came_is_refused() -> None:
    given(*PAYABLE).when(HAND_REFUND).then(
        refused(HAND_REFUND, Refusal.UNKNOWN_PAYMENT, BookingStatus.PAYMENTS_PENDING)
    )


# Refunds that fail


def test_a_refund_that_succeeded_and_failed_later_is_due_again() -> None:
    again = but(RECORD_REFUND, refund_id="re_2")
    scenario = given(*SENDING, REFUNDED).when(FAIL_REFUND, at=LATER).then(REFUND_FAILED)
    scenario.with_booking(
        ADAS, status=BookingStatus.CANCELLED, payments=(replace(LEAVING, failed_refund_ids=("re_1",)),)
    ).when(FAIL_REFUND).then(repeated(FAIL_REFUND, BookingStatus.CANCELLED))
    scenario.when(RECORD_REFUND).then(repeated(RECORD_REFUND, BookingStatus.CANCELLED))
    scenario.when(again).then(but(REFUNDED, refund_id="re_2")).with_booking(
        ADAS,
        payments=(replace(GONE, refunds=(RefundMade("re_2", 200_00),), failed_refund_ids=("re_1",)),),
    )


def test_a_refund_that_failed_before_it_counted_stays_due() -> None:
    given(*SENDING).when(FAIL_REFUND).then(REFUND_FAILED).with_booking(
        ADAS, payments=(replace(LEAVING, failed_refund_ids=("re_1",)),)
    )


def test_the_event_of_a_failed_refund_has_the_amount_that_had_counted() -> None:
    part = but(REFUNDED, amount_minor=50_00)
    given(*SENDING, part).when(FAIL_REFUND).then(but(REFUND_FAILED, amount_minor=50_00)).with_booking(
        ADAS, payments=(replace(LEAVING, failed_refund_ids=("re_1",)),)
    )


def test_a_refund_by_hand_that_fails_is_money_of_the_stay_again() -> None:
    fail = but(FAIL_REFUND, refund_id="re_hand", by_hand=True)
    for amount_minor in (50_00, 200_00):
        recorded = but(REFUNDED_BY_HAND, amount_minor=amount_minor)
        given(*BOUGHT, recorded).when(fail).then(
            but(REFUND_FAILED, refund_id="re_hand", by_hand=True, amount_minor=amount_minor)
        ).with_booking(
            ADAS, status=BookingStatus.CONFIRMED, payments=(replace(KEPT, failed_refund_ids=("re_hand",)),)
        ).when(CANCEL).then(CANCELLED, SENT_BACK)


def test_a_refund_by_hand_that_had_ended_the_stay_and_fails_is_asked_for() -> None:
    fail = but(FAIL_REFUND, refund_id="re_hand", by_hand=True)
    failed = but(REFUND_FAILED, refund_id="re_hand", by_hand=True)
    by_hand = but(CANCELLED, reason=CancelReason.REFUNDED_BY_HAND)
    given(*BOUGHT, REFUNDED_BY_HAND, by_hand).when(fail).then(failed, SENT_BACK).with_booking(
        ADAS, payments=(replace(LEAVING, failed_refund_ids=("re_hand",)),)
    ).when(fail).then(repeated(fail, BookingStatus.CANCELLED))


def test_a_refund_by_hand_of_a_part_that_fails_after_the_rest_went_back_is_asked_for() -> None:
    part = but(REFUNDED_BY_HAND, amount_minor=50_00)
    rest = but(SENT_BACK, amount_minor=150_00, total_minor=200_00)
    fail = but(FAIL_REFUND, refund_id="re_hand", by_hand=False)
    given(*BOUGHT, part, CANCELLED, rest, but(REFUNDED, amount_minor=150_00)).when(fail).then(
        but(REFUND_FAILED, refund_id="re_hand", by_hand=True, amount_minor=50_00),
        but(SENT_BACK, amount_minor=50_00, total_minor=200_00),
    )


@pytest.mark.parametrize(
    ("so_far", "reason"),
    [
        ((*BOUGHT, but(SENT_BACK, payment_intent="pi_2")), RefundReason.SECOND_PAYMENT),
        ((*PAYABLE, EXPIRED, but(SENT_BACK, payment_intent="pi_2")), RefundReason.NIGHTS_GONE),
        ((*PAYABLE, but(SENT_BACK, payment_intent="pi_2", amount_minor=1)), RefundReason.WRONG_AMOUNT),
        ((*PAYABLE, but(SENT_BACK, payment_intent="pi_2", currency="USD")), RefundReason.WRONG_AMOUNT),
    ],
    ids=["second", "late", "another amount", "another currency"],
)
def test_the_refund_of_a_payment_that_never_paid_the_stay_is_asked_for_with_its_reason(
    so_far: tuple[Event, ...], reason: RefundReason
) -> None:
    sent_back = so_far[-1]
    assert isinstance(sent_back, RefundRequested)
    by_hand = but(REFUNDED_BY_HAND, payment_intent="pi_2", amount_minor=sent_back.amount_minor)
    fail = but(FAIL_REFUND, payment_intent="pi_2", refund_id="re_hand", by_hand=True)
    given(*so_far, by_hand).when(fail).then(
        but(
            REFUND_FAILED,
            payment_intent="pi_2",
            refund_id="re_hand",
            by_hand=True,
            amount_minor=sent_back.amount_minor,
        ),
        but(sent_back, reason=reason),
    )


def test_a_failure_of_a_refund_of_money_that_never_came_is_refused() -> None:
    given(*PAYABLE).when(FAIL_REFUND).then(
        refused(FAIL_REFUND, Refusal.UNKNOWN_PAYMENT, BookingStatus.PAYMENTS_PENDING)
    )
    given(OPENED).when(FAIL_REFUND).then(refused(FAIL_REFUND, Refusal.BOOKING_NOT_FOUND, None))
    stray = but(FAIL_REFUND, room_id=ANOTHER_ROOM)
    given(*SENDING, REFUNDED).when(stray).then(refused(stray, Refusal.BOOKING_NOT_FOUND, None)).with_booking(
        ADAS, payments=(GONE,)
    )


# Refunds that an operator ends


def test_an_operator_ends_a_refund_that_is_due() -> None:
    closed = replace(LEAVING, state=PaymentState.REFUNDED, due_minor=0, closed_minor=200_00)
    given(*SENDING).when(CLOSE_REFUND).then(REFUND_CLOSED).with_booking(
        ADAS, status=BookingStatus.CANCELLED, payments=(closed,)
    ).when(CLOSE_REFUND).then(repeated(CLOSE_REFUND, BookingStatus.CANCELLED)).with_booking(ADAS, payments=(closed,))


@pytest.mark.parametrize("reason", RefundClosing)
def test_the_event_has_the_operators_reason(reason: RefundClosing) -> None:
    given(*SENDING, REFUNDED, REFUND_FAILED).when(but(CLOSE_REFUND, reason=reason)).then(
        but(REFUND_CLOSED, reason=reason)
    )


def test_only_the_part_that_is_still_due_is_ended() -> None:
    given(*SENDING, but(REFUNDED, amount_minor=50_00)).when(CLOSE_REFUND).then(but(REFUND_CLOSED, amount_minor=150_00))


def test_money_of_another_currency_is_ended_in_it() -> None:
    dollars = but(SENT_BACK, payment_intent="pi_1", currency="USD", reason=RefundReason.WRONG_AMOUNT)
    given(*PAYABLE, dollars).when(CLOSE_REFUND).then(but(REFUND_CLOSED, currency="USD"))


def test_a_refund_that_goes_through_after_all_takes_back_that_it_was_ended() -> None:
    given(*SENDING, REFUND_CLOSED).when(HAND_REFUND).then(REFUNDED_BY_HAND).with_booking(
        ADAS, payments=(replace(GONE, refunds=(RefundMade("re_hand", 200_00, by_hand=True),)),)
    )


def test_a_refund_of_which_nothing_is_due_is_not_ended() -> None:
    for so_far, status in (
        (BOUGHT, BookingStatus.CONFIRMED),
        ((*SENDING, REFUNDED), BookingStatus.CANCELLED),
    ):
        given(*so_far).when(CLOSE_REFUND).then(refused(CLOSE_REFUND, Refusal.NOTHING_DUE, status))


def test_a_refund_of_money_that_never_came_is_not_ended() -> None:
    given(*PAYABLE).when(CLOSE_REFUND).then(
        refused(CLOSE_REFUND, Refusal.UNKNOWN_PAYMENT, BookingStatus.PAYMENTS_PENDING)
    )
    given(OPENED).when(CLOSE_REFUND).then(refused(CLOSE_REFUND, Refusal.BOOKING_NOT_FOUND, None))


# A refund that replaces a failed one, whose failure is reported last


def test_a_refund_that_replaces_a_failed_one_is_recorded_before_its_failure() -> None:
    again = but(RECORD_REFUND, refund_id="re_2")
    both = (RefundMade("re_1", 200_00), RefundMade("re_2", 200_00))
    scenario = given(*SENDING, REFUNDED).when(again).then(but(REFUNDED, refund_id="re_2"))
    scenario.with_booking(ADAS, payments=(replace(GONE, refunds=both, ahead_minor=200_00),)).when(FAIL_REFUND).then(
        REFUND_FAILED
    ).with_booking(ADAS, payments=(replace(GONE, refunds=both[1:], failed_refund_ids=("re_1",)),))
    scenario.when(again).then(repeated(again, BookingStatus.CANCELLED))


def test_a_part_that_is_sent_again_before_its_failure_is_reported_leaves_nothing_due() -> None:
    """150.00 and 50.00 went back; the 50.00 failed and were sent again; the first 150.00 fail, too."""
    sent = (but(REFUNDED, amount_minor=150_00), but(REFUNDED, refund_id="re_2", amount_minor=50_00))
    again = but(RECORD_REFUND, refund_id="re_3", amount_minor=50_00)
    failure = but(FAIL_REFUND, refund_id="re_2", amount_minor=50_00)
    failed = but(REFUND_FAILED, refund_id="re_2", amount_minor=50_00)
    scenario = given(*SENDING, *sent).when(again).then(but(REFUNDED, refund_id="re_3", amount_minor=50_00))
    refunds = (RefundMade("re_1", 150_00), RefundMade("re_3", 50_00))
    scenario.when(failure).then(failed).with_booking(
        ADAS, payments=(replace(GONE, refunds=refunds, failed_refund_ids=("re_2",)),)
    ).when(but(FAIL_REFUND, amount_minor=150_00)).then(but(REFUND_FAILED, amount_minor=150_00)).with_booking(
        ADAS,
        payments=(replace(LEAVING, due_minor=150_00, refunds=refunds[1:], failed_refund_ids=("re_2", "re_1")),),
    )


# Payments that 0.1.0 recorded: the state of the refund, and neither sums nor ids


def test_a_refund_that_release_0_1_0_recorded_and_that_fails_later_is_due_again() -> None:
    scenario = given(*SENDING, but(REFUNDED, refund_id=""))
    scenario.when(RECORD_REFUND).then(repeated(RECORD_REFUND, BookingStatus.CANCELLED))
    scenario.when(FAIL_REFUND).then(REFUND_FAILED).with_booking(
        ADAS, payments=(replace(LEAVING, failed_refund_ids=("re_1",)),)
    )


def test_a_part_of_the_refunds_that_release_0_1_0_recorded_fails() -> None:
    part = but(FAIL_REFUND, amount_minor=50_00)
    given(*SENDING, but(REFUNDED, refund_id="")).when(part).then(but(REFUND_FAILED, amount_minor=50_00)).with_booking(
        ADAS,
        payments=(replace(LEAVING, due_minor=50_00, refunds=(RefundMade("", 150_00),), failed_refund_ids=("re_1",)),),
    )
