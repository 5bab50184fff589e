"""Documents get the next number of their series, and a credit note has no more than is left of its invoice.

The hotel's stay costs 200.00, of which 13.08 are VAT; `INVOICE` is its invoice, and `CREDIT` credits all of it.
"""

from collections import Counter
from uuid import UUID, uuid5

import pytest
from hypothesis import given as drawn
from hypothesis import strategies as st

from tests.support.scenario import Scenario, given
from tests.workers.decisions.words import ADAS, BENS, HOTEL, but
from topics.messages.commands import IssueDocument
from topics.messages.events import DocumentIssued, DocumentNotIssued
from topics.messages.sale import LineKind, PriceLine
from topics.messages.values import DocumentKind, DocumentReason

FIRST, SECOND, NOTE, OTHER_NOTE = (UUID(int=number) for number in range(101, 105))
STAY = PriceLine(kind=LineKind.STAY, id="standard", name="Standard", amount_minor=150_00)
BREAKFAST = PriceLine(kind=LineKind.FEE, id="breakfast", name="Breakfast", amount_minor=50_00)
VAT = PriceLine(kind=LineKind.TAX, id="vat", name="VAT", amount_minor=13_08, included=True)
PART = PriceLine(kind=LineKind.STAY, id="standard", name="Standard", amount_minor=50_00)
BELOW_ZERO = PriceLine(kind=LineKind.FEE, id="x", name="X", amount_minor=-10_00)
FEE = PriceLine(kind=LineKind.FEE, id="cancelled", name="Cancellation", amount_minor=60_00)

INVOICE = IssueDocument(
    hotel_id=HOTEL,
    document_id=FIRST,
    kind=DocumentKind.INVOICE,
    reason=DocumentReason.STAY,
    booking_id=ADAS,
    lines=(STAY, BREAKFAST, VAT),
    amount_minor=200_00,
    currency="EUR",
)
CREDIT = but(
    INVOICE, document_id=NOTE, kind=DocumentKind.CREDIT_NOTE, reason=DocumentReason.CANCELLED, corrects_id=FIRST
)
PART_OF_IT = but(
    CREDIT,
    document_id=OTHER_NOTE,
    reason=DocumentReason.REFUNDED_BY_HAND,
    lines=(PART,),
    amount_minor=50_00,
)
KEPT = but(
    INVOICE,
    document_id=SECOND,
    reason=DocumentReason.CANCELLED,
    lines=(FEE,),
    amount_minor=60_00,
    corrects_id=FIRST,
)


def issued(command: IssueDocument, number: int, **changes: object) -> DocumentIssued:
    """Return the event of a document with this number; it names the document that it corrects or takes back."""
    names = command.kind is DocumentKind.CREDIT_NOTE or command.reason is DocumentReason.REFUND_FAILED
    event = DocumentIssued(
        hotel_id=command.hotel_id,
        document_id=command.document_id,
        kind=command.kind,
        number=number,
        reason=command.reason,
        booking_id=command.booking_id,
        lines=command.lines,
        amount_minor=command.amount_minor,
        currency=command.currency,
        corrects_id=command.corrects_id if names else None,
    )
    return but(event, **changes)


def not_issued(command: IssueDocument) -> DocumentNotIssued:
    return DocumentNotIssued(hotel_id=command.hotel_id, document_id=command.document_id)


INVOICED = issued(INVOICE, 1)


def test_each_hotel_and_kind_counts_from_one() -> None:
    hotel = given(INVOICED)

    hotel.when(but(INVOICE, document_id=SECOND, booking_id=BENS)).then(
        issued(but(INVOICE, document_id=SECOND, booking_id=BENS), 2)
    )
    hotel.when(CREDIT).then(issued(CREDIT, 1))
    other = but(INVOICE, document_id=UUID(int=9), hotel_id=HOTEL + 1)
    hotel.when(other).then(issued(other, 1))


def test_the_same_document_is_issued_once_whatever_its_content() -> None:
    given(INVOICED).when(INVOICE).then(not_issued(INVOICE))
    changed = but(INVOICE, lines=(STAY,), amount_minor=150_00)
    given(INVOICED).when(changed).then(not_issued(changed))


@pytest.mark.parametrize(
    "command",
    [
        but(INVOICE, amount_minor=200_01),
        but(INVOICE, lines=()),
        but(INVOICE, lines=(PART, BELOW_ZERO), amount_minor=40_00),
        but(CREDIT, corrects_id=None),
        but(CREDIT, corrects_id=SECOND),
        but(CREDIT, booking_id=BENS),
        but(CREDIT, currency="USD"),
        but(CREDIT, hotel_id=HOTEL + 1),
    ],
    ids=[
        "wrong sum",
        "no lines",
        "a line below zero",
        "no invoice named",
        "unknown invoice",
        "another booking",
        "another currency",
        "another hotel",
    ],
)
def test_a_document_that_makes_no_sense_is_not_issued(command: IssueDocument) -> None:
    given(INVOICED).when(command).then(not_issued(command))


def test_a_credit_note_corrects_an_invoice_alone() -> None:
    of_a_note = but(CREDIT, document_id=SECOND, corrects_id=NOTE)

    given(INVOICED, issued(CREDIT, 1)).when(of_a_note).then(not_issued(of_a_note))


