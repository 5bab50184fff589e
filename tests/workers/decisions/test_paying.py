"""Payments: requested, opened, declined, paid in time, paid too late, paid twice, closed."""

import pytest
from msgspec.structs import replace

from tests.support.scenario import given
from tests.workers.decisions.words import (
    ADAS,
    ANOTHER_ROOM,
    ASKED,
    BEN,
    BEN_RESERVED,
    BOUGHT,
    CALLED_OFF,
    CANCEL,
    CANCELLED,
    CHANGED,
    CLOSE,
    CONFIRMED_FREE,
    DECLINE,
    DECLINED,
    EXPIRED,
    GUESTS,
    HELD,
    LATER,
    NAMED,
    OPENED,
    OVER,
    PAID,
    PAY,
    PAYABLE,
    RECORD_SESSION,
    REQUEST_PAYMENT,
    RESERVE,
    RESERVED,
    ROOM,
    SENT_BACK,
    SESSION,
    WAITING,
    but,
    march,
    nights,
    refused,
    rejected,
    repeated,
)
from topics.messages.events import Event
from topics.messages.values import BookingStatus, CancelReason, RefundReason, Refusal, Rejection, Terms
from workers.decisions import Payment, PaymentState

LAST_ROOM = but(OPENED, total_count=1)
KEPT = Payment("pi_1", "cs_1", 200_00, PaymentState.KEPT)
LEAVING = Payment("pi_1", "cs_1", 200_00, PaymentState.REFUND_REQUESTED, due_minor=200_00)


# Asking


def test_a_guest_who_named_everyone_may_pay() -> None:
    given(*NAMED).when(REQUEST_PAYMENT).then(ASKED).with_booking(
        ADAS, status=BookingStatus.PAYMENTS_PENDING, payment_attempt=1, session_id=None
    ).with_night(ROOM, march(10), reserved_count=1)


def test_a_guest_who_named_nobody_may_not_pay_yet() -> None:
    given(*HELD).when(REQUEST_PAYMENT).then(refused(REQUEST_PAYMENT, Refusal.NO_GUESTS, BookingStatus.RESERVED))


def test_asking_twice_opens_one_session() -> None:
    for so_far in (WAITING, PAYABLE):
        given(*so_far).when(REQUEST_PAYMENT).then(
            repeated(REQUEST_PAYMENT, BookingStatus.PAYMENTS_PENDING)
        ).with_booking(ADAS, payment_attempt=1)


def test_a_declined_card_leaves_its_session_open_to_be_used_again() -> None:
    given(*PAYABLE, DECLINED).when(REQUEST_PAYMENT).then(repeated(REQUEST_PAYMENT, BookingStatus.PAYMENTS_PENDING))


def test_an_attempt_that_never_got_a_session_is_followed_by_the_next() -> None:
    given(*WAITING, DECLINED).when(REQUEST_PAYMENT).then(but(ASKED, attempt=2)).with_booking(
        ADAS, payment_attempt=2, failure=None
    )


def test_a_stay_that_costs_nothing_is_confirmed_when_payment_is_asked_for() -> None:
    given(OPENED, but(RESERVED, amount_minor=0), GUESTS).when(REQUEST_PAYMENT).then(
        but(CONFIRMED_FREE, amount_minor=0)
    ).with_booking(ADAS, status=BookingStatus.CONFIRMED, hold_expires_at=None, payments=()).with_night(
        ROOM, march(11), reserved_count=0, booked_count=1
    )


def test_nothing_is_asked_for_a_stay_that_is_paid() -> None:
    given(*BOUGHT).when(REQUEST_PAYMENT).then(repeated(REQUEST_PAYMENT, BookingStatus.CONFIRMED))


def test_nothing_is_asked_for_a_stay_paid_at_the_hotel() -> None:
    reserved = but(RESERVED, terms=Terms.AT_HOTEL, hold_expires_at=None)
    given(OPENED, reserved, CONFIRMED_FREE).when(REQUEST_PAYMENT).then(
        repeated(REQUEST_PAYMENT, BookingStatus.CONFIRMED)
    )


def test_an_ended_hold_cannot_ask_to_pay() -> None:
    given(*OVER).when(REQUEST_PAYMENT).then(refused(REQUEST_PAYMENT, Refusal.HOLD_EXPIRED, BookingStatus.EXPIRED))


