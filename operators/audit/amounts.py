"""Amounts of money as the auditor computes them, without the code of the workers."""

from collections.abc import Sequence
from fractions import Fraction
from math import floor
from typing import Final

#: The steps, in minor units, of prices in currencies in which Stripe does not charge every amount.
STEPS: Final = {"BHD": 10, "JOD": 10, "KWD": 10, "MGA": 100, "OMR": 10, "TND": 10}


def rounded(amount: Fraction | int, currency: str) -> int:
    """Return an amount in minor units, rounded half-up to the step of its currency."""
    step = STEPS.get(currency, 1)
    return floor(Fraction(amount) / step + Fraction(1, 2)) * step


def shares(total: int, weights: Sequence[int]) -> list[int]:
    """Divide an amount by weights, in whole minor units."""
    exact = [Fraction(total * weight, sum(weights) or 1) for weight in weights]
    whole = [floor(share) for share in exact]
    for _ in range(total - sum(whole)):
        furthest = max(range(len(exact)), key=lambda number: (exact[number] - whole[number], -number))
        whole[furthest] += 1
    return whole


def shares_of_nights(total: int, nights: Sequence[int]) -> list[int]:
    """Divide an amount by the prices of nights, and evenly where no night costs anything."""
    return shares(total, nights if any(nights) else [1] * len(nights))
