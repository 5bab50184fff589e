"""The guests that an account has saved, and the guest lists of bookings, which keep names as they were given.

Every query names the account: the guests of others are not found.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, and_, delete, func, insert, literal, null, or_, select, update
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.models import AppUser, Booking, BookingGuest, Guest, GuestList
from topics.messages.values import BookingStatus

_GUEST_COLUMNS: Final = (Guest.id, Guest.user_id, Guest.name, Guest.gender, Guest.age)
_NOT_OVER: Final = (
    BookingStatus.RESERVED,
    BookingStatus.GUESTS_ADDED,
    BookingStatus.PAYMENTS_PENDING,
    BookingStatus.CONFIRMED,
    BookingStatus.CHECKED_IN,
)
# A payment that arrives after the end of the hold can revive an expired booking; no payment takes this long.
_REVIVABLE_FOR: Final = timedelta(days=1)
# In the last time zone a day ends 12 hours after it ends in UTC.
_LAST_TIME_ZONE: Final = timedelta(hours=12)


@dataclass(frozen=True, kw_only=True, slots=True)
class SavedGuest:
    """A person whom an account may name as staying."""

    id: int
    user_id: int
    name: str
    gender: str | None
    age: int | None


async def add_guest(
    connection: AsyncConnection, *, user_id: int, name: str, gender: str | None, age: int | None
) -> SavedGuest | None:
    """Insert a guest of this account and return it; None when the account is deleted."""
    values = {"name": name, "gender": gender, "age": age}
    account = select(AppUser.id, *(literal(value, Guest.__table__.c[column].type) for column, value in values.items()))
    rows = await connection.execute(
        insert(Guest).from_select(["user_id", *values], account.where(AppUser.id == user_id)).returning(*_GUEST_COLUMNS)
    )
    row = rows.mappings().first()
    return None if row is None else SavedGuest(**row)


async def own_guests(connection: AsyncConnection, user_id: int, *, after: int, limit: int) -> list[SavedGuest]:
    """Return at most `limit` of the account's guests whose ids are above `after`, smallest first."""
    rows = await connection.execute(
        select(*_GUEST_COLUMNS).where(Guest.user_id == user_id, Guest.id > after).order_by(Guest.id).limit(limit)
    )
    return [SavedGuest(**row) for row in rows.mappings()]


async def own_guest(connection: AsyncConnection, user_id: int, guest_id: int) -> SavedGuest | None:
    """Return the account's guest, or None."""
    rows = await connection.execute(select(*_GUEST_COLUMNS).where(_is_own(user_id, guest_id)))
    row = rows.mappings().first()
    return None if row is None else SavedGuest(**row)


async def change_guest(
    connection: AsyncConnection, user_id: int, guest_id: int, changes: Mapping[str, Any]
) -> SavedGuest | None:
    """Set these columns of the account's guest and return it; None when there is none."""
    if not changes:
        return await own_guest(connection, user_id, guest_id)
    rows = await connection.execute(
        update(Guest).where(_is_own(user_id, guest_id)).values(**changes).returning(*_GUEST_COLUMNS)
    )
    row = rows.mappings().first()
    return None if row is None else SavedGuest(**row)


async def delete_guest(connection: AsyncConnection, user_id: int, guest_id: int) -> bool:
    """Delete the account's guest; False when there is none, or a booking that is not over names it."""
    named = (
        select(BookingGuest.guest_id)
        .join(Booking, Booking.id == BookingGuest.booking_id)
        .where(Booking.user_id == user_id, BookingGuest.guest_id == guest_id, _is_not_over())
    )
    rows = await connection.execute(
        delete(Guest).where(_is_own(user_id, guest_id), ~named.exists()).returning(Guest.id)
    )
    return rows.first() is not None


async def guests_of_others(connection: AsyncConnection, user_id: int, guest_ids: Sequence[int]) -> list[int]:
    """Return the ids that are no guests of this account, smallest first."""
    own = await connection.execute(select(Guest.id).where(Guest.user_id == user_id, Guest.id.in_(guest_ids)))
    return sorted(set(guest_ids).difference(own.scalars()))


async def keep_guest_list(
    connection: AsyncConnection, list_id: UUID, *, booking_id: UUID, user_id: int, guest_ids: Sequence[int]
) -> bool:
    """Insert the names of these guests of the account as they are now, unless the list was kept before.

    Returns:
        Whether the list is stored: not, if one of the guests is not the account's any more.
    """
    guest = func.jsonb_build_object("id", Guest.id, "name", Guest.name, "gender", Guest.gender, "age", Guest.age)
    guests = (
        select(
            literal(list_id), literal(booking_id), literal(user_id), func.jsonb_agg(aggregate_order_by(guest, Guest.id))
        )
        .where(Guest.user_id == user_id, Guest.id.in_(guest_ids))
        .having(func.count() == len(set(guest_ids)))
    )
    inserted = await connection.execute(
        postgresql.insert(GuestList)
        .from_select(["id", "booking_id", "user_id", "guests"], guests)
        .on_conflict_do_nothing()
        .returning(GuestList.id)
    )
    if inserted.first() is not None:
        return True
    kept = await connection.execute(
        select(GuestList.id).where(
            GuestList.id == list_id, GuestList.booking_id == booking_id, GuestList.user_id == user_id
        )
    )
    return kept.first() is not None


async def keep_names(
    connection: AsyncConnection,
    list_id: UUID,
    *,
    booking_id: UUID,
    manager_id: int,
    names: Sequence[str],
) -> None:
    """Insert the names of guests without an account, unless the list was kept before.

    Args:
        connection: the connection.
        list_id: the list's id.
        booking_id: the booking of the guests.
        manager_id: the account that names them.
        names: their names; such guests have no id, and nothing else is known of them.
    """
    named = [{"id": None, "name": name, "gender": None, "age": None} for name in names]
    await connection.execute(
        postgresql.insert(GuestList)
        .values(id=list_id, booking_id=booking_id, user_id=manager_id, guests=named)
        .on_conflict_do_nothing()
    )


async def erase_names(connection: AsyncConnection, booking_id: UUID) -> None:
    """Blank the guest lists of a booking; their rows stay."""
    await connection.execute(
        update(GuestList)
        .where(GuestList.booking_id == booking_id, GuestList.erased_at.is_(None))
        .values(guests=null(), erased_at=func.now())
    )


async def delete_names(connection: AsyncConnection, booking_id: UUID) -> None:
    """Delete the guest lists of a booking that was never asked for."""
    await connection.execute(delete(GuestList).where(GuestList.booking_id == booking_id))


def _is_own(user_id: int, guest_id: int) -> ColumnElement[bool]:
    return and_(Guest.id == guest_id, Guest.user_id == user_id)


def _is_not_over() -> ColumnElement[bool]:
    """Return the condition of a stay that is not over: held, confirmed, or expired and revivable by a payment."""
    earliest_day_on_earth = func.date(func.timezone("UTC", func.now()) - _LAST_TIME_ZONE)
    return and_(
        Booking.check_out >= earliest_day_on_earth,
        or_(
            Booking.status.in_(_NOT_OVER),
            and_(Booking.status == BookingStatus.EXPIRED, Booking.updated_at > func.now() - _REVIVABLE_FOR),
        ),
    )
