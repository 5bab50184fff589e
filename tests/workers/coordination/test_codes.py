"""Promo codes: the commands to room and code that follow from each event."""

import pytest
from msgspec.structs import replace

from tests.support.scenario import NOON, given
from tests.workers.decisions.words import (
    ADAS,
    CANCELLED,
    CONFIRMED_FREE,
    EXPIRED,
    GUESTS,
    OPENED,
    PAID,
    RESERVE,
    RESERVED,
    SENT_BACK,
    but,
    refused,
    rejected,
    repeated,
)
from tests.workers.decisions.words_of_codes import (
    CLAIM,
    DISCOUNT,
    DISCOUNTED,
    GIVE_BACK,
    SPRING,
    claimed,
    code_rejected,
)
from tests.workers.decisions.words_of_moves import HAS_MOVED
from tests.workers.decisions.words_of_sale import ARRIVING, FOR_SALE, ON_TERMS, SALE, policy
from topics.envelope import Envelope
from topics.messages.commands import Command
from topics.messages.events import Event
from topics.messages.values import BookingStatus, CancelReason, Refusal, Rejection
from workers.coordination.codes import WITH_BOOKING, commands_for
from workers.decisions import Booking

CLAIMED = claimed(CLAIM)
RESERVE_DISCOUNTED = ("e-1:0:reserve", but(RESERVE, discount=DISCOUNT))
RETURN = ("e-1:0:return", GIVE_BACK)


def envelope(event: Event) -> Envelope:
    """Return the envelope of the event e-1:0."""
    return Envelope(id="e-1:0", type=event.message_type, source="test", subject=event.subject, time=NOON)


def follows(event: Event, booking: Booking | None = None) -> tuple[tuple[str, Command], ...]:
    """Return the commands that follow from an event; a booking is named where one is read."""
    assert booking is None or isinstance(event, WITH_BOOKING)
    return commands_for(event, envelope(event), booking)


def booking_after(*events: Event) -> Booking:
    """Return the booking after these events."""
    return given(*FOR_SALE, *events).bookings[ADAS]


def test_a_granted_use_asks_the_room_for_the_stay_with_the_discount() -> None:
    assert follows(CLAIMED) == (RESERVE_DISCOUNTED,)


def test_a_refused_use_lets_the_room_reject_the_booking_for_that_reason() -> None:
    refused = code_rejected(CLAIM, Rejection.CODE_USED_UP)
    assert follows(refused) == (("e-1:0:reserve", but(RESERVE, code_rejection=Rejection.CODE_USED_UP)),)


def test_a_rejected_booking_gives_the_use_back_that_it_names() -> None:
    sold_out = rejected(RESERVE, Rejection.SOLD_OUT)
    assert follows(but(sold_out, code_id=SPRING)) == (RETURN,)
    assert follows(sold_out) == ()


def test_a_use_that_was_granted_to_a_booking_without_it_is_given_back() -> None:
    again = repeated(RESERVE, BookingStatus.REJECTED)
    assert follows(but(again, code_id=SPRING)) == (RETURN,)
    assert follows(again) == ()


def test_another_request_with_the_key_of_a_booking_gives_the_use_back_that_it_was_granted() -> None:
    another = refused(RESERVE, Refusal.ANOTHER_REQUEST, BookingStatus.RESERVED)
    assert follows(but(another, code_id=SPRING)) == (RETURN,)
    assert follows(another) == ()


def test_an_expired_booking_gives_its_use_back() -> None:
    assert follows(EXPIRED, booking_after(DISCOUNTED, EXPIRED)) == (RETURN,)
    assert follows(EXPIRED, booking_after(ON_TERMS, EXPIRED)) == ()
    assert follows(EXPIRED, booking_after(RESERVED, EXPIRED)) == ()
    assert follows(EXPIRED) == ()


def test_an_expired_booking_that_is_paid_late_gave_its_use_back_all_the_same() -> None:
    late = but(PAID, amount_minor=160_00, late=True)
    assert follows(EXPIRED, booking_after(DISCOUNTED, EXPIRED, late)) == (RETURN,)


@pytest.mark.parametrize("reason", [CancelReason.BY_GUEST, CancelReason.BY_HOTEL, CancelReason.PAYMENT_CLOSED])
def test_a_hold_that_is_cancelled_gives_its_use_back_also_when_money_arrives_afterwards(reason: CancelReason) -> None:
    event = but(CANCELLED, reason=reason)
    for later in ((), (but(SENT_BACK, amount_minor=160_00),)):
        assert follows(event, booking_after(DISCOUNTED, GUESTS, event, *later)) == (RETURN,)


@pytest.mark.parametrize("kept_minor", [0, 80_00])
def test_a_paid_booking_that_its_guest_cancels_keeps_its_use(kept_minor: int) -> None:
    event = but(CANCELLED, policy=policy(kept_minor))
    assert follows(event, booking_after(DISCOUNTED, but(PAID, amount_minor=160_00), event)) == ()


def test_a_paid_booking_that_is_refunded_by_hand_keeps_its_use_and_one_that_the_hotel_cancels_does_not() -> None:
    for reason, commands in ((CancelReason.REFUNDED_BY_HAND, ()), (CancelReason.BY_HOTEL, (RETURN,))):
        event = but(CANCELLED, reason=reason)
        assert follows(event, booking_after(DISCOUNTED, but(PAID, amount_minor=160_00), event)) == commands


def test_a_booking_to_be_paid_at_the_hotel_gives_its_use_back_when_it_is_cancelled() -> None:
    assert ARRIVING.sale is not None
    arriving = but(ARRIVING, sale=replace(ARRIVING.sale, discount=DISCOUNT))
    event = but(CANCELLED, policy=policy(0))
    assert follows(event, booking_after(arriving, CONFIRMED_FREE, event)) == (RETURN,)


def test_a_stay_that_moves_to_another_room_type_gives_its_use_back_as_its_leg_has_no_discount() -> None:
    before = booking_after(DISCOUNTED, but(PAID, amount_minor=160_00)).present_stay()
    moved = but(HAS_MOVED, before=before)
    assert follows(moved) == (RETURN,)
    assert follows(but(moved, before=replace(before, sale=SALE))) == ()
    assert follows(but(moved, before=replace(before, sale=None))) == ()
    # In the same room type the stay keeps its discount.
    assert follows(but(moved, to_room_id=None)) == ()
    # Its use came back with the move; the end of what it has become gives back none.
    event = but(CANCELLED, reason=CancelReason.BY_HOTEL)
    assert follows(event, booking_after(DISCOUNTED, but(PAID, amount_minor=160_00), moved, event)) == ()


@pytest.mark.parametrize("event", [OPENED, DISCOUNTED, PAID])
def test_other_events_lead_to_nothing(event: Event) -> None:
    assert follows(event) == ()