def test_a_credit_note_has_what_is_left_and_its_lines_keep_their_shares() -> None:
    cut = (
        PriceLine(kind=LineKind.STAY, id="standard", name="Standard", amount_minor=112_50),
        PriceLine(kind=LineKind.FEE, id="breakfast", name="Breakfast", amount_minor=37_50),
        PriceLine(kind=LineKind.TAX, id="vat", name="VAT", amount_minor=9_81, included=True),
    )
    hotel = given(INVOICED, issued(PART_OF_IT, 1))

    hotel.when(CREDIT).then(issued(CREDIT, 2, amount_minor=150_00, lines=cut))
    again = but(CREDIT, document_id=SECOND)
    hotel.when(again).then(not_issued(again))


def test_an_invoice_of_what_is_kept_has_no_more_than_the_guest_has_paid() -> None:
    given(INVOICED).when(KEPT).then(issued(KEPT, 2))
    most_of_it = but(PART_OF_IT, lines=(STAY,), amount_minor=150_00)
    rest = PriceLine(kind=LineKind.FEE, id="cancelled", name="Cancellation", amount_minor=50_00)

    given(INVOICED, issued(most_of_it, 1)).when(KEPT).then(issued(KEPT, 2, lines=(rest,), amount_minor=50_00))
    given(INVOICED, issued(CREDIT, 1)).when(KEPT).then(not_issued(KEPT))
    # The stay was paid before the hotel issued documents.
    given().when(KEPT).then(issued(KEPT, 1))


def test_an_invoice_of_what_is_kept_that_replaces_none_has_what_no_invoice_has() -> None:
    again = but(KEPT, document_id=UUID(int=9), corrects_id=None)
    rest = PriceLine(kind=LineKind.FEE, id="cancelled", name="Cancellation", amount_minor=40_00)
    goodwill = but(PART_OF_IT, corrects_id=SECOND, lines=(rest,), amount_minor=40_00)

    given().when(again).then(issued(again, 1))
    hotel = given(INVOICED, issued(KEPT, 2), issued(CREDIT, 1))
    hotel.when(again).then(not_issued(again))
    hotel.when(goodwill).then(issued(goodwill, 2))
    hotel.when(again).then(issued(again, 3, lines=(rest,), amount_minor=40_00))
    hotel.when(but(again, document_id=UUID(int=10))).then(not_issued(but(again, document_id=UUID(int=10))))


def test_a_credit_note_is_taken_back_when_its_refund_fails() -> None:
    again = but(INVOICE, document_id=SECOND, reason=DocumentReason.REFUND_FAILED, corrects_id=OTHER_NOTE)
    cut = (
        PriceLine(kind=LineKind.STAY, id="standard", name="Standard", amount_minor=37_50),
        PriceLine(kind=LineKind.FEE, id="breakfast", name="Breakfast", amount_minor=12_50),
        PriceLine(kind=LineKind.TAX, id="vat", name="VAT", amount_minor=3_27, included=True),
    )

    given(INVOICED, issued(PART_OF_IT, 1)).when(again).then(issued(again, 2, amount_minor=50_00, lines=cut))
    given(INVOICED).when(again).then(not_issued(again))
    of_the_invoice = but(again, corrects_id=FIRST)
    given(INVOICED).when(of_the_invoice).then(not_issued(of_the_invoice))


_IDS = st.integers(0, 12).map(lambda number: uuid5(UUID(int=0), str(number)))
_LINES = st.lists(
    st.builds(
        PriceLine,
        kind=st.sampled_from(LineKind),
        id=st.just("id"),
        name=st.just("Name"),
        amount_minor=st.integers(-1, 500),
        included=st.booleans(),
    ),
    max_size=4,
).map(tuple)


@st.composite
def _commands(draw: st.DrawFn) -> IssueDocument:
    lines = draw(_LINES)
    total = sum(line.amount_minor for line in lines if not line.included)
    return IssueDocument(
        hotel_id=draw(st.sampled_from((1, 2))),
        document_id=draw(_IDS),
        kind=draw(st.sampled_from(DocumentKind)),
        reason=draw(st.sampled_from(DocumentReason)),
        booking_id=draw(st.sampled_from((ADAS, BENS))),
        lines=lines,
        amount_minor=max(1, total + draw(st.sampled_from((0, 0, 0, 1)))),
        currency=draw(st.sampled_from(("EUR", "EUR", "USD"))),
        corrects_id=draw(st.none() | _IDS),
    )


@drawn(st.lists(_commands(), max_size=40))
def test_numbers_have_no_gap_and_no_invoice_is_credited_above_its_amount(commands: list[IssueDocument]) -> None:
    hotel = Scenario()
    events: list[DocumentIssued] = []
    for command in commands:
        events += [answer for answer in hotel.when(command).answer if isinstance(answer, DocumentIssued)]

    numbers = Counter((event.hotel_id, event.kind) for event in events)
    for (hotel_id, kind), count in numbers.items():
        series = [event.number for event in events if (event.hotel_id, event.kind) == (hotel_id, kind)]
        assert series == list(range(1, count + 1))
    assert len({event.document_id for event in events}) == len(events)
    credited: Counter[UUID] = Counter()
    for event in events:
        assert event.amount_minor == sum(line.amount_minor for line in event.lines if not line.included) > 0
        assert all(line.amount_minor >= 0 for line in event.lines)
        assert event.corrects_id is not None or event.kind is DocumentKind.INVOICE
        if event.corrects_id is not None:
            credited[event.corrects_id] += event.amount_minor
    corrected = {event.document_id: event for event in events}
    assert all(credited[id] <= corrected[id].amount_minor for id in credited)
    assert all(event.kind is not corrected[event.corrects_id].kind for event in events if event.corrects_id)
    assert {id: document.credited_minor for id, document in hotel.documents.items()} == {
        event.document_id: credited[event.document_id] for event in events
    }
