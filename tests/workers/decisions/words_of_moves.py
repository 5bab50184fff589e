"""Messages of the scenarios about changes to another room type; see `words`, `words_of_changes`.

Ada has paid 200.00 for the nights of 10 and 11 March. `MOVE` asks for the same nights in a suite, which cost 150.00
each: 100.00 more. `MOVE_DOWN` asks for those in a single room, at 80.00: 40.00 less.
"""

from uuid import UUID

from tests.workers.decisions.words import (
    ADA,
    ADAS,
    BOUGHT,
    CANCELLED,
    GUESTS,
    HOTEL,
    LIST,
    OPENED,
    PAID,
    RESERVE,
    RESERVED,
    ROOM,
    TIMES,
    but,
    march,
)
from tests.workers.decisions.words_of_changes import (
    ASKED_MORE,
    BEFORE,
    CHANGE_DEADLINE,
    FIRST_CHANGE,
    HELD_LONGER,
    IS_LONGER,
    LONGER,
    PART_BACK,
    SECOND_SESSION,
)
from topics.messages.commands import ChangeStay, ConfirmLeg, RecordLeg, RecordLegEnd, ReleaseLeg
from topics.messages.events import ChangeEnded, ChangeOpened, ChangeRejected, LegEnded
from topics.messages.sale import Moved
from topics.messages.values import CancelReason, ChangeEnd, RefundReason, Rejection

SUITES, SINGLES = 8, 9
#: The change's id is that of the leg.
LEG = FIRST_CHANGE
ANOTHER_LEG = UUID(int=202)

MOVE = but(LONGER, check_out=march(12), to_room_id=SUITES)
MOVE_DOWN = but(MOVE, to_room_id=SINGLES)
RESERVE_LEG = but(
    RESERVE,
    room_id=SUITES,
    booking_id=LEG,
    moved=Moved(amount_minor=200_00),
    trip_id=ADAS,
    trip_room_id=ROOM,
)
SUITE_IS_HELD = RecordLeg(
    room_id=ROOM,
    booking_id=ADAS,
    leg_id=LEG,
    amount_minor=300_00,
    currency="EUR",
    night_amounts_minor=(150_00, 150_00),
)
SINGLE_IS_HELD = but(SUITE_IS_HELD, amount_minor=160_00, night_amounts_minor=(80_00, 80_00))
SUITE_IS_REFUSED = RecordLeg(room_id=ROOM, booking_id=ADAS, leg_id=LEG, rejection=Rejection.SOLD_OUT)
CONFIRM_LEG = ConfirmLeg(room_id=SUITES, booking_id=LEG, guest_ids=(1, 2), guest_list_id=LIST)
RELEASE_LEG = ReleaseLeg(room_id=SUITES, booking_id=LEG)
LEG_ENDS = RecordLegEnd(
    room_id=ROOM,
    booking_id=ADAS,
    leg_id=LEG,
    kept_minor=50_00,
    reason=RefundReason.BOOKING_CANCELLED,
    cancel_reason=CancelReason.BY_GUEST,
)

MOVE_OPENED = ChangeOpened(
    room_id=ROOM,
    booking_id=ADAS,
    change_id=LEG,
    to_room_id=SUITES,
    user_id=ADA,
    hotel_id=HOTEL,
    check_in=march(10),
    check_out=march(12),
    rooms_count=1,
    hold_expires_at=CHANGE_DEADLINE,
    moved=Moved(amount_minor=200_00),
    stay_times=TIMES,
)
DOWN_OPENED = but(MOVE_OPENED, to_room_id=SINGLES)
LEG_RESERVED = but(
    RESERVED,
    room_id=SUITES,
    booking_id=LEG,
    amount_minor=300_00,
    night_amounts_minor=(150_00, 150_00),
    hold_expires_at=None,
    moved=Moved(amount_minor=200_00),
    trip_id=ADAS,
    trip_room_id=ROOM,
)
MOVE_HELD = but(
    HELD_LONGER,
    check_out=march(12),
    night_amounts_minor=(150_00, 150_00),
    held=(),
    to_room_id=SUITES,
)
HAS_MOVED = but(
    IS_LONGER,
    check_out=march(12),
    night_amounts_minor=(150_00, 150_00),
    before=BEFORE,
    held=(),
    to_room_id=SUITES,
)
HAS_MOVED_DOWN = but(
    HAS_MOVED,
    amount_minor=160_00,
    night_amounts_minor=(80_00, 80_00),
    extra_minor=0,
    session_id=None,
    payment_intent=None,
    to_room_id=SINGLES,
)
DOWN_BACK = but(PART_BACK, amount_minor=40_00)
LEG_RELEASED = but(CANCELLED, room_id=SUITES, booking_id=LEG, reason=CancelReason.TRIP_ENDED)
LEG_GUESTS = but(GUESTS, room_id=SUITES, booking_id=LEG)
LEG_SOLD = but(PAID, room_id=SUITES, booking_id=LEG, amount_minor=300_00, session_id=None, payment_intent=None)
LEG_ENDED = LegEnded(
    room_id=ROOM,
    booking_id=ADAS,
    leg_id=LEG,
    kept_minor=50_00,
    reason=RefundReason.BOOKING_CANCELLED,
    cancel_reason=CancelReason.BY_GUEST,
)

# How far the change may have come, in Ada's room and in that of the leg.

ALL_OPEN = (
    but(OPENED, room_id=SUITES, price_minor=150_00),
    but(OPENED, room_id=SINGLES, price_minor=80_00),
    *BOUGHT,
)
OPEN_MOVE = (*ALL_OPEN, MOVE_OPENED)
HELD_MOVE = (*OPEN_MOVE, LEG_RESERVED, MOVE_HELD, ASKED_MORE)
PAYABLE_MOVE = (*HELD_MOVE, SECOND_SESSION)
MOVED = (*PAYABLE_MOVE, HAS_MOVED)
MOVED_DOWN = (*ALL_OPEN, DOWN_OPENED, HAS_MOVED_DOWN, DOWN_BACK)


def move_ended(reason: ChangeEnd, change_id: UUID = LEG, to_room_id: int = SUITES) -> ChangeEnded:
    """Return the event of the change that does not take place."""
    return ChangeEnded(room_id=ROOM, booking_id=ADAS, change_id=change_id, reason=reason, to_room_id=to_room_id)


def not_moved(command: ChangeStay, reason: Rejection) -> ChangeRejected:
    """Return the answer that no room can have the stay in place of the booking's, or that the other refused it."""
    return ChangeRejected(
        room_id=ROOM,
        booking_id=ADAS,
        change_id=command.change_id,
        check_in=command.check_in,
        check_out=command.check_out,
        rooms_count=command.rooms_count,
        reason=reason,
    )
