"""The money of changed stays: the difference is paid or the change ends, and refunds follow the policy."""

from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from tests.support.scenario import Scenario, given
from tests.workers.decisions.words import (
    ADAS,
    BOUGHT,
    CANCEL,
    CANCELLED,
    CHECK_IN,
    CLOSE,
    CLOSE_REFUND,
    DECLINE,
    DECLINED,
    DISPUTE_LOST,
    DISPUTED,
    EXPIRE,
    FAIL_REFUND,
    HAND_REFUND,
    LOST,
    MILLISECOND,
    NAMED,
    PAY,
    RECORD_REFUND,
    REFUND_CLOSED,
    REFUND_FAILED,
    REFUNDED,
    REFUNDED_BY_HAND,
    REQUEST_PAYMENT,
    ROOM,
    SECOND_DAY,
    SENT_BACK,
    but,
    march,
    refused,
    repeated,
)
from tests.workers.decisions.words_at_hotel import ARRIVE, ARRIVED, DID_NOT_ARRIVE, LEAVE, NO_SHOW, kept
from tests.workers.decisions.words_of_changes import (
    ANOTHER_CHANGE,
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
    SHORTENED,
    SHORTER,
    WANTS_MORE,
    WITHDRAW,
    ended,
)
from tests.workers.decisions.words_of_sale import SALE, SOLD, cancelled, policy, wall
from topics.messages.commands import Command
from topics.messages.events import Event, StayChanged
from topics.messages.sale import CancellationStep, LineKind, PriceLine
from topics.messages.values import BookingStatus, CancelReason, ChangeEnd, HotelReason, RefundReason, Refusal
from workers.decisions import Payment, PaymentState, RefundMade
from workers.decisions.state import Dispute

FIRST = Payment("pi_1", "cs_1", 200_00, PaymentState.KEPT)
SECOND = Payment("pi_2", "cs_2", 100_00, PaymentState.KEPT)
MORE_BACK = but(SENT_BACK, session_id="cs_2", payment_intent="pi_2", amount_minor=100_00)
CHANGE_BACK = but(MORE_BACK, reason=RefundReason.CHANGE_ENDED)


# Paying the difference


def test_the_payment_of_the_difference_changes_the_stay() -> None:
    scenario = given(*WANTS_MORE).when(RECORD_SECOND).then(SECOND_SESSION)
    scenario.when(PAY_MORE).then(IS_LONGER).with_booking(
        ADAS,
        status=BookingStatus.CONFIRMED,
        check_out=march(13),
        amount_minor=300_00,
        payments=(FIRST, SECOND),
        pending_change=None,
        hold_expires_at=None,
    )
    scenario.with_night(ROOM, march(12), reserved_count=0, booked_count=1)
    scenario.when(PAY_MORE).then(repeated(PAY_MORE, BookingStatus.CONFIRMED))


def test_a_payment_belongs_to_the_change_by_its_attempt_or_else_its_session() -> None:
    given(*WANTS_MORE).when(PAY_MORE).then(IS_LONGER)
    nameless = but(PAY_MORE, attempt=None)
    given(*CAN_PAY_MORE).when(nameless).then(IS_LONGER)
    older = but(PAY_MORE, attempt=1, session_id="cs_1", amount_minor=200_00)
    given(*CAN_PAY_MORE).when(older).then(
        but(SENT_BACK, payment_intent="pi_2", reason=RefundReason.SECOND_PAYMENT)
    ).with_booking(ADAS, check_out=march(12), hold_expires_at=CHANGE_DEADLINE)


@pytest.mark.parametrize("wrong", [{"amount_minor": 99_99}, {"currency": "USD"}], ids=["amount", "currency"])
def test_another_amount_does_not_pay_the_change_and_another_session_is_asked_for(wrong: dict[str, object]) -> None:
    paid = but(PAY_MORE, **wrong)
    given(*CAN_PAY_MORE).when(paid).then(but(MORE_BACK, reason=RefundReason.WRONG_AMOUNT, **wrong)).when(
        REQUEST_PAYMENT
    ).then(but(ASKED_MORE, attempt=3))


