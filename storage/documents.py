"""The bulk reads and writes of hotels' documents, in the way of `storage.bookings`."""

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection

#: Columns of `hotel_document` that a decision reads, with their types.
DOCUMENT_COLUMNS = {
    "id": "uuid",
    "hotel_id": "int8",
    "kind": "text",
    "number": "int8",
    "reason": "text",
    "booking_id": "uuid",
    "lines": "jsonb",
    "amount_minor": "int8",
    "currency": "text",
    "corrects_id": "uuid",
    "credited_minor": "int8",
    "booking_version": "int8",
}
_WRITTEN = {**DOCUMENT_COLUMNS, "issued_at": "timestamptz"}
# Two looks into indexes: a document is found by its own id, and all of a booking by that of the booking.
_LOAD = "select {columns} from hotel_document where id = any(%b::uuid[]) or booking_id = any(%b::uuid[])".format(
    columns=", ".join(DOCUMENT_COLUMNS)
)
# The greatest number of each series is one look into its index.
_LAST_NUMBERS = """
    select hotel_id, kind, coalesce((select max(number) from hotel_document as d
                                     where d.hotel_id = wanted.hotel_id and d.kind = wanted.kind), 0)
    from unnest(%b::int8[], %b::text[]) as wanted (hotel_id, kind)
"""
_ADD = "insert into hotel_document ({}) select * from unnest({})".format(
    ", ".join(_WRITTEN), ", ".join(f"%b::{kind}[]" for kind in _WRITTEN.values())
)
_CREDIT = """
    update hotel_document as d set credited_minor = n.credited_minor
    from unnest(%b::uuid[], %b::int8[]) as n (id, credited_minor) where d.id = n.id
"""


async def load_documents(
    connection: AsyncConnection, ids: Iterable[UUID], booking_ids: Iterable[UUID] = ()
) -> list[tuple[Any, ...]]:
    """Return the documents that exist among `ids` and those of bookings, by `DOCUMENT_COLUMNS`."""
    return await (await connection.execute(_LOAD.encode(), (list(ids), list(booking_ids)))).fetchall()


async def last_numbers(connection: AsyncConnection, series: Iterable[tuple[int, str]]) -> list[tuple[int, str, int]]:
    """Return the greatest number of each series, which is a hotel and a kind; 0 for one without documents."""
    columns = [list(column) for column in zip(*series, strict=True)]
    return await (await connection.execute(_LAST_NUMBERS, columns)).fetchall()


async def add_documents(connection: AsyncConnection, rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert documents: the columns of `DOCUMENT_COLUMNS`, and then the log's time."""
    await connection.execute(_ADD.encode(), [list(column) for column in zip(*rows, strict=True)])


async def credit_invoices(connection: AsyncConnection, credited: Sequence[tuple[UUID, int]]) -> None:
    """Write the sums of the credit notes of invoices."""
    await connection.execute(_CREDIT, [list(column) for column in zip(*credited, strict=True)])
