"""Compares prices across currencies by a table of exchange rates, in whole columns and without floats.

A price becomes a whole number of a small unit of the table's base: `price * multiplier >> shift`, with a multiplier of
42 bits for each currency, so that it is exact to twelve digits. Imported only where the search index is loaded.
"""

from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pricing.conversion import RateTable
from pricing.currencies import CURRENCIES, digits_of

#: The key of a price that cannot be converted: behind all others, in the order of its number.
UNCONVERTED: Final = 2**61
#: The largest number of small units that a minor unit may have: a price of 40 bits then has a key of 60.
_MAX_UNITS: Final = 2**20
_MULTIPLIER_BITS: Final = 42
_LOW_BITS: Final = 20
_LOW: Final = 2**_LOW_BITS - 1
_MAX_SHIFT: Final = 62
_NUMBERS: Final = {currency: number for number, currency in enumerate(CURRENCIES)}

_Ints = NDArray[np.int64]


def currency_number(currency: str) -> int:
    """Return the number of a currency in the arrays of a `Comparison`; the last one for a currency that is unknown."""
    return _NUMBERS.get(currency.upper(), len(_NUMBERS))


class Comparison:
    """The multipliers of one table of rates, by the currency's number; 0 for a currency without a rate."""

    def __init__(self, rates: RateTable) -> None:
        bases = {
            currency: 1 / (Fraction(rates.units_for_base(currency)) * 10 ** digits_of(currency))
            for currency in CURRENCIES
            if currency in rates
        }
        units = Fraction(1)
        while max(bases.values()) * units * 10 <= _MAX_UNITS:
            units *= 10
        while max(bases.values()) * units > _MAX_UNITS:
            units /= 10
        self._units_of_minor = {currency: each * units for currency, each in bases.items()}
        self._multipliers = np.zeros(len(_NUMBERS) + 1, np.int64)
        self._shifts = np.full(len(_NUMBERS) + 1, _LOW_BITS, np.int64)
        for currency, each in self._units_of_minor.items():
            number = _NUMBERS[currency]
            shift = min(_MULTIPLIER_BITS - _bits(each), _MAX_SHIFT)
            self._multipliers[number], self._shifts[number] = int(each * 2**shift), shift

    def has_rates(self, numbers: NDArray[np.intp]) -> NDArray[np.bool]:
        """Return which currencies have a rate."""
        found: NDArray[np.bool] = self._multipliers[numbers] > 0
        return found

    def keys(self, prices_minor: _Ints, prices_milli: _Ints, numbers: NDArray[np.intp]) -> _Ints:
        """Return keys in the order of prices; those that cannot be converted are last, by their thousandths."""
        multipliers, shifts = self._multipliers[numbers], self._shifts[numbers]
        high, low = prices_minor >> _LOW_BITS, prices_minor & _LOW
        keys = (high * multipliers + (low * multipliers >> _LOW_BITS)) >> (shifts - _LOW_BITS)
        if multipliers.all():
            return keys
        return np.where(multipliers > 0, keys, np.minimum(prices_milli, UNCONVERTED - 1) + UNCONVERTED)

    def least_key(self, price: Decimal, currency: str) -> int:
        """Return the least key of a price that is shown as this one, in major units, or more."""
        return self._key(price, currency, -1)

    def end_key(self, price: Decimal, currency: str) -> int:
        """Return the key from which on a price is shown as more than this one, in major units."""
        return self._key(price, currency, 1)

    def _key(self, price: Decimal, currency: str, halves: int) -> int:
        """Return the key of a price and half a minor unit more or less, because prices are shown rounded half-up."""
        minor = Fraction(price) * 10 ** digits_of(currency) + Fraction(halves, 2)
        return int(minor * self._units_of_minor[currency] // 1)


def _bits(number: Fraction) -> int:
    """Return the least exponent of two that is more than a number above zero."""
    exponent = number.numerator.bit_length() - number.denominator.bit_length()
    return exponent + 1 if number >= Fraction(2) ** exponent else exponent


@lru_cache(maxsize=2)
def comparison(rates: RateTable) -> Comparison:
    """Return the comparison by a table, made once for each table."""
    return Comparison(rates)
