"""The commission: a percentage with two digits, rounded half-up to a minor unit, and returned with the money."""

from decimal import ROUND_HALF_UP, Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricing.commission import commission_minor


@pytest.mark.parametrize(
    ("kept_minor", "percent", "commission"),
    [
        (20_000, "12.50", 2_500),
        (10_005, "12.5", 1_251),
        (4, "12.50", 1),
        (3, "12.50", 0),
        (-4, "12.50", -1),
        (20_000, "0", 0),
        (20_000, "100", 20_000),
        (0, "15", 0),
    ],
)
def test_a_commission_is_rounded_half_up(kept_minor: int, percent: str, commission: int) -> None:
    assert commission_minor(kept_minor, Decimal(percent)) == commission


@given(
    kept_minor=st.integers(-(10**15), 10**15),
    hundredths=st.integers(0, 10_000),
)
def test_it_is_what_exact_decimals_give(kept_minor: int, hundredths: int) -> None:
    exact = Decimal(kept_minor) * hundredths / 10_000
    assert commission_minor(kept_minor, Decimal(hundredths).scaleb(-2)) == exact.to_integral_value(ROUND_HALF_UP)


def test_a_percentage_with_more_digits_is_refused() -> None:
    with pytest.raises(ValueError, match="2 digits"):
        commission_minor(100, Decimal("1.005"))
