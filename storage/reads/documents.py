"""Invoices and credit notes with their seller, and the people that they are made out to.

Every query names its account: a booking's guest, or the owner of the hotel. Money is integers in minor units; times are
UTC.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

import msgspec
from sqlalchemy import ColumnElement, RowMapping, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import aliased

from storage.models import Booking, DeskBooking, Hotel, HotelDocument
from storage.reads.bookings import guests_of
from topics.messages.sale import PriceLine


class ByIssue(NamedTuple):
    """A position in a list of documents."""

    issued_at: datetime
    kind: str
    number: int


@dataclass(frozen=True, kw_only=True, slots=True)
class DocumentRow:
    """A document with its hotel. `corrects_number` is that of the document which it corrects."""

    id: UUID
    hotel_id: int
    kind: str
    number: int
    reason: str
    booking_id: UUID
    amount_minor: int
    currency: str
    lines: list[PriceLine]
    corrects_id: UUID | None
    corrects_number: int | None
    credited_minor: int
    issued_at: datetime
    hotel_name: str
    legal_name: str | None
    tax_id: str | None
    contact_address: str | None
    city: str
    time_zone: str


_Corrected: Final = aliased(HotelDocument)
_SELLER_COLUMNS: Final = (Hotel.legal_name, Hotel.tax_id, Hotel.contact_address, Hotel.city, Hotel.time_zone)
_COLUMNS: Final = (
    # Decisions alone need the version of the booking.
    *(column for column in HotelDocument.__table__.c if column.name != "booking_version"),
    _Corrected.number.label("corrects_number"),
    Hotel.name.label("hotel_name"),
    *_SELLER_COLUMNS,
)
#: The order of documents. A credit note of one instant is before the invoice that replaces the one which it corrects.
_ORDER: Final = (HotelDocument.issued_at, HotelDocument.kind, HotelDocument.number)
_DOCUMENTS: Final = (
    select(*_COLUMNS)
    .join(Hotel, Hotel.id == HotelDocument.hotel_id)
    .outerjoin(_Corrected, _Corrected.id == HotelDocument.corrects_id)
    .order_by(*_ORDER)
)


async def documents_of_booking(connection: AsyncConnection, booking_id: UUID, user_id: int) -> list[DocumentRow] | None:
    """Return the documents of the user's booking in their order, or None if the user has no booking by that id."""
    own = await connection.execute(select(Booking.id).where(Booking.id == booking_id, Booking.user_id == user_id))
    if own.first() is None:
        return None
    rows = await connection.execute(_DOCUMENTS.where(HotelDocument.booking_id == booking_id))
    return [_document(row) for row in rows.mappings()]


async def document_of_booking(
    connection: AsyncConnection, document_id: UUID, booking_id: UUID, user_id: int
) -> DocumentRow | None:
    """Return a document of the user's booking, or None if there is none by that id."""
    return await _found(
        connection,
        HotelDocument.id == document_id,
        HotelDocument.booking_id == booking_id,
        HotelDocument.booking_id.in_(select(Booking.id).where(Booking.id == booking_id, Booking.user_id == user_id)),
    )


async def document_of_hotel(
    connection: AsyncConnection, document_id: UUID, hotel_id: int, owner_id: int
) -> DocumentRow | None:
    """Return a document of the owner's hotel, or None if there is none by that id."""
    return await _found(
        connection,
        HotelDocument.id == document_id,
        HotelDocument.hotel_id == hotel_id,
        Hotel.owner_id == owner_id,
        Hotel.deleted_at.is_(None),
    )


async def documents_of_hotel(
    connection: AsyncConnection,
    hotel_id: int,
    since: datetime,
    until: datetime,
    *,
    after: ByIssue | None = None,
    limit: int | None = None,
) -> list[DocumentRow]:
    """Return a hotel's documents that were issued in [since, until), in their order; `limit` None: all that follow."""
    conditions: list[ColumnElement[bool]] = [
        HotelDocument.hotel_id == hotel_id,
        HotelDocument.issued_at >= since,
        HotelDocument.issued_at < until,
    ]
    if after is not None:
        # The first condition alone can begin within the index.
        conditions += [HotelDocument.issued_at >= after.issued_at, tuple_(*_ORDER) > tuple_(*after)]
    rows = await connection.execute(_DOCUMENTS.where(*conditions).limit(limit))
    return [_document(row) for row in rows.mappings()]


async def names_of(connection: AsyncConnection, booking_id: UUID) -> Sequence[str]:
    """Return the people that a booking's documents are made out to: the contact of the desk, or else the guests.

    There are none if the names were erased.
    """
    contacts = await connection.execute(select(DeskBooking.contact_name).where(DeskBooking.booking_id == booking_id))
    contact = contacts.scalar()
    return (contact,) if contact else [guest.name for guest in await guests_of(connection, booking_id)]


async def _found(connection: AsyncConnection, *conditions: ColumnElement[bool]) -> DocumentRow | None:
    row = (await connection.execute(_DOCUMENTS.where(*conditions))).mappings().first()
    return None if row is None else _document(row)


def _document(row: RowMapping) -> DocumentRow:
    fields: dict[str, Any] = {**row, "lines": msgspec.convert(row["lines"], list[PriceLine])}
    return DocumentRow(**fields)
