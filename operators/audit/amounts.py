"""Amounts of money as the auditor computes them, without the code of the workers."""

from fractions import Fraction
from math import floor
from typing import Final

#: The steps, in minor units, of prices in currencies in which Stripe does not charge every amount.
STEPS: Final = {"BHD": 10, "JOD": 10, "KWD": 10, "MGA": 100, "OMR": 10, "TND": 10}


def rounded(amount: Fraction | int, currency: str) -> int:
    """Return an amount in minor units, rounded half-up to the step of its currency."""
    step = STEPS.get(currency, 1)
    return floor(Fraction(amount) / step + Fraction(1, 2)) * step
