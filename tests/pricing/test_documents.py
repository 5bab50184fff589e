"""The lines of a document sum to its amount, keep their shares when it is cut, and name what they are for."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricing.documents import cut_lines, end_lines, stay_lines, total_minor
from topics.messages.events import StayBefore
from topics.messages.sale import Collected, LineKind, Meals, Party, PriceLine, Sale
from topics.messages.values import DocumentReason, Terms

ROOM = PriceLine(kind=LineKind.STAY, id="standard", name="Standard", amount_minor=200_00)
VAT = PriceLine(kind=LineKind.TAX, id="vat", name="VAT", amount_minor=13_08, included=True)
CLEANING = PriceLine(kind=LineKind.FEE, id="cleaning", name="Cleaning", amount_minor=20_00)
COSTS = PriceLine(kind=LineKind.CHANGE, id="change", name="Costs of changes", amount_minor=5_00)
CITY_TAX = PriceLine(kind=LineKind.TAX, id="city", name="City tax", amount_minor=10_00, collected=Collected.AT_HOTEL)
SALE = Sale(
    terms_version=1,
    plan_id="standard",
    plan_name="Standard",
    meals=Meals.NONE,
    party=Party(adults=2),
    lines=(ROOM, VAT, CLEANING, CITY_TAX, COSTS),
    at_hotel_minor=10_00,
    steps=(),
    no_show_kept_minor=0,
    early_departure_percent=100,
    change_costs_minor=5_00,
)


def stay(sale: Sale | None = SALE, rooms_count: int = 2) -> StayBefore:
    return StayBefore(
        check_in=date(2027, 6, 1),
        check_out=date(2027, 6, 3),
        rooms_count=rooms_count,
        amount_minor=225_00,
        sale=sale,
    )


def shown(lines: tuple[PriceLine, ...]) -> list[tuple[str, int]]:
    return [(line.name, line.amount_minor) for line in lines]


def test_the_invoice_of_a_prepaid_stay_has_what_was_paid_and_names_the_nights() -> None:
    lines = stay_lines(stay(), Terms.PREPAID)

    assert shown(lines) == [
        ("Standard, 2 rooms, 2027-06-01 to 2027-06-03", 200_00),
        ("VAT", 13_08),
        ("Cleaning", 20_00),
        ("Costs of changes", 5_00),
    ]
    assert total_minor(lines) == stay().amount_minor


def test_the_invoice_of_a_stay_paid_at_the_hotel_has_every_line() -> None:
    assert ("City tax", 10_00) in shown(stay_lines(stay(), Terms.AT_HOTEL))


def test_a_stay_without_sale_terms_has_one_line() -> None:
    assert shown(stay_lines(stay(sale=None, rooms_count=1), Terms.PREPAID)) == [
        ("Stay, 1 room, 2027-06-01 to 2027-06-03", 225_00)
    ]


@pytest.mark.parametrize(
    ("reason", "name"),
    [
        (DocumentReason.CANCELLED, "Cancellation"),
        (DocumentReason.NO_SHOW, "No-show"),
        (DocumentReason.EARLY_DEPARTURE, "Early departure"),
    ],
)
def test_what_is_kept_at_the_end_is_one_line_without_taxes(reason: DocumentReason, name: str) -> None:
    (line,) = end_lines(reason, stay(), Terms.PREPAID, 60_00)

    assert (line.kind, line.name, line.amount_minor) == (LineKind.FEE, name, 60_00)


def test_guests_who_leave_early_and_pay_all_have_the_lines_of_the_stay() -> None:
    assert end_lines(DocumentReason.EARLY_DEPARTURE, stay(), Terms.PREPAID, 225_00) == stay_lines(stay(), Terms.PREPAID)
    assert len(end_lines(DocumentReason.NO_SHOW, stay(), Terms.PREPAID, 225_00)) == 1


def test_a_cut_document_keeps_the_shares_of_its_lines() -> None:
    assert shown(cut_lines((ROOM, VAT, CLEANING), 110_00)) == [("Standard", 100_00), ("VAT", 6_54), ("Cleaning", 10_00)]
    assert cut_lines((ROOM, VAT), 200_00) == (ROOM, VAT)


@given(
    st.lists(
        st.builds(
            PriceLine,
            kind=st.sampled_from(LineKind),
            id=st.just("id"),
            name=st.just("Name"),
            amount_minor=st.integers(0, 10**9),
            included=st.booleans(),
        ),
        max_size=6,
    ),
    st.data(),
)
def test_a_cut_document_sums_to_its_amount_and_no_line_grows(lines: list[PriceLine], data: st.DataObject) -> None:
    amount_minor = data.draw(st.integers(0, total_minor(lines)))

    cut = cut_lines(lines, amount_minor)

    assert total_minor(cut) == amount_minor
    assert all(0 <= after.amount_minor <= before.amount_minor for after, before in zip(cut, lines, strict=True))
