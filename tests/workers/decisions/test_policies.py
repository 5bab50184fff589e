"""A cancellation costs what the booking's policy keeps at that instant, and every cent of the payment is accounted for.

The sums of a payment are written as (refunded, lost, due, closed, retained, kept), in euros.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import permutations

import pytest
from msgspec.structs import replace

from tests.support.scenario import Scenario, given
from tests.workers.decisions.words import (
    ADAS,
    CANCEL,
    CANCELLED,
    CHECK_IN,
    CHECK_OUT,
    CLOSE_REFUND,
    CONFIRMED_FREE,
    DISPUTE_LOST,
    DISPUTE_WON,
    FAIL_REFUND,
    HAND_REFUND,
    LATER,
    MILLISECOND,
    OPENED,
    PAID,
    PAY,
    RECORD_REFUND,
    REFUND_CLOSED,
    REFUND_FAILED,
    REFUNDED,
    REFUNDED_BY_HAND,
    ROOM,
    SENT_BACK,
    TIMES,
    WAITING,
    but,
    march,
    refused,
    repeated,
)
from tests.workers.decisions.words_of_sale import (
    ARRIVING,
    BOOKING_CANCELLED,
    FREE_UNTIL,
    KEPT_IN_FULL,
    ON_TERMS,
    PART_UNTIL,
    PARTLY_BACK,
    SALE,
    SOLD,
    SOLD_SAVER,
    TERMS_SET,
    back,
    cancelled,
    policy,
)
from topics.messages.commands import Command
from topics.messages.events import Event, GuestsDidNotArrive, RefundRequested
from topics.messages.sale import AppliedPolicy
from topics.messages.values import BookingStatus, CancelReason, DisputeResult, RefundReason, Refusal, StayTimes
from topics.zones import instant
from workers.decisions import PaymentState, StayClock, decide

BY_HOTEL = but(CANCEL, user_id=None, reason=CancelReason.BY_HOTEL)
PART_BY_HAND = but(HAND_REFUND, amount_minor=30_00)


def sums(scenario: Scenario, payment_intent: str = "pi_1") -> tuple[int, ...]:
    """Return the sums of a payment, in euros, after checking that they add up."""
    payment = scenario.bookings[ADAS].payment(payment_intent)
    assert payment is not None
    parts = (
        payment.refunded_minor,
        payment.lost_minor,
        payment.due_minor,
        payment.closed_minor,
        payment.retained_minor,
        payment.kept_minor,
    )
    assert sum(parts) == payment.amount_minor
    assert min(parts) >= 0
    return tuple(part // 100 for part in parts)


# The costs at every instant.


@pytest.mark.parametrize(
    ("at", "kept_minor", "until"),
    [
        (LATER, 0, FREE_UNTIL),
        (FREE_UNTIL - MILLISECOND, 0, FREE_UNTIL),
        (FREE_UNTIL, 50_00, PART_UNTIL),
        (FREE_UNTIL + MILLISECOND, 50_00, PART_UNTIL),
        (PART_UNTIL - MILLISECOND, 50_00, PART_UNTIL),
        (PART_UNTIL, 100_00, None),
        (CHECK_IN - MILLISECOND, 100_00, None),
    ],
)
def test_a_cancellation_costs_what_the_policy_keeps_at_that_instant(
    at: datetime, kept_minor: int, until: datetime | None
) -> None:
    applied = policy(kept_minor, until, 0 if kept_minor == 0 else None)
    refund = back(200_00 - kept_minor, kept_minor, total_minor=None)
    scenario = given(*SOLD).when(CANCEL, at=at).then(cancelled(applied), refund)

    scenario.with_booking(ADAS, status=BookingStatus.CANCELLED, policy=applied)
    scenario.with_night(ROOM, march(10), booked_count=0)
    assert sums(scenario) == (0, 0, 200 - kept_minor // 100, 0, kept_minor // 100, 0)


def test_from_check_in_on_a_guest_cannot_cancel() -> None:
    given(*SOLD).when(CANCEL, at=CHECK_IN).then(refused(CANCEL, Refusal.CHECK_IN_PASSED, BookingStatus.CONFIRMED))
    given(*SOLD).when(CANCEL, at=CHECK_OUT).then(refused(CANCEL, Refusal.STAY_OVER, BookingStatus.CONFIRMED))


def test_the_promise_is_the_time_on_the_wall_whatever_the_zone_data_make_of_it() -> None:
    """A worker with other zone data gives another instant for 15:00 on the 7th: the decision follows it."""
    scenario = given(*SOLD)
    state = scenario.state(CANCEL)
    assert state.clock is not None
    later = tuple(None if end is None else end + timedelta(hours=1) for end in state.clock.step_ends)
    other = replace(state.clock, step_ends=later, zone_data="2031.1")

    events = decide_with(scenario, other, FREE_UNTIL + timedelta(minutes=59))

    assert events[0] == but(
        CANCELLED,
        policy=AppliedPolicy(kept_minor=0, percent=0, until=FREE_UNTIL + timedelta(hours=1), zone_data="2031.1"),
    )


def decide_with(scenario: Scenario, clock: StayClock, now: datetime) -> tuple[Event, ...]:
    """Decide the cancellation by this clock."""
    return decide(replace(scenario.state(CANCEL), clock=clock), CANCEL, now)


@pytest.mark.parametrize("zone", ["Africa/Casablanca", "America/Vancouver", "Asia/Kolkata", "UTC"])
def test_steps_end_by_the_clock_of_the_hotel(zone: str) -> None:
    times = StayTimes(time_zone=zone, check_in_time=TIMES.check_in_time, check_out_time=TIMES.check_out_time)
    sold = (OPENED, TERMS_SET, but(ON_TERMS, stay_times=times), *WAITING[2:], PAID)
    end = instant(march(7), times.check_in_time, zone)

    assert given(*sold).when(CANCEL, at=end - MILLISECOND).answer[1] == back(200_00, 0)
    assert given(*sold).when(CANCEL, at=end).answer[1] == back(150_00, 50_00)


def test_a_plan_that_is_not_refundable_keeps_all_from_the_first_minute_on() -> None:
    scenario = given(*SOLD_SAVER).when(CANCEL, at=LATER).then(cancelled(policy(180_00, percent=100)))

    assert sums(scenario) == (0, 0, 0, 0, 0, 180)
    scenario.with_booking(ADAS, status=BookingStatus.CANCELLED)
    assert scenario.bookings[ADAS].payments[0].state is PaymentState.KEPT


def test_a_cancellation_by_the_hotel_costs_the_guest_nothing() -> None:
    for sold, amount_minor in ((SOLD, 200_00), (SOLD_SAVER, 180_00)):
        given(*sold).when(BY_HOTEL, at=CHECK_IN - MILLISECOND).then(
            but(CANCELLED, reason=CancelReason.BY_HOTEL), but(SENT_BACK, amount_minor=amount_minor)
        )


def test_a_stay_that_is_not_paid_is_cancelled_at_no_cost() -> None:
    given(OPENED, TERMS_SET, ON_TERMS).when(CANCEL).then(CANCELLED)


def test_a_stay_that_is_paid_at_the_hotel_is_cancelled_with_what_is_due_there() -> None:
    sold = (OPENED, TERMS_SET, ARRIVING, but(CONFIRMED_FREE, amount_minor=210_00))
    given(*sold).when(CANCEL, at=PART_UNTIL).then(cancelled(policy(105_00)))


def test_a_booking_from_before_sale_terms_gets_everything_back() -> None:
    given(OPENED, but(ON_TERMS, sale=None), *WAITING[2:], PAID).when(CANCEL, at=CHECK_IN - MILLISECOND).then(
        CANCELLED, SENT_BACK
    )


def test_cancelling_again_costs_nothing_more() -> None:
    for so_far in (PARTLY_BACK, KEPT_IN_FULL):
        given(*so_far).when(CANCEL, at=CHECK_IN).then(repeated(CANCEL, BookingStatus.CANCELLED))


# A payment of which the hotel keeps a part.


def test_the_part_that_goes_back_goes_back_once() -> None:
    refund = but(RECORD_REFUND, amount_minor=150_00)
    scenario = given(*PARTLY_BACK).when(refund).then(but(REFUNDED, amount_minor=150_00))

    assert sums(scenario) == (150, 0, 0, 0, 50, 0)
    assert scenario.bookings[ADAS].payments[0].state is PaymentState.REFUNDED
    scenario.when(refund).then(repeated(refund, BookingStatus.CANCELLED))


def test_a_part_that_was_refunded_by_hand_before_counts_towards_what_goes_back() -> None:
    scenario = given(*SOLD, but(REFUNDED_BY_HAND, amount_minor=30_00)).when(CANCEL, at=FREE_UNTIL)
    scenario.then(cancelled(policy(50_00, PART_UNTIL)), back(120_00, 50_00, total_minor=150_00))

    assert sums(scenario) == (30, 0, 120, 0, 50, 0)


def test_if_no_more_is_left_than_the_policy_keeps_nothing_goes_back() -> None:
    scenario = given(*SOLD, but(REFUNDED_BY_HAND, amount_minor=160_00)).when(CANCEL, at=FREE_UNTIL)
    scenario.then(cancelled(policy(50_00, PART_UNTIL)))

    assert sums(scenario) == (160, 0, 0, 0, 0, 40)


@pytest.mark.parametrize("amount_minor", [160_00, 200_00])
def test_a_refund_by_hand_that_fails_after_the_cancellation_makes_the_rest_due(amount_minor: int) -> None:
    by_hand = but(REFUNDED_BY_HAND, amount_minor=amount_minor)
    fail = but(FAIL_REFUND, refund_id="re_hand", by_hand=True, amount_minor=amount_minor)
    failed = but(REFUND_FAILED, refund_id="re_hand", by_hand=True, amount_minor=amount_minor)
    scenario = given(*SOLD, by_hand, cancelled(policy(50_00, PART_UNTIL))).when(fail)
    scenario.then(failed, back(150_00, 50_00))

    assert sums(scenario) == (0, 0, 150, 0, 50, 0)


def test_a_late_failure_of_the_refund_makes_the_part_due_again_and_no_more() -> None:
    refund = but(RECORD_REFUND, amount_minor=150_00)
    fail = but(FAIL_REFUND, amount_minor=150_00)
    scenario = given(*PARTLY_BACK).when(refund).when(fail).then(but(REFUND_FAILED, amount_minor=150_00))

    assert sums(scenario) == (0, 0, 150, 0, 50, 0)
    scenario.when(but(refund, refund_id="re_2"))
    assert sums(scenario) == (150, 0, 0, 0, 50, 0)


def test_a_refund_by_hand_after_the_cancellation_is_of_what_is_due_first() -> None:
    scenario = given(*PARTLY_BACK).when(but(HAND_REFUND, amount_minor=170_00))
    assert sums(scenario) == (170, 0, 0, 0, 30, 0)


def test_a_goodwill_refund_of_the_retained_part_that_fails_is_retained_again() -> None:
    scenario = given(*PARTLY_BACK).when(but(RECORD_REFUND, amount_minor=150_00)).when(PART_BY_HAND)
    assert sums(scenario) == (180, 0, 0, 0, 20, 0)

    fail = but(FAIL_REFUND, refund_id="re_hand", amount_minor=30_00, by_hand=True)
    scenario.when(fail).then(but(REFUND_FAILED, refund_id="re_hand", amount_minor=30_00, by_hand=True))
    assert sums(scenario) == (150, 0, 0, 0, 50, 0)


def test_a_lost_dispute_takes_what_is_due_to_the_guest_first() -> None:
    scenario = given(*PARTLY_BACK).when(but(DISPUTE_LOST, amount_minor=60_00))
    assert sums(scenario) == (0, 60, 90, 0, 50, 0)
    scenario = given(*PARTLY_BACK).when(DISPUTE_LOST)
    assert sums(scenario) == (0, 200, 0, 0, 0, 0)


def test_a_lost_dispute_of_the_retained_part_is_of_what_was_due_once_the_refund_fails() -> None:
    """The guest got 150.00 back and 50.00 by the dispute. When the refund fails, 100.00 are due and 50.00 are kept."""
    scenario = given(*PARTLY_BACK).when(but(RECORD_REFUND, amount_minor=150_00))
    scenario.when(but(DISPUTE_LOST, amount_minor=50_00))
    assert sums(scenario) == (150, 50, 0, 0, 0, 0)

    scenario.when(but(FAIL_REFUND, amount_minor=150_00))
    assert sums(scenario) == (0, 50, 100, 0, 50, 0)


def test_an_operator_closes_the_part_that_is_due_and_the_hotel_keeps_its_own() -> None:
    scenario = given(*PARTLY_BACK).when(CLOSE_REFUND).then(but(REFUND_CLOSED, amount_minor=150_00))
    assert sums(scenario) == (0, 0, 0, 150, 50, 0)
    scenario.when(CLOSE_REFUND).then(repeated(CLOSE_REFUND, BookingStatus.CANCELLED))


def test_money_that_leaves_after_an_operator_closed_the_refund_is_of_what_was_closed_first() -> None:
    """The closed part was the guest's; the policy's part falls after it. A refund that fails is due again."""
    by_hand = but(HAND_REFUND, amount_minor=150_00)
    for command, gone in ((by_hand, (150, 0)), (but(DISPUTE_LOST, amount_minor=150_00), (0, 150))):
        scenario = given(*PARTLY_BACK).when(CLOSE_REFUND).when(command)
        assert sums(scenario) == (*gone, 0, 0, 50, 0)

    scenario = given(*PARTLY_BACK).when(CLOSE_REFUND).when(but(HAND_REFUND, amount_minor=170_00))
    assert sums(scenario) == (170, 0, 0, 0, 30, 0)
    scenario.when(but(FAIL_REFUND, refund_id="re_hand", amount_minor=170_00, by_hand=True))
    assert sums(scenario) == (0, 0, 150, 0, 50, 0)


MONEY: dict[str, Command] = {
    "refund": but(RECORD_REFUND, amount_minor=150_00),
    "goodwill": PART_BY_HAND,
    "goodwill fails": but(FAIL_REFUND, refund_id="re_hand", amount_minor=30_00, by_hand=True),
    "refund fails": but(FAIL_REFUND, amount_minor=150_00),
    "dispute": but(DISPUTE_LOST, amount_minor=40_00),
    "close": CLOSE_REFUND,
}


@pytest.mark.parametrize("so_far", [PARTLY_BACK, KEPT_IN_FULL], ids=["in part", "in full"])
def test_refunds_disputes_and_closings_in_any_order_keep_the_sums(so_far: Sequence[Event]) -> None:
    for order in permutations(MONEY.values()):
        scenario = given(*so_far)
        for command in order:
            scenario.when(command)
            refunded, lost, due, closed, retained, kept = sums(scenario)
            if so_far is PARTLY_BACK:
                # The guest is never due more than the policy gives back, and the hotel never keeps more than it may.
                assert (kept, retained <= 50) == (0, True)
                assert due <= max(0, 150 - refunded - lost) or closed
            else:
                assert (due, closed, retained) == (0, 0, 0)


# A payment that the hotel keeps as a whole.


def test_a_second_payment_of_a_cancelled_stay_goes_back_in_full() -> None:
    again = but(PAY, payment_intent="pi_2", amount_minor=180_00)
    scenario = given(*KEPT_IN_FULL).when(again)
    scenario.then(but(SENT_BACK, payment_intent="pi_2", amount_minor=180_00))

    assert sums(scenario) == (0, 0, 0, 0, 0, 180)
    assert sums(scenario, "pi_2") == (0, 0, 180, 0, 0, 0)


def test_nothing_is_due_of_a_payment_that_the_hotel_keeps() -> None:
    refund = but(RECORD_REFUND, amount_minor=180_00)
    given(*KEPT_IN_FULL).when(CLOSE_REFUND).then(refused(CLOSE_REFUND, Refusal.NOTHING_DUE, BookingStatus.CANCELLED))
    given(*KEPT_IN_FULL).when(refund).then(refused(refund, Refusal.UNKNOWN_PAYMENT, BookingStatus.CANCELLED))


def test_a_goodwill_refund_of_a_payment_that_the_hotel_keeps_is_recorded_and_may_fail() -> None:
    scenario = given(*KEPT_IN_FULL).when(PART_BY_HAND)
    assert sums(scenario) == (30, 0, 0, 0, 0, 150)

    fail = but(FAIL_REFUND, refund_id="re_hand", amount_minor=30_00, by_hand=True)
    scenario.when(fail).then(but(REFUND_FAILED, refund_id="re_hand", amount_minor=30_00, by_hand=True))
    assert sums(scenario) == (0, 0, 0, 0, 0, 180)


@pytest.mark.parametrize("result", [DisputeResult.WON, DisputeResult.LOST])
def test_a_payment_that_the_hotel_keeps_can_be_disputed(result: DisputeResult) -> None:
    dispute = but(DISPUTE_WON, amount_minor=180_00, result=result)
    scenario = given(*KEPT_IN_FULL).when(dispute)
    lost = result is DisputeResult.LOST

    assert sums(scenario) == (0, 180, 0, 0, 0, 0) if lost else (0, 0, 0, 0, 0, 180)


def test_a_payment_that_was_lost_before_the_cancellation_is_not_refunded() -> None:
    scenario = given(*SOLD).when(DISPUTE_LOST).when(CANCEL, at=FREE_UNTIL).then(cancelled(policy(50_00, PART_UNTIL)))
    assert sums(scenario) == (0, 200, 0, 0, 0, 0)


def test_the_refund_of_a_stay_whose_guests_did_not_come_names_that_reason_again() -> None:
    """A refund by hand fails after the no-show: the part that the policy gives back is sent, for the no-show."""
    missed = GuestsDidNotArrive(
        room_id=ROOM, booking_id=ADAS, freed_from=march(10), policy=AppliedPolicy(kept_minor=100_00)
    )
    fail = but(FAIL_REFUND, refund_id="re_hand", amount_minor=150_00, by_hand=True)
    scenario = given(*SOLD, but(REFUNDED_BY_HAND, amount_minor=150_00), missed).when(fail)

    refund = scenario.answer[1]
    assert isinstance(refund, RefundRequested)
    assert refund == back(100_00, 100_00, reason=RefundReason.NO_SHOW)


def test_the_steps_of_the_booking_count_and_not_those_of_the_room_today() -> None:
    other = but(TERMS_SET, terms=replace(TERMS_SET.terms, version=2, plans=(replace(TERMS_SET.terms.plans[1]),)))
    given(*SOLD, other).with_booking(ADAS, sale=SALE).when(CANCEL, at=FREE_UNTIL).then(
        cancelled(policy(50_00, PART_UNTIL)), back(150_00, 50_00)
    )


def test_the_reason_of_a_refund_by_policy_is_the_cancellation() -> None:
    assert PARTLY_BACK[-1] == back(150_00, 50_00, reason=BOOKING_CANCELLED)