def test_a_session_of_the_change_is_asked_for_once_unless_the_attempt_got_none() -> None:
    given(*WANTS_MORE).when(REQUEST_PAYMENT).then(repeated(REQUEST_PAYMENT, BookingStatus.CONFIRMED))
    given(*CAN_PAY_MORE, DECLINED).when(REQUEST_PAYMENT).then(repeated(REQUEST_PAYMENT, BookingStatus.CONFIRMED))
    scenario = given(*WANTS_MORE).when(DECLINE).then(DECLINED)
    scenario.when(DECLINE).then(repeated(DECLINE, BookingStatus.CONFIRMED))
    scenario.when(REQUEST_PAYMENT).then(but(ASKED_MORE, attempt=3))
    stale = but(RECORD_SECOND, attempt=2)
    scenario.when(stale).then(refused(stale, Refusal.STALE_SESSION, BookingStatus.CONFIRMED))
    third = but(PAY_MORE, attempt=3)
    scenario.when(third).then(IS_LONGER)


def test_without_a_change_a_paid_booking_takes_no_session() -> None:
    given(*LENGTHENED).when(REQUEST_PAYMENT).then(repeated(REQUEST_PAYMENT, BookingStatus.CONFIRMED))
    late = but(RECORD_SECOND, session_id="cs_9")
    given(*LENGTHENED).when(late).then(refused(late, Refusal.WRONG_STATUS, BookingStatus.CONFIRMED))
    given(*CAN_PAY_MORE).when(RECORD_SECOND).then(repeated(RECORD_SECOND, BookingStatus.CONFIRMED))


# The end of a change that is not paid


ENDS: list[tuple[Command, datetime | None, tuple[Event, ...]]] = [
    (EXPIRE, CHANGE_DEADLINE, (ended(ChangeEnd.EXPIRED),)),
    (but(CLOSE, session_id="cs_2"), None, (ended(ChangeEnd.PAYMENT_CLOSED),)),
    (WITHDRAW, None, (ended(ChangeEnd.WITHDRAWN),)),
    (
        but(SHORTER, change_id=ANOTHER_CHANGE),
        None,
        (ended(ChangeEnd.REPLACED), but(IS_SHORTER, change_id=ANOTHER_CHANGE), PART_BACK),
    ),
    (ARRIVE, CHECK_IN, (ended(ChangeEnd.STAY_BEGAN), ARRIVED)),
    (NO_SHOW, CHECK_IN, (ended(ChangeEnd.STAY_BEGAN), but(DID_NOT_ARRIVE, policy=kept(200_00)))),
    (CANCEL, None, (ended(ChangeEnd.BOOKING_CANCELLED), CANCELLED, SENT_BACK)),
    (
        but(HAND_REFUND, cancel_if_full=True),
        None,
        (
            REFUNDED_BY_HAND,
            ended(ChangeEnd.BOOKING_CANCELLED),
            but(CANCELLED, reason=CancelReason.REFUNDED_BY_HAND),
        ),
    ),
]


def held_until(at: datetime | None) -> tuple[Event, ...]:
    """Return the events of a change that is held until after a time."""
    if at is None or at == CHANGE_DEADLINE:
        return CAN_PAY_MORE
    held = but(HELD_LONGER, hold_expires_at=at + timedelta(minutes=1))
    return (*BOUGHT, held, ASKED_MORE, SECOND_SESSION)


@pytest.mark.parametrize(("command", "at", "events"), ENDS, ids=lambda value: type(value).__name__)
def test_a_change_ends_before_that_which_ends_it(
    command: Command, at: datetime | None, events: tuple[Event, ...]
) -> None:
    given(*held_until(at)).when(command, at=at).then(*events).with_booking(
        ADAS, pending_change=None, hold_expires_at=None
    ).with_night(ROOM, march(12), reserved_count=0, booked_count=0)


