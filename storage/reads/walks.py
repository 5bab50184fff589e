"""The nights of a hotel in which more rooms are sold than it has, and the bookings of the guests who would be walked.

To walk guests is the hotel trade's word for sending them to another hotel.
"""

from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import FromClause, Subquery, and_, func, select, true, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.models import Booking, Inventory, Room
from topics.messages.values import MAX_NIGHTS, BookingStatus

#: The largest number of bookings that are read of one night.
MAX_WALKED: Final = 100


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

    `bookings` are the newest ones, as many as have so many rooms, and at most `MAX_WALKED`.
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


async def oversold_nights(
    connection: AsyncConnection,
    hotel_id: int,
    first: date,
    last: date,
    *,
    limit: int,
    after: tuple[date, int] | None = None,
) -> list[OversoldNight]:
    """Return the oversold nights from `first` to `last`, both included, by date and room.

    Args:
        connection: one to the database.
        hotel_id: the hotel.
        first: the first date.
        last: the last date.
        limit: the number of nights of a page; one more is read, if there is one.
        after: the date and the room of the last night of the page before.
    """
    nights = _oversold(hotel_id, first, last, limit, after)
    newest = _newest(nights, hotel_id)
    statement = (
        select(nights, newest)
        .outerjoin_from(nights, newest, true())
        .order_by(nights.c.night, nights.c.room_id, newest.c.created_at.desc(), newest.c.id.desc())
    )
    found: list[OversoldNight] = []
    for room_id, room_type, night, total, blocked, booked, *booking in await connection.execute(statement):
        if not found or (found[-1].night, found[-1].room_id) != (night, room_id):
            found.append(
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
        if booking[0] is not None and _rooms_of(found[-1]) < found[-1].over_count:
            found[-1].bookings.append(WalkedBooking(**dict(zip(_BOOKING_FIELDS, booking, strict=True))))
    return found


_BOOKING_FIELDS: Final = ("id", "check_in", "check_out", "rooms_count", "created_at")


def _oversold(hotel_id: int, first: date, last: date, limit: int, after: tuple[date, int] | None) -> Subquery:
    conditions = [
        Room.hotel_id == hotel_id,
        Inventory.night.between(first, last),
        Inventory.booked_count + Inventory.blocked_count > Inventory.total_count,
    ]
    if after is not None:
        conditions.append(tuple_(Inventory.night, Inventory.room_id) > tuple_(*after))
    return (
        select(
            Inventory.room_id,
            Room.type,
            Inventory.night,
            Inventory.total_count,
            Inventory.blocked_count,
            Inventory.booked_count,
        )
        .join(Room, and_(Room.id == Inventory.room_id, Room.hotel_id == Inventory.hotel_id))
        .where(*conditions)
        .order_by(Inventory.night, Inventory.room_id)
        .limit(limit + 1)
        .subquery("oversold")
    )


def _newest(nights: Subquery, hotel_id: int) -> FromClause:
    """Return the newest bookings of each night, no more than there are rooms too many: each has one room or more."""
    of_night = nights.c
    return (
        select(Booking.id, Booking.check_in, Booking.check_out, Booking.rooms_count, Booking.created_at)
        .where(
            Booking.room_id == of_night.room_id,
            Booking.hotel_id == hotel_id,
            Booking.legs.is_(None),
            # Guests who have arrived are in their room.
            Booking.status == BookingStatus.CONFIRMED,
            Booking.check_in <= of_night.night,
            Booking.check_out > of_night.night,
            # It excludes nothing more; it lets the index begin at the right place.
            Booking.check_in > of_night.night - timedelta(days=MAX_NIGHTS),
        )
        .order_by(Booking.created_at.desc(), Booking.id.desc())
        .limit(func.least(of_night.booked_count + of_night.blocked_count - of_night.total_count, MAX_WALKED))
        .lateral("newest")
    )


def _rooms_of(night: OversoldNight) -> int:
    return sum(booking.rooms_count for booking in night.bookings)
