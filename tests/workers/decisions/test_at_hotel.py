"""The days of a stay: guests arrive, leave on their day or before it, or do not come.

The hotel is in Vancouver: check-in is at 15:00 on 10 March, check-out at 11:00 on 12 March, on the clocks there.
"""

from datetime import UTC, date, datetime, timedelta

import pytest
from msgspec.structs import replace

from tests.support.scenario import Scenario, given
from tests.workers.decisions.words import (
    ADAS,
    ADD_GUESTS,
    ANOTHER_ROOM,
    BENS,
    BOUGHT,
    CALLED_OFF,
    CANCEL,
    CANCELLED,
    CHANGE_GUESTS,
    CHECK_IN,
    CHECK_OUT,
    CLOSE,
    CLOSE_REFUND,
    CONFIRMED_FREE,
    DECLINE,
    DISPUTE,
    DISPUTE_LOST,
    DISPUTED,
    EXPIRE,
    EXPIRED,
    FAIL_REFUND,
    HAND_REFUND,
    HELD,
    LAST_DAY,
    LOST,
    OPENED,
    OVER,
    PAID,
    PAY,
    PAYABLE,
    RECORD_REFUND,
    RECORD_SESSION,
    REFUNDED,
    REFUNDED_BY_HAND,
    REQUEST_PAYMENT,
    RESERVE,
    RESERVED,
    ROOM,
    SECOND,
    SECOND_DAY,
    SENT_BACK,
    TIMES,
    but,
    march,
    refused,
    rejected,
    repeated,
)
from tests.workers.decisions.words_at_hotel import (
    ARRIVE,
    ARRIVED,
    AT_HOTEL,
    DID_NOT_ARRIVE,
    LEAVE,
    LEFT,
    NO_SHOW,
    SALE,
    SOLD_ON_TERMS,
    back,
    bought,
    kept,
)
from topics.messages.commands import BookingCommand, CheckIn, CheckOut, MarkNoShow
from topics.messages.events import Event
from topics.messages.sale import AppliedPolicy, CancellationStep
from topics.messages.values import (
    BookingStatus,
    CancelReason,
    RefundReason,
    Refusal,
    Rejection,
    StayTimes,
)

S = BookingStatus
IN = (*BOUGHT, ARRIVED)
OUT = (*IN, LEFT)
LEFT_EARLY = but(LEFT, freed_from=march(11), policy=kept(200_00, 100))
MISSED = (*BOUGHT, but(DID_NOT_ARRIVE, policy=kept(200_00)))
FIRST_MIDNIGHT = datetime(2026, 3, 10, 7, tzinfo=UTC)
ON_TERMS = bought(SOLD_ON_TERMS)
YEARS = timedelta(days=3000)
A_MONTH = timedelta(days=30)
BY_HOTEL = but(CANCEL, user_id=None, reason=CancelReason.BY_HOTEL)


def booked(scenario: Scenario) -> list[int]:
    """Return the rooms booked in the two nights."""
    return [scenario.nights[ROOM][march(day)].booked_count for day in (10, 11)]


# Arriving


@pytest.mark.parametrize(
    "at",
    [
        FIRST_MIDNIGHT,
        CHECK_IN - SECOND,
        CHECK_IN,
        SECOND_DAY + timedelta(hours=1),
        LAST_DAY,
        CHECK_OUT - SECOND,
    ],
)
def test_guests_arrive_from_the_first_day_until_check_out(at: datetime) -> None:
    """At one in the night after it too: the hotel's date is the next one then."""
    scenario = given(*BOUGHT).when(ARRIVE, at=at).then(ARRIVED).with_booking(ADAS, status=S.CHECKED_IN, freed_from=None)
    assert booked(scenario) == [1, 1]


def test_guests_do_not_arrive_before_their_day() -> None:
    for at in (FIRST_MIDNIGHT - SECOND, FIRST_MIDNIGHT - YEARS):
        given(*BOUGHT).when(ARRIVE, at=at).then(refused(ARRIVE, Refusal.BEFORE_ARRIVAL, S.CONFIRMED))


