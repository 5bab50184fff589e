"""Bookings that managers make for guests without an account: whom the hotel can reach about them.

The row is written before the command is sent, so that a booking never lacks it. The log has ids alone.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from sqlalchemy import Text, delete, literal_column, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from storage import guests
from storage.models import Booking, DeskBooking, Hotel
from topics.messages.values import BookingStatus

#: The name of a contact that was erased.
_ERASED: Final = ""
#: The transaction that wrote a row last.
_row_version: Final = literal_column("desk_booking.xmin::text", Text)


@dataclass(frozen=True, kw_only=True, slots=True)
class Contact:
    """The person whom a hotel can reach about a stay."""

    name: str
    email: str | None
    phone: str | None


async def add_desk_booking(
    connection: AsyncConnection, booking_id: UUID, *, hotel_id: int, manager_id: int, contact: Contact
) -> str | None:
    """Insert the contact of a booking, unless it has one or had one that was erased.

    Returns:
        The version of the row that was inserted, for `remove_desk_booking`; None if there was one.
    """
    rows = await connection.execute(
        insert(DeskBooking)
        .values(
            booking_id=booking_id,
            hotel_id=hotel_id,
            manager_id=manager_id,
            contact_name=contact.name,
            contact_email=contact.email,
            contact_phone=contact.phone,
        )
        .on_conflict_do_nothing()
        .returning(_row_version)
    )
    inserted: str | None = rows.scalar_one_or_none()
    if inserted is None:
        # The row gets another version: this request needs it, so the one that inserted it must not remove it any more.
        await connection.execute(
            update(DeskBooking)
            .where(DeskBooking.booking_id == booking_id)
            .values(contact_name=DeskBooking.contact_name)
        )
    return inserted


async def remove_desk_booking(connection: AsyncConnection, booking_id: UUID, version: str) -> None:
    """Delete a row of this version, and the names of its guests: its booking was never asked for.

    A row that anybody has written since, such as a request with the same Idempotency-Key, stays.
    """
    removed = await connection.execute(
        delete(DeskBooking)
        .where(DeskBooking.booking_id == booking_id, _row_version == version)
        .returning(DeskBooking.booking_id)
    )
    if removed.first() is not None:
        await guests.delete_names(connection, booking_id)


async def contacts_of(connection: AsyncConnection, booking_ids: Collection[UUID]) -> dict[UUID, Contact]:
    """Return the contacts of those of these bookings that have one which was not erased."""
    rows = await connection.execute(
        select(
            DeskBooking.booking_id, DeskBooking.contact_name, DeskBooking.contact_email, DeskBooking.contact_phone
        ).where(DeskBooking.booking_id.in_(booking_ids), DeskBooking.contact_name != _ERASED)
    )
    return {booking_id: Contact(name=name, email=email, phone=phone) for booking_id, name, email, phone in rows}


async def is_of_hotel(connection: AsyncConnection, booking_id: UUID, hotel_id: int, owner_id: int) -> bool:
    """Return whether a manager asked for a booking with this id at the owner's hotel; it need not be decided."""
    rows = await connection.execute(
        select(DeskBooking.booking_id)
        .join(Hotel, Hotel.id == DeskBooking.hotel_id)
        .where(
            DeskBooking.booking_id == booking_id,
            Hotel.id == hotel_id,
            Hotel.owner_id == owner_id,
            Hotel.deleted_at.is_(None),
        )
    )
    return rows.first() is not None


async def erase_people_of_rejected(connection: AsyncConnection, hotel_id: int) -> None:
    """Erase the people of the hotel's bookings that were rejected, because nobody of them will stay."""
    rows = await connection.execute(
        select(DeskBooking.booking_id)
        .join(Booking, Booking.id == DeskBooking.booking_id)
        .where(
            DeskBooking.hotel_id == hotel_id,
            DeskBooking.contact_name != _ERASED,
            Booking.status == BookingStatus.REJECTED,
        )
    )
    for booking_id in rows.scalars().all():
        await erase_people(connection, booking_id)


async def erase_people(connection: AsyncConnection, booking_id: UUID) -> None:
    """Erase the contact of a booking and the names of its guests; the rows stay, so that nothing writes them again."""
    await connection.execute(
        update(DeskBooking)
        .where(DeskBooking.booking_id == booking_id)
        .values(contact_name=_ERASED, contact_email=None, contact_phone=None)
    )
    await guests.erase_names(connection, booking_id)
