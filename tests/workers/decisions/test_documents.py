"""Documents get the next number of their series, and bring those of a booking to the amount that its hotel keeps.

The hotel's stay costs 200.00, of which 13.08 are VAT; `INVOICE` is its invoice, and `CREDIT` credits all of it.
"""

from collections import Counter
from uuid import UUID, uuid5

import pytest
from hypothesis import given as drawn
from hypothesis import strategies as st
from msgspec.structs import replace

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
    INVOICE,
    document_id=NOTE,
    kind=DocumentKind.CREDIT_NOTE,
    reason=DocumentReason.REFUNDED_BY_HAND,
    lines=(),
    kept_minor=0,
)
PART_OF_IT = but(CREDIT, document_id=OTHER_NOTE, amount_minor=50_00, kept_minor=150_00)
KEPT = but(
    INVOICE,
    document_id=SECOND,
    reason=DocumentReason.CANCELLED,
    lines=(FEE,),
    amount_minor=60_00,
    kept_minor=60_00,
)
CHANGED = but(
    INVOICE,
    document_id=SECOND,
    reason=DocumentReason.STAY_CHANGED,
    lines=(STAY,),
    amount_minor=150_00,
)
TAKEN_BACK = but(
    INVOICE,
    document_id=SECOND,
    reason=DocumentReason.REFUND_FAILED,
    lines=(),
    amount_minor=50_00,
    corrects_id=OTHER_NOTE,
    kept_minor=200_00,
)


def cut(stay_minor: int, breakfast_minor: int, vat_minor: int) -> tuple[PriceLine, ...]:
    """Return the lines of the invoice with these amounts."""
    amounts = (stay_minor, breakfast_minor, vat_minor)
    return tuple(replace(line, amount_minor=minor) for line, minor in zip(INVOICE.lines, amounts, strict=True))


def issued(command: IssueDocument, number: int, part: int = 0, **changes: object) -> DocumentIssued:
    """Return the event of a document with this number, the first of its command or a later one."""
    event = DocumentIssued(
        hotel_id=command.hotel_id,
        document_id=uuid5(command.document_id, str(part)) if part else command.document_id,
        kind=command.kind,
        number=number,
        reason=command.reason,
        booking_id=command.booking_id,
        lines=command.lines,
        amount_minor=command.amount_minor,
        currency=command.currency,
        booking_version=command.booking_version,
    )
    return but(event, **changes)


def not_issued(command: IssueDocument) -> DocumentNotIssued:
    return DocumentNotIssued(hotel_id=command.hotel_id, document_id=command.document_id)


INVOICED = issued(INVOICE, 1)
CREDITED = issued(CREDIT, 1, corrects_id=FIRST, lines=INVOICE.lines)
CREDITED_PART = issued(PART_OF_IT, 1, corrects_id=FIRST, lines=cut(37_50, 12_50, 3_27))


def test_each_hotel_and_kind_counts_from_one() -> None:
    hotel = given(INVOICED)

    hotel.when(but(INVOICE, document_id=SECOND, booking_id=BENS)).then(
        issued(but(INVOICE, document_id=SECOND, booking_id=BENS), 2)
    )
    hotel.when(CREDIT).then(CREDITED)
    other = but(INVOICE, document_id=UUID(int=9), booking_id=UUID(int=3), hotel_id=HOTEL + 1)
    hotel.when(other).then(issued(other, 1))


def test_the_same_document_is_issued_once_whatever_its_content() -> None:
    given(INVOICED).when(INVOICE).then(not_issued(INVOICE))
    changed = but(INVOICE, lines=(STAY,), amount_minor=150_00)
    given(INVOICED).when(changed).then(not_issued(changed))


@pytest.mark.parametrize(
    "command",
    [
        but(INVOICE, document_id=SECOND, amount_minor=200_01),
        but(INVOICE, document_id=SECOND, lines=()),
        but(INVOICE, document_id=SECOND, lines=(PART, BELOW_ZERO), amount_minor=40_00),
        but(CREDIT, booking_id=BENS),
        but(CREDIT, currency="USD"),
        but(CREDIT, hotel_id=HOTEL + 1),
        but(CREDIT, kept_minor=200_00),
        but(KEPT, corrects_id=NOTE),
        but(TAKEN_BACK, kept_minor=300_00),
    ],
    ids=[
        "wrong sum",
        "no lines",
        "a line below zero",
        "no invoice",
        "another currency",
        "another hotel",
        "all of it is kept",
        "a refund that failed before the end is known",
        "no credit note to take back",
    ],
)
def test_a_document_that_makes_no_sense_is_not_issued(command: IssueDocument) -> None:
    given(INVOICED).when(command).then(not_issued(command))