@pytest.mark.parametrize(("command", "at", "events"), ENDS, ids=lambda value: type(value).__name__)
def test_the_payment_of_a_change_that_ended_goes_back(
    command: Command, at: datetime | None, events: tuple[Event, ...]
) -> None:
    scenario = given(*held_until(at)).when(command, at=at)
    status = scenario.bookings[ADAS].status
    nameless = but(PAY_MORE, attempt=None)
    for paid in (PAY_MORE, but(nameless, payment_intent="pi_3")):
        scenario.when(paid).then(but(CHANGE_BACK, payment_intent=paid.payment_intent)).with_booking(ADAS, status=status)
        # The session is known by that payment from now on.
        scenario.bookings[ADAS] = replace(scenario.bookings[ADAS], payments=scenario.bookings[ADAS].payments[:-1])


def test_a_session_of_a_change_that_was_replaced_is_known_by_its_attempt() -> None:
    longer = but(LONGER, change_id=ANOTHER_CHANGE, check_out=march(14))
    given(*CAN_PAY_MORE).when(longer).when(PAY_MORE).then(CHANGE_BACK).with_booking(ADAS, check_out=march(12))


def test_the_end_of_an_older_session_does_not_end_the_change() -> None:
    given(*CAN_PAY_MORE).when(CLOSE).then(refused(CLOSE, Refusal.STALE_SESSION, BookingStatus.CONFIRMED))
    given(*LENGTHENED).when(CLOSE).then(repeated(CLOSE, BookingStatus.CONFIRMED))


def test_a_timer_that_comes_too_early_does_not_end_the_change() -> None:
    given(*CAN_PAY_MORE).when(EXPIRE, at=CHANGE_DEADLINE - MILLISECOND).then()
    given(*LENGTHENED).when(EXPIRE, at=CHANGE_DEADLINE).then(repeated(EXPIRE, BookingStatus.CONFIRMED))


def test_every_command_after_the_deadline_ends_the_change_first() -> None:
    expired = ended(ChangeEnd.EXPIRED)
    given(*CAN_PAY_MORE).when(PAY_MORE, at=CHANGE_DEADLINE).then(expired, CHANGE_BACK)
    given(*CAN_PAY_MORE).when(CANCEL, at=CHANGE_DEADLINE).then(expired, CANCELLED, SENT_BACK)
    again = but(LONGER, change_id=ANOTHER_CHANGE)
    given(*CAN_PAY_MORE).when(LONGER, at=CHANGE_DEADLINE).then(expired, repeated(LONGER, BookingStatus.CONFIRMED))
    given(*CAN_PAY_MORE).when(again, at=CHANGE_DEADLINE).then(
        expired,
        but(HELD_LONGER, change_id=ANOTHER_CHANGE, hold_expires_at=CHANGE_DEADLINE + timedelta(minutes=15)),
        but(ASKED_MORE, attempt=3),
    )
    given(*CAN_PAY_MORE).when(WITHDRAW, at=CHANGE_DEADLINE).then(
        expired, refused(WITHDRAW, Refusal.NO_SUCH_CHANGE, BookingStatus.CONFIRMED)
    )
    given(*CAN_PAY_MORE).when(PAY_MORE, at=CHANGE_DEADLINE - MILLISECOND).then(IS_LONGER)


def test_a_payment_after_the_first_night_does_not_change_the_stay() -> None:
    given(*held_until(SECOND_DAY)).when(PAY_MORE, at=SECOND_DAY).then(ended(ChangeEnd.STAY_BEGAN), CHANGE_BACK)


def test_the_second_payment_of_a_changed_stay_goes_back() -> None:
    for paid, back in (
        (but(PAY, payment_intent="pi_9"), but(SENT_BACK, payment_intent="pi_9")),
        (but(PAY_MORE, payment_intent="pi_9"), but(MORE_BACK, payment_intent="pi_9")),
    ):
        given(*LENGTHENED).when(paid).then(but(back, reason=RefundReason.SECOND_PAYMENT))


def test_a_payment_of_a_booking_cancelled_before_it_was_paid_is_of_no_change() -> None:
    given(*NAMED, CANCELLED).when(but(PAY, attempt=1)).then(SENT_BACK)


# Money that goes back of a changed stay


