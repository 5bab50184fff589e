"""Amounts as people write them, in every currency, and back."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricing.currencies import CURRENCIES, decimal, digits_of, minor_units


@pytest.mark.parametrize(
    ("amount_minor", "currency", "written"),
    [
        (12_000, "EUR", "120.00"),
        (5, "EUR", "0.05"),
        (0, "EUR", "0.00"),
        (-5, "EUR", "-0.05"),
        (12_000, "JPY", "12000"),
        (-1, "JPY", "-1"),
        (12_000, "KWD", "12.000"),
        (12_000, "eur", "120.00"),
        (12_000, "???", "120.00"),
    ],
)
def test_an_amount_has_the_digits_of_its_currency(amount_minor: int, currency: str, written: str) -> None:
    assert decimal(amount_minor, currency) == written


@given(st.integers(-(2**63), 2**63 - 1), st.sampled_from(sorted(CURRENCIES)))
def test_a_written_amount_reads_back_as_the_same(amount_minor: int, currency: str) -> None:
    assert minor_units(Decimal(decimal(amount_minor, currency)), currency) == amount_minor


@pytest.mark.parametrize(
    ("amount", "currency", "sentence"),
    [
        ("0.001", "EUR", "EUR has 2 digits after the point"),
        ("0.5", "JPY", "JPY has no digits after the point"),
        ("0.0001", "KWD", "KWD has 3 digits after the point"),
    ],
)
def test_more_digits_than_the_currency_has_are_refused(amount: str, currency: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        minor_units(Decimal(amount), currency)


def test_zeros_after_the_last_digit_change_nothing() -> None:
    assert minor_units(Decimal("120.000000"), "EUR") == 12_000
    assert minor_units(Decimal("3e2"), "JPY") == 300


def test_currencies_are_written_in_three_capital_letters_and_have_at_most_three_digits() -> None:
    assert [code for code in CURRENCIES if len(code) != 3 or not code.isupper()] == []
    assert {digits_of(code) for code in CURRENCIES} == {0, 2, 3}
