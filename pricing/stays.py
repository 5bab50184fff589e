"""The price of a night and of a stay, and the average over them.

The decisions price a stay with these functions and the ingress shows prices with them, so that guests pay what they
were shown. Prices of nights and averages take arrays of 64-bit integers too: search prices a million nights at once.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    # The annotations alone need it: a worker that decides prices single nights and does not load it.
    import numpy as np
    from numpy.typing import NDArray

Whole = TypeVar("Whole", int, "NDArray[np.int64]")
"""A whole number, or an array of them."""

NO_SURGE_MILLI: Final = 1000
"""The surge (thousandths) at which a night costs its price."""


def night_price_minor(price_minor: Whole, surge_milli: Whole, step_minor: int) -> Whole:
    """Return one night's price in minor units: price x surge (thousandths), rounded half-up to a multiple of the step.

    `step_minor` is that of the currency (`pricing.charges.step_minor`), so that every sum of prices can be charged.
    """
    steps = (price_minor * surge_milli + 500 * step_minor) // (1000 * step_minor)
    # Nearly all currencies have a step of 1, and search prices a million nights at once.
    return steps if step_minor == 1 else steps * step_minor


def stay_amount_minor(night_prices_minor: Iterable[int], rooms_count: int) -> int:
    """Return the amount of a stay in minor units, from the prices of its nights in one room."""
    return sum(night_prices_minor) * rooms_count


def average_minor(amount_minor: Whole, count: int) -> Whole:
    """Return an amount divided by a count of at least 1, in minor units, rounded half-up."""
    return (2 * amount_minor + count) // (2 * count)
