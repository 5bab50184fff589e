"""Lists: a hotel's sales night by night, its bookings, and an account's bookings.

Every query names the hotel's owner or the account. Money is integers in minor units; times are UTC; dates are
hotel-local. A page is one row longer than asked for when another one follows it.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, Select, and_, case, func, select, true, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.models import Booking, BookingGuest, DailyReport, Guest, GuestList, Hotel, ReportedStay, Room, RoomNight
from storage.reads.bookings import BOOKING_COLUMNS, BookingFacts, agreed
from storage.reads.changes import ReplacedStay
from topics.messages.sale import AppliedPolicy, Sale
from topics.messages.values import MAX_NIGHTS, Terms


@dataclass(frozen=True, kw_only=True, slots=True)
class ManagedHotel:
    """The facts of a hotel that its report needs."""

    id: int
    currency: str
    time_zone: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SoldNight:
    """One night of a hotel: bookings that begin with it and that have it, rooms sold, and rooms there were to sell.

    `fees_minor` is kept of stays that ended early, and counts for the first night that was on sale again.

    `estimated` of the bookings `staying`, and `estimated_arrivals` of the `arrivals`, have no amounts by night: their
    share of the revenue is an even one.
    """

    night: date
    arrivals: int = 0
    staying: int = 0
    nights: int = 0
    revenue_minor: int = 0
    fees_minor: int = 0
    rooms: int = 0
    estimated: int = 0
    estimated_arrivals: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class ListedBooking(BookingFacts):
    """A booking in a list. A refused one has the currency that it would have had."""

    hotel_name: str | None
    room_type: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class HotelListedBooking(ListedBooking):
    """A booking in its hotel's list, with what was sold and how the stay ended.

    `sale` is None for a booking without sale terms, `policy` and `freed_from` for a stay that did not end early.
    `earlier_stays` are the stays that changes replaced, oldest first.
    """

    terms: Terms
    sale: Sale | None
    policy: AppliedPolicy | None
    freed_from: date | None
    earlier_stays: tuple[ReplacedStay, ...]
    accepted_terms: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class NamedGuest:
    """A guest of a booking. The name is None when it was erased.

    Without a guest list it is also None when the account has deleted the guest since. `id` is None for a guest without
    an account.
    """

    booking_id: UUID
    id: int | None
    name: str | None


class ByArrival(NamedTuple):
    """A position in a hotel's list."""

    check_in: date
    id: UUID


class ByCreation(NamedTuple):
    """A position in an account's list."""

    created_at: datetime
    id: UUID


async def managed_hotel(connection: AsyncConnection, hotel_id: int, owner_id: int) -> ManagedHotel | None:
    """Return the owner's hotel, or None when this owner has none by that id."""
    rows = await connection.execute(
        select(Hotel.id, Hotel.currency, Hotel.time_zone).where(
            Hotel.id == hotel_id, Hotel.owner_id == owner_id, Hotel.deleted_at.is_(None)
        )
    )
    row = rows.mappings().first()
    return None if row is None else ManagedHotel(**row)


async def sold_nights(connection: AsyncConnection, hotel_id: int, first: date, last: date) -> list[SoldNight]:
    """Return every night from `first` to `last`, both included, as far as the projections have come.

    Of a closed room only the rooms that are taken count as for sale; rooms that the hotel blocked do not count, nor
    does its allowance.
    """
    sold = (
        select(
            DailyReport.night,
            DailyReport.arrivals,
            DailyReport.staying,
            DailyReport.nights,
            DailyReport.revenue_minor,
            DailyReport.fees_minor,
        )
        .where(DailyReport.hotel_id == hotel_id, DailyReport.night.between(first, last))
        .subquery()
    )
    for_sale = case((RoomNight.closed, RoomNight.taken_count), else_=RoomNight.total_count - RoomNight.blocked_count)
    there = (
        select(RoomNight.night, func.sum(for_sale).label("rooms"))
        .where(RoomNight.hotel_id == hotel_id, RoomNight.night.between(first, last))
        .group_by(RoomNight.night)
        .subquery()
    )
    estimated = _estimated(hotel_id, first, last).subquery()
    numbers = [column for column in (*sold.c, *there.c, *estimated.c) if column.key != "night"]
    # Each estimated booking has its nights in `sold`, too.
    counted = sold.outerjoin(estimated, estimated.c.night == sold.c.night)
    rows = await connection.execute(
        select(
            func.coalesce(sold.c.night, there.c.night).label("night"),
            *(func.coalesce(number, 0).label(number.name) for number in numbers),
        ).select_from(counted.join(there, sold.c.night == there.c.night, full=True))
    )
    found = {row["night"]: SoldNight(**row) for row in rows.mappings()}
    days = (first + timedelta(days=number) for number in range((last - first).days + 1))
    return [found.get(day) or SoldNight(night=day) for day in days]


def _estimated(hotel_id: int, first: date, last: date) -> Select[tuple[date, int, int]]:
    """Return the query that counts, by night, the bookings without amounts by night, and those that arrive then."""
    # Of a stay that ended early, the nights before the first free one count.
    end_night = func.least(ReportedStay.check_out, ReportedStay.freed_from)
    lengths = end_night - ReportedStay.check_in
    numbers = func.generate_series(0, lengths - 1).table_valued("number").render_derived()
    spread = (
        select(
            (ReportedStay.check_in + numbers.c.number).label("night"),
            (numbers.c.number == 0).label("arrives"),
        )
        .select_from(ReportedStay)
        .join(numbers, true())
        .where(
            ReportedStay.hotel_id == hotel_id,
            ReportedStay.night_amounts_minor.is_(None),
            ReportedStay.check_in > first - timedelta(days=MAX_NIGHTS),
            ReportedStay.check_in <= last,
            end_night > first,
        )
        .subquery()
    )
    return (
        select(
            spread.c.night,
            func.count().label("estimated"),
            func.count().filter(spread.c.arrives).label("estimated_arrivals"),
        )
        .where(spread.c.night.between(first, last))
        .group_by(spread.c.night)
    )