def test_guests_do_not_arrive_after_check_out() -> None:
    for at in (CHECK_OUT, CHECK_OUT + YEARS):
        given(*BOUGHT).when(ARRIVE, at=at).then(refused(ARRIVE, Refusal.STAY_OVER, S.CONFIRMED))


def test_an_arrival_that_is_recorded_twice_counts_once_whatever_the_time() -> None:
    for at in (CHECK_IN, CHECK_OUT + YEARS):
        given(*IN).when(ARRIVE, at=at).then(repeated(ARRIVE, S.CHECKED_IN))


@pytest.mark.parametrize("command", [ARRIVE, NO_SHOW], ids=lambda command: command.message_type)
@pytest.mark.parametrize(
    ("story", "status"),
    [
        (HELD, S.EXPIRED),
        (PAYABLE, S.EXPIRED),
        (OVER, S.EXPIRED),
        (CALLED_OFF, S.CANCELLED),
        ((OPENED, rejected(RESERVE, Rejection.SOLD_OUT)), S.REJECTED),
        (OUT, S.CHECKED_OUT),
    ],
)
def test_only_guests_of_a_confirmed_booking_arrive_or_do_not(
    command: BookingCommand, story: tuple[Event, ...], status: BookingStatus
) -> None:
    """The hold is over at check-in; the command ends it first."""
    scenario = given(*story).when(command, at=CHECK_IN)
    assert scenario.answer[-1] == refused(command, Refusal.WRONG_STATUS, status)


def test_guests_whose_hold_lasts_have_not_paid_and_do_not_arrive() -> None:
    tonight = but(RESERVED, hold_expires_at=CHECK_IN + timedelta(minutes=15))
    given(OPENED, tonight).when(ARRIVE, at=CHECK_IN).then(refused(ARRIVE, Refusal.WRONG_STATUS, S.RESERVED))


@pytest.mark.parametrize("kind", [CheckIn, CheckOut, MarkNoShow], ids=lambda kind: kind.message_type)
def test_a_booking_that_nobody_made_or_of_another_room_is_unknown(
    kind: type[CheckIn | CheckOut | MarkNoShow],
) -> None:
    command = kind(room_id=ROOM, booking_id=ADAS)
    given(OPENED).when(command, at=CHECK_IN).then(refused(command, Refusal.BOOKING_NOT_FOUND, None))
    elsewhere = but(command, room_id=ANOTHER_ROOM)
    given(*IN).when(elsewhere, at=CHECK_IN).then(refused(elsewhere, Refusal.BOOKING_NOT_FOUND, None))


def test_a_booking_without_times_has_those_of_the_command() -> None:
    no_times = (OPENED, but(RESERVED, stay_times=None), PAID)
    with_times = but(ARRIVE, stay_times=TIMES)
    given(*no_times).when(with_times, at=FIRST_MIDNIGHT).then(ARRIVED)
    given(*no_times).when(with_times, at=FIRST_MIDNIGHT - SECOND).then(
        refused(with_times, Refusal.BEFORE_ARRIVAL, S.CONFIRMED)
    )


# Leaving


@pytest.mark.parametrize("at", [LAST_DAY, LAST_DAY + timedelta(hours=1), CHECK_OUT, CHECK_OUT + YEARS])
def test_guests_who_leave_on_their_last_day_or_later_free_no_night(at: datetime) -> None:
    scenario = given(*IN).when(LEAVE, at=at).then(LEFT).with_booking(ADAS, status=S.CHECKED_OUT, policy=None)
    assert booked(scenario) == [1, 1]


@pytest.mark.parametrize("at", [SECOND_DAY, SECOND_DAY + timedelta(hours=3), LAST_DAY - SECOND])
def test_guests_who_leave_early_free_the_nights_from_that_day_on(at: datetime) -> None:
    """The night that began the day before stays sold, also if they leave in the small hours after it."""
    scenario = given(*IN).when(LEAVE, at=at).then(LEFT_EARLY).with_booking(ADAS, freed_from=march(11))
    assert booked(scenario) == [1, 0]