def test_a_called_off_or_refused_stay_cannot_ask_to_pay() -> None:
    given(*CALLED_OFF).when(REQUEST_PAYMENT).then(
        refused(REQUEST_PAYMENT, Refusal.WRONG_STATUS, BookingStatus.CANCELLED)
    )
    given(OPENED, rejected(RESERVE, Rejection.SOLD_OUT)).when(REQUEST_PAYMENT).then(
        refused(REQUEST_PAYMENT, Refusal.WRONG_STATUS, BookingStatus.REJECTED)
    )


def test_a_stranger_cannot_ask_to_pay() -> None:
    stranger = but(REQUEST_PAYMENT, user_id=BEN)
    for so_far, status in ((NAMED, BookingStatus.GUESTS_ADDED), (OVER, BookingStatus.EXPIRED)):
        given(*so_far).when(stranger).then(refused(stranger, Refusal.NOT_YOUR_BOOKING, status))


def test_nobody_asks_to_pay_for_a_booking_that_is_not_there() -> None:
    given(OPENED).when(REQUEST_PAYMENT).then(refused(REQUEST_PAYMENT, Refusal.BOOKING_NOT_FOUND, None))
    stray = but(REQUEST_PAYMENT, room_id=ANOTHER_ROOM, user_id=BEN)
    given(*NAMED).when(stray).then(refused(stray, Refusal.BOOKING_NOT_FOUND, None)).with_booking(
        ADAS, status=BookingStatus.GUESTS_ADDED
    )


# The session


def test_the_session_of_the_attempt_is_opened() -> None:
    given(*WAITING).when(RECORD_SESSION).then(SESSION).with_booking(
        ADAS, status=BookingStatus.PAYMENTS_PENDING, session_id="cs_1"
    )


def test_the_session_recorded_twice_is_opened_once() -> None:
    for so_far, status in ((PAYABLE, BookingStatus.PAYMENTS_PENDING), (BOUGHT, BookingStatus.CONFIRMED)):
        given(*so_far).when(RECORD_SESSION).then(repeated(RECORD_SESSION, status))


def test_the_session_of_an_earlier_attempt_is_stale() -> None:
    given(*WAITING, DECLINED, but(ASKED, attempt=2)).when(RECORD_SESSION).then(
        refused(RECORD_SESSION, Refusal.STALE_SESSION, BookingStatus.PAYMENTS_PENDING)
    ).with_booking(ADAS, session_id=None)


def test_a_session_is_not_opened_for_a_stay_that_waits_for_no_payment() -> None:
    for so_far, status in (
        (HELD, BookingStatus.RESERVED),
        (NAMED, BookingStatus.GUESTS_ADDED),
        ((*WAITING, PAID), BookingStatus.CONFIRMED),
        ((*WAITING, CANCELLED), BookingStatus.CANCELLED),
        ((*WAITING, EXPIRED), BookingStatus.EXPIRED),
    ):
        stale = but(RECORD_SESSION, session_id="cs_9", attempt=9)
        given(*so_far).when(stale).then(refused(stale, Refusal.WRONG_STATUS, status))


def test_a_session_is_not_opened_for_a_booking_that_is_not_there() -> None:
    given(OPENED).when(RECORD_SESSION).then(refused(RECORD_SESSION, Refusal.BOOKING_NOT_FOUND, None))
    stray = but(RECORD_SESSION, room_id=ANOTHER_ROOM)
    given(*WAITING).when(stray).then(refused(stray, Refusal.BOOKING_NOT_FOUND, None)).with_booking(
        ADAS, session_id=None
    )


# A card that is declined, a session that is closed


def test_a_declined_card_is_shown_and_the_stay_may_be_paid_again() -> None:
    given(*PAYABLE).when(DECLINE).then(DECLINED).with_booking(
        ADAS, status=BookingStatus.PAYMENTS_PENDING, failure="card_declined", session_id="cs_1"
    ).when(PAY).then(PAID).with_booking(ADAS, status=BookingStatus.CONFIRMED, failure=None)


def test_the_same_failure_twice_is_shown_once() -> None:
    given(*PAYABLE, DECLINED).when(DECLINE).then(repeated(DECLINE, BookingStatus.PAYMENTS_PENDING))


def test_another_failure_takes_the_place_of_the_first() -> None:
    given(*PAYABLE, DECLINED).when(but(DECLINE, failure="expired_card")).then(
        but(DECLINED, failure="expired_card")
    ).with_booking(ADAS, failure="expired_card")