def test_a_stay_that_became_dearer_is_refunded_in_all_its_payments() -> None:
    given(*LENGTHENED).when(CANCEL).then(CANCELLED, SENT_BACK, MORE_BACK)
    by_hotel = but(CANCEL, user_id=None, reason=CancelReason.BY_HOTEL, hotel_reason=HotelReason.OTHER)
    given(*LENGTHENED).when(by_hotel).then(
        but(CANCELLED, reason=CancelReason.BY_HOTEL, hotel_reason=HotelReason.OTHER), SENT_BACK, MORE_BACK
    )


def test_a_stay_that_becomes_cheaper_again_gives_the_newest_payment_back_first() -> None:
    shorter = but(SHORTER, change_id=ANOTHER_CHANGE, check_out=march(12))
    scenario = given(*LENGTHENED).when(shorter)
    assert scenario.answer[1:] == (but(MORE_BACK, reason=RefundReason.STAY_CHANGED),)
    scenario.with_booking(ADAS, payments=(FIRST, replace(SECOND, due_minor=100_00)))
    scenario.when(CANCEL).then(CANCELLED, SENT_BACK).with_booking(
        ADAS,
        payments=(
            replace(FIRST, state=PaymentState.REFUND_REQUESTED, due_minor=200_00),
            replace(SECOND, state=PaymentState.REFUND_REQUESTED, due_minor=100_00),
        ),
    )


def test_the_refund_of_a_part_leaves_the_rest_paying_the_stay() -> None:
    part = but(RECORD_REFUND, amount_minor=100_00)
    scenario = given(*SHORTENED).with_booking(ADAS, payments=(replace(FIRST, due_minor=100_00),))
    scenario.when(part).then(but(REFUNDED, amount_minor=100_00)).with_booking(
        ADAS, status=BookingStatus.CONFIRMED, payments=(replace(FIRST, refunds=(RefundMade("re_1", 100_00),)),)
    )
    scenario.when(part).then(repeated(part, BookingStatus.CONFIRMED))
    scenario.when(CANCEL).then(CANCELLED, but(SENT_BACK, amount_minor=100_00, total_minor=200_00))


def test_a_part_whose_refund_fails_is_due_again_and_can_be_closed() -> None:
    part, fails = but(REFUNDED, amount_minor=100_00), but(FAIL_REFUND, amount_minor=100_00)
    scenario = given(*SHORTENED, part).when(fails).then(but(REFUND_FAILED, amount_minor=100_00))
    scenario.with_booking(ADAS, payments=(replace(FIRST, due_minor=100_00, failed_refund_ids=("re_1",)),))
    scenario.when(CLOSE_REFUND).then(but(REFUND_CLOSED, amount_minor=100_00))
    # The sum that refunds reach has what an operator ended too.
    scenario.when(CANCEL).then(CANCELLED, but(SENT_BACK, amount_minor=100_00, total_minor=200_00))


def test_a_part_that_somebody_sends_by_hand_is_due_again_if_that_fails() -> None:
    by_hand, fails = (
        but(HAND_REFUND, amount_minor=100_00),
        but(FAIL_REFUND, refund_id="re_hand", amount_minor=100_00, by_hand=True),
    )
    scenario = given(*SHORTENED).when(by_hand).then(but(REFUNDED_BY_HAND, amount_minor=100_00))
    scenario.with_booking(ADAS, payments=(replace(FIRST, refunds=(RefundMade("re_hand", 100_00, by_hand=True),)),))
    scenario.when(fails).then(but(REFUND_FAILED, refund_id="re_hand", amount_minor=100_00, by_hand=True), PART_BACK)