def test_guests_who_leave_on_the_day_they_came_free_all_nights() -> None:
    given(*IN).when(LEAVE, at=CHECK_IN).then(but(LEFT_EARLY, freed_from=march(10))).with_night(
        ROOM, march(10), booked_count=0
    ).with_night(ROOM, march(11), booked_count=0)


def test_without_sale_terms_nothing_of_the_unused_nights_comes_back() -> None:
    given(*IN).when(LEAVE, at=SECOND_DAY).then(LEFT_EARLY).with_booking(ADAS, policy=kept(200_00, 100))


@pytest.mark.parametrize(
    ("at", "percent", "freed_from", "kept_minor"),
    [
        (SECOND_DAY, 50, 11, 160_00),
        (SECOND_DAY, 0, 11, 120_00),
        (CHECK_IN, 50, 10, 100_00),
        (CHECK_IN, 0, 10, 0),
    ],
)
def test_the_policy_keeps_its_part_of_the_nights_that_are_left_unused(
    at: datetime, percent: int, freed_from: int, kept_minor: int
) -> None:
    sale = replace(SALE, early_departure_percent=percent)
    story = bought(but(SOLD_ON_TERMS, sale=sale))
    policy = kept(kept_minor, percent)
    given(*story, ARRIVED).when(LEAVE, at=at).then(
        but(LEFT, freed_from=march(freed_from), policy=policy),
        back(200_00 - kept_minor, RefundReason.EARLY_DEPARTURE, kept_minor),
    ).with_booking(ADAS, policy=policy)


@pytest.mark.parametrize(
    ("at", "least_minor", "policy"),
    [
        (SECOND_DAY, 180_00, kept(180_00)),
        (SECOND_DAY, 160_00, kept(160_00, 50)),
        (SECOND_DAY, 150_00, kept(160_00, 50)),
        (CHECK_IN, 150_00, kept(150_00)),
        (CHECK_IN, 200_00, kept(200_00)),
    ],
)
def test_an_early_departure_keeps_the_least_costs_of_a_cancellation(
    at: datetime, least_minor: int, policy: AppliedPolicy
) -> None:
    sale = replace(SALE, steps=(CancellationStep(kept_minor=least_minor),))
    story = bought(but(SOLD_ON_TERMS, sale=sale))
    given(*story, ARRIVED).when(LEAVE, at=at).with_booking(ADAS, policy=policy)


def test_a_policy_that_keeps_all_sends_nothing_back() -> None:
    story = bought(but(SOLD_ON_TERMS, sale=replace(SALE, early_departure_percent=100)))
    given(*story, ARRIVED).when(LEAVE, at=SECOND_DAY).then(LEFT_EARLY)


def test_guests_who_pay_at_the_hotel_and_leave_early_get_no_refund() -> None:
    story = (OPENED, but(AT_HOTEL, sale=SALE, night_amounts_minor=(120_00, 80_00)), CONFIRMED_FREE, ARRIVED)
    given(*story).when(LEAVE, at=SECOND_DAY).then(but(LEFT, freed_from=march(11), policy=kept(160_00, 50)))


def test_money_that_a_person_sent_back_before_is_a_part_of_the_refund() -> None:
    part = but(REFUNDED_BY_HAND, amount_minor=30_00)
    given(*ON_TERMS, part, ARRIVED).when(LEAVE, at=SECOND_DAY).then(
        but(LEFT, freed_from=march(11), policy=kept(160_00, 50)),
        but(back(10_00, RefundReason.EARLY_DEPARTURE, 160_00), total_minor=40_00),
    )
    all_of_it = but(REFUNDED_BY_HAND, amount_minor=40_00)
    given(*ON_TERMS, all_of_it, ARRIVED).when(LEAVE, at=SECOND_DAY).then(
        but(LEFT, freed_from=march(11), policy=kept(160_00, 50))
    )


def test_guests_leave_once() -> None:
    given(*OUT).when(LEAVE, at=CHECK_OUT).then(repeated(LEAVE, S.CHECKED_OUT))
    given(*IN, LEFT_EARLY).when(LEAVE, at=LAST_DAY).then(repeated(LEAVE, S.CHECKED_OUT)).with_night(
        ROOM, march(11), booked_count=0
    )