def test_a_credit_note_leaves_what_is_kept_and_has_the_lines_of_its_invoice_in_proportion() -> None:
    given(INVOICED).when(PART_OF_IT).then(CREDITED_PART)
    hotel = given(INVOICED, CREDITED_PART)

    again = but(CREDIT, document_id=SECOND, amount_minor=60_00, kept_minor=140_00)
    hotel.when(again).then(
        issued(again, 2, amount_minor=10_00, corrects_id=FIRST, lines=cut(7_50, 2_50, 65)),
    )
    hotel.when(but(again, document_id=UUID(int=9))).then(not_issued(but(again, document_id=UUID(int=9))))
    hotel.when(CREDIT).then(issued(CREDIT, 3, amount_minor=140_00, corrects_id=FIRST, lines=cut(105_00, 35_00, 9_16)))
    # A repeated one with another id finds nothing above what is kept.
    hotel.when(but(CREDIT, document_id=UUID(int=9))).then(not_issued(but(CREDIT, document_id=UUID(int=9))))


def test_a_command_of_an_older_booking_than_the_documents_issues_nothing() -> None:
    hotel = given(INVOICED, but(CREDITED_PART, booking_version=5))

    for command in (CREDIT, KEPT, CHANGED, TAKEN_BACK):
        hotel.when(but(command, booking_version=4)).then(not_issued(command))
    assert DocumentIssued in map(type, hotel.when(but(KEPT, booking_version=5)).answer)


def test_a_command_that_names_no_version_of_its_booking_is_decided() -> None:
    """Code from before there were versions names none: its command may be of a newer booking than the documents."""
    newer = but(INVOICED, booking_version=5)
    credit = issued(CREDIT, 1, corrects_id=FIRST, lines=INVOICE.lines)
    assert credit.booking_version == 0

    hotel = given(newer)
    hotel.when(but(CREDIT, kept_minor=None)).then(credit)
    hotel.when(CHANGED).then(issued(CHANGED, 2))
    # A version below that of a document is refused all the same.
    older = but(KEPT, document_id=UUID(int=9), booking_version=4)
    hotel.when(older).then(not_issued(older))


def test_a_credit_note_has_a_part_for_each_open_invoice() -> None:
    again = issued(but(TAKEN_BACK, lines=cut(37_50, 12_50, 3_27)), 2, corrects_id=OTHER_NOTE)

    given(INVOICED, CREDITED_PART, again).when(CREDIT).then(
        issued(CREDIT, 2, amount_minor=150_00, corrects_id=FIRST, lines=cut(112_50, 37_50, 9_81)),
        issued(CREDIT, 3, part=1, amount_minor=50_00, corrects_id=SECOND, lines=cut(37_50, 12_50, 3_27)),
    )


def test_the_invoice_of_a_changed_stay_replaces_the_one_before_and_leaves_what_is_kept() -> None:
    rest = but(CHANGED, kind=DocumentKind.CREDIT_NOTE, amount_minor=150_00, lines=cut(112_50, 37_50, 9_81))
    hotel = given(INVOICED, CREDITED_PART)

    hotel.when(but(CHANGED, kept_minor=120_00)).then(
        issued(rest, 2, corrects_id=FIRST),
        issued(CHANGED, 2, part=1),
        issued(
            CHANGED,
            3,
            part=2,
            kind=DocumentKind.CREDIT_NOTE,
            amount_minor=30_00,
            corrects_id=uuid5(SECOND, "1"),
            lines=(replace(STAY, amount_minor=30_00),),
        ),
    )
    hotel.when(CHANGED).then(not_issued(CHANGED))
    # The amount that is kept is unknown, as a later change replaces this one: it settles the amount.
    given(INVOICED, CREDITED_PART).when(CHANGED).then(issued(rest, 2, corrects_id=FIRST), issued(CHANGED, 2, part=1))


