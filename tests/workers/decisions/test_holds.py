"""Holds end by the log's time, to the millisecond, with whichever command comes first afterwards."""

from datetime import datetime
from uuid import UUID

import pytest

from tests.support.scenario import NOON, given
from tests.workers.decisions.words import (
    ADAS,
    ADD_GUESTS,
    ANOTHER_ROOM,
    BEN_RESERVED,
    BEN_RESERVES,
    BENS,
    BOUGHT,
    CALLED_OFF,
    CANCEL,
    CHANGE_GUESTS,
    CLOSE,
    CLOSE_REFUND,
    CONFIRMED_FREE,
    DEADLINE,
    DECLINE,
    DISPUTE,
    EXPIRE,
    EXPIRED,
    FAIL_REFUND,
    HELD,
    LATER,
    MILLISECOND,
    NAMED,
    OPENED,
    OVER,
    PAID,
    PAY,
    PAYABLE,
    RECORD_REFUND,
    RECORD_SESSION,
    REQUEST_PAYMENT,
    RESERVE,
    RESERVED,
    ROOM,
    WAITING,
    after_minutes,
    but,
    march,
    refused,
    rejected,
    repeated,
)
from tests.workers.decisions.words_at_hotel import ARRIVE, LEAVE, NO_SHOW
from tests.workers.decisions.words_of_changes import LONGER, WITHDRAW
from tests.workers.decisions.words_of_trips import (
    CONFIRM_FIRST,
    FIRST_ENDS,
    FIRST_IS_HELD,
    RELEASE_FIRST,
    RESERVE_TRIP,
)
from topics.messages.commands import BookingCommand
from topics.messages.events import Event
from topics.messages.values import BookingStatus, Refusal, Rejection, Terms

LAST_ROOM = but(OPENED, total_count=1)


def test_a_hold_ends_exactly_at_its_deadline() -> None:
    given(*HELD).when(EXPIRE, at=DEADLINE).then(EXPIRED).with_booking(
        ADAS, status=BookingStatus.EXPIRED, hold_expires_at=None
    )


def test_a_hold_lasts_until_a_millisecond_before_its_deadline_and_the_timer_leaves_nothing_behind() -> None:
    given(*HELD).when(EXPIRE, at=DEADLINE - MILLISECOND).then().with_booking(
        ADAS, status=BookingStatus.RESERVED, hold_expires_at=DEADLINE, version=1
    ).when(EXPIRE, at=DEADLINE + MILLISECOND).then(EXPIRED)


def test_a_hold_ends_after_its_deadline_however_late_the_timer_is() -> None:
    given(*HELD).when(EXPIRE, at=after_minutes(600)).then(EXPIRED)


@pytest.mark.parametrize("so_far", [HELD, NAMED, WAITING, PAYABLE], ids=["held", "named", "waiting", "payable"])
def test_time_ends_every_unpaid_stay_and_gives_its_nights_back(so_far: tuple[Event, ...]) -> None:
    scenario = given(*so_far).with_night(ROOM, march(10), reserved_count=1)
    scenario.when(EXPIRE, at=DEADLINE).then(EXPIRED)
    scenario.with_night(ROOM, march(10), reserved_count=0, booked_count=0)
    scenario.with_night(ROOM, march(11), reserved_count=0, booked_count=0)


def test_time_ends_a_hold_before_and_after_its_guests_are_named() -> None:
    for so_far in (HELD, NAMED, WAITING):
        given(*so_far).when(EXPIRE, at=DEADLINE).then(EXPIRED)


def test_a_stay_that_was_paid_does_not_expire() -> None:
    given(*BOUGHT).when(EXPIRE, at=LATER).then(repeated(EXPIRE, BookingStatus.CONFIRMED))


def test_a_stay_paid_at_the_hotel_does_not_expire() -> None:
    reserved = but(RESERVED, terms=Terms.AT_HOTEL, hold_expires_at=None)
    given(OPENED, reserved, CONFIRMED_FREE).when(EXPIRE, at=LATER).then(repeated(EXPIRE, BookingStatus.CONFIRMED))


def test_a_hold_ends_once_however_many_timers_end_it() -> None:
    given(*OVER).when(EXPIRE, at=LATER).then(repeated(EXPIRE, BookingStatus.EXPIRED)).with_night(
        ROOM, march(10), reserved_count=0
    )


def test_a_stay_that_was_called_off_does_not_expire() -> None:
    given(*CALLED_OFF).when(EXPIRE, at=LATER).then(repeated(EXPIRE, BookingStatus.CANCELLED))


def test_a_timer_that_names_no_booking_is_refused() -> None:
    given(OPENED).when(EXPIRE, at=LATER).then(refused(EXPIRE, Refusal.BOOKING_NOT_FOUND, None))


def test_a_timer_of_another_room_ends_no_hold() -> None:
    command = but(EXPIRE, room_id=ANOTHER_ROOM)
    given(*HELD).when(command, at=LATER).then(refused(command, Refusal.BOOKING_NOT_FOUND, None)).with_booking(
        ADAS, status=BookingStatus.RESERVED
    )


def test_the_next_guest_gets_the_nights_only_when_the_end_of_the_hold_was_decided() -> None:
    another_try = but(BEN_RESERVES, booking_id=UUID(int=3))
    given(LAST_ROOM, RESERVED).when(BEN_RESERVES, at=LATER).then(rejected(BEN_RESERVES, Rejection.SOLD_OUT)).when(
        EXPIRE
    ).then(EXPIRED).when(another_try).then(
        but(BEN_RESERVED, booking_id=another_try.booking_id, hold_expires_at=LATER + (DEADLINE - NOON))
    )