@pytest.mark.parametrize(("story", "status"), [(BOUGHT, S.CONFIRMED), (MISSED, S.NO_SHOW)])
def test_only_guests_who_arrived_leave(story: tuple[Event, ...], status: BookingStatus) -> None:
    given(*story).when(LEAVE, at=CHECK_OUT).then(refused(LEAVE, Refusal.WRONG_STATUS, status))


def test_a_night_that_an_early_departure_freed_is_sold_again() -> None:
    again = but(RESERVE, booking_id=BENS, check_in=march(11), rooms_count=2)
    given(*IN).when(LEAVE, at=SECOND_DAY).when(again).then(
        but(
            RESERVED,
            booking_id=BENS,
            check_in=march(11),
            rooms_count=2,
            hold_expires_at=SECOND_DAY + timedelta(minutes=15),
            amount_minor=200_00,
            night_amounts_minor=(200_00,),
        )
    )


# Not arriving


def test_guests_are_expected_until_check_in() -> None:
    for at in (CHECK_IN - SECOND, FIRST_MIDNIGHT - YEARS):
        given(*BOUGHT).when(NO_SHOW, at=at).then(refused(NO_SHOW, Refusal.BEFORE_ARRIVAL, S.CONFIRMED))


@pytest.mark.parametrize(
    ("at", "freed_from", "rooms"),
    [
        (CHECK_IN, march(10), [0, 0]),
        (SECOND_DAY - SECOND, march(10), [0, 0]),
        (SECOND_DAY + timedelta(hours=1), march(11), [1, 0]),
        (LAST_DAY - SECOND, march(11), [1, 0]),
        (LAST_DAY, march(12), [1, 1]),
        (CHECK_OUT + A_MONTH - SECOND, march(12), [1, 1]),
    ],
)
def test_guests_who_do_not_arrive_free_the_nights_that_are_not_past(
    at: datetime, freed_from: date, rooms: list[int]
) -> None:
    """At one in the night after the day of arrival, when hotels close their day, that night is past."""
    missed = but(DID_NOT_ARRIVE, freed_from=freed_from, policy=kept(200_00))
    scenario = given(*BOUGHT).when(NO_SHOW, at=at).then(missed).with_booking(ADAS, freed_from=freed_from)
    assert booked(scenario) == rooms


def test_a_no_show_is_recorded_until_a_month_after_check_out() -> None:
    """A slip with an old stay refunds nothing; a no-show that was recorded in time is still known."""
    for at in (CHECK_OUT + A_MONTH, CHECK_OUT + YEARS, datetime.max.replace(tzinfo=UTC)):
        given(*ON_TERMS).when(NO_SHOW, at=at).then(refused(NO_SHOW, Refusal.STAY_OVER, S.CONFIRMED))
        given(*MISSED).when(NO_SHOW, at=at).then(repeated(NO_SHOW, S.NO_SHOW))


def test_the_policy_keeps_its_part_of_the_price_if_nobody_arrives() -> None:
    given(*ON_TERMS).when(NO_SHOW, at=CHECK_IN).then(
        but(DID_NOT_ARRIVE, policy=kept(120_00)), back(80_00, RefundReason.NO_SHOW, 120_00)
    ).with_booking(ADAS, status=S.NO_SHOW, policy=kept(120_00))


def test_without_sale_terms_all_is_kept_if_nobody_arrives() -> None:
    given(*BOUGHT).when(NO_SHOW, at=CHECK_IN).then(but(DID_NOT_ARRIVE, policy=kept(200_00)))


def test_guests_who_pay_at_the_hotel_and_do_not_arrive_get_no_refund() -> None:
    story = (OPENED, but(AT_HOTEL, sale=SALE), CONFIRMED_FREE)
    given(*story).when(NO_SHOW, at=CHECK_IN).then(but(DID_NOT_ARRIVE, policy=kept(120_00)))


def test_nobody_fails_to_arrive_twice() -> None:
    for at in (CHECK_IN, LAST_DAY):
        given(*MISSED).when(NO_SHOW, at=at).then(repeated(NO_SHOW, S.NO_SHOW))


