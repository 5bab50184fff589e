"""Money as people write it: decimal strings in place of the log's minor units, by the currency (ISO 4217)."""

from decimal import Decimal
from typing import Annotated

from pydantic import AfterValidator

from ingress.http.bodies import refused_field
from ingress.http.models import Currency
from storage.currencies import CURRENCIES, decimal, digits_of
from topics.messages.values import MAX_PRICE_MINOR


def _known(code: str) -> str:
    if code not in CURRENCIES:
        raise ValueError("is no currency of ISO 4217 that can be paid with here")
    return code


#: A currency that prices can be in.
KnownCurrency = Annotated[Currency, AfterValidator(_known)]


def price_minor(field: str, price: Decimal, currency: str) -> int:
    """Return the price of a night in minor units.

    Raises:
        Problem: 422 naming the field, for a price that has more digits than the currency, is zero, or too high.
    """
    digits = digits_of(currency)
    exact = price.scaleb(digits)
    if exact != exact.to_integral_value():
        raise refused_field(field, f"{currency} has {digits or 'no'} digits after the point")
    if not 1 <= exact <= MAX_PRICE_MINOR:
        raise refused_field(field, f"must be from {decimal(1, currency)} to {decimal(MAX_PRICE_MINOR, currency)}")
    return int(exact)
