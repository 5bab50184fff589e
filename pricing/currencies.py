"""The digits of each currency after the point (ISO 4217), and amounts in minor units as people write them, and back."""

from collections.abc import Iterable
from decimal import Decimal
from typing import Final


def _codes(listed: str) -> Iterable[str]:
    return listed.split()


_TWO_DIGITS: Final = """
    AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CNY
    COP CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF
    IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR
    MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG
    SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD UYU UZS VES WST
    XCD XCG YER ZAR ZMW ZWG
"""
#: The digits after the point of each currency. Not all of them can be paid with: `pricing.charges` has those.
CURRENCIES: Final = {
    **dict.fromkeys(_codes("BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF"), 0),
    **dict.fromkeys(_codes(_TWO_DIGITS), 2),
    **dict.fromkeys(_codes("BHD IQD JOD KWD LYD OMR TND"), 3),
}


def decimal(amount_minor: int, currency: str) -> str:
    """Return an amount in major units, such as `120.00` for 12000 EUR and `12000` for 12000 JPY."""
    digits = digits_of(currency)
    sign = "-" if amount_minor < 0 else ""
    text = str(abs(amount_minor)).zfill(digits + 1)
    return f"{sign}{text[:-digits]}.{text[-digits:]}" if digits else f"{sign}{text}"


def digits_of(currency: str) -> int:
    """Return how many digits a currency has after the point; two for one that the list does not name."""
    return CURRENCIES.get(currency.upper(), 2)


def minor_units(amount: Decimal, currency: str) -> int:
    """Return an amount in major units, such as `Decimal("120.00")`, in minor units.

    Raises:
        ValueError: the amount has more digits after the point than its currency.
    """
    digits = digits_of(currency)
    exact = amount.scaleb(digits)
    if exact != exact.to_integral_value():
        raise ValueError(f"{currency} has {digits or 'no'} digits after the point")
    return int(exact)