@pytest.mark.parametrize("ours_went", [True, False], ids=["our refund went", "our refund failed"])
def test_a_refund_by_hand_that_made_a_changes_refund_short_brings_the_rest_of_it_back_if_it_fails(
    ours_went: bool,  # noqa: FBT001 - A parameter of the test.
) -> None:
    by_hand = but(HAND_REFUND, amount_minor=150_00)
    hand_fails = but(FAIL_REFUND, refund_id="re_hand", amount_minor=150_00, by_hand=True)
    # The shorter stay costs 100.00, and 100.00 should go back, but 50.00 are left.
    scenario = given(*BOUGHT).when(by_hand).when(SHORTER)
    scenario.then(IS_SHORTER, but(PART_BACK, amount_minor=50_00, total_minor=200_00))
    ours = but(RECORD_REFUND, amount_minor=50_00)
    scenario.when(ours)
    if not ours_went:
        scenario.when(but(FAIL_REFUND, amount_minor=50_00))
    failed = but(REFUND_FAILED, refund_id="re_hand", amount_minor=150_00, by_hand=True)
    scenario.when(hand_fails).then(failed, but(PART_BACK, amount_minor=50_00, total_minor=100_00))
    [payment] = scenario.bookings[ADAS].payments
    assert payment.kept_minor == scenario.bookings[ADAS].amount_minor == 100_00


def test_no_more_goes_back_than_is_left() -> None:
    by_hand = but(REFUNDED_BY_HAND, amount_minor=150_00)
    given(*BOUGHT, by_hand).when(SHORTER).then(IS_SHORTER, but(PART_BACK, amount_minor=50_00, total_minor=200_00))
    given(*BOUGHT, but(by_hand, amount_minor=200_00)).when(SHORTER).then(IS_SHORTER)
    given(*BOUGHT, DISPUTED, LOST).when(SHORTER).then(IS_SHORTER)
    given(*BOUGHT, DISPUTED).when(SHORTER).then(IS_SHORTER, PART_BACK)
    given(*BOUGHT, DISPUTED, LOST).when(LONGER).then(HELD_LONGER, ASKED_MORE)


def test_a_lost_dispute_takes_what_is_due_first() -> None:
    part = but(DISPUTE_LOST, amount_minor=30_00)
    given(*SHORTENED).when(part).then(but(DISPUTED, amount_minor=30_00), but(LOST, amount_minor=30_00)).with_booking(
        ADAS,
        payments=(
            replace(
                FIRST,
                due_minor=70_00,
                disputes=(Dispute("dp_1", 30_00, "lost"),),
            ),
        ),
    )


def test_all_payments_refunded_by_hand_end_the_stay_and_one_of_them_does_not() -> None:
    first, second = (
        but(HAND_REFUND, cancel_if_full=True),
        but(HAND_REFUND, payment_intent="pi_2", refund_id="re_2", amount_minor=100_00, cancel_if_full=True),
    )
    refunded = but(REFUNDED_BY_HAND, payment_intent="pi_2", refund_id="re_2", amount_minor=100_00)
    by_hand = but(CANCELLED, reason=CancelReason.REFUNDED_BY_HAND)
    given(*LENGTHENED).when(first).then(REFUNDED_BY_HAND).when(second).then(refunded, by_hand)
    given(*LENGTHENED).when(second).then(refunded).when(first).then(REFUNDED_BY_HAND, by_hand)


def test_a_refund_by_hand_of_a_part_of_the_payments_that_fails_after_the_end_has_the_ends_reason() -> None:
    refunded = but(REFUNDED_BY_HAND, payment_intent="pi_2", amount_minor=100_00)
    fails = but(FAIL_REFUND, payment_intent="pi_2", refund_id="re_hand", amount_minor=100_00, by_hand=True)
    failed = but(REFUND_FAILED, payment_intent="pi_2", refund_id="re_hand", amount_minor=100_00, by_hand=True)
    given(*LENGTHENED, refunded).when(CANCEL).then(CANCELLED, SENT_BACK).when(fails).then(failed, MORE_BACK)


def test_a_refund_that_nobody_asked_for_is_refused() -> None:
    given(*LENGTHENED).when(RECORD_REFUND).then(
        refused(RECORD_REFUND, Refusal.UNKNOWN_PAYMENT, BookingStatus.CONFIRMED)
    )


# By the policy: 200.00 were paid, and on 8 March a cancellation costs 50.00.

