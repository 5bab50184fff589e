"""Operations on invoices and credit notes: those of a guest's booking, and those of a hotel's month."""

import csv
import io
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

from aiohttp import hdrs, web
from pydantic import Field, StringConstraints
from sqlalchemy.ext.asyncio import AsyncConnection

from ingress.database import Database, snapshot
from ingress.http.media import CSV, HTML, prefers_csv, prefers_html
from ingress.http.models import Id, NoBody, NoQuery
from ingress.http.paging import NEXT_PAGE, Cursors, first_page, link_to_next
from ingress.http.problems import existing
from ingress.http.responses import Response, json_response
from ingress.invoices.models import DocumentLineOut, DocumentOut, DocumentsQuery, Seller, TaxTotal, WholeDocument
from ingress.invoices.page import PAGE_HEADERS, page
from ingress.operations import Access, Example, RequestContext, ResponseSpec, operation
from ingress.stays import month_at, today_at
from pricing.currencies import decimal
from storage.reads import documents, reports
from storage.reads.documents import ByIssue, DocumentRow
from topics.messages.sale import LineKind
from topics.zones import day_at

_BOOKING: Final = {"booking_id": "01980000-0000-8000-8000-000000000000"}
_DOCUMENT: Final = {"document_id": "5f0c7d3e-1b1a-5a52-9d0f-3f6d3c1f8a11"}
_PREFIXES: Final = {"invoice": "INV", "credit_note": "CRN"}
#: A credit note corrects an invoice, and an invoice can take a credit note back.
_CORRECTED: Final = {"invoice": _PREFIXES["credit_note"], "credit_note": _PREFIXES["invoice"]}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_ONE: Final = ResponseSpec(
    WholeDocument,
    headers={"Vary": "`Accept` chooses JSON or a page."},
    other_media={HTML: "A page to print."},
)

