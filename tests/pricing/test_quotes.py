"""A quote from the log counts only if it is a price that this product could have made."""

from datetime import UTC, date, datetime
from typing import Any

import msgspec
import pytest
from msgspec.structs import asdict, replace

from pricing.quotes import fault_of_quote
from tests.pricing.offers import wall_time
from topics.messages.sale import (
    CancellationStep,
    Collected,
    LineKind,
    Meals,
    Party,
    PriceLine,
    Quoted,
    QuotedChange,
    Sale,
)
from topics.messages.values import Terms

CHECK_IN, CHECK_OUT = date(2026, 12, 24), date(2026, 12, 26)
STAY = PriceLine(kind=LineKind.STAY, id="standard", name="Standard", amount_minor=200_00)
VAT = PriceLine(kind=LineKind.TAX, id="vat", name="VAT", amount_minor=13_08, included=True)
CITY = PriceLine(kind=LineKind.TAX, id="city", name="City", amount_minor=10_00, collected=Collected.AT_HOTEL)
REBATE = replace(VAT, included=False, amount_minor=-10_00)
UNTIL = wall_time(date(2026, 12, 22), 15)
SALE = Sale(
    terms_version=1,
    plan_id="standard",
    plan_name="Standard",
    meals=Meals.NONE,
    party=Party(adults=2),
    lines=(STAY, VAT, CITY),
    at_hotel_minor=10_00,
    steps=(CancellationStep(until=UNTIL, kept_minor=0, percent=0), CancellationStep(kept_minor=200_00, percent=100)),
    no_show_kept_minor=200_00,
    early_departure_percent=100,
)
QUOTED = Quoted(
    good_until=datetime(2026, 12, 1, tzinfo=UTC),
    terms=Terms.PREPAID,
    sale=SALE,
    currency="EUR",
    amount_minor=200_00,
    night_amounts_minor=(100_00, 100_00),
)
AT_HOTEL = replace(
    QUOTED,
    terms=Terms.AT_HOTEL,
    sale=replace(
        SALE, at_hotel_minor=210_00, lines=tuple(replace(line, collected=Collected.AT_HOTEL) for line in SALE.lines)
    ),
    amount_minor=210_00,
    night_amounts_minor=(105_00, 105_00),
)


def fault(quoted: Quoted) -> str | None:
    return fault_of_quote(quoted, CHECK_IN, CHECK_OUT)


def sold(**changes: Any) -> Quoted:
    """Return the quote with another sale."""
    return replace(QUOTED, sale=replace(SALE, **changes))


@pytest.mark.parametrize("quoted", [QUOTED, AT_HOTEL])
def test_a_quote_of_ours_has_no_fault(quoted: Quoted) -> None:
    assert fault(quoted) is None


@pytest.mark.parametrize(
    ("quoted", "words"),
    [
        (replace(QUOTED, night_amounts_minor=()), "an amount for each night"),
        (replace(QUOTED, night_amounts_minor=(200_00,)), "an amount for each night"),
        (replace(QUOTED, night_amounts_minor=(100_00, 100_00, 0)), "an amount for each night"),
        (replace(QUOTED, night_amounts_minor=(100_00, 99_99)), "sum to its amount"),
        (replace(QUOTED, night_amounts_minor=(300_00, -100_00)), "sum to its amount"),
        (replace(QUOTED, amount_minor=190_00, night_amounts_minor=(90_00, 100_00)), "the lines of the quote"),
        (replace(QUOTED, terms=Terms.AT_HOTEL), "the lines of the quote"),
        (replace(AT_HOTEL, sale=replace(AT_HOTEL.sale, lines=(STAY, VAT, CITY))), "the lines of the quote"),
        (replace(AT_HOTEL, terms=Terms.PREPAID), "the lines of the quote"),
        (sold(lines=()), "the lines of the quote"),
        (sold(at_hotel_minor=0), "the lines of the quote"),
        (sold(lines=(replace(STAY, amount_minor=210_00), CITY, REBATE)), "negative"),
        (sold(steps=()), "the last step"),
        (sold(steps=SALE.steps[:1]), "the last step"),
        (sold(steps=SALE.steps[1:] * 2), "in order of time"),
        (sold(steps=(SALE.steps[0], *SALE.steps)), "in order of time"),
        (sold(steps=(replace(SALE.steps[0], kept_minor=-1), SALE.steps[1])), "nothing more is kept"),
        (sold(steps=(replace(SALE.steps[1], kept_minor=200_01),)), "nothing more is kept"),
        (sold(no_show_kept_minor=200_01), "nothing more is kept"),
        (sold(no_show_kept_minor=-1), "nothing more is kept"),
        (sold(early_departure_percent=101), "a percentage"),
        (sold(early_departure_percent=-1), "a percentage"),
    ],
)
def test_a_quote_that_no_price_can_be_has_a_fault_in_words(quoted: Quoted, words: str) -> None:
    assert words in (fault(quoted) or "")


def of_change(quoted: Quoted, **changes: Any) -> QuotedChange:
    """Return the quote of a changed stay at the price of a stay's quote."""
    return QuotedChange(**asdict(quoted) | {"earlier_count": 0} | changes)


@pytest.mark.parametrize("quoted", [QUOTED, AT_HOTEL])
def test_the_quote_of_a_change_is_checked_like_that_of_a_stay(quoted: Quoted) -> None:
    nights = [*quoted.night_amounts_minor]
    for change in (of_change(quoted), of_change(quoted, sale=None)):
        assert fault_of_quote(change, CHECK_IN, CHECK_OUT) is None
        short = replace(change, night_amounts_minor=tuple(nights[1:]))
        assert "an amount for each night" in (fault_of_quote(short, CHECK_IN, CHECK_OUT) or "")
        dearer = replace(change, amount_minor=quoted.amount_minor + 1)
        assert "sum to its amount" in (fault_of_quote(dearer, CHECK_IN, CHECK_OUT) or "")
    without_lines = of_change(quoted, sale=replace(quoted.sale, lines=()))
    assert "the lines of the quote" in (fault_of_quote(without_lines, CHECK_IN, CHECK_OUT) or "")


def test_nights_that_are_no_stay_have_no_quote() -> None:
    assert fault_of_quote(QUOTED, CHECK_OUT, CHECK_IN) is not None


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("good_until",), "2026-12-01T00:00:00"),
        (("amount_minor",), 2**63),
        (("night_amounts_minor",), [2**63, 0]),
        (("sale", "terms_version"), 2**63),
        (("sale", "party", "adults"), 2**62),
        (("sale", "party", "child_ages"), [-1]),
        (("sale", "party", "child_ages"), [18]),
        (("sale", "party", "child_ages"), [1] * 1001),
        (("sale", "steps", 0, "until"), "2026-12-22T15:00:00Z"),
        (("sale", "lines", 0, "amount_minor"), 2**63),
    ],
)
def test_values_that_no_decision_could_use_are_not_read_at_all(path: tuple[Any, ...], value: Any) -> None:
    plain = msgspec.to_builtins(QUOTED)
    assert msgspec.convert(plain, Quoted) == QUOTED
    part = plain
    for name in path[:-1]:
        part = part[name]
    part[path[-1]] = value

    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(plain, Quoted)