EIGHTH = datetime(2026, 3, 8, 12, tzinfo=UTC)
TENTH = datetime(2026, 3, 10, 12, tzinfo=UTC)
ONE_NIGHT = (
    PriceLine(kind=LineKind.STAY, id="standard", name="Standard", amount_minor=100_00),
    PriceLine(kind=LineKind.TAX, id="vat", name="VAT", amount_minor=6_54, included=True),
    replace(SALE.lines[2], amount_minor=5_00),
)
#: A quarter of what is given up is kept, as of the whole.
COSTS = PriceLine(kind=LineKind.CHANGE, id="change", name="Costs of changes", amount_minor=25_00)
CHEAPER = replace(
    SALE,
    lines=(*ONE_NIGHT, COSTS),
    at_hotel_minor=5_00,
    steps=(
        CancellationStep(until=wall(7), kept_minor=50_00),
        CancellationStep(until=wall(9), kept_minor=75_00),
        CancellationStep(kept_minor=125_00),
    ),
    no_show_kept_minor=125_00,
    night_prices_minor=(100_00,),
    change_costs_minor=25_00,
)
BEFORE_ON_TERMS = replace(IS_SHORTER.before, sale=SALE)
IS_CHEAPER = but(IS_SHORTER, amount_minor=125_00, night_amounts_minor=(125_00,), sale=CHEAPER, before=BEFORE_ON_TERMS)
CHEAPENED = (*SOLD, IS_CHEAPER, but(PART_BACK, amount_minor=75_00))
PART_UNTIL = datetime(2026, 3, 9, 22, tzinfo=UTC)


def test_before_the_policy_counts_a_shorter_stay_costs_nothing_more() -> None:
    free = replace(
        CHEAPER,
        lines=ONE_NIGHT,
        steps=(replace(SALE.steps[0]), replace(SALE.steps[1]), SALE.steps[2]),
        no_show_kept_minor=100_00,
        change_costs_minor=0,
    )
    given(*SOLD).when(SHORTER).then(
        but(IS_CHEAPER, amount_minor=100_00, night_amounts_minor=(100_00,), sale=free), PART_BACK
    )


def test_the_policy_keeps_the_same_share_of_what_is_given_up_as_of_the_whole() -> None:
    given(*SOLD).when(SHORTER, at=EIGHTH).then(IS_CHEAPER, but(PART_BACK, amount_minor=75_00))


def test_the_hotel_gives_all_of_it_back() -> None:
    scenario = given(*SOLD).when(but(SHORTER, user_id=None), at=EIGHTH)
    changed, refund = scenario.answer
    assert isinstance(changed, StayChanged)
    assert (changed.amount_minor, refund) == (100_00, PART_BACK)
    assert changed.sale is not None
    assert changed.sale.steps[0].kept_minor == 0


@pytest.mark.parametrize(
    ("at", "kept_minor", "until"),
    [(EIGHTH, 75_00, PART_UNTIL), (PART_UNTIL, 125_00, None)],
    ids=["first step", "last step"],
)
def test_the_costs_of_a_change_are_kept_at_every_later_cancellation(
    at: datetime, kept_minor: int, until: datetime | None
) -> None:
    back_minor = 125_00 - kept_minor
    back = but(SENT_BACK, amount_minor=back_minor, total_minor=75_00 + back_minor, retained_minor=kept_minor)
    given(*CHEAPENED).when(CANCEL, at=at).then(cancelled(policy(kept_minor, until)), *((back,) if back_minor else ()))


def test_the_costs_of_a_change_are_kept_of_guests_who_do_not_come_and_of_those_who_leave_early() -> None:
    given(*CHEAPENED).when(NO_SHOW, at=CHECK_IN).then(but(DID_NOT_ARRIVE, policy=kept(125_00)))
    # 100.00 for the night, half of which is kept, and 25.00.
    scenario = given(*CHEAPENED, ARRIVED).when(LEAVE, at=TENTH)
    assert scenario.answer[1:] == (
        but(
            SENT_BACK,
            amount_minor=50_00,
            total_minor=125_00,
            retained_minor=75_00,
            reason=RefundReason.EARLY_DEPARTURE,
        ),
    )


