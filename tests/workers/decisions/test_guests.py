"""Guests are named by the booking's own user, as often as they like until payment, and changed until check-in."""

from uuid import UUID

from tests.support.scenario import given
from tests.workers.decisions.words import (
    ADAS,
    ADD_GUESTS,
    ANOTHER_LIST,
    ANOTHER_ROOM,
    BEN,
    BOUGHT,
    CALLED_OFF,
    CHANGE_GUESTS,
    DEADLINE,
    GUESTS,
    HELD,
    LIST,
    NAMED,
    OPENED,
    OTHER_GUESTS,
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
from workers.decisions.state import MAX_EARLIER_GUEST_LISTS


def test_guests_are_named_for_a_held_stay() -> None:
    given(*HELD).when(ADD_GUESTS).then(GUESTS).with_booking(
        ADAS,
        status=BookingStatus.GUESTS_ADDED,
        guest_ids=(1, 2),
        guest_list_id=LIST,
        hold_expires_at=DEADLINE,
        version=2,
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


# The list of their names


def test_the_same_guests_under_other_names_have_another_list() -> None:
    renamed = but(ADD_GUESTS, guest_list_id=ANOTHER_LIST)
    given(*NAMED).when(renamed).then(but(GUESTS, guest_list_id=ANOTHER_LIST)).with_booking(
        ADAS, guest_ids=(1, 2), guest_list_id=ANOTHER_LIST
    ).when(renamed).then(repeated(renamed, BookingStatus.GUESTS_ADDED))


def test_once_payment_was_asked_for_the_names_stay() -> None:
    renamed = but(ADD_GUESTS, guest_list_id=ANOTHER_LIST)
    given(*WAITING).when(renamed).then(repeated(renamed, BookingStatus.PAYMENTS_PENDING)).with_booking(
        ADAS, guest_list_id=LIST
    )


def test_the_same_guests_from_a_writer_without_lists_keep_theirs() -> None:
    without = but(ADD_GUESTS, guest_list_id=None)
    given(*NAMED).when(without).then(repeated(without, BookingStatus.GUESTS_ADDED)).with_booking(
        ADAS, guest_list_id=LIST
    )


def test_a_repeated_request_does_not_undo_newer_guests() -> None:
    newer = but(ADD_GUESTS, guest_ids=(3,), guest_list_id=ANOTHER_LIST)
    scenario = given(*NAMED).when(newer).then(but(GUESTS, guest_ids=(3,), guest_list_id=ANOTHER_LIST))
    scenario.when(ADD_GUESTS).then(repeated(ADD_GUESTS, BookingStatus.GUESTS_ADDED)).with_booking(
        ADAS, guest_ids=(3,), guest_list_id=ANOTHER_LIST, earlier_guest_list_ids=(LIST,)
    )


def test_a_repeated_request_is_one_too_once_payment_was_asked_for() -> None:
    others = but(GUESTS, guest_ids=(3,), guest_list_id=ANOTHER_LIST)
    scenario = given(*NAMED, others, *WAITING[len(NAMED) :]).when(ADD_GUESTS)
    scenario.then(repeated(ADD_GUESTS, BookingStatus.PAYMENTS_PENDING)).with_booking(ADAS, guest_ids=(3,))


def test_the_same_list_again_is_no_earlier_one() -> None:
    others = but(ADD_GUESTS, guest_ids=(3,))
    given(*NAMED).when(others).then(but(GUESTS, guest_ids=(3,))).with_booking(ADAS, earlier_guest_list_ids=())


# Other guests after payment


def test_a_guest_who_paid_sends_somebody_else() -> None:
    given(*BOUGHT).when(CHANGE_GUESTS).then(OTHER_GUESTS).with_booking(
        ADAS, status=BookingStatus.CONFIRMED, guest_ids=(3,), guest_list_id=ANOTHER_LIST
    ).when(CHANGE_GUESTS).then(repeated(CHANGE_GUESTS, BookingStatus.CONFIRMED))


def test_a_repeated_change_does_not_undo_a_newer_one() -> None:
    newer = but(CHANGE_GUESTS, guest_ids=(1,), guest_list_id=UUID(int=103))
    scenario = given(*BOUGHT, OTHER_GUESTS).when(newer)
    scenario.then(but(OTHER_GUESTS, guest_ids=(1,), guest_list_id=UUID(int=103)))
    scenario.when(CHANGE_GUESTS).then(repeated(CHANGE_GUESTS, BookingStatus.CONFIRMED))
    scenario.when(ADD_GUESTS).then(repeated(ADD_GUESTS, BookingStatus.CONFIRMED)).with_booking(
        ADAS, guest_ids=(1,), guest_list_id=UUID(int=103), earlier_guest_list_ids=(LIST, ANOTHER_LIST)
    )


def test_a_booking_forgets_the_oldest_of_very_many_lists() -> None:
    lists = [UUID(int=1_000 + number) for number in range(MAX_EARLIER_GUEST_LISTS + 1)]
    changes = [but(OTHER_GUESTS, guest_list_id=each) for each in lists]
    oldest = but(CHANGE_GUESTS, guest_list_id=lists[0])
    scenario = given(*BOUGHT, *changes).when(oldest).then(repeated(oldest, BookingStatus.CONFIRMED))
    scenario.with_booking(ADAS, earlier_guest_list_ids=(*lists[:-1],))
    scenario.when(CHANGE_GUESTS).then(OTHER_GUESTS).when(oldest).then(but(OTHER_GUESTS, guest_list_id=lists[0]))


def test_the_same_people_under_other_names_are_other_guests() -> None:
    muddled = but(CHANGE_GUESTS, guest_ids=(2, 1, 2))
    given(*BOUGHT).when(muddled).then(but(OTHER_GUESTS, guest_ids=(1, 2)))


def test_a_change_must_name_somebody_who_stays() -> None:
    nobody = but(CHANGE_GUESTS, guest_ids=())
    given(*BOUGHT).when(nobody).then(refused(nobody, Refusal.NO_GUESTS, BookingStatus.CONFIRMED))


def test_before_payment_guests_are_named_and_after_the_stay_ended_nobody_is() -> None:
    for so_far, status in (
        (HELD, BookingStatus.RESERVED),
        (NAMED, BookingStatus.GUESTS_ADDED),
        (PAYABLE, BookingStatus.PAYMENTS_PENDING),
        (CALLED_OFF, BookingStatus.CANCELLED),
        (OVER, BookingStatus.EXPIRED),
    ):
        given(*so_far).when(CHANGE_GUESTS).then(refused(CHANGE_GUESTS, Refusal.WRONG_STATUS, status))


def test_a_stranger_changes_no_guests() -> None:
    stranger = but(CHANGE_GUESTS, user_id=BEN)
    given(*BOUGHT).when(stranger).then(refused(stranger, Refusal.NOT_YOUR_BOOKING, BookingStatus.CONFIRMED))
    given(OPENED).when(CHANGE_GUESTS).then(refused(CHANGE_GUESTS, Refusal.BOOKING_NOT_FOUND, None))
    stray = but(CHANGE_GUESTS, room_id=ANOTHER_ROOM)
    given(*BOUGHT).when(stray).then(refused(stray, Refusal.BOOKING_NOT_FOUND, None)).with_booking(
        ADAS, guest_ids=(1, 2)
    )
