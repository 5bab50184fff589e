"""Messages of the scenarios: one hotel, one room, a guest named Ada, her commands and those of others, and events.

`but(RESERVE, rooms_count=2)` is the same with another value.
"""

from datetime import UTC, date, datetime, time, timedelta
from typing import TypeVar
from uuid import UUID

from msgspec.structs import replace

from tests.support.scenario import NOON
from topics.messages.commands import (
    AddGuests,
    BookingCommand,
    CancelBooking,
    ChangeGuests,
    ChangeInventory,
    ClosePayment,
    CloseRefund,
    ConfirmPayment,
    DeclinePayment,
    ExpireHold,
    FailRefund,
    OpenInventory,
    RecordDispute,
    RecordRefund,
    RecordSession,
    RequestPayment,
    ReserveStay,
)
from topics.messages.events import (
    BookingCancelled,
    BookingConfirmed,
    BookingExpired,
    BookingRefunded,
    BookingRejected,
    BookingReserved,
    CheckoutOpened,
    CommandRefused,
    CommandRepeated,
    DisputeClosed,
    DisputeOpened,
    GuestsAdded,
    GuestsChanged,
    InventoryChanged,
    InventoryOpened,
    NightRange,
    PaymentDeclined,
    PaymentRequested,
    RefundClosed,
    RefundFailed,
    RefundRequested,
    night_ranges,
)
from topics.messages.message import Message
from topics.messages.values import (
    BookingStatus,
    CancelReason,
    DisputeResult,
    RefundClosing,
    RefundReason,
    Refusal,
    Rejection,
    StayTimes,
)

AMessage = TypeVar("AMessage", bound=Message)

HOTEL, ROOM, ANOTHER_ROOM = 1, 7, 8
ADA, BEN = 11, 12
ADAS, BENS = UUID(int=1), UUID(int=2)
DEADLINE = NOON + timedelta(minutes=15)
MILLISECOND = timedelta(milliseconds=1)
SECOND = timedelta(seconds=1)
LATER = DEADLINE + timedelta(minutes=5)

# The hotel is in Vancouver, where summer time began on 8 March 2026: noon there is 19:00 UTC on all days of the stays.
TIMES = StayTimes(time_zone="America/Vancouver", check_in_time=time(15), check_out_time=time(11))
CHECK_IN = datetime(2026, 3, 10, 22, tzinfo=UTC)
CHECK_OUT = datetime(2026, 3, 12, 18, tzinfo=UTC)
SECOND_DAY = datetime(2026, 3, 11, 7, tzinfo=UTC)
LAST_DAY = datetime(2026, 3, 12, 7, tzinfo=UTC)

LIST, ANOTHER_LIST = UUID(int=101), UUID(int=102)


def nights(*days: int) -> tuple[NightRange, ...]:
    """Return these nights of March as ranges."""
    return night_ranges(map(march, days))


def but(message: AMessage, **changes: object) -> AMessage:
    """Return the same message with other values."""
    return replace(message, **changes)


def march(day: int) -> date:
    """Return a day of the month in which all stays are."""
    return date(2026, 3, day)


# Commands. Ada stays for the nights of 10 and 11 March, at 100.00 each.

OPEN = OpenInventory(
    room_id=ROOM,
    hotel_id=HOTEL,
    first_night=march(10),
    end_night=march(15),
    total_count=2,
    price_minor=100_00,
    currency="EUR",
)
CHANGE = ChangeInventory(room_id=ROOM, first_night=march(10), end_night=march(12))
RESERVE = ReserveStay(
    room_id=ROOM,
    booking_id=ADAS,
    user_id=ADA,
    hotel_id=HOTEL,
    check_in=march(10),
    check_out=march(12),
    stay_times=TIMES,
)
BEN_RESERVES = but(RESERVE, booking_id=BENS, user_id=BEN)
ADD_GUESTS = AddGuests(room_id=ROOM, booking_id=ADAS, user_id=ADA, guest_ids=(1, 2), guest_list_id=LIST)
CHANGE_GUESTS = ChangeGuests(room_id=ROOM, booking_id=ADAS, user_id=ADA, guest_ids=(3,), guest_list_id=ANOTHER_LIST)
REQUEST_PAYMENT = RequestPayment(room_id=ROOM, booking_id=ADAS, user_id=ADA)
RECORD_SESSION = RecordSession(room_id=ROOM, booking_id=ADAS, attempt=1, session_id="cs_1")
PAY = ConfirmPayment(
    room_id=ROOM,
    booking_id=ADAS,
    session_id="cs_1",
    payment_intent="pi_1",
    amount_minor=200_00,
    currency="EUR",
)
DECLINE = DeclinePayment(room_id=ROOM, booking_id=ADAS, failure="card_declined")
CLOSE = ClosePayment(room_id=ROOM, booking_id=ADAS, session_id="cs_1")
CANCEL = CancelBooking(room_id=ROOM, booking_id=ADAS, user_id=ADA)
EXPIRE = ExpireHold(room_id=ROOM, booking_id=ADAS)
RECORD_REFUND = RecordRefund(
    room_id=ROOM, booking_id=ADAS, payment_intent="pi_1", refund_id="re_1", amount_minor=200_00
)
HAND_REFUND = but(RECORD_REFUND, refund_id="re_hand", by_hand=True)
FAIL_REFUND = FailRefund(
    room_id=ROOM,
    booking_id=ADAS,
    payment_intent="pi_1",
    refund_id="re_1",
    amount_minor=200_00,
    failure="expired_or_canceled_card",
)
CLOSE_REFUND = CloseRefund(room_id=ROOM, booking_id=ADAS, payment_intent="pi_1", reason=RefundClosing.PAID_OTHERWISE)
DISPUTE = RecordDispute(
    room_id=ROOM, booking_id=ADAS, payment_intent="pi_1", dispute_id="dp_1", amount_minor=200_00, reason="fraudulent"
)
DISPUTE_LOST = but(DISPUTE, result=DisputeResult.LOST)
DISPUTE_WON = but(DISPUTE, result=DisputeResult.WON)

