"""An amount is divided exactly, in proportion, and in one way only."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricing.shares import shares_minor


@pytest.mark.parametrize(
    ("amount_minor", "weights", "shares"),
    [
        (110_000, (10_000, 90_000, 10_000), (10_000, 90_000, 10_000)),
        (10_001, (1, 1, 1), (3_334, 3_334, 3_333)),
        (1, (10_000, 90_000, 10_000), (0, 1, 0)),
        (2, (1, 1, 1), (1, 1, 0)),
        (7, (0, 3, 0), (0, 7, 0)),
        (0, (5, 5), (0, 0)),
        (0, (0, 0), (0, 0)),
    ],
)
def test_shares_are_in_proportion_and_the_largest_fractions_are_rounded_up(
    amount_minor: int, weights: tuple[int, ...], shares: tuple[int, ...]
) -> None:
    assert shares_minor(amount_minor, weights) == shares


@given(data=st.data(), weights=st.lists(st.integers(0, 10**12), min_size=1, max_size=40))
def test_shares_sum_to_the_amount_within_a_unit_of_their_proportion_and_never_above_their_weight(
    data: st.DataObject, weights: list[int]
) -> None:
    amount_minor = data.draw(st.integers(0, sum(weights)))

    shares = shares_minor(amount_minor, weights)

    assert sum(shares) == amount_minor
    for share, weight in zip(shares, weights, strict=True):
        assert 0 <= share <= weight
        assert abs(share - Fraction(amount_minor * weight, sum(weights) or 1)) < 1
