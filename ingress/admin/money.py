"""Money as people write it: decimal strings in place of the log's minor units, by the currency (ISO 4217)."""

from decimal import Decimal
from typing import Annotated, Final

from pydantic import AfterValidator

from ingress.http.bodies import refused_field
from ingress.http.models import Currency
from pricing.charges import is_chargeable, limits_in_words, reason_not_chargeable
from pricing.currencies import CURRENCIES, minor_units

_MILLI: Final = 1000


def _chargeable_currency(code: str) -> str:
    if code not in CURRENCIES:
        raise ValueError("is no currency of ISO 4217")
    if not is_chargeable(code):
        raise ValueError("is a currency in which nobody can pay here: Stripe does not charge it")
    return code


#: A currency that prices can be in.
ChargeableCurrency = Annotated[Currency, AfterValidator(_chargeable_currency)]


def price_minor(field: str, price: Decimal, currency: str) -> int:
    """Return the price of a night in minor units.

    Raises:
        Problem: 422 naming the field, for a price that has more digits than the currency, or that nobody could pay: one
            room for one night would be less or more than Stripe charges, or no multiple of the currency's step.
    """
    try:
        exact = minor_units(price, currency)
    except ValueError as error:
        raise refused_field(field, str(error)) from None
    # A night for nothing is no price, although Stripe takes a session of 0.
    reason = reason_not_chargeable(exact, currency) if exact else limits_in_words(currency)
    if reason is not None:
        raise refused_field(field, reason)
    return exact


def percent_out(milli: int) -> str:
    """Return a percentage in thousandths, such as 7,125, as `7.125`."""
    whole, thousandths = divmod(milli, _MILLI)
    return f"{whole}.{thousandths:03}"