def test_a_failure_is_refused_for_a_stay_that_waits_for_no_payment() -> None:
    for so_far, status in (
        (NAMED, BookingStatus.GUESTS_ADDED),
        (BOUGHT, BookingStatus.CONFIRMED),
        (CALLED_OFF, BookingStatus.CANCELLED),
        (OVER, BookingStatus.EXPIRED),
    ):
        given(*so_far).when(DECLINE).then(refused(DECLINE, Refusal.WRONG_STATUS, status)).with_booking(
            ADAS, failure=None
        )


def test_a_failure_of_a_booking_that_is_not_there_is_refused() -> None:
    given(OPENED).when(DECLINE).then(refused(DECLINE, Refusal.BOOKING_NOT_FOUND, None))
    stray = but(DECLINE, room_id=ANOTHER_ROOM)
    given(*PAYABLE).when(stray).then(refused(stray, Refusal.BOOKING_NOT_FOUND, None)).with_booking(ADAS, failure=None)


def test_a_session_closed_unpaid_ends_the_stay_that_waits_for_it() -> None:
    given(*PAYABLE).when(CLOSE).then(but(CANCELLED, reason=CancelReason.PAYMENT_CLOSED)).with_booking(
        ADAS, status=BookingStatus.CANCELLED, cancel_reason=CancelReason.PAYMENT_CLOSED
    ).with_night(ROOM, march(10), reserved_count=0, booked_count=0)


def test_another_session_closed_ends_nothing() -> None:
    stale = but(CLOSE, session_id="cs_0")
    given(*PAYABLE).when(stale).then(refused(stale, Refusal.STALE_SESSION, BookingStatus.PAYMENTS_PENDING))
    given(*WAITING).when(CLOSE).then(refused(CLOSE, Refusal.STALE_SESSION, BookingStatus.PAYMENTS_PENDING))


def test_a_session_closed_after_the_stay_was_paid_or_ended_ends_nothing() -> None:
    for so_far, status in (
        (BOUGHT, BookingStatus.CONFIRMED),
        ((*PAYABLE, CANCELLED), BookingStatus.CANCELLED),
        ((*PAYABLE, EXPIRED), BookingStatus.EXPIRED),
    ):
        given(*so_far).when(CLOSE).then(repeated(CLOSE, status))


def test_a_session_closed_for_a_booking_that_is_not_there_ends_nothing() -> None:
    given(OPENED).when(CLOSE).then(refused(CLOSE, Refusal.BOOKING_NOT_FOUND, None))
    stray = but(CLOSE, room_id=ANOTHER_ROOM)
    given(*PAYABLE).when(stray).then(refused(stray, Refusal.BOOKING_NOT_FOUND, None)).with_booking(
        ADAS, status=BookingStatus.PAYMENTS_PENDING
    )


# Money in time


def test_money_buys_the_room_and_moves_the_nights_from_reserved_to_booked() -> None:
    given(*PAYABLE).with_night(ROOM, march(10), reserved_count=1, booked_count=0).when(PAY).then(PAID).with_booking(
        ADAS, status=BookingStatus.CONFIRMED, hold_expires_at=None, payments=(KEPT,)
    ).with_night(ROOM, march(10), reserved_count=0, booked_count=1).with_night(
        ROOM, march(11), reserved_count=0, booked_count=1
    ).with_night(ROOM, march(12), reserved_count=0, booked_count=0)


def test_money_that_overtakes_its_session_buys_the_room_all_the_same() -> None:
    for so_far in (HELD, NAMED, WAITING):
        given(*so_far).when(PAY).then(PAID).with_night(ROOM, march(10), reserved_count=0, booked_count=1)


def test_the_same_money_twice_buys_the_room_once() -> None:
    given(*BOUGHT).when(PAY, at=LATER).then(repeated(PAY, BookingStatus.CONFIRMED)).with_booking(
        ADAS, payments=(KEPT,)
    ).with_night(ROOM, march(10), booked_count=1)


