"""Changes to another room type: the commands that follow from each event, and whole moves to their ends."""

from datetime import datetime

import pytest

from tests.support.filled import filled
from tests.support.scenario import given
from tests.workers.coordination.carried import AFTER_DEADLINE, Hotel
from tests.workers.coordination.test_trips import CANCELLED_STATUS, CONFIRMED, HOUR, REJECTED, follows, numbered
from tests.workers.decisions.words import (
    ADD_GUESTS,
    CANCEL,
    CHANGE,
    EXPIRE,
    LIST,
    PAID,
    PAY,
    RECORD_REFUND,
    REQUEST_PAYMENT,
    RESERVE,
    ROOM,
    but,
)
from tests.workers.decisions.words_of_changes import (
    HELD_LONGER,
    IS_LONGER,
    LENGTHENED,
    PAY_MORE,
    WITHDRAW,
    ended,
)
from tests.workers.decisions.words_of_codes import CLAIM, GIVEN_BACK
from tests.workers.decisions.words_of_moves import (
    CONFIRM_LEG,
    HAS_MOVED,
    MOVE,
    MOVE_HELD,
    MOVE_OPENED,
    MOVED,
    RELEASE_LEG,
    RESERVE_LEG,
    move_ended,
    not_moved,
)
from tests.workers.decisions.words_of_sale import PART_UNTIL
from topics.messages.commands import Command, ReserveStay
from topics.messages.events import BookingExpired, ChangeOpened, CodeReturned, CommandRefused, RefundRequested
from topics.messages.sale import Party
from topics.messages.values import BookingStatus, CancelReason, ChangeEnd, Rejection


def test_an_open_move_asks_the_other_room_for_its_leg() -> None:
    opened = but(MOVE_OPENED, plan_id="saver", party=Party(adults=1), account_share_percent=50, accepted_terms="v1")
    asked = but(RESERVE_LEG, plan_id="saver", party=Party(adults=1), account_share_percent=50, accepted_terms="v1")
    assert follows(opened) == numbered(asked)


def test_the_other_room_gets_every_value_that_the_opened_move_has_for_it() -> None:
    opened = filled(ChangeOpened)
    ((_, command),) = follows(opened)
    names = {*ChangeOpened.__struct_fields__} & {*ReserveStay.__struct_fields__} - {"room_id", "booking_id"}
    assert names >= {"moved", "plan_id", "party", "stay_times", "account_share_percent", "accepted_terms"}
    assert {name: getattr(command, name) for name in names} == {name: getattr(opened, name) for name in names}


def test_a_move_that_ends_releases_the_leg_and_one_that_takes_place_confirms_it() -> None:
    assert follows(move_ended(ChangeEnd.EXPIRED)) == numbered(RELEASE_LEG)
    booking = given(*MOVED).bookings[HAS_MOVED.booking_id]
    assert follows(HAS_MOVED, booking) == numbered(CONFIRM_LEG)
    # It is carried before the booking is written.
    assert follows(HAS_MOVED) == ()


def test_other_changes_lead_to_nothing() -> None:
    booking = given(*LENGTHENED).bookings[IS_LONGER.booking_id]
    assert follows(IS_LONGER, booking) == ()
    for event in (ended(ChangeEnd.EXPIRED), HELD_LONGER, MOVE_HELD, not_moved(MOVE, Rejection.NO_ROOMS)):
        assert follows(event) == ()


def test_the_end_of_a_hold_that_is_carried_again_after_a_late_payment_and_a_move_releases_nothing() -> None:
    expired = BookingExpired(room_id=ROOM, booking_id=HAS_MOVED.booking_id)
    moved = given(*MOVED).bookings[HAS_MOVED.booking_id]
    assert follows(expired, moved) == ()
    confirmed = but(PAID, late=True)
    assert follows(confirmed, moved) == numbered(CONFIRM_LEG)


def moving(to_room_id: int = ROOM + 1, price_minor: int = 100_00, **changes: object) -> Hotel:
    """Return the hotel with Ada's paid stay, and the request that it moves to another room type."""
    hotel = Hotel().send(RESERVE, ADD_GUESTS, REQUEST_PAYMENT, but(PAY, attempt=1))
    dearer = but(CHANGE, room_id=to_room_id, price_minor=price_minor)
    return hotel.send(dearer, but(MOVE, to_room_id=to_room_id, **changes))


def moved_statuses(hotel: Hotel) -> tuple[BookingStatus | None, BookingStatus | None]:
    """Return the statuses of the booking and of its leg."""
    found = (hotel.rooms.bookings.get(MOVE.booking_id), hotel.rooms.bookings.get(MOVE.change_id))
    first, second = (None if booking is None else booking.status for booking in found)
    return first, second