def test_guests_who_arrived_are_no_no_show_and_a_no_show_does_not_arrive() -> None:
    given(*IN).when(NO_SHOW, at=LAST_DAY).then(refused(NO_SHOW, Refusal.WRONG_STATUS, S.CHECKED_IN))
    given(*MISSED).when(ARRIVE, at=LAST_DAY).then(refused(ARRIVE, Refusal.WRONG_STATUS, S.NO_SHOW))


# All other commands after that


STATES = pytest.mark.parametrize(
    ("story", "status"),
    [(IN, S.CHECKED_IN), (OUT, S.CHECKED_OUT), ((*IN, LEFT_EARLY), S.CHECKED_OUT), (MISSED, S.NO_SHOW)],
    ids=["checked in", "checked out", "left early", "no show"],
)


@STATES
def test_nobody_cancels_or_renames_a_stay_that_began_or_was_missed(
    story: tuple[Event, ...], status: BookingStatus
) -> None:
    another_session = but(RECORD_SESSION, session_id="cs_2")
    for command in (CANCEL, BY_HOTEL, CHANGE_GUESTS, but(ADD_GUESTS, guest_ids=(3,)), another_session, DECLINE):
        if command is BY_HOTEL and status is S.CHECKED_IN:
            continue
        for at in (CHECK_IN, CHECK_OUT):
            given(*story).when(command, at=at).then(refused(command, Refusal.WRONG_STATUS, status))


@pytest.mark.parametrize(
    ("at", "freed_from", "still_booked"),
    [
        (CHECK_IN - SECOND, None, [0, 0]),
        (SECOND_DAY - SECOND, None, [0, 0]),
        (SECOND_DAY, march(11), [1, 0]),
        (LAST_DAY, march(12), [1, 1]),
        (CHECK_OUT - SECOND, march(12), [1, 1]),
    ],
)
def test_a_hotel_cancels_the_stay_of_guests_who_have_arrived_and_everything_goes_back(
    at: datetime, freed_from: date | None, still_booked: list[int]
) -> None:
    cancelled = but(CANCELLED, reason=CancelReason.BY_HOTEL, freed_from=freed_from)
    for story in (BOUGHT, ON_TERMS):
        scenario = given(*story, ARRIVED).when(BY_HOTEL, at=at)
        scenario.then(cancelled, SENT_BACK).with_booking(ADAS, status=S.CANCELLED, freed_from=freed_from, policy=None)
        assert booked(scenario) == still_booked
        for command in (ARRIVE, LEAVE, NO_SHOW):
            scenario.when(command, at=at).then(refused(command, Refusal.WRONG_STATUS, S.CANCELLED))
        scenario.when(BY_HOTEL, at=at).then(repeated(BY_HOTEL, S.CANCELLED))


def test_a_hotel_cancels_the_stay_of_guests_who_pay_there_and_nothing_goes_back() -> None:
    given(OPENED, AT_HOTEL, CONFIRMED_FREE, ARRIVED).when(BY_HOTEL, at=CHECK_IN).then(
        but(CANCELLED, reason=CancelReason.BY_HOTEL)
    )


def test_not_even_the_hotel_cancels_the_stay_of_guests_who_have_arrived_after_check_out() -> None:
    for at in (CHECK_OUT, CHECK_OUT + YEARS):
        given(*IN).when(BY_HOTEL, at=at).then(refused(BY_HOTEL, Refusal.STAY_OVER, S.CHECKED_IN))


@STATES
def test_a_request_that_comes_again_changes_nothing(story: tuple[Event, ...], status: BookingStatus) -> None:
    for command in (RESERVE, ADD_GUESTS, REQUEST_PAYMENT, RECORD_SESSION, PAY, CLOSE, EXPIRE):
        given(*story).when(command, at=CHECK_OUT).then(repeated(command, status))