def test_a_second_payment_goes_back() -> None:
    second = but(PAY, session_id="cs_2", payment_intent="pi_2")
    sent_back = but(SENT_BACK, session_id="cs_2", payment_intent="pi_2", reason=RefundReason.SECOND_PAYMENT)
    given(*BOUGHT).when(second).then(sent_back).with_booking(
        ADAS,
        status=BookingStatus.CONFIRMED,
        payments=(KEPT, Payment("pi_2", "cs_2", 200_00, PaymentState.REFUND_REQUESTED, due_minor=200_00)),
    ).when(second).then(repeated(second, BookingStatus.CONFIRMED))


@pytest.mark.parametrize(
    "wrong", [{"amount_minor": 199_99}, {"amount_minor": 200_01}, {"amount_minor": 0}, {"currency": "USD"}]
)
@pytest.mark.parametrize("so_far", [PAYABLE, BOUGHT, CALLED_OFF, OVER])
def test_money_that_is_not_the_amount_goes_back_whatever_became_of_the_stay(
    wrong: dict[str, object], so_far: tuple[Event, ...]
) -> None:
    command = but(PAY, payment_intent="pi_9", **wrong)
    sent_back = but(SENT_BACK, payment_intent="pi_9", reason=RefundReason.WRONG_AMOUNT, **wrong)
    before = given(*so_far).bookings[ADAS]
    given(*so_far).when(command).then(sent_back).with_booking(ADAS, status=before.status)


def test_a_wrong_amount_buys_nothing_and_the_right_one_still_does() -> None:
    wrong = but(PAY, payment_intent="pi_0", amount_minor=1)
    scenario = (
        given(*PAYABLE)
        .when(wrong)
        .then(but(SENT_BACK, payment_intent="pi_0", amount_minor=1, reason=RefundReason.WRONG_AMOUNT))
    )
    scenario.with_booking(ADAS, status=BookingStatus.PAYMENTS_PENDING).when(PAY).then(PAID)
    scenario.when(wrong).then(repeated(wrong, BookingStatus.CONFIRMED))


def test_after_a_wrong_amount_the_spent_session_is_followed_by_another() -> None:
    wrong = but(PAY, amount_minor=1)
    scenario = given(*PAYABLE).when(wrong).then(but(SENT_BACK, amount_minor=1, reason=RefundReason.WRONG_AMOUNT))
    scenario.with_booking(ADAS, session_id=None, failure=RefundReason.WRONG_AMOUNT.value)
    scenario.when(REQUEST_PAYMENT).then(but(ASKED, attempt=2))


def test_money_for_a_booking_that_is_not_there_goes_back() -> None:
    given(OPENED).when(PAY).then(but(SENT_BACK, reason=RefundReason.UNKNOWN_BOOKING))


def test_money_for_a_booking_of_another_room_goes_back_and_leaves_the_booking_alone() -> None:
    stray = but(PAY, room_id=ANOTHER_ROOM)
    given(*PAYABLE).when(stray).then(
        but(SENT_BACK, room_id=ANOTHER_ROOM, reason=RefundReason.UNKNOWN_BOOKING)
    ).with_booking(ADAS, status=BookingStatus.PAYMENTS_PENDING, payments=(), version=4)


def test_money_for_a_refused_request_goes_back() -> None:
    scenario = given(OPENED, rejected(RESERVE, Rejection.SOLD_OUT))
    scenario.when(PAY).then(but(SENT_BACK, reason=RefundReason.WRONG_AMOUNT))
    # A rejected booking has no currency, so the payment keeps its own.
    scenario.with_booking(ADAS, status=BookingStatus.REJECTED, payments=(replace(LEAVING, currency="EUR"),))


def test_money_in_advance_for_a_stay_paid_at_the_hotel_goes_back() -> None:
    reserved = but(RESERVED, terms=Terms.AT_HOTEL, hold_expires_at=None)
    given(OPENED, reserved, CONFIRMED_FREE).when(PAY).then(but(SENT_BACK, reason=RefundReason.SECOND_PAYMENT))


# Money too late


def test_late_money_buys_the_room_when_the_nights_are_still_free() -> None:
    given(LAST_ROOM, *PAYABLE[1:], EXPIRED).when(PAY, at=LATER).then(but(PAID, late=True)).with_booking(
        ADAS, status=BookingStatus.CONFIRMED, payments=(KEPT,)
    ).with_night(ROOM, march(10), reserved_count=0, booked_count=1)


def test_late_money_ends_the_hold_itself_when_no_timer_did() -> None:
    given(LAST_ROOM, *PAYABLE[1:]).when(PAY, at=LATER).then(EXPIRED, but(PAID, late=True)).with_night(
        ROOM, march(10), reserved_count=0, booked_count=1
    )


