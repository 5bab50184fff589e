"""Changes of stays, promo codes and a booking at the desk, for the history of `decided_log`; in room 4 of hotel 1."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final
from uuid import UUID

from topics.messages.commands import (
    AddGuests,
    CancelBooking,
    ChangeStay,
    CheckIn,
    CheckOut,
    ClaimCode,
    Command,
    ConfirmPayment,
    ExpireHold,
    OpenInventory,
    RecordRefund,
    RecordSession,
    RequestPayment,
    ReserveStay,
    ReturnCode,
    SetCode,
    SetSaleTerms,
    WithdrawChange,
)
from topics.messages.sale import CancellationPolicy, CodeTerms, Kept, PolicyStep, RatePlan, SaleTerms, Tax
from topics.messages.values import StayTimes, Terms
from topics.zones import ZONE_DATA_VERSION
from workers.decisions import StayClock

ROOM, CODE = 4, 8
#: Bookings: became dearer and then cheaper; cancelled after that; with a change that is not paid yet, that was
#: withdrawn, and that came too late; of guests without an account.
CHANGED, CANCELLED_CHANGE, WAITING, GAVE_UP, TOO_LATE, AT_DESK = (UUID(int=number) for number in range(71, 77))
#: Bookings with a promo code: paid, refused, and given back.
DISCOUNTED, CODE_REFUSED, CODE_BACK = (UUID(int=number) for number in range(81, 84))
TIMES: Final = StayTimes(time_zone="UTC", check_in_time=time(), check_out_time=time(11))
TERMS: Final = SaleTerms(
    version=1,
    plans=(
        RatePlan(
            id="standard",
            name="Standard",
            policy=CancellationPolicy(
                id="strict",
                steps=(PolicyStep(hours_before=24 * 365, kept=Kept(nights=1)),),
                no_show=Kept(percent=25),
                early_departure_percent=50,
            ),
        ),
    ),
    taxes=(Tax(id="vat", name="VAT", percent_milli=10_000, included=True),),
)
CODE_TERMS: Final = CodeTerms(version=1, code="SPRING", percent_milli=10_000, max_uses=2, max_account_uses=1)


def changes(first: date, price_minor: int, hold_seconds: int) -> Iterator[tuple[Command, StayClock | None]]:
    """Yield commands that change stays, each with the hotel's clock: it is the day before `first`, the stays' first."""
    before, arrived = clock_on(first - timedelta(days=1)), clock_on(first)
    room: dict[str, Any] = {"room_id": ROOM}
    nights: dict[str, Any] = {"first_night": first - timedelta(days=1), "end_night": first + timedelta(days=5)}
    yield OpenInventory(**room, hotel_id=1, **nights, total_count=9, price_minor=price_minor, currency="EUR"), None
    yield SetSaleTerms(**room, hotel_id=1, terms=TERMS), None

    def wanted(id: UUID, number: int, days: int, rooms: int = 1, user: int | None = 7) -> ChangeStay:
        return ChangeStay(
            **room, booking_id=id, change_id=change_id(id, number), user_id=user, check_in=first,
            check_out=first + timedelta(days=days), rooms_count=rooms, hold_seconds=hold_seconds,
        )  # fmt: skip

    for id in (CHANGED, CANCELLED_CHANGE, GAVE_UP, TOO_LATE, WAITING):
        yield _stay(id, first, hold_seconds), None
        yield from _bought(id, 2 * price_minor)
    for id in (CHANGED, CANCELLED_CHANGE):
        yield wanted(id, 1, days=3), before
        yield from _change_paid(id, price_minor, before)
    # The policy keeps a third of the 200.00 that the guest gives up, as it would of the whole.
    yield wanted(CHANGED, 2, days=1), before
    booking = room | {"booking_id": CHANGED}
    yield RecordRefund(**booking, payment_intent=intent(CHANGED, 2), refund_id="re_71_2", amount_minor=10_000), before
    yield RecordRefund(**booking, payment_intent=intent(CHANGED), refund_id="re_71", amount_minor=3_333), before
    by_hand = booking | {"payment_intent": intent(CHANGED), "refund_id": "re_71_hand", "by_hand": True}
    yield RecordRefund(**by_hand, amount_minor=1_667), before
    yield wanted(CHANGED, 3, days=1, rooms=9), before
    yield CancelBooking(**room, booking_id=CANCELLED_CHANGE, user_id=7), before
    yield wanted(GAVE_UP, 1, days=2, rooms=2), before
    yield wanted(GAVE_UP, 2, days=3), before
    yield WithdrawChange(**room, booking_id=GAVE_UP, change_id=change_id(GAVE_UP, 2), user_id=7), None
    yield wanted(TOO_LATE, 1, days=3), before
    yield ExpireHold(**room, booking_id=TOO_LATE), None
    yield from _change_paid(TOO_LATE, price_minor, before)
    yield from _at_desk(first, before, arrived, wanted(AT_DESK, 1, days=1, user=None))
    yield from _codes(first, price_minor, hold_seconds)
    yield wanted(WAITING, 1, days=3, rooms=2), before
    yield RecordSession(**room, booking_id=WAITING, attempt=2, session_id=session(WAITING, 2)), None


def _at_desk(
    first: date, before: StayClock, arrived: StayClock, change: ChangeStay
) -> Iterator[tuple[Command, StayClock | None]]:
    """Yield a booking of guests without an account, whose stay becomes shorter, and who pay at the hotel."""
    booking: dict[str, Any] = {"room_id": ROOM, "booking_id": AT_DESK}
    stay = _stay(AT_DESK, first, 0, user=None, terms=Terms.AT_HOTEL, at_desk=True)
    yield stay, None
    yield change, before
    yield CheckIn(**booking), arrived
    yield CheckOut(**booking), clock_on(first + timedelta(days=1))


def _codes(first: date, price_minor: int, hold_seconds: int) -> Iterator[tuple[Command, StayClock | None]]:
    """Yield a promo code and its uses; coordination sends what follows from them."""
    yield SetCode(code_id=CODE, hotel_id=1, terms=CODE_TERMS), None
    yield ClaimCode(code_id=CODE, reserve=_stay(DISCOUNTED, first, hold_seconds)), None
    yield from _bought(DISCOUNTED, 2 * price_minor * 9 // 10)
    yield ClaimCode(code_id=CODE, reserve=_stay(CODE_REFUSED, first, hold_seconds)), None
    yield ClaimCode(code_id=CODE, reserve=_stay(CODE_BACK, first, hold_seconds, user=8)), None
    yield CancelBooking(room_id=ROOM, booking_id=CODE_BACK, user_id=8), None
    yield ReturnCode(code_id=CODE, booking_id=CODE_BACK), None


def _stay(id: UUID, first: date, hold_seconds: int, *, user: int | None = 7, **values: Any) -> ReserveStay:
    return ReserveStay(
        room_id=ROOM,
        booking_id=id,
        user_id=user,
        hotel_id=1,
        check_in=first,
        check_out=first + timedelta(days=2),
        hold_seconds=hold_seconds,
        stay_times=TIMES,
        guest_list_id=None if user is not None else UUID(int=1_000 * id.int + 1),
        accepted_terms="2026-03",
        request_hash="0f" * 16,
        **values,
    )


def _bought(id: UUID, amount_minor: int) -> Iterator[tuple[Command, StayClock | None]]:
    booking: dict[str, Any] = {"room_id": ROOM, "booking_id": id}
    yield AddGuests(**booking, user_id=7, guest_ids=(71,)), None
    yield RequestPayment(**booking, user_id=7), None
    yield from ((command, None) for command in paid(id, 1, amount_minor))


def _change_paid(id: UUID, extra_minor: int, clock: StayClock) -> Iterator[tuple[Command, StayClock | None]]:
    yield from ((command, clock) for command in paid(id, 2, extra_minor))


def paid(id: UUID, attempt: int, amount_minor: int, *, room_id: int = ROOM) -> Iterator[Command]:
    """Yield the commands of an attempt that is paid."""
    booking: dict[str, Any] = {"room_id": room_id, "booking_id": id}
    yield RecordSession(**booking, attempt=attempt, session_id=session(id, attempt))
    yield ConfirmPayment(
        **booking,
        attempt=attempt,
        session_id=session(id, attempt),
        payment_intent=intent(id, attempt),
        amount_minor=amount_minor,
        currency="EUR",
    )


def clock_on(today: date) -> StayClock:
    """Return the hotel's clock on a day; a cancellation costs the first night by then."""
    midnight = datetime.combine(today, time(), UTC)
    return StayClock(
        check_in_at=midnight + timedelta(days=1),
        check_out_at=midnight + timedelta(days=9),
        today=today,
        step_ends=(midnight - timedelta(days=300), None),
        zone_data=ZONE_DATA_VERSION,
    )


def change_id(booking_id: UUID, number: int) -> UUID:
    """Return the id of a booking's change."""
    return UUID(int=10 * booking_id.int + number)


def session(booking_id: UUID, attempt: int = 1) -> str:
    """Return the id of the Checkout Session of an attempt."""
    return f"cs_{booking_id.int}_{attempt}"


def intent(booking_id: UUID, attempt: int = 1) -> str:
    """Return the id of the payment of an attempt."""
    return f"pi_{booking_id.int}_{attempt}"