# Events.

OPENED = InventoryOpened(
    room_id=ROOM,
    hotel_id=HOTEL,
    first_night=march(10),
    end_night=march(15),
    total_count=2,
    price_minor=100_00,
    currency="EUR",
)
CHANGED = InventoryChanged(room_id=ROOM, ranges=nights(10, 11))
RESERVED = BookingReserved(
    room_id=ROOM,
    booking_id=ADAS,
    user_id=ADA,
    hotel_id=HOTEL,
    check_in=march(10),
    check_out=march(12),
    rooms_count=1,
    amount_minor=200_00,
    currency="EUR",
    hold_expires_at=DEADLINE,
    night_amounts_minor=(100_00, 100_00),
    stay_times=TIMES,
)
BEN_RESERVED = but(RESERVED, booking_id=BENS, user_id=BEN)
GUESTS = GuestsAdded(room_id=ROOM, booking_id=ADAS, guest_ids=(1, 2), guest_list_id=LIST)
OTHER_GUESTS = GuestsChanged(room_id=ROOM, booking_id=ADAS, guest_ids=(3,), guest_list_id=ANOTHER_LIST)
ASKED = PaymentRequested(room_id=ROOM, booking_id=ADAS, attempt=1, amount_minor=200_00, currency="EUR")
SESSION = CheckoutOpened(room_id=ROOM, booking_id=ADAS, attempt=1, session_id="cs_1")
PAID = BookingConfirmed(
    room_id=ROOM,
    booking_id=ADAS,
    amount_minor=200_00,
    currency="EUR",
    session_id="cs_1",
    payment_intent="pi_1",
)
CONFIRMED_FREE = but(PAID, session_id=None, payment_intent=None)
DECLINED = PaymentDeclined(room_id=ROOM, booking_id=ADAS, failure="card_declined")
CANCELLED = BookingCancelled(room_id=ROOM, booking_id=ADAS, reason=CancelReason.BY_GUEST)
EXPIRED = BookingExpired(room_id=ROOM, booking_id=ADAS)
SENT_BACK = RefundRequested(
    room_id=ROOM,
    booking_id=ADAS,
    session_id="cs_1",
    payment_intent="pi_1",
    amount_minor=200_00,
    currency="EUR",
    reason=RefundReason.BOOKING_CANCELLED,
)
REFUNDED = BookingRefunded(room_id=ROOM, booking_id=ADAS, payment_intent="pi_1", refund_id="re_1", amount_minor=200_00)
REFUNDED_BY_HAND = but(REFUNDED, refund_id="re_hand", by_hand=True)
REFUND_FAILED = RefundFailed(
    room_id=ROOM,
    booking_id=ADAS,
    payment_intent="pi_1",
    refund_id="re_1",
    amount_minor=200_00,
    failure="expired_or_canceled_card",
)
REFUND_CLOSED = RefundClosed(
    room_id=ROOM,
    booking_id=ADAS,
    payment_intent="pi_1",
    amount_minor=200_00,
    currency="EUR",
    reason=RefundClosing.PAID_OTHERWISE,
)
DISPUTED = DisputeOpened(
    room_id=ROOM,
    booking_id=ADAS,
    payment_intent="pi_1",
    dispute_id="dp_1",
    amount_minor=200_00,
    currency="EUR",
    reason="fraudulent",
)
LOST = DisputeClosed(
    room_id=ROOM,
    booking_id=ADAS,
    payment_intent="pi_1",
    dispute_id="dp_1",
    amount_minor=200_00,
    currency="EUR",
    result=DisputeResult.LOST,
)
WON = but(LOST, result=DisputeResult.WON)

# How far Ada's booking may have come.

HELD = (OPENED, RESERVED)
NAMED = (*HELD, GUESTS)
WAITING = (*NAMED, ASKED)
PAYABLE = (*WAITING, SESSION)
BOUGHT = (*PAYABLE, PAID)
CALLED_OFF = (*HELD, CANCELLED)
OVER = (*HELD, EXPIRED)


def priced(event: BookingReserved, *amounts_minor: int) -> BookingReserved:
    """Return the event with these amounts by night, and their sum."""
    return but(event, amount_minor=sum(amounts_minor), night_amounts_minor=amounts_minor)


def refused(command: BookingCommand, reason: Refusal, status: BookingStatus | None) -> CommandRefused:
    """Return the event of a refused command."""
    return CommandRefused(
        room_id=command.room_id,
        booking_id=command.booking_id,
        command=command.message_type,
        reason=reason,
        booking_status=status,
    )


def repeated(command: BookingCommand, status: BookingStatus) -> CommandRepeated:
    """Return the event of a command whose effect exists already."""
    return CommandRepeated(
        room_id=command.room_id,
        booking_id=command.booking_id,
        command=command.message_type,
        booking_status=status,
    )


def rejected(command: ReserveStay, reason: Rejection) -> BookingRejected:
    """Return the event of a request that the rules refuse."""
    return BookingRejected(
        room_id=command.room_id,
        booking_id=command.booking_id,
        user_id=command.user_id,
        hotel_id=command.hotel_id,
        check_in=command.check_in,
        check_out=command.check_out,
        rooms_count=command.rooms_count,
        terms=command.terms,
        reason=reason,
        trip_id=command.trip_id,
        trip_room_id=command.trip_room_id,
    )


def after_minutes(minutes: float) -> datetime:
    """Return the log's time so long after noon."""
    return NOON + timedelta(minutes=minutes)