def test_late_money_buys_at_the_price_of_the_booking_whatever_the_nights_cost_now() -> None:
    given(*PAYABLE, EXPIRED, but(CHANGED, price_minor=999_00)).when(PAY, at=LATER).then(but(PAID, late=True))


def test_late_money_goes_back_when_the_nights_are_gone() -> None:
    given(LAST_ROOM, *PAYABLE[1:], EXPIRED, BEN_RESERVED).when(PAY, at=LATER).then(
        but(SENT_BACK, reason=RefundReason.NIGHTS_GONE)
    ).with_booking(ADAS, status=BookingStatus.EXPIRED, payments=(LEAVING,)).with_night(
        ROOM, march(10), reserved_count=1, booked_count=0
    )


def test_late_money_goes_back_when_a_single_night_is_gone() -> None:
    ben = but(BEN_RESERVED, check_in=march(11), check_out=march(12), amount_minor=100_00)
    given(LAST_ROOM, *PAYABLE[1:], EXPIRED, ben).when(PAY, at=LATER).then(
        but(SENT_BACK, reason=RefundReason.NIGHTS_GONE)
    )


def test_late_money_of_a_group_goes_back_when_not_all_its_rooms_are_free() -> None:
    group = but(RESERVED, rooms_count=2)
    given(OPENED, group, EXPIRED, BEN_RESERVED).when(PAY, at=LATER).then(
        but(SENT_BACK, reason=RefundReason.NIGHTS_GONE)
    )


def test_late_money_goes_back_when_a_night_was_closed() -> None:
    given(*PAYABLE, EXPIRED, but(CHANGED, ranges=nights(11), closed=True)).when(PAY, at=LATER).then(
        but(SENT_BACK, reason=RefundReason.NIGHTS_GONE)
    )


def test_late_money_sent_back_is_not_taken_when_the_nights_come_free_again() -> None:
    gone = but(CANCELLED, booking_id=BEN_RESERVED.booking_id)
    given(LAST_ROOM, *PAYABLE[1:], EXPIRED, BEN_RESERVED, but(SENT_BACK, reason=RefundReason.NIGHTS_GONE), gone).when(
        PAY, at=LATER
    ).then(repeated(PAY, BookingStatus.EXPIRED)).with_night(ROOM, march(10), reserved_count=0, booked_count=0)


def test_late_money_twice_buys_the_room_once() -> None:
    given(*PAYABLE, EXPIRED, but(PAID, late=True)).when(PAY, at=LATER).then(
        repeated(PAY, BookingStatus.CONFIRMED)
    ).with_night(ROOM, march(10), booked_count=1)


def test_a_second_late_payment_goes_back() -> None:
    given(*PAYABLE, EXPIRED, but(PAID, late=True)).when(but(PAY, payment_intent="pi_2"), at=LATER).then(
        but(SENT_BACK, payment_intent="pi_2", reason=RefundReason.SECOND_PAYMENT)
    )


def test_money_for_a_stay_that_the_guest_called_off_goes_back() -> None:
    given(*PAYABLE, CANCELLED).when(PAY).then(SENT_BACK).with_booking(
        ADAS, status=BookingStatus.CANCELLED, payments=(LEAVING,)
    ).with_night(ROOM, march(10), reserved_count=0, booked_count=0)


def test_money_for_a_stay_whose_session_was_closed_goes_back() -> None:
    given(*PAYABLE, but(CANCELLED, reason=CancelReason.PAYMENT_CLOSED)).when(PAY).then(SENT_BACK)


def test_a_payment_of_nothing_leaves_nothing_due() -> None:
    nothing = but(PAY, amount_minor=0)
    given(*PAYABLE).when(nothing).then(but(SENT_BACK, amount_minor=0, reason=RefundReason.WRONG_AMOUNT)).with_booking(
        ADAS, payments=(Payment("pi_1", "cs_1", 0, PaymentState.REFUNDED),)
    )


def test_money_is_never_both_kept_and_sent_back() -> None:
    scenario = given(*PAYABLE).when(PAY).then(PAID).when(CANCEL).then(CANCELLED, SENT_BACK)
    scenario.when(PAY).then(repeated(PAY, BookingStatus.CANCELLED)).with_booking(ADAS, payments=(LEAVING,))
