"""Messages of the scenarios about trips; see `words`.

Ada's trip is for the nights of 10 and 11 March: one room of the first type, and two of another one. All of them cost
100.00 a night, so the legs cost 200.00 and 400.00.
"""

from uuid import UUID

from tests.workers.decisions.words import (
    ADA,
    ASKED,
    CANCELLED,
    DEADLINE,
    GUESTS,
    HOTEL,
    OPENED,
    PAID,
    PAY,
    RESERVE,
    RESERVED,
    ROOM,
    SENT_BACK,
    SESSION,
    TIMES,
    but,
    march,
)
from topics.messages.commands import (
    ConfirmLeg,
    RecordLeg,
    RecordLegEnd,
    ReleaseLeg,
    ReserveTrip,
)
from topics.messages.events import (
    BookingCancelled,
    LegEnded,
    LegHeld,
    RefundRequested,
    TripCancelRequested,
    TripOpened,
    TripRejected,
    TripReserved,
)
from topics.messages.sale import AppliedPolicy, LegRequest
from topics.messages.values import CancelReason, RefundReason, Rejection

SUITES = 8
TRIP, FIRST, SECOND = UUID(int=31), UUID(int=32), UUID(int=33)
LEGS = (
    LegRequest(booking_id=FIRST, room_id=ROOM),
    LegRequest(booking_id=SECOND, room_id=SUITES, rooms_count=2),
)

RESERVE_TRIP = ReserveTrip(
    room_id=ROOM,
    booking_id=TRIP,
    user_id=ADA,
    hotel_id=HOTEL,
    check_in=march(10),
    check_out=march(12),
    legs=LEGS,
    stay_times=TIMES,
)
RESERVE_FIRST = but(RESERVE, booking_id=FIRST, trip_id=TRIP, trip_room_id=ROOM)
RESERVE_SECOND = but(RESERVE_FIRST, booking_id=SECOND, room_id=SUITES, rooms_count=2)
FIRST_IS_HELD = RecordLeg(
    room_id=ROOM,
    booking_id=TRIP,
    leg_id=FIRST,
    amount_minor=200_00,
    currency="EUR",
    night_amounts_minor=(100_00, 100_00),
)
SECOND_IS_HELD = but(FIRST_IS_HELD, leg_id=SECOND, amount_minor=400_00, night_amounts_minor=(200_00, 200_00))
SECOND_IS_REFUSED = RecordLeg(room_id=ROOM, booking_id=TRIP, leg_id=SECOND, rejection=Rejection.SOLD_OUT)
CONFIRM_FIRST = ConfirmLeg(room_id=ROOM, booking_id=FIRST, guest_ids=(1, 2), guest_list_id=UUID(int=101))
RELEASE_FIRST = ReleaseLeg(room_id=ROOM, booking_id=FIRST)
FIRST_ENDS = RecordLegEnd(
    room_id=ROOM,
    booking_id=TRIP,
    leg_id=FIRST,
    kept_minor=50_00,
    reason=RefundReason.BOOKING_CANCELLED,
    cancel_reason=CancelReason.BY_GUEST,
)
SECOND_ENDS = but(FIRST_ENDS, leg_id=SECOND, kept_minor=150_00)
NOBODY_CAME = but(SECOND_ENDS, reason=RefundReason.NO_SHOW, cancel_reason=None)
PAY_TRIP = but(PAY, booking_id=TRIP, amount_minor=600_00)

TRIP_OPENED = TripOpened(
    room_id=ROOM,
    booking_id=TRIP,
    user_id=ADA,
    hotel_id=HOTEL,
    check_in=march(10),
    check_out=march(12),
    legs=LEGS,
    hold_expires_at=DEADLINE,
    stay_times=TIMES,
)
FIRST_RESERVED = but(RESERVED, booking_id=FIRST, hold_expires_at=None, trip_id=TRIP, trip_room_id=ROOM)
SECOND_RESERVED = but(
    FIRST_RESERVED,
    booking_id=SECOND,
    room_id=SUITES,
    rooms_count=2,
    amount_minor=400_00,
    night_amounts_minor=(200_00, 200_00),
)
FIRST_HELD = LegHeld(
    room_id=ROOM,
    booking_id=TRIP,
    leg_id=FIRST,
    amount_minor=200_00,
    currency="EUR",
    night_amounts_minor=(100_00, 100_00),
)
SECOND_HELD = but(FIRST_HELD, leg_id=SECOND, amount_minor=400_00, night_amounts_minor=(200_00, 200_00))
TRIP_RESERVED = TripReserved(
    room_id=ROOM, booking_id=TRIP, amount_minor=600_00, currency="EUR", night_amounts_minor=(300_00, 300_00)
)
TRIP_REJECTED = TripRejected(
    room_id=ROOM,
    booking_id=TRIP,
    user_id=ADA,
    hotel_id=HOTEL,
    check_in=march(10),
    check_out=march(12),
    legs=(),
    reason=Rejection.SOLD_OUT,
    leg_id=SECOND,
)
TRIP_CANCELLED = but(CANCELLED, booking_id=TRIP)
TRIP_GUESTS = but(GUESTS, booking_id=TRIP)
TRIP_ASKED = but(ASKED, booking_id=TRIP, amount_minor=600_00)
TRIP_PAID = but(PAID, booking_id=TRIP, amount_minor=600_00)
CANCEL_ASKED = TripCancelRequested(room_id=ROOM, booking_id=TRIP, user_id=ADA, reason=CancelReason.BY_GUEST)
FIRST_ENDED = LegEnded(
    room_id=ROOM,
    booking_id=TRIP,
    leg_id=FIRST,
    kept_minor=50_00,
    reason=RefundReason.BOOKING_CANCELLED,
    cancel_reason=CancelReason.BY_GUEST,
)
SECOND_ENDED = but(FIRST_ENDED, leg_id=SECOND, kept_minor=150_00)
RELEASED_LEG = but(CANCELLED, booking_id=FIRST, reason=CancelReason.TRIP_ENDED)
FIRST_SOLD = but(PAID, booking_id=FIRST, session_id=None, payment_intent=None)

# How far a trip, and its first leg, may have come.

BOTH_OPEN = (OPENED, but(OPENED, room_id=SUITES))
TRIP_ASKED_FOR = (*BOTH_OPEN, TRIP_OPENED)
TRIP_HELD = (*TRIP_ASKED_FOR, FIRST_HELD, SECOND_HELD, TRIP_RESERVED)
TRIP_PAYABLE = (*TRIP_HELD, TRIP_GUESTS, TRIP_ASKED, but(SESSION, booking_id=TRIP))
TRIP_BOUGHT = (*TRIP_PAYABLE, TRIP_PAID)
LEG_HELD = (*BOTH_OPEN, FIRST_RESERVED)
LEG_SOLD = (*LEG_HELD, but(GUESTS, booking_id=FIRST), FIRST_SOLD)


def part_back(amount_minor: int, total_minor: int | None = None, **changes: object) -> RefundRequested:
    """Return the event that sends a part of the trip's payment back."""
    return but(SENT_BACK, booking_id=TRIP, amount_minor=amount_minor, total_minor=total_minor, **changes)


def trip_over(kept_minor: int, reason: CancelReason = CancelReason.BY_GUEST) -> BookingCancelled:
    """Return the end of a trip all of whose legs are cancelled."""
    return but(TRIP_CANCELLED, reason=reason, policy=AppliedPolicy(kept_minor=kept_minor))
