"""Guests and hotels read the invoices and credit notes of bookings: as JSON, as a page to print, and as CSV."""

import csv
import io
import json
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import msgspec
import pytest
from psycopg.types.json import Jsonb

from tests.ingress.house import House, StandInWorker
from tests.support.client import Answer
from topics.messages.sale import LineKind, PriceLine

OWNER, GUEST, OTHER = 1, 2, 1
ROOM = PriceLine(kind=LineKind.STAY, id="standard", name="Double <room> & breakfast", amount_minor=200_00)
VAT = PriceLine(kind=LineKind.TAX, id="vat", name="VAT", amount_minor=13_08, included=True)
CITY_TAX = PriceLine(kind=LineKind.TAX, id="city", name="City tax", amount_minor=10_00)
INVOICE, NOTE = UUID(int=501), UUID(int=502)
# 1 December, 00:30 in Auckland.
AT = datetime(2026, 11, 30, 11, 30, tzinfo=UTC)


@pytest.fixture
async def desk(stand_in: StandInWorker, house: House) -> AsyncIterator[StandInWorker]:
    """The stand-in that writes documents; hotel 1, in Auckland, belongs to user 1."""
    await stand_in.connection.execute(
        "update hotel set owner_id = %s, time_zone = 'Pacific/Auckland', contact_address = 'Quay 1', city = 'Auckland'"
        " where id = 1",
        (OWNER,),
    )
    yield stand_in
    await stand_in.connection.execute("truncate hotel_document, desk_booking")


async def issued(
    desk: StandInWorker,
    booking_id: UUID,
    id: UUID = INVOICE,
    *,
    kind: str = "invoice",
    number: int = 1,
    reason: str = "stay",
    lines: tuple[PriceLine, ...] = (ROOM, VAT, CITY_TAX),
    corrects_id: UUID | None = None,
    credited_minor: int = 0,
    at: datetime = AT,
    hotel: int = 1,
) -> UUID:
    """Write a document as the worker does."""
    amount_minor = sum(line.amount_minor for line in lines if not line.included)
    await desk.connection.execute(
        "insert into hotel_document (id, hotel_id, kind, number, reason, booking_id, amount_minor, currency, lines,"
        " corrects_id, credited_minor, booking_version, issued_at)"
        " values (%s, %s, %s, %s, %s, %s, %s, 'EUR', %s, %s, %s, 9, %s)",
        (
            id,
            hotel,
            kind,
            number,
            reason,
            booking_id,
            amount_minor,
            Jsonb(lines, dumps=msgspec.json.encode),
            corrects_id,
            credited_minor,
            at,
        ),
    )
    return id


async def credited(desk: StandInWorker, booking_id: UUID) -> None:
    """Write an invoice and the credit note of all of it."""
    await issued(desk, booking_id, credited_minor=210_00, number=12)
    at = AT + timedelta(seconds=1)
    await issued(desk, booking_id, NOTE, kind="credit_note", reason="cancelled", corrects_id=INVOICE, number=3, at=at)


async def read(house: House, path: str, *, user: int = GUEST, accept: str = "*/*") -> Answer:
    return await house.get(f"/v1/{path}", headers=house.user_header(user) | {"Accept": accept})


async def managed(house: House, path: str, *, user: int = OWNER, accept: str = "*/*", **query: str) -> Answer:
    headers = house.manager_header(user) | {"Accept": accept}
    return await house.get(f"/v1/admin/hotels/{path}", params=query, headers=headers)


async def test_a_guest_lists_the_documents_of_a_booking(house: House, desk: StandInWorker) -> None:
    booking_id = await desk.add_booking(GUEST, "CANCELLED")
    await credited(desk, booking_id)
    await issued(desk, await desk.add_booking(GUEST, "CONFIRMED"), UUID(int=503), number=13)

    answered = await read(house, f"bookings/{booking_id}/documents")

    assert answered.status == 200, answered
    shared = {
        "issued_on": "2026-12-01",
        "booking_id": str(booking_id),
        "amount": "210.00",
        "tax": "23.08",
        "currency": "EUR",
    }
    assert answered.body == [
        {
            "id": str(INVOICE),
            "number": "INV-000012",
            "kind": "invoice",
            "reason": "stay",
            "issued_at": "2026-11-30T11:30:00Z",
            **shared,
            "corrects": None,
            "corrects_id": None,
            "credited": "210.00",
        },
        {
            "id": str(NOTE),
            "number": "CRN-000003",
            "kind": "credit_note",
            "reason": "cancelled",
            "issued_at": "2026-11-30T11:30:01Z",
            **shared,
            "corrects": "INV-000012",
            "corrects_id": str(INVOICE),
            "credited": "0.00",
        },
    ]