#: Commands about trips and legs, which name Ada's stay: it is neither.
ADAS_TRIP = but(RESERVE_TRIP, booking_id=ADAS)
OF_NO_TRIP: list[BookingCommand] = [
    but(command, room_id=ROOM, booking_id=ADAS) for command in (FIRST_IS_HELD, CONFIRM_FIRST, RELEASE_FIRST, FIRST_ENDS)
]
AFTER_THE_DEADLINE: list[tuple[BookingCommand, Event]] = [
    (RESERVE, repeated(RESERVE, BookingStatus.EXPIRED)),
    (ADD_GUESTS, refused(ADD_GUESTS, Refusal.HOLD_EXPIRED, BookingStatus.EXPIRED)),
    (REQUEST_PAYMENT, refused(REQUEST_PAYMENT, Refusal.HOLD_EXPIRED, BookingStatus.EXPIRED)),
    (RECORD_SESSION, refused(RECORD_SESSION, Refusal.WRONG_STATUS, BookingStatus.EXPIRED)),
    (PAY, but(PAID, late=True)),
    (DECLINE, refused(DECLINE, Refusal.WRONG_STATUS, BookingStatus.EXPIRED)),
    (CLOSE, repeated(CLOSE, BookingStatus.EXPIRED)),
    (CANCEL, refused(CANCEL, Refusal.HOLD_EXPIRED, BookingStatus.EXPIRED)),
    (RECORD_REFUND, refused(RECORD_REFUND, Refusal.UNKNOWN_PAYMENT, BookingStatus.EXPIRED)),
    (CHANGE_GUESTS, refused(CHANGE_GUESTS, Refusal.WRONG_STATUS, BookingStatus.EXPIRED)),
    (FAIL_REFUND, refused(FAIL_REFUND, Refusal.UNKNOWN_PAYMENT, BookingStatus.EXPIRED)),
    (CLOSE_REFUND, refused(CLOSE_REFUND, Refusal.UNKNOWN_PAYMENT, BookingStatus.EXPIRED)),
    (DISPUTE, refused(DISPUTE, Refusal.UNKNOWN_PAYMENT, BookingStatus.EXPIRED)),
    *((late, refused(late, Refusal.WRONG_STATUS, BookingStatus.EXPIRED)) for late in (ARRIVE, LEAVE, NO_SHOW)),
    (LONGER, refused(LONGER, Refusal.WRONG_STATUS, BookingStatus.EXPIRED)),
    (WITHDRAW, refused(WITHDRAW, Refusal.NO_SUCH_CHANGE, BookingStatus.EXPIRED)),
    (ADAS_TRIP, repeated(ADAS_TRIP, BookingStatus.EXPIRED)),
    *((of_trip, refused(of_trip, Refusal.NO_SUCH_LEG, BookingStatus.EXPIRED)) for of_trip in OF_NO_TRIP),
]


def test_every_command_but_the_timers_own_has_a_test_of_the_deadline() -> None:
    asked = {type(command) for command, _ in AFTER_THE_DEADLINE}
    assert asked == {*BookingCommand.__subclasses__()} - {type(EXPIRE)}


@pytest.mark.parametrize(("command", "answer"), AFTER_THE_DEADLINE, ids=lambda value: value.message_type)
@pytest.mark.parametrize("at", [DEADLINE, DEADLINE + MILLISECOND], ids=["at", "after"])
def test_a_command_about_an_overdue_stay_ends_its_hold_first(
    command: BookingCommand, answer: Event, at: datetime
) -> None:
    given(*WAITING).when(command, at=at).then(EXPIRED, answer)


@pytest.mark.parametrize(("command", "_answer"), AFTER_THE_DEADLINE, ids=lambda value: value.message_type)
def test_nobody_ends_a_hold_a_millisecond_too_early(command: BookingCommand, _answer: Event) -> None:
    assert EXPIRED not in given(*WAITING).when(command, at=DEADLINE - MILLISECOND).answer


@pytest.mark.parametrize(("command", "_answer"), AFTER_THE_DEADLINE, ids=lambda value: value.message_type)
def test_an_ended_hold_does_not_end_again(command: BookingCommand, _answer: Event) -> None:
    assert EXPIRED not in given(*WAITING, EXPIRED).when(command, at=LATER).answer


@pytest.mark.parametrize(("command", "_answer"), AFTER_THE_DEADLINE, ids=lambda value: value.message_type)
def test_another_room_never_ends_the_hold(command: BookingCommand, _answer: Event) -> None:
    stray = but(command, room_id=ANOTHER_ROOM)
    scenario = given(*WAITING).when(stray, at=LATER)
    assert EXPIRED not in scenario.answer
    scenario.with_booking(ADAS, status=BookingStatus.PAYMENTS_PENDING, version=3, payments=())
    scenario.with_night(ROOM, march(10), reserved_count=1)


def test_a_stranger_who_names_an_overdue_stay_learns_no_more_than_before() -> None:
    stranger = but(CANCEL, user_id=99)
    given(*HELD).when(stranger, at=LATER).then(
        EXPIRED, refused(stranger, Refusal.NOT_YOUR_BOOKING, BookingStatus.EXPIRED)
    )


def test_an_overdue_stay_of_another_guest_is_left_to_those_who_name_it() -> None:
    given(*HELD).when(BEN_RESERVES, at=LATER).then(
        but(BEN_RESERVED, hold_expires_at=LATER + (DEADLINE - NOON))
    ).with_booking(ADAS, status=BookingStatus.RESERVED).with_booking(BENS, status=BookingStatus.RESERVED)
