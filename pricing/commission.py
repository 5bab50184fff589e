"""The commission on the money that a hotel's bookings brought, and the amount that is due to the hotel."""

from decimal import Decimal
from typing import Final

#: A commission is a percentage with two digits after the point.
COMMISSION_DIGITS: Final = 2
_WHOLE: Final = 100 * 10**COMMISSION_DIGITS


def commission_minor(kept_minor: int, percent: Decimal) -> int:
    """Return the commission on an amount, rounded half-up to a minor unit.

    An amount below zero, because more went back than came, gives the same commission below zero: it is returned.

    Args:
        kept_minor: the amount, in minor units.
        percent: from 0 to 100, with `COMMISSION_DIGITS` digits after the point at most.

    Raises:
        ValueError: the percentage has more digits.
    """
    hundredths = percent.scaleb(COMMISSION_DIGITS)
    if hundredths != hundredths.to_integral_value():
        raise ValueError(f"a commission has {COMMISSION_DIGITS} digits after the point, which {percent} has not")
    size = (2 * abs(kept_minor) * int(hundredths) + _WHOLE) // (2 * _WHOLE)
    return size if kept_minor >= 0 else -size