def test_a_cancellation_after_the_change_costs_no_less_than_before_it() -> None:
    """Nobody moves a stay away from its policy."""
    far = but(LONGER, check_in=march(13), check_out=march(15))
    scenario = given(*SOLD).when(far, at=PART_UNTIL)
    (changed,) = scenario.answer
    assert isinstance(changed, StayChanged)
    assert changed.sale is not None
    assert [step.kept_minor for step in changed.sale.steps] == [100_00]
    scenario.when(CANCEL).then(cancelled(policy(100_00)), but(SENT_BACK, amount_minor=100_00, retained_minor=100_00))
    by_hotel = given(*SOLD).when(but(far, user_id=None), at=PART_UNTIL).answer[0]
    assert isinstance(by_hotel, StayChanged)
    assert by_hotel.sale is not None
    assert [step.kept_minor for step in by_hotel.sale.steps] == [0, 50_00, 100_00]


def test_the_oldest_payments_are_kept_first() -> None:
    scenario = lengthened_on_terms()
    scenario.when(CANCEL, at=EIGHTH).then(
        cancelled(policy(50_00, PART_UNTIL)),
        but(SENT_BACK, amount_minor=150_00, retained_minor=50_00),
        MORE_BACK,
    )


def lengthened_on_terms() -> Scenario:
    """Return a scenario of three nights on terms, paid by 200.00 and 100.00."""
    scenario = given(*SOLD).when(LONGER).when(PAY_MORE)
    assert isinstance(scenario.answer[0], StayChanged)
    return scenario


def test_money_that_went_by_hand_is_kept_of_the_next_payment_and_split_right_if_it_comes_again() -> None:
    scenario = lengthened_on_terms().when(but(HAND_REFUND, amount_minor=180_00))
    # 20.00 are left of the first payment, and 30.00 are kept of the second.
    scenario.when(CANCEL, at=EIGHTH).then(
        cancelled(policy(50_00, PART_UNTIL)), but(MORE_BACK, amount_minor=70_00, retained_minor=30_00)
    )
    fails = but(FAIL_REFUND, refund_id="re_hand", amount_minor=180_00, by_hand=True)
    scenario.when(fails).then(
        but(REFUND_FAILED, refund_id="re_hand", amount_minor=180_00, by_hand=True),
        but(SENT_BACK, amount_minor=180_00, retained_minor=20_00),
    )


def test_the_part_of_the_policy_beyond_what_is_left_is_kept_of_a_refund_that_fails() -> None:
    scenario = lengthened_on_terms().when(HAND_REFUND)
    # One night is kept; nothing is left of the first payment, and all of the second is kept.
    scenario.when(CANCEL, at=PART_UNTIL).then(cancelled(policy(100_00)))
    fails = but(FAIL_REFUND, refund_id="re_hand", by_hand=True)
    scenario.when(fails).then(but(REFUND_FAILED, refund_id="re_hand", by_hand=True), SENT_BACK)


def test_a_refund_of_ours_is_recorded_although_one_by_hand_took_its_place_before() -> None:
    """100.00 are due of a shorter stay and on their way; a person refunds as much, which is recorded first."""
    by_hand, ours = but(HAND_REFUND, amount_minor=100_00), but(RECORD_REFUND, amount_minor=100_00)

    given(*SHORTENED).when(by_hand).when(ours).then(but(REFUNDED, amount_minor=100_00))


def test_the_payment_whose_refund_by_hand_failed_is_the_first_to_go_back() -> None:
    """A shorter stay has 100.00 due of the first payment, and a longer one is paid by a second payment again."""
    longer = but(LONGER, change_id=ANOTHER_CHANGE, check_out=march(12))
    by_hand = but(HAND_REFUND, amount_minor=30_00)
    fails = but(FAIL_REFUND, refund_id="re_hand", amount_minor=30_00, by_hand=True)
    scenario = given(*SHORTENED).when(longer).when(RECORD_SECOND).when(PAY_MORE).when(by_hand).when(fails)

    scenario.then(
        but(REFUND_FAILED, refund_id="re_hand", amount_minor=30_00, by_hand=True),
        but(PART_BACK, amount_minor=30_00, total_minor=100_00),
    )
