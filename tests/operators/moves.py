"""Stays that move to another room type, for the history of `decided_log`: from room 16 to 17, 18 or 19 of hotel 1.

The rooms are in four partitions. There is one room 19, which has no terms; room 17 is cheaper, and room 18 dearer.
"""

from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any, Final
from uuid import UUID

from tests.operators.changed_stays import TERMS, TIMES, clock_on, intent, paid
from topics.messages.commands import (
    AddGuests,
    CancelBooking,
    ChangeStay,
    CheckIn,
    Command,
    ExpireHold,
    OpenInventory,
    RecordRefund,
    RequestPayment,
    ReserveStay,
    SetSaleTerms,
    WithdrawChange,
)
from workers.decisions import StayClock

ROOM: Final = 16
CHEAPER_ROOM, DEARER_ROOM, SMALL_ROOM = 17, 18, 19
#: Bookings, by what happens to them: three move; one change is refused, one withdrawn, one not paid in time, and one
#: replaced; a moved booking is cancelled, one is changed before it moves, and one change waits for its payment.
DOWN, UP, BY_HOTEL, REFUSED, WITHDRAWN, UNPAID, REPLACED, ENDED, CHANGED_FIRST, WAITING = (
    UUID(int=number) for number in range(301, 311)
)
BOUGHT: Final = (DOWN, UP, BY_HOTEL, REFUSED, WITHDRAWN, UNPAID, REPLACED, ENDED, CHANGED_FIRST, WAITING)


def leg(booking_id: UUID, number: int = 1) -> UUID:
    """Return the id of a booking's change, which is that of the leg."""
    return UUID(int=10 * booking_id.int + number)


def moves(first: date, price_minor: int, hold_seconds: int) -> Iterator[tuple[Command, StayClock | None]]:
    """Yield commands that move stays, each with the hotel's clock; coordination sends what follows from them."""
    before, arrived = clock_on(first - timedelta(days=1)), clock_on(first)
    nights: dict[str, Any] = {"first_night": first, "currency": "EUR"}
    for room_id, percent, count in (
        (ROOM, 100, 20),
        (CHEAPER_ROOM, 80, 9),
        (DEARER_ROOM, 150, 9),
        (SMALL_ROOM, 100, 1),
    ):
        # A stay may move to nights that its own room does not have.
        nights |= {"end_night": first + timedelta(days=3 if room_id == ROOM else 4), "total_count": count}
        yield OpenInventory(room_id=room_id, hotel_id=1, **nights, price_minor=price_minor * percent // 100), None
        if room_id != SMALL_ROOM:
            yield SetSaleTerms(room_id=room_id, hotel_id=1, terms=TERMS), None

    def move(
        id: UUID, to: int, number: int = 1, *, days: int = 2, rooms: int = 1, user: int | None = 7
    ) -> tuple[Command, StayClock]:
        change = ChangeStay(
            room_id=ROOM, booking_id=id, change_id=leg(id, number), user_id=user, check_in=first,
            check_out=first + timedelta(days=days), rooms_count=rooms, hold_seconds=hold_seconds, to_room_id=to,
        )  # fmt: skip
        return change, before

    for id in BOUGHT:
        yield from ((command, None) for command in _bought(id, first, price_minor, hold_seconds))
    # The policy keeps half of the 40.00 that the guest gives up, as it would of the whole.
    yield move(DOWN, CHEAPER_ROOM)
    yield _refund(DOWN, 1, "re_301", 2_000), before
    yield _refund(DOWN, 1, "re_301_hand", 1_500, by_hand=True), before
    yield move(UP, DEARER_ROOM)
    yield from ((command, before) for command in paid(UP, 2, price_minor, room_id=ROOM))
    yield CheckIn(room_id=DEARER_ROOM, booking_id=leg(UP)), arrived
    yield move(BY_HOTEL, CHEAPER_ROOM, user=None)
    yield move(REFUSED, SMALL_ROOM, rooms=2)
    yield move(WITHDRAWN, DEARER_ROOM)
    yield WithdrawChange(room_id=ROOM, booking_id=WITHDRAWN, change_id=leg(WITHDRAWN), user_id=7), None
    yield move(REPLACED, DEARER_ROOM)
    yield move(REPLACED, CHEAPER_ROOM, 2)
    yield move(ENDED, CHEAPER_ROOM, days=4)
    yield from ((command, before) for command in paid(ENDED, 2, 6 * price_minor // 5, room_id=ROOM))
    yield CancelBooking(room_id=ROOM, booking_id=ENDED, user_id=7), before
    yield from _changed_first(first, price_minor, hold_seconds, before)
    yield move(CHANGED_FIRST, DEARER_ROOM, 2, days=4)
    yield from ((command, before) for command in paid(CHANGED_FIRST, 3, 3 * price_minor, room_id=ROOM))
    yield move(UNPAID, DEARER_ROOM)
    yield ExpireHold(room_id=ROOM, booking_id=UNPAID), None
    yield move(WAITING, DEARER_ROOM)


def _changed_first(
    first: date, price_minor: int, hold_seconds: int, before: StayClock
) -> Iterator[tuple[Command, StayClock | None]]:
    """Yield a change that makes a stay longer, and then a refund by hand."""
    longer = ChangeStay(
        room_id=ROOM, booking_id=CHANGED_FIRST, change_id=leg(CHANGED_FIRST), user_id=7, check_in=first,
        check_out=first + timedelta(days=3), rooms_count=1, hold_seconds=hold_seconds,
    )  # fmt: skip
    yield longer, before
    yield from ((command, before) for command in paid(CHANGED_FIRST, 2, price_minor, room_id=ROOM))
    yield _refund(CHANGED_FIRST, 1, "re_309_hand", 700, by_hand=True), before


def _refund(id: UUID, attempt: int, refund_id: str, amount_minor: int, *, by_hand: bool = False) -> RecordRefund:
    return RecordRefund(
        room_id=ROOM, booking_id=id, payment_intent=intent(id, attempt), refund_id=refund_id,
        amount_minor=amount_minor, by_hand=by_hand,
    )  # fmt: skip


def _bought(id: UUID, first: date, price_minor: int, hold_seconds: int) -> Iterator[Command]:
    booking: dict[str, Any] = {"room_id": ROOM, "booking_id": id}
    yield ReserveStay(
        **booking, user_id=7, hotel_id=1, check_in=first, check_out=first + timedelta(days=2),
        hold_seconds=hold_seconds, stay_times=TIMES, accepted_terms="2026-03",
    )  # fmt: skip
    yield AddGuests(**booking, user_id=7, guest_ids=(71,), guest_list_id=UUID(int=1_000 * id.int + 1))
    yield RequestPayment(**booking, user_id=7)
    yield from paid(id, 1, 2 * price_minor, room_id=ROOM)
