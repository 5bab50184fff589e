"""The nights of a hotel in which more rooms are sold than it has, and the bookings of the guests who would be walked.

To walk guests is the hotel trade's word for sending them to another hotel.
"""

from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import and_, bindparam, select, true
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.models import Booking, Inventory, Room
from topics.messages.values import MAX_NIGHTS, BookingStatus


@dataclass(frozen=True, kw_only=True, slots=True)
class WalkedBooking:
    """A booking whose guests have not arrived yet."""

    id: UUID
    check_in: date
    check_out: date
    rooms_count: int
    created_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class OversoldNight:
    """A night in which `over_count` rooms more are sold than there are, those off sale aside.

    `bookings` are the newest ones, as many as have so many rooms.
    """

    room_id: int
    room_type: str
    night: date
    total_count: int
    blocked_count: int
    booked_count: int
    bookings: list[WalkedBooking] = field(default_factory=list)

    @property
    def over_count(self) -> int:
        """The number of rooms that are sold and not there."""
        return self.booked_count + self.blocked_count - self.total_count


_confirmed = (
    select(Booking.id, Booking.check_in, Booking.check_out, Booking.rooms_count, Booking.created_at)
    .where(
        Booking.room_id == Inventory.room_id,
        Booking.hotel_id == Inventory.hotel_id,
        # Guests who have arrived are in their room.
        Booking.status == BookingStatus.CONFIRMED,
        Booking.check_in <= Inventory.night,
        Booking.check_out > Inventory.night,
        # It excludes nothing more; it lets the index begin at the right place.
        Booking.check_in > Inventory.night - timedelta(days=MAX_NIGHTS),
    )
    .lateral()
)
_OVERSOLD: Final = (
    select(
        Inventory.room_id,
        Room.type,
        Inventory.night,
        Inventory.total_count,
        Inventory.blocked_count,
        Inventory.booked_count,
        *_confirmed.c,
    )
    .select_from(Inventory)
    .join(Room, and_(Room.id == Inventory.room_id, Room.hotel_id == Inventory.hotel_id))
    .outerjoin(_confirmed, true())
    .where(
        Room.hotel_id == bindparam("hotel_id"),
        Inventory.night.between(bindparam("first"), bindparam("last")),
        Inventory.booked_count + Inventory.blocked_count > Inventory.total_count,
    )
    .order_by(Inventory.night, Inventory.room_id, _confirmed.c.created_at.desc(), _confirmed.c.id.desc())
)


_BOOKING_FIELDS: Final = ("id", "check_in", "check_out", "rooms_count", "created_at")


async def oversold_nights(connection: AsyncConnection, hotel_id: int, first: date, last: date) -> list[OversoldNight]:
    """Return the oversold nights from `first` to `last`, both included, by date and room."""
    rows = await connection.execute(_OVERSOLD, {"hotel_id": hotel_id, "first": first, "last": last})
    nights: list[OversoldNight] = []
    for room_id, room_type, night, total, blocked, booked, *booking in rows:
        if not nights or (nights[-1].night, nights[-1].room_id) != (night, room_id):
            nights.append(
                OversoldNight(
                    room_id=room_id,
                    room_type=room_type,
                    night=night,
                    total_count=total,
                    blocked_count=blocked,
                    booked_count=booked,
                )
            )
        # A night without such a booking has one row.
        if booking[0] is not None and _rooms_of(nights[-1]) < nights[-1].over_count:
            nights[-1].bookings.append(WalkedBooking(**dict(zip(_BOOKING_FIELDS, booking, strict=True))))
    return nights


def _rooms_of(night: OversoldNight) -> int:
    return sum(booking.rooms_count for booking in night.bookings)
