"""Messages of the scenarios about changes of a stay; see `words`, `words_of_sale`.

Ada has paid 200.00 for the nights of 10 and 11 March. `LONGER` asks for that of the 12th as well, which costs 100.00
more, and `SHORTER` gives up that of the 11th.
"""

from datetime import timedelta
from uuid import UUID

from tests.support.scenario import NOON
from tests.workers.decisions.words import ADA, ADAS, ASKED, BOUGHT, PAY, ROOM, SENT_BACK, but, march
from topics.messages.commands import ChangeStay, RecordSession, WithdrawChange
from topics.messages.events import (
    ChangeEnded,
    ChangeHeld,
    ChangeRejected,
    CheckoutOpened,
    RoomsHeld,
    StayBefore,
    StayChanged,
)
from topics.messages.sale import QuotedChange
from topics.messages.values import ChangeEnd, RefundReason, Rejection, Terms

FIRST_CHANGE, ANOTHER_CHANGE = UUID(int=201), UUID(int=202)
CHANGE_DEADLINE = NOON + timedelta(minutes=15)

LONGER = ChangeStay(
    room_id=ROOM,
    booking_id=ADAS,
    change_id=FIRST_CHANGE,
    user_id=ADA,
    check_in=march(10),
    check_out=march(13),
    rooms_count=1,
)
SHORTER = but(LONGER, check_out=march(11))
WITHDRAW = WithdrawChange(room_id=ROOM, booking_id=ADAS, change_id=FIRST_CHANGE, user_id=ADA)

BEFORE = StayBefore(
    check_in=march(10),
    check_out=march(12),
    rooms_count=1,
    amount_minor=200_00,
    night_amounts_minor=(100_00, 100_00),
)
THIRD_NIGHT = (RoomsHeld(first_night=march(12), end_night=march(13), rooms_count=1),)
HELD_LONGER = ChangeHeld(
    room_id=ROOM,
    booking_id=ADAS,
    change_id=FIRST_CHANGE,
    check_in=march(10),
    check_out=march(13),
    rooms_count=1,
    amount_minor=300_00,
    extra_minor=100_00,
    currency="EUR",
    hold_expires_at=CHANGE_DEADLINE,
    night_amounts_minor=(100_00, 100_00, 100_00),
    held=THIRD_NIGHT,
)
ASKED_MORE = but(ASKED, attempt=2, amount_minor=100_00)
RECORD_SECOND = RecordSession(room_id=ROOM, booking_id=ADAS, attempt=2, session_id="cs_2")
SECOND_SESSION = CheckoutOpened(room_id=ROOM, booking_id=ADAS, attempt=2, session_id="cs_2")
PAY_MORE = but(PAY, session_id="cs_2", payment_intent="pi_2", amount_minor=100_00, attempt=2)
IS_LONGER = StayChanged(
    room_id=ROOM,
    booking_id=ADAS,
    change_id=FIRST_CHANGE,
    check_in=march(10),
    check_out=march(13),
    rooms_count=1,
    amount_minor=300_00,
    currency="EUR",
    night_amounts_minor=(100_00, 100_00, 100_00),
    before=BEFORE,
    held=THIRD_NIGHT,
    extra_minor=100_00,
    session_id="cs_2",
    payment_intent="pi_2",
)
IS_SHORTER = but(
    IS_LONGER,
    check_out=march(11),
    amount_minor=100_00,
    night_amounts_minor=(100_00,),
    held=(),
    extra_minor=0,
    session_id=None,
    payment_intent=None,
)
PART_BACK = but(SENT_BACK, amount_minor=100_00, reason=RefundReason.STAY_CHANGED)

#: The quote of `LONGER`, a cent cheaper than the price.
QUOTED_LONGER = QuotedChange(
    good_until=NOON + timedelta(minutes=5),
    earlier_count=0,
    terms=Terms.PREPAID,
    currency="EUR",
    amount_minor=299_99,
    night_amounts_minor=(100_00, 100_00, 99_99),
)
LONGER_QUOTED = but(LONGER, quoted=QUOTED_LONGER)

WANTS_MORE = (*BOUGHT, HELD_LONGER, ASKED_MORE)
CAN_PAY_MORE = (*WANTS_MORE, SECOND_SESSION)
LENGTHENED = (*CAN_PAY_MORE, IS_LONGER)
SHORTENED = (*BOUGHT, IS_SHORTER, PART_BACK)


def ended(reason: ChangeEnd) -> ChangeEnded:
    """Return the event of the change that does not take place."""
    return ChangeEnded(room_id=ROOM, booking_id=ADAS, change_id=FIRST_CHANGE, reason=reason, held=THIRD_NIGHT)


def not_changed(command: ChangeStay, reason: Rejection) -> ChangeRejected:
    """Return the event of a change that the rules refuse."""
    return ChangeRejected(
        room_id=command.room_id,
        booking_id=command.booking_id,
        change_id=command.change_id,
        check_in=command.check_in,
        check_out=command.check_out,
        rooms_count=command.rooms_count,
        reason=reason,
    )