#: A position: microseconds since 1970, kind and number of a document.
_positions: Final = Cursors(
    tuple[
        Annotated[int, Field(ge=0, le=(datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND)],
        Annotated[str, StringConstraints(pattern="^(invoice|credit_note)$")],
        Id,
    ]
)


class Invoices:
    """The operations on the documents of bookings and hotels."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @operation(
        "GET /bookings/{booking_id}/documents",
        access=Access.USER,
        summary="List the invoices and credit notes of one's booking",
        responses={200: ResponseSpec(list[DocumentOut], "In the order in which they were issued.")},
        example=Example(path=_BOOKING),
    )
    async def booking_documents(self, context: RequestContext[NoBody, NoQuery]) -> Response:
        """List the invoices and credit notes of one's booking: those of the payment, of changes and of the end.

        A document follows what it is about within a second or so.
        """

        async def read(connection: AsyncConnection) -> list[DocumentRow] | None:
            return await documents.documents_of_booking(connection, context.path["booking_id"], context.caller.user_id)

        rows = existing(await self._database.read(read), "booking")
        return json_response(200, [DocumentOut(**_fields(row)) for row in rows])

    @operation(
        "GET /bookings/{booking_id}/documents/{document_id}",
        access=Access.USER,
        summary="Read an invoice or a credit note of one's booking",
        responses={200: _ONE},
        example=Example(path={**_BOOKING, **_DOCUMENT}),
    )
    async def booking_document(self, context: RequestContext[NoBody, NoQuery]) -> Response:
        """Read a document with its seller, its lines and its taxes, as JSON or as a page to print."""
        path, user_id = context.path, context.caller.user_id

        async def read(connection: AsyncConnection) -> WholeDocument:
            async with snapshot(connection):
                row = await documents.document_of_booking(connection, path["document_id"], path["booking_id"], user_id)
                return await _whole(connection, existing(row, "document"))

        return _shown(context.request, await self._database.read(read))

    @operation(
        "GET /admin/hotels/{hotel_id}/documents",
        access=Access.MANAGER,
        summary="List the invoices and credit notes of a hotel's month",
        responses={
            200: ResponseSpec(
                list[DocumentOut],
                "By the time of issue; as CSV all of the month, a line each after a line of names.",
                {
                    **NEXT_PAGE,
                    "Vary": "`Accept` chooses JSON or CSV.",
                    "Content-Disposition": "CSV: a file's name.",
                },
                {CSV: "The documents: " + ", ".join(DocumentOut.model_fields)},
            )
        },
        example=Example(path={"hotel_id": 1}, query={"month": "2026-12", "limit": 100}),
    )
    async def hotel_documents(self, context: RequestContext[NoBody, DocumentsQuery]) -> Response:
        """List the documents that one's hotel issued in a month of its calendar."""
        query, hotel_id = context.query, context.path["hotel_id"]
        as_csv = prefers_csv(context.request)
        after = _positions.read(query.cursor)

        async def read(connection: AsyncConnection) -> tuple[str, Sequence[DocumentRow]]:
            async with snapshot(connection):
                found = await reports.managed_hotel(connection, hotel_id, context.caller.user_id)
                hotel = existing(found, "hotel")
                month = query.month or today_at(hotel.time_zone).strftime("%Y-%m")
                since, until = month_at(month, hotel.time_zone)
                rows = await documents.documents_of_hotel(
                    connection,
                    hotel_id,
                    since,
                    until,
                    after=None if after is None or as_csv else ByIssue(_EPOCH + after[0] * _MICROSECOND, *after[1:]),
                    limit=None if as_csv else query.limit + 1,
                )
            return month, rows

        month, rows = await self._database.read(read)
        if as_csv:
            return _as_csv(hotel_id, month, rows)
        shown, last = first_page(rows, query.limit)
        headers = {hdrs.VARY: hdrs.ACCEPT, **link_to_next(context.address_with, last, _cursor)}
        return json_response(200, [DocumentOut(**_fields(row)) for row in shown], headers)

    @operation(
        "GET /admin/hotels/{hotel_id}/documents/{document_id}",
        access=Access.MANAGER,
        summary="Read an invoice or a credit note of one's hotel",
        responses={200: _ONE},
        example=Example(path={"hotel_id": 1, **_DOCUMENT}),
    )
    async def hotel_document(self, context: RequestContext[NoBody, NoQuery]) -> Response:
        """Read a document of one's hotel, as JSON or as a page to print for a guest without an account."""
        path, owner_id = context.path, context.caller.user_id

        async def read(connection: AsyncConnection) -> WholeDocument:
            async with snapshot(connection):
                row = await documents.document_of_hotel(connection, path["document_id"], path["hotel_id"], owner_id)
                return await _whole(connection, existing(row, "document"))

        return _shown(context.request, await self._database.read(read))


async def _whole(connection: AsyncConnection, row: DocumentRow) -> WholeDocument:
    def money(amount_minor: int) -> str:
        return decimal(amount_minor, row.currency)

    taxes: dict[str, int] = {}
    for line in row.lines:
        if line.kind is LineKind.TAX:
            taxes[line.name] = taxes.get(line.name, 0) + line.amount_minor
    return WholeDocument(
        **_fields(row),
        seller=Seller(
            name=row.legal_name or row.hotel_name,
            hotel=row.hotel_name,
            tax_id=row.tax_id,
            address=row.contact_address,
            city=row.city,
        ),
        buyers=list(await documents.names_of(connection, row.booking_id)),
        lines=[
            DocumentLineOut(
                kind=line.kind.value, name=line.name, amount=money(line.amount_minor), included=line.included
            )
            for line in row.lines
        ],
        taxes=[TaxTotal(name=name, amount=money(amount_minor)) for name, amount_minor in taxes.items()],
    )


def _fields(row: DocumentRow) -> dict[str, Any]:
    """Return the fields of a `DocumentOut`."""
    tax_minor = sum(line.amount_minor for line in row.lines if line.kind is LineKind.TAX)
    return {
        "id": row.id,
        "number": f"{_PREFIXES[row.kind]}-{row.number:06d}",
        "kind": row.kind,
        "reason": row.reason,
        "issued_on": day_at(row.time_zone, row.issued_at),
        "issued_at": row.issued_at,
        "booking_id": row.booking_id,
        "amount": decimal(row.amount_minor, row.currency),
        "tax": decimal(tax_minor, row.currency),
        "currency": row.currency,
        "corrects": None if row.corrects_number is None else f"{_CORRECTED[row.kind]}-{row.corrects_number:06d}",
        "corrects_id": row.corrects_id,
        "credited": decimal(row.credited_minor, row.currency),
    }


def _shown(request: web.Request, document: WholeDocument) -> Response:
    headers: dict[str, str] = {hdrs.VARY: hdrs.ACCEPT}
    if prefers_html(request):
        return Response(200, page(document), headers | PAGE_HEADERS, media=f"{HTML}; charset=utf-8")
    return json_response(200, document, headers)


def _cursor(row: DocumentRow) -> str:
    return _positions.write(((row.issued_at - _EPOCH) // _MICROSECOND, row.kind, row.number))


def _as_csv(hotel_id: int, month: str, rows: Sequence[DocumentRow]) -> Response:
    lines = io.StringIO()
    writer = csv.DictWriter(lines, tuple(DocumentOut.model_fields))
    writer.writeheader()
    writer.writerows(DocumentOut(**_fields(row)).model_dump(mode="json") for row in rows)
    headers: dict[str, str] = {
        hdrs.VARY: hdrs.ACCEPT,
        hdrs.CONTENT_DISPOSITION: f'attachment; filename="hotel-{hotel_id}-documents-{month}.csv"',
    }
    return Response(200, lines.getvalue().encode(), headers, media=f"{CSV}; charset=utf-8")
