"""Conversion for eyes only: exact, rounded half-up to the digits of the wanted currency."""

from datetime import date
from decimal import ROUND_HALF_UP, Decimal, localcontext
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricing.conversion import NoRate, RateTable, converted_minor, rate_table

DAY = date(2026, 11, 27)
RATES = {"USD": Decimal("1.1435"), "JPY": Decimal("185.72"), "KWD": Decimal("0.35"), "IDR": Decimal("18765.43")}


def table(**changes: Any) -> RateTable:
    return rate_table(**{"base": "EUR", "on": DAY, "rates": RATES, "source": "a bank", **changes})


@pytest.mark.parametrize(
    ("amount_minor", "currency", "wanted", "converted"),
    [
        (10_000, "EUR", "USD", 11_435),
        (10_000, "EUR", "JPY", 18_572),
        (18_572, "JPY", "EUR", 10_000),
        (1, "JPY", "EUR", 1),  # 0.00538 EUR
        (350, "KWD", "EUR", 100),
        (100, "EUR", "KWD", 350),
        (10_000, "USD", "JPY", 16_241),  # 16,241.364...
        (0, "EUR", "USD", 0),
        (-10_000, "EUR", "USD", -11_435),
        (12_345, "EUR", "EUR", 12_345),
    ],
)
def test_an_amount_is_converted_and_rounded(amount_minor: int, currency: str, wanted: str, converted: int) -> None:
    assert converted_minor(table(), amount_minor, currency, wanted) == converted


def test_half_a_minor_unit_is_rounded_up() -> None:
    halves = table(rates={"USD": Decimal("0.5")})

    assert [converted_minor(halves, amount, "EUR", "USD") for amount in (1, 2, 3, -1)] == [1, 1, 2, -1]


@given(
    amount_minor=st.integers(0, 10**12),
    currency=st.sampled_from(["EUR", *RATES]),
    wanted=st.sampled_from(["EUR", *RATES]),
)
def test_it_is_what_decimals_of_many_digits_give(amount_minor: int, currency: str, wanted: str) -> None:
    digits = {"JPY": 0, "KWD": 3}
    with localcontext(prec=80):
        major = Decimal(amount_minor).scaleb(-digits.get(currency, 2))
        exact = major * table().rates[wanted] / table().rates[currency]
        rounded = exact.scaleb(digits.get(wanted, 2)).to_integral_value(ROUND_HALF_UP)

    assert converted_minor(table(), amount_minor, currency, wanted) == rounded


@pytest.mark.parametrize(("currency", "wanted"), [("EUR", "CHF"), ("CHF", "EUR"), ("CHF", "SEK")])
def test_a_currency_without_a_rate_is_named(currency: str, wanted: str) -> None:
    with pytest.raises(NoRate, match=r"CHF|SEK"):
        converted_minor(table(), 100, currency, wanted)


def test_codes_that_are_no_currencies_are_left_out() -> None:
    found = table(rates={**RATES, "BTC": Decimal("0.00001"), "XDR": Decimal("0.8")})

    assert found.rates.keys() == {"EUR", *RATES}
    assert "BTC" not in found


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"base": "euro"}, "no currency"),
        ({"rates": {"USD": Decimal(0)}}, "not between"),
        ({"rates": {"USD": Decimal(-1)}}, "not between"),
        ({"rates": {"USD": Decimal("NaN")}}, "not between"),
        ({"rates": {"USD": Decimal("Infinity")}}, "not between"),
        ({"rates": {"USD": Decimal("1e10")}}, "not between"),
        ({"rates": {}}, "no rate"),
        ({"rates": {"BTC": Decimal(1)}}, "no rate"),
        ({"rates": {"EUR": Decimal(1)}}, "no rate"),
        ({"rates": {"EUR": Decimal(2), "USD": Decimal(1)}}, "not 1"),
    ],
)
def test_a_table_that_cannot_be_right_is_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        table(**changes)