def test_a_stay_moves_to_a_room_of_the_same_price_at_once_with_its_guests() -> None:
    hotel = moving()
    assert moved_statuses(hotel) == (CONFIRMED, CONFIRMED)
    assert hotel.rooms.bookings[MOVE.change_id].guest_list_id == LIST
    assert hotel.taken() == 2
    assert hotel.events(RefundRequested) == []
    assert not hotel.events(CommandRefused)


def test_a_stay_moves_to_a_dearer_room_once_the_difference_is_paid() -> None:
    hotel = moving(price_minor=150_00)
    assert moved_statuses(hotel) == (CONFIRMED, BookingStatus.RESERVED)
    assert hotel.taken() == 4
    hotel.send(PAY_MORE)
    assert moved_statuses(hotel) == (CONFIRMED, CONFIRMED)
    assert hotel.taken() == 2
    assert hotel.rooms.bookings[MOVE.booking_id].amount_minor == 300_00


@pytest.mark.parametrize(("end", "at"), [(EXPIRE, AFTER_DEADLINE), (WITHDRAW, None), (PAY_MORE, AFTER_DEADLINE)])
def test_a_move_that_is_not_paid_leaves_the_booking_as_it_was(end: Command, at: datetime | None) -> None:
    hotel = moving(price_minor=150_00).send(end, at=at)
    assert moved_statuses(hotel) == (CONFIRMED, CANCELLED_STATUS)
    assert hotel.rooms.bookings[MOVE.change_id].cancel_reason is CancelReason.TRIP_ENDED
    assert hotel.taken() == 2
    assert not hotel.events(CommandRefused)


def test_a_move_to_a_room_that_is_full_is_rejected_and_holds_nothing() -> None:
    hotel = moving(rooms_count=3)
    assert moved_statuses(hotel) == (CONFIRMED, REJECTED)
    assert hotel.taken() == 2
    assert not hotel.events(CommandRefused)


def test_a_stay_with_a_promo_code_that_moves_gives_its_use_back_also_if_it_is_cancelled_later() -> None:
    hotel = Hotel().send(but(CLAIM, reserve=RESERVE))
    paid_minor = hotel.rooms.bookings[MOVE.booking_id].amount_minor
    hotel.send(ADD_GUESTS, REQUEST_PAYMENT, but(PAY, attempt=1, amount_minor=paid_minor))
    assert hotel.events(CodeReturned) == []
    hotel.send(but(CHANGE, room_id=ROOM + 1, price_minor=paid_minor // 2), but(MOVE, to_room_id=ROOM + 1))
    assert moved_statuses(hotel) == (CONFIRMED, CONFIRMED)
    assert hotel.events(CodeReturned) == [GIVEN_BACK]
    hotel.send(but(CANCEL, user_id=None, reason=CancelReason.BY_HOTEL))
    assert moved_statuses(hotel) == (CANCELLED_STATUS, CANCELLED_STATUS)
    assert hotel.events(CodeReturned) == [GIVEN_BACK]


def test_a_refund_by_hand_before_a_move_is_not_credited_on_the_invoice_of_the_leg() -> None:
    """docs/invoices.md names this gap: a leg's documents are of its price, and its trip has the money."""
    hotel = Hotel().send(RESERVE, ADD_GUESTS, REQUEST_PAYMENT, but(PAY, attempt=1))
    hotel.send(but(RECORD_REFUND, refund_id="re_hand", amount_minor=50_00, by_hand=True))
    assert hotel.net_minor(MOVE.booking_id) == 150_00

    hotel.send(but(CHANGE, room_id=ROOM + 1, price_minor=80_00), but(MOVE, to_room_id=ROOM + 1))

    assert moved_statuses(hotel) == (CONFIRMED, CONFIRMED)
    (back,) = hotel.events(RefundRequested)
    assert hotel.net_minor(MOVE.booking_id) == 0
    assert hotel.net_minor(MOVE.change_id) == 160_00 == 200_00 - back.amount_minor
    assert sum(paid.kept_minor for paid in hotel.rooms.bookings[MOVE.booking_id].payments) == 110_00


def test_a_stay_that_moved_is_cancelled_with_its_leg() -> None:
    hotel = moving().send(CANCEL, at=PART_UNTIL - HOUR)
    assert moved_statuses(hotel) == (CANCELLED_STATUS, CANCELLED_STATUS)
    assert hotel.taken() == 0
    (back,) = hotel.events(RefundRequested)
    kept = hotel.rooms.bookings[MOVE.booking_id].policy
    assert kept is not None
    assert back.amount_minor == 200_00 - kept.kept_minor