async def test_a_credit_note_is_before_the_invoice_of_the_same_instant_in_both_lists(
    house: House, desk: StandInWorker
) -> None:
    booking_id = await desk.add_booking(GUEST, "CONFIRMED")
    await issued(desk, booking_id, UUID(int=901), number=1, at=AT - timedelta(minutes=10))
    # A change of the stay issues both at once; their ids are in no order.
    for number, ids in ((2, (902, 903)), (3, (905, 904))):
        note, invoice = (UUID(int=id) for id in ids)
        await issued(desk, booking_id, invoice, number=number, reason="stay_changed")
        await issued(desk, booking_id, note, kind="credit_note", number=number, reason="stay_changed")
    order = ["INV-000001", "CRN-000002", "CRN-000003", "INV-000002", "INV-000003"]

    of_guest = await read(house, f"bookings/{booking_id}/documents")
    of_hotel = [await managed(house, "1/documents", month="2026-12", limit="1")]
    while "Link" in of_hotel[-1].headers:
        following = of_hotel[-1].headers["Link"].partition(">")[0].lstrip("<")
        of_hotel.append(await house.get(following, headers=house.manager_header(OWNER)))

    assert [each["number"] for each in of_guest.body] == order
    assert [each["number"] for answered in of_hotel for each in answered.body] == order


async def test_a_position_that_no_list_gave_is_refused(house: House, desk: StandInWorker) -> None:
    for position in ([10**30, "invoice", 1], [0, "receipt", 1], [0, "invoice", 10**30], [0, "invoice"]):
        cursor = urlsafe_b64encode(json.dumps(position).encode()).decode().rstrip("=")
        assert (await managed(house, "1/documents", cursor=cursor)).status == 422


async def test_a_booking_without_documents_has_an_empty_list(house: House, desk: StandInWorker) -> None:
    booking_id = await desk.add_booking(GUEST)

    assert (await read(house, f"bookings/{booking_id}/documents")).body == []


async def test_documents_of_others_are_not_found(house: House, desk: StandInWorker) -> None:
    booking_id, own = await desk.add_booking(GUEST), await desk.add_booking(OTHER)
    await issued(desk, booking_id)

    for path in (f"bookings/{booking_id}/documents", f"bookings/{booking_id}/documents/{INVOICE}"):
        assert (await read(house, path, user=OTHER)).status == 404
    assert (await read(house, f"bookings/{own}/documents/{INVOICE}", user=OTHER)).status == 404
    assert (await read(house, f"bookings/{booking_id}/documents/{uuid4()}")).status == 404
    assert (await managed(house, f"1/documents/{INVOICE}", user=GUEST)).status == 404
    assert (await managed(house, "1/documents", user=GUEST)).status == 404


async def test_a_document_has_its_seller_its_buyers_and_its_taxes(house: House, desk: StandInWorker) -> None:
    guest_list = uuid4()
    booking_id = await desk.add_booking(GUEST, "CONFIRMED", guest_list_id=guest_list)
    await desk.connection.execute(
        "insert into guest_list (id, booking_id, user_id, guests) values (%s, %s, %s, %s)",
        (
            guest_list,
            booking_id,
            GUEST,
            Jsonb([{"id": 1, "name": "Ada", "gender": None, "age": None}]),
        ),
    )
    await desk.connection.execute("update hotel set legal_name = 'Inn Ltd', tax_id = 'NZ1' where id = 1")
    await issued(desk, booking_id)

    body = (await read(house, f"bookings/{booking_id}/documents/{INVOICE}")).body

    assert body["seller"] == {
        "name": "Inn Ltd",
        "hotel": "Inn",
        "tax_id": "NZ1",
        "address": "Quay 1",
        "city": "Auckland",
    }
    assert body["buyers"] == ["Ada"]
    assert body["lines"] == [
        {"kind": "stay", "name": "Double <room> & breakfast", "amount": "200.00", "included": False},
        {"kind": "tax", "name": "VAT", "amount": "13.08", "included": True},
        {"kind": "tax", "name": "City tax", "amount": "10.00", "included": False},
    ]
    assert body["taxes"] == [{"name": "VAT", "amount": "13.08"}, {"name": "City tax", "amount": "10.00"}]