# The ledger has no currency for a refused booking: `_currency` takes the hotel's.
_LISTED_COLUMNS = tuple(column for column in BOOKING_COLUMNS if column.key != "currency")
_SALE_COLUMNS = (
    Booking.terms,
    Booking.sale,
    Booking.policy,
    Booking.freed_from,
    Booking.earlier_stays,
    Booking.accepted_terms,
)


async def bookings_of_hotel(
    connection: AsyncConnection,
    hotel_id: int,
    *,
    limit: int,
    after: ByArrival | None = None,
    statuses: Collection[str] = (),
    first: date | None = None,
    last: date | None = None,
    room_id: int | None = None,
    booking_id: UUID | None = None,
) -> list[HotelListedBooking]:
    """Return bookings of a hotel by check-in and id; `first` and `last` are the nights that stays must touch.

    Trips are left out, which have no rooms: their legs are there.
    """
    conditions = [
        Booking.room_id == Room.id,
        Booking.hotel_id == hotel_id,
        # The legs of a trip have its rooms.
        Booking.legs.is_(None),
        *_touching(first, last),
    ]
    if statuses:
        conditions.append(Booking.status.in_(statuses))
    if booking_id is not None:
        conditions.append(Booking.id == booking_id)
    if after is not None:
        conditions.append(tuple_(Booking.check_in, Booking.id) > tuple_(*after))
    # Room by room, each by its index: a hotel of many years is not sorted whole for every page.
    booking = (
        select(*_LISTED_COLUMNS, *_SALE_COLUMNS, _currency())
        .where(*conditions)
        .order_by(Booking.check_in, Booking.id)
        .limit(limit + 1)
        .lateral()
    )
    rows = await connection.execute(
        select(booking, Hotel.name.label("hotel_name"), Room.type.label("room_type"))
        .select_from(Hotel)
        .join(Room, Room.hotel_id == Hotel.id)
        .join(booking, true())
        .where(Hotel.id == hotel_id, true() if room_id is None else Room.id == room_id)
        .order_by(booking.c.check_in, booking.c.id)
        .limit(limit + 1)
    )
    return [HotelListedBooking(**{**row, **agreed(row)}) for row in rows.mappings()]


def _touching(first: date | None, last: date | None) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if first is not None:
        # The second condition excludes nothing more; it lets the index begin at the right place.
        conditions += [Booking.check_out > first, Booking.check_in > first - timedelta(days=MAX_NIGHTS)]
    if last is not None:
        conditions.append(Booking.check_in <= last)
    return conditions


async def bookings_of_user(
    connection: AsyncConnection,
    user_id: int,
    *,
    limit: int,
    before: ByCreation | None = None,
    statuses: Collection[str] = (),
) -> list[ListedBooking]:
    """Return bookings of an account, newest first."""
    conditions: list[ColumnElement[bool]] = [Booking.user_id == user_id]
    if statuses:
        conditions.append(Booking.status.in_(statuses))
    if before is not None:
        conditions.append(tuple_(Booking.created_at, Booking.id) < tuple_(*before))
    rows = await connection.execute(
        select(*_LISTED_COLUMNS, _currency(), Hotel.name.label("hotel_name"), Room.type.label("room_type"))
        .outerjoin(Hotel, Hotel.id == Booking.hotel_id)
        .outerjoin(Room, and_(Room.id == Booking.room_id, Room.hotel_id == Booking.hotel_id))
        .where(*conditions)
        .order_by(Booking.created_at.desc(), Booking.id.desc())
        .limit(limit + 1)
    )
    return [ListedBooking(**row) for row in rows.mappings()]


def _currency() -> ColumnElement[Any]:
    return func.coalesce(func.nullif(Booking.currency, ""), Hotel.currency, "").label("currency")


async def guests_of_each(connection: AsyncConnection, booking_ids: Sequence[UUID]) -> list[NamedGuest]:
    """Return the guests of these bookings as they were named, by booking and guest; legs have those of their trips."""
    rows = await connection.execute(
        select(BookingGuest.booking_id, BookingGuest.guest_id, Guest.name)
        .outerjoin(Guest, Guest.id == BookingGuest.guest_id)
        .where(BookingGuest.booking_id.in_(booking_ids))
        .order_by(BookingGuest.booking_id, BookingGuest.guest_id)
    )
    lists = await connection.execute(
        select(Booking.id, GuestList.guests)
        .join(Booking, Booking.guest_list_id == GuestList.id)
        .where(Booking.id.in_(booking_ids), GuestList.booking_id.in_((Booking.id, Booking.trip_id)))
    )
    found = lists.all()
    named = {booking_id: {guest["id"]: guest["name"] for guest in guests or ()} for booking_id, guests in found}
    without_account = [
        NamedGuest(booking_id=booking_id, id=None, name=guest["name"])
        for booking_id, guests in found
        for guest in guests or ()
        if guest["id"] is None
    ]
    return without_account + [
        NamedGuest(
            booking_id=booking_id,
            id=guest_id,
            name=named[booking_id].get(guest_id) if booking_id in named else saved_name,
        )
        for booking_id, guest_id, saved_name in rows
    ]
