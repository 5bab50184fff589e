"""Transitions of a booking: the table is the design's, nothing else can happen, and the page shows the table."""

import pytest

from tests.support.scenario import Scenario, given
from tests.workers.decisions.words import (
    ASKED,
    CANCELLED,
    EXPIRED,
    GUESTS,
    OPENED,
    OTHER_GUESTS,
    PAID,
    RESERVE,
    RESERVED,
    SENT_BACK,
    but,
    rejected,
)
from tests.workers.decisions.words_at_hotel import ARRIVED, DID_NOT_ARRIVE, LEFT
from tests.workers.decisions.words_of_changes import HELD_LONGER, IS_LONGER, ended
from tests.workers.decisions.words_of_moves import MOVE_OPENED
from tests.workers.decisions.words_of_trips import (
    CANCEL_ASKED,
    FIRST_ENDED,
    FIRST_HELD,
    TRIP_OPENED,
    TRIP_REJECTED,
    TRIP_RESERVED,
)
from topics.messages.events import EVENTS, BookingEvent
from topics.messages.values import BookingStatus, ChangeEnd, Rejection
from workers.decisions.states import NO_TRANSITION, TRANSITIONS, IllegalTransition, states_page

S = BookingStatus
REJECTED = rejected(RESERVE, Rejection.SOLD_OUT)

#: Events of trips, about Ada's booking.
TRIP = but(TRIP_OPENED, booking_id=RESERVED.booking_id)
NO_TRIP = but(TRIP_REJECTED, booking_id=RESERVED.booking_id)

#: How a booking comes to each status.
WAYS: dict[BookingStatus, tuple[BookingEvent, ...]] = {
    S.PENDING: (),
    S.REJECTED: (REJECTED,),
    S.RESERVING: (TRIP,),
    S.RESERVED: (RESERVED,),
    S.GUESTS_ADDED: (RESERVED, GUESTS),
    S.PAYMENTS_PENDING: (RESERVED, GUESTS, ASKED),
    S.CONFIRMED: (RESERVED, PAID),
    S.CANCELLED: (RESERVED, CANCELLED),
    S.EXPIRED: (RESERVED, EXPIRED),
    S.CHECKED_IN: (RESERVED, PAID, ARRIVED),
    S.CHECKED_OUT: (RESERVED, PAID, ARRIVED, LEFT),
    S.NO_SHOW: (RESERVED, PAID, DID_NOT_ARRIVE),
}
UNPAID = {S.RESERVED, S.GUESTS_ADDED, S.PAYMENTS_PENDING}
#: From the design, by hand: the statuses in which each event may happen.
MAY: dict[BookingEvent, set[BookingStatus]] = {
    RESERVED: {S.PENDING},
    REJECTED: {S.PENDING},
    GUESTS: {S.RESERVED, S.GUESTS_ADDED},
    OTHER_GUESTS: {S.CONFIRMED},
    ASKED: {S.GUESTS_ADDED, S.PAYMENTS_PENDING, S.CONFIRMED},
    MOVE_OPENED: {S.CONFIRMED},
    HELD_LONGER: {S.CONFIRMED},
    ended(ChangeEnd.EXPIRED): {S.CONFIRMED},
    IS_LONGER: {S.CONFIRMED},
    PAID: UNPAID | {S.EXPIRED},
    CANCELLED: UNPAID | {S.RESERVING, S.CONFIRMED, S.CHECKED_IN},
    EXPIRED: UNPAID | {S.RESERVING},
    ARRIVED: {S.CONFIRMED},
    LEFT: {S.CHECKED_IN},
    DID_NOT_ARRIVE: {S.CONFIRMED},
    TRIP: {S.PENDING},
    NO_TRIP: {S.PENDING, S.RESERVING},
    but(FIRST_HELD, booking_id=RESERVED.booking_id): {S.RESERVING},
    but(TRIP_RESERVED, booking_id=RESERVED.booking_id): {S.RESERVING},
    but(CANCEL_ASKED, booking_id=RESERVED.booking_id): {S.CONFIRMED},
    but(FIRST_ENDED, booking_id=RESERVED.booking_id): {S.CONFIRMED},
}


def come_to(status: BookingStatus) -> Scenario:
    return given(OPENED, *WAYS[status])


def test_the_table_and_the_events_without_a_transition_are_all_events_about_bookings() -> None:
    about_bookings = {event for event in EVENTS if issubclass(event, BookingEvent)}
    assert TRANSITIONS.keys() | NO_TRANSITION == about_bookings
    assert not TRANSITIONS.keys() & NO_TRANSITION
    assert {type(event) for event in MAY} == TRANSITIONS.keys()


@pytest.mark.parametrize("status", S)
def test_only_what_the_design_allows_happens_to_a_booking(status: BookingStatus) -> None:
    for event, allowed in MAY.items():
        scenario = come_to(status)
        if status in allowed:
            scenario.happen(event)
        elif status is not S.PENDING:
            with pytest.raises(IllegalTransition, match=f"{event.message_type} in status {status}"):
                scenario.happen(event)


@pytest.mark.parametrize("status", sorted(set(S) - {S.PENDING}))
def test_every_way_comes_to_its_status(status: BookingStatus) -> None:
    assert come_to(status).bookings[RESERVED.booking_id].status is status


@pytest.mark.parametrize("status", sorted(set(S) - {S.PENDING}))
def test_a_refund_changes_no_status(status: BookingStatus) -> None:
    scenario = come_to(status)
    scenario.happen(but(SENT_BACK, payment_intent="pi_9"))
    assert scenario.bookings[RESERVED.booking_id].status is status


def test_every_transition_is_on_the_page_twice_as_a_line_and_as_an_arrow() -> None:
    for event, row in TRANSITIONS.items():
        for before, after in row.items():
            assert f"| `{event.message_type}` | {before} | {after} |" in states_page()
            assert f"{before} --> {after}: {event.message_type.removesuffix('.v1')}" in states_page()