async def test_a_page_to_print_has_every_text_escaped_and_runs_nothing(house: House, desk: StandInWorker) -> None:
    booking_id = await desk.add_booking(GUEST, "CONFIRMED")
    await desk.connection.execute("update hotel set legal_name = %s where id = 1", ("<script>alert(1)</script>",))
    await credited(desk, booking_id)

    answered = await read(house, f"bookings/{booking_id}/documents/{NOTE}", accept="text/html")

    assert answered.status == 200
    assert answered.headers["Content-Type"] == "text/html; charset=utf-8"
    assert answered.headers["Cache-Control"] == "no-store"
    policy = answered.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert "<script" not in answered.body
    for part in (
        "<h1>Credit note CRN-000003</h1>",
        "<dt>Corrects</dt><dd>INV-000012</dd>",
        "&lt;script&gt;alert(1)&lt;/script&gt; (Inn), Quay 1, Auckland",
        "Double &lt;room&gt; &amp; breakfast",
        "210.00 EUR",
    ):
        assert part in answered.body


async def test_a_hotel_prints_the_document_of_a_booking_at_the_desk(house: House, desk: StandInWorker) -> None:
    booking_id = await desk.add_booking(None, "CHECKED_OUT")  # type: ignore[arg-type]
    await desk.connection.execute(
        "insert into desk_booking (booking_id, hotel_id, manager_id, contact_name) values (%s, 1, %s, 'Grace')",
        (booking_id, OWNER),
    )
    await issued(desk, booking_id)

    answered = await managed(house, f"1/documents/{INVOICE}")
    printed = await managed(house, f"1/documents/{INVOICE}", accept="text/html")

    assert answered.body["buyers"] == ["Grace"]
    assert "<dt>To</dt><dd>Grace</dd>" in printed.body


async def test_a_hotel_lists_a_month_of_its_own_calendar_in_pages(house: House, desk: StandInWorker) -> None:
    booking_id = await desk.add_booking(GUEST)
    # December ends in Auckland at 11:00 UTC of the 31st.
    times = ("2026-11-30T10:59:59Z", "2026-11-30T11:00:00Z", "2026-12-31T10:59:59Z", "2026-12-31T11:00:00Z")
    for number, at in enumerate(times, 1):
        await issued(desk, booking_id, UUID(int=600 + number), number=number, at=datetime.fromisoformat(at))
    await issued(desk, booking_id, UUID(int=700), number=1, hotel=2, at=datetime.fromisoformat(times[1]))

    first = await managed(house, "1/documents", month="2026-12", limit="1")
    following = first.headers["Link"].partition(">")[0].lstrip("<")
    second = await house.get(following, headers=house.manager_header(OWNER))

    assert [each["number"] for each in first.body] == ["INV-000002"]
    assert [each["number"] for each in second.body] == ["INV-000003"]
    assert "Link" not in second.headers
    assert [each["number"] for each in (await managed(house, "1/documents", month="2026-11")).body] == ["INV-000001"]
    assert (await managed(house, "1/documents", month="December")).status == 422


async def test_a_hotel_reads_its_month_as_csv(house: House, desk: StandInWorker) -> None:
    booking_id = await desk.add_booking(GUEST)
    await credited(desk, booking_id)

    answered = await managed(house, "1/documents", month="2026-12", accept="text/csv", limit="1")

    assert answered.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert answered.headers["Content-Disposition"] == 'attachment; filename="hotel-1-documents-2026-12.csv"'
    rows = list(csv.DictReader(io.StringIO(answered.body)))
    assert {(row["number"], row["kind"], row["amount"], row["tax"], row["corrects"]) for row in rows} == {
        ("INV-000012", "invoice", "210.00", "23.08", ""),
        ("CRN-000003", "credit_note", "210.00", "23.08", "INV-000012"),
    }


async def test_a_hotel_sets_its_legal_name_and_tax_id(house: House, desk: StandInWorker) -> None:
    headers = house.manager_header(OWNER)

    changed = await house.ask(
        "PATCH", "/v1/admin/hotels/1", {"legal_name": "Inn Ltd", "tax_id": "NZ1"}, headers=headers
    )
    cleared = await house.ask("PATCH", "/v1/admin/hotels/1", {"tax_id": None}, headers=headers)

    assert (changed.body["legal_name"], changed.body["tax_id"]) == ("Inn Ltd", "NZ1")
    assert (cleared.body["legal_name"], cleared.body["tax_id"]) == ("Inn Ltd", None)
