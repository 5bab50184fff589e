"""Trips for the history of `decided_log`: stays in the rooms 8 and 12 of hotel 1, all or none."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from uuid import UUID

from msgspec.structs import replace

from topics.messages.commands import (
    AddGuests,
    CancelBooking,
    Command,
    ConfirmPayment,
    ExpireHold,
    MarkNoShow,
    OpenInventory,
    RecordRefund,
    RecordSession,
    RequestPayment,
    ReserveTrip,
    SetSaleTerms,
)
from topics.messages.sale import CancellationPolicy, Kept, LegRequest, PolicyStep, RatePlan, SaleTerms
from topics.zones import ZONE_DATA_VERSION
from workers.decisions import StayClock

ROOMS = (8, 12)
#: The hotel keeps a night of a leg that is cancelled, and a quarter of one whose guests did not arrive.
TERMS = SaleTerms(
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
    capacity=2,
)
#: Trips: ended leg by leg, cancelled, refused by a room, not paid, and still to come.
TRIP, CANCELLED_TRIP, REFUSED_TRIP, UNPAID_TRIP, SOLD_TRIP = (UUID(int=number) for number in range(91, 96))


def leg(trip: UUID, number: int) -> UUID:
    """Return the booking of a trip's first or second leg."""
    return UUID(int=10 * trip.int + number)


def trips_of(first: date, price_minor: int, hold_seconds: int) -> Iterator[tuple[Command, StayClock | None]]:
    """Yield commands about trips, each with the hotel's clock; coordination sends what follows from them."""
    nights: dict[str, Any] = {"first_night": first, "end_night": first + timedelta(days=2)}
    for room_id in ROOMS:
        inventory = OpenInventory(
            room_id=room_id, hotel_id=1, **nights, total_count=6, price_minor=price_minor, currency="EUR"
        )
        yield inventory, None
    for trip in (UNPAID_TRIP, REFUSED_TRIP):
        yield _asked(trip, first, hold_seconds, rooms=9 if trip == REFUSED_TRIP else 1), None
    yield ExpireHold(room_id=ROOMS[0], booking_id=UNPAID_TRIP), None
    for room_id in ROOMS:
        yield SetSaleTerms(room_id=room_id, hotel_id=1, terms=TERMS), None
    for trip in (TRIP, CANCELLED_TRIP, SOLD_TRIP):
        yield _asked(trip, first, hold_seconds), None
        yield from ((command, None) for command in _paid(trip, 4 * price_minor))
    arrived = StayClock(
        check_in_at=datetime.combine(first, time(), UTC) - timedelta(days=365),
        check_out_at=datetime.combine(first, time(), UTC) + timedelta(days=2),
        today=first,
        step_ends=(datetime.combine(first, time(), UTC) - timedelta(days=365), None),
        zone_data=ZONE_DATA_VERSION,
    )
    before = replace(arrived, check_in_at=datetime.combine(first, time(15), UTC))
    yield MarkNoShow(room_id=ROOMS[1], booking_id=leg(TRIP, 2)), arrived
    yield CancelBooking(room_id=ROOMS[0], booking_id=leg(TRIP, 1), user_id=7), before
    yield CancelBooking(room_id=ROOMS[0], booking_id=CANCELLED_TRIP, user_id=7), before
    refunded = RecordRefund(
        room_id=ROOMS[0],
        booking_id=CANCELLED_TRIP,
        payment_intent=f"pi_{CANCELLED_TRIP.int}",
        refund_id="re_trip",
        amount_minor=2 * price_minor,
    )
    yield refunded, None


def _asked(trip: UUID, first: date, hold_seconds: int, *, rooms: int = 1) -> ReserveTrip:
    return ReserveTrip(
        room_id=ROOMS[0],
        booking_id=trip,
        user_id=7,
        hotel_id=1,
        check_in=first,
        check_out=first + timedelta(days=2),
        legs=tuple(
            LegRequest(booking_id=leg(trip, number), room_id=room_id, rooms_count=rooms if number == 2 else 1)
            for number, room_id in enumerate(ROOMS, 1)
        ),
        hold_seconds=hold_seconds,
    )


def _paid(trip: UUID, amount_minor: int) -> Iterator[Command]:
    booking: dict[str, Any] = {"room_id": ROOMS[0], "booking_id": trip}
    yield AddGuests(**booking, user_id=7, guest_ids=(71,), guest_list_id=UUID(int=1_000 * trip.int + 1))
    yield RequestPayment(**booking, user_id=7)
    yield RecordSession(**booking, attempt=1, session_id=f"cs_{trip.int}")
    yield ConfirmPayment(
        **booking,
        attempt=1,
        session_id=f"cs_{trip.int}",
        payment_intent=f"pi_{trip.int}",
        amount_minor=amount_minor,
        currency="EUR",
    )