@STATES
def test_other_money_goes_back(story: tuple[Event, ...], status: BookingStatus) -> None:
    second = but(PAY, payment_intent="pi_2")
    given(*story).when(second, at=CHECK_OUT).then(
        but(SENT_BACK, payment_intent="pi_2", reason=RefundReason.SECOND_PAYMENT)
    ).with_booking(ADAS, status=status)
    wrong = but(second, amount_minor=1_00)
    given(*story).when(wrong, at=CHECK_OUT).then(
        but(SENT_BACK, payment_intent="pi_2", amount_minor=1_00, reason=RefundReason.WRONG_AMOUNT)
    )


@STATES
def test_a_person_sends_money_back_and_the_stay_stays_as_it_is(story: tuple[Event, ...], status: BookingStatus) -> None:
    for amount_minor in (50_00, 200_00):
        command = but(HAND_REFUND, amount_minor=amount_minor, cancel_if_full=True)
        given(*story).when(command, at=CHECK_IN).then(but(REFUNDED_BY_HAND, amount_minor=amount_minor)).with_booking(
            ADAS, status=status
        )


@STATES
def test_a_dispute_changes_the_money_alone(story: tuple[Event, ...], status: BookingStatus) -> None:
    given(*story).when(DISPUTE, at=CHECK_OUT).then(DISPUTED).when(DISPUTE_LOST).then(LOST).with_booking(
        ADAS, status=status
    )
    given(*story).when(RECORD_REFUND, at=CHECK_OUT).then(refused(RECORD_REFUND, Refusal.UNKNOWN_PAYMENT, status))
    given(*story).when(CLOSE_REFUND, at=CHECK_OUT).then(refused(CLOSE_REFUND, Refusal.NOTHING_DUE, status))


def test_a_lost_dispute_takes_what_a_policy_would_have_sent_back() -> None:
    lost = (but(DISPUTED, amount_minor=60_00), but(LOST, amount_minor=60_00))
    given(*ON_TERMS, *lost).when(NO_SHOW, at=CHECK_IN).then(
        but(DID_NOT_ARRIVE, policy=kept(120_00)),
        but(back(20_00, RefundReason.NO_SHOW, 120_00), total_minor=80_00),
    )
    more = (but(DISPUTED, amount_minor=80_00), but(LOST, amount_minor=80_00))
    given(*ON_TERMS, *more).when(NO_SHOW, at=CHECK_IN).then(but(DID_NOT_ARRIVE, policy=kept(120_00)))


def test_a_refund_by_policy_is_carried_out_and_may_fail() -> None:
    story = (*ON_TERMS, but(DID_NOT_ARRIVE, policy=kept(120_00)), back(80_00, RefundReason.NO_SHOW, 120_00))
    done = but(RECORD_REFUND, amount_minor=80_00)
    failed = but(FAIL_REFUND, amount_minor=80_00)
    scenario = given(*story).when(done, at=CHECK_OUT).then(but(REFUNDED, amount_minor=80_00)).when(failed)
    payment = scenario.bookings[ADAS].payments[0]
    assert (payment.refunded_minor, payment.due_minor, payment.retained_minor) == (0, 80_00, 120_00)


def test_late_money_buys_a_stay_whose_guests_then_arrive() -> None:
    given(*PAYABLE, EXPIRED).when(PAY, at=CHECK_IN).when(ARRIVE).then(ARRIVED)


# Bounds


@pytest.mark.parametrize(
    ("first", "end"),
    [(date.min, date.min + timedelta(days=1)), (date.max - timedelta(days=1), date.max)],
)
@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Etc/GMT+12", "America/Vancouver"])
@pytest.mark.parametrize("at", [CHECK_IN, datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)])
def test_the_first_and_last_days_of_the_calendar_are_decided(first: date, end: date, zone: str, at: datetime) -> None:
    times = StayTimes(time_zone=zone, check_in_time=datetime.min.time(), check_out_time=datetime.max.time())
    story = (
        but(OPENED, first_night=first, end_night=end),
        but(RESERVED, check_in=first, check_out=end, stay_times=times, night_amounts_minor=(200_00,)),
        PAID,
    )
    for command in (ARRIVE, NO_SHOW, CANCEL):
        assert given(*story).when(command, at=at).answer
    assert given(*story, ARRIVED).when(LEAVE, at=at).answer