def test_the_invoice_of_an_end_replaces_the_one_of_the_stay_and_has_no_more_than_is_kept() -> None:
    whole = issued(KEPT, 1, kind=DocumentKind.CREDIT_NOTE, amount_minor=200_00, corrects_id=FIRST, lines=INVOICE.lines)
    rest = replace(FEE, amount_minor=50_00)

    given(INVOICED).when(KEPT).then(whole, issued(KEPT, 2, part=1))
    given(INVOICED).when(but(KEPT, kept_minor=50_00)).then(
        whole, issued(KEPT, 2, part=1, lines=(rest,), amount_minor=50_00)
    )
    given(INVOICED).when(but(KEPT, kept_minor=0)).then(whole)
    given(INVOICED, CREDITED).when(but(KEPT, kept_minor=0)).then(not_issued(KEPT))
    # The stay was paid before the hotel issued documents.
    given().when(KEPT).then(issued(KEPT, 1))


def test_a_further_invoice_after_the_end_has_what_the_documents_lack() -> None:
    again = but(KEPT, document_id=UUID(int=9), corrects_id=OTHER_NOTE)
    rest = replace(FEE, amount_minor=40_00)
    goodwill = but(PART_OF_IT, amount_minor=40_00, kept_minor=20_00)

    given().when(again).then(issued(again, 1))
    hotel = given(INVOICED, CREDITED, issued(KEPT, 2))
    hotel.when(again).then(not_issued(again))
    hotel.when(goodwill).then(issued(goodwill, 2, corrects_id=SECOND, lines=(rest,)))
    hotel.when(again).then(issued(again, 3, lines=(rest,), amount_minor=40_00))
    hotel.when(but(again, document_id=UUID(int=10))).then(not_issued(but(again, document_id=UUID(int=10))))
    # The end itself is read again.
    hotel.when(but(KEPT, document_id=UUID(int=10))).then(not_issued(but(KEPT, document_id=UUID(int=10))))


def test_a_credit_note_is_taken_back_when_its_refund_fails() -> None:
    back = issued(TAKEN_BACK, 2, corrects_id=OTHER_NOTE, lines=cut(37_50, 12_50, 3_27))

    given(INVOICED, CREDITED_PART).when(TAKEN_BACK).then(back)
    given(INVOICED, CREDITED_PART).when(but(TAKEN_BACK, amount_minor=90_00)).then(back)
    part = {"amount_minor": 10_00, "lines": cut(7_50, 2_50, 65)}
    given(INVOICED, CREDITED_PART).when(but(TAKEN_BACK, kept_minor=160_00)).then(but(back, **part))
    given(INVOICED, CREDITED_PART).when(but(TAKEN_BACK, kept_minor=150_00)).then(not_issued(TAKEN_BACK))


def test_a_failed_refund_takes_credit_notes_of_the_present_stay_back_the_newest_first() -> None:
    older, newer, carried = UUID(int=11), UUID(int=12), UUID(int=13)
    by_hand = but(PART_OF_IT, lines=cut(37_50, 12_50, 3_27))
    notes = (
        issued(but(by_hand, document_id=older), 1, corrects_id=FIRST),
        issued(but(by_hand, document_id=newer), 2, corrects_id=FIRST),
    )
    failed = but(TAKEN_BACK, corrects_id=UUID(int=99))
    named = but(TAKEN_BACK, corrects_id=older)

    given(INVOICED, *notes).when(failed).then(issued(failed, 2, corrects_id=newer, lines=by_hand.lines))
    given(INVOICED, *notes).when(named).then(issued(named, 2, corrects_id=older, lines=by_hand.lines))
    both = but(named, amount_minor=70_00)
    given(INVOICED, *notes).when(both).then(
        issued(both, 2, corrects_id=older, lines=by_hand.lines, amount_minor=50_00),
        issued(both, 3, part=1, corrects_id=newer, lines=cut(15_00, 5_00, 1_31), amount_minor=20_00),
    )
    of_change = but(INVOICE, document_id=UUID(int=14), reason=DocumentReason.STAY_CHANGED)
    note = issued(but(by_hand, document_id=carried), 4, corrects_id=UUID(int=14))
    rest = issued(but(by_hand, document_id=UUID(int=15), amount_minor=100_00), 3, corrects_id=FIRST)
    given(INVOICED, *notes, rest, issued(of_change, 2), note).when(named).then(
        issued(named, 3, corrects_id=carried, lines=by_hand.lines)
    )


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
        kept_minor=draw(st.none() | st.integers(0, 2_000)),
        booking_version=draw(st.sampled_from((3, 3, 3, 4))),
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
