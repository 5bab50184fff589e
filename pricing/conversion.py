"""Converts amounts by a table of exchange rates, for eyes only: nothing is ever charged by it.

A table has the units of each currency for one unit of its base, as daily reference rates are published. Amounts are
computed exactly, and rounded half-up to a minor unit of the wanted currency once.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import lru_cache
from typing import Final

from pricing.currencies import CURRENCIES, digits_of

#: A rate outside of these is taken for a mistake.
MIN_RATE: Final = Decimal("1e-9")
MAX_RATE: Final = Decimal("1e9")


class NoRate(LookupError):
    """The table has no rate for a currency; the text names it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RateTable:
    """Exchange rates of one day: for one unit of `base`, the units of each currency (ISO 4217), the base's own too.

    `source` names their publisher. Make it with `rate_table`, which checks the rates.
    """

    base: str
    on: date
    rates: Mapping[str, Decimal]
    source: str

    def __contains__(self, currency: str) -> bool:
        return currency in self.rates

    def units_for_base(self, currency: str) -> Decimal:
        """Return the units of a currency for one unit of the base. Raises NoRate."""
        if currency not in self.rates:
            raise NoRate(currency)
        return self.rates[currency]


def rate_table(*, base: str, on: date, rates: Mapping[str, Decimal], source: str) -> RateTable:
    """Return a table of the currencies that ISO 4217 has; others are left out.

    Raises:
        ValueError: the base is no currency, a rate is no plausible number, or nothing is left.
    """
    if base not in CURRENCIES:
        raise ValueError(f"the base {base!r} is no currency of ISO 4217")
    for currency, rate in rates.items():
        if not rate.is_finite() or not MIN_RATE <= rate <= MAX_RATE:
            raise ValueError(f"the rate of {currency} is {rate}, which is not between {MIN_RATE} and {MAX_RATE}")
    if rates.get(base, 1) != 1:
        raise ValueError(f"the rate of the base {base} is {rates[base]}, not 1")
    known = {currency: rate for currency, rate in rates.items() if currency in CURRENCIES}
    if not known.keys() - {base}:
        raise ValueError("the document has no rate of any other currency")
    return RateTable(base=base, on=on, rates={**known, base: Decimal(1)}, source=source)


def converted_minor(table: RateTable, amount_minor: int, currency: str, wanted: str) -> int:
    """Return an amount in minor units of another currency, rounded half-up (below zero: away from zero).

    Raises:
        NoRate: the table does not have one of the two.
    """
    multiplier, divisor = _factor(table, currency, wanted)
    size = (2 * abs(amount_minor) * multiplier + divisor) // (2 * divisor)
    return size if amount_minor >= 0 else -size


@lru_cache(maxsize=4096)
def _factor(table: RateTable, currency: str, wanted: str) -> tuple[int, int]:
    """Return the minor units of `wanted` for one minor unit of `currency`, as a multiplier and a divisor."""
    units, of_base = table.units_for_base(wanted).as_integer_ratio()
    others, of_base_too = table.units_for_base(currency).as_integer_ratio()
    digits, others_digits = digits_of(wanted), digits_of(currency)
    return units * of_base_too * 10**digits, of_base * others * 10**others_digits
