"""Money as people write it: decimal strings in place of the log's minor units, by the currency (ISO 4217)."""

from decimal import Decimal
from typing import Annotated

from pydantic import AfterValidator

from ingress.http.bodies import refused_field
from ingress.http.models import Currency
from pricing.currencies import CURRENCIES, decimal, minor_units
from topics.messages.values import MAX_PRICE_MINOR


def _known_currency(code: str) -> str:
    if code not in CURRENCIES:
        raise ValueError("is no currency of ISO 4217 that can be paid with here")
    return code


#: A currency that prices can be in.
KnownCurrency = Annotated[Currency, AfterValidator(_known_currency)]


def price_minor(field: str, price: Decimal, currency: str) -> int:
    """Return the price of a night in minor units.

    Raises:
        Problem: 422 naming the field, for a price that has more digits than the currency, is zero, or too high.
    """
    try:
        exact = minor_units(price, currency)
    except ValueError as error:
        raise refused_field(field, str(error)) from None
    if not 1 <= exact <= MAX_PRICE_MINOR:
        raise refused_field(field, f"must be from {decimal(1, currency)} to {decimal(MAX_PRICE_MINOR, currency)}")
    return exact
