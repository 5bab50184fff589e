"""Money as people write it: minor units of the log become decimal strings and back, by the currency (ISO 4217)."""

from collections.abc import Iterable
from decimal import Decimal
from typing import Annotated, Final

from pydantic import AfterValidator

from ingress.bodies import refused_field
from ingress.models import Currency
from topics.values import MOST_PRICE_MINOR


def _codes(listed: str) -> Iterable[str]:
    return listed.split()


_TWO_DIGITS: Final = """
    AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CNY
    COP CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF
    IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MKD MMK MNT MOP MRU MUR
    MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG
    SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD UYU UZS VES WST
    XCD XCG YER ZAR ZMW ZWG
"""
#: How many digits after the point each currency has that somebody pays with. Not ISK, UGX and MGA: Stripe counts them
#: in another unit than their smallest (docs.stripe.com/currencies, special cases), a hundred times too much or little.
CURRENCIES: Final = {
    **dict.fromkeys(_codes("BIF CLP DJF GNF JPY KMF KRW PYG RWF VND VUV XAF XOF XPF"), 0),
    **dict.fromkeys(_codes(_TWO_DIGITS), 2),
    **dict.fromkeys(_codes("BHD IQD JOD KWD LYD OMR TND"), 3),
}


def _known(code: str) -> str:
    if code not in CURRENCIES:
        raise ValueError("is no currency of ISO 4217 that can be paid with here")
    return code


#: A currency that prices can be in.
KnownCurrency = Annotated[Currency, AfterValidator(_known)]


def decimal(amount_minor: int, currency: str) -> str:
    """Return an amount in major units, such as `120.00` for 12000 EUR and `12000` for 12000 JPY."""
    digits = digits_of(currency)
    sign = "-" if amount_minor < 0 else ""
    text = str(abs(amount_minor)).zfill(digits + 1)
    return f"{sign}{text[:-digits]}.{text[-digits:]}" if digits else f"{sign}{text}"


def price_minor(field: str, price: Decimal, currency: str) -> int:
    """Return the price of a night in minor units.

    Raises:
        Problem: 422 naming the field, for a price that has more digits than the currency, is nothing, or too much.
    """
    digits = digits_of(currency)
    exact = price.scaleb(digits)
    if exact != exact.to_integral_value():
        raise refused_field(field, f"{currency} has {digits or 'no'} digits after the point")
    if not 1 <= exact <= MOST_PRICE_MINOR:
        raise refused_field(field, f"must be from {decimal(1, currency)} to {decimal(MOST_PRICE_MINOR, currency)}")
    return int(exact)


def digits_of(currency: str) -> int:
    """Return how many digits come after the point; two for what the list does not know."""
    return CURRENCIES.get(currency.upper(), 2)
