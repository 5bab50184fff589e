"""The currencies of the stand-in, by Stripe's own rules and in Stripe's own units (docs.stripe.com/currencies).

This is another reading of the rules than that of `pricing.charges`, so that a wrong one is noticed. It takes from there
only the least charges that Stripe does not document, those of currencies in which it pays nobody out.
"""

from decimal import Decimal
from typing import Final

from pricing.charges import CHARGEABLE
from pricing.currencies import decimal
from sandbox.stripe.refused import invalid


def _codes(listed: str) -> list[str]:
    return listed.split()


_CURRENCIES: Final = _codes("""
    usd aed afn all amd aoa ars aud awg azn bam bbd bdt bif bmd bnd bob brl bsd bwp byn bzd cad cdf chf clp cny cop crc
    cve czk djf dkk dop dzd egp etb eur fjd fkp gbp gel gip gmd gnf gtq gyd hkd hnl htg huf idr ils inr isk jmd jpy kes
    kgs khr kmf krw kyd kzt lak lbp lkr lrd lsl mad mdl mga mkd mmk mnt mop mur mvr mwk mxn myr mzn nad ngn nio nok npr
    nzd pab pen pgk php pkr pln pyg qar ron rsd rub rwf sar sbd scr sek sgd shp sle sos srd szl thb tjs top try ttd twd
    tzs uah ugx uyu uzs vnd vuv wst xaf xcd xcg xof xpf yer zar zmw bhd jod kwd omr tnd
""")
_WITHOUT_DECIMALS: Final = frozenset(
    {
        *("bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga"),
        *("pyg", "rwf", "vnd", "vuv", "xaf", "xof", "xpf"),
    }
)
_WITH_THREE_DECIMALS: Final = frozenset({"bhd", "jod", "kwd", "omr", "tnd"})
#: Sent with two decimals, which are always 00.
_WITHOUT_FRACTIONS: Final = frozenset({"isk", "ugx"})
#: The least charges that Stripe documents.
_LEAST: Final = {
    **dict.fromkeys(_codes("ars aud brl cad chf cop eur idr ils inr nzd php rub sgd usd zar jpy krw"), 50),
    **dict.fromkeys(("aed", "myr", "pln", "ron"), 200),
    "gbp": 30,
    "dkk": 250,
    "nok": 300,
    "sek": 300,
    "hkd": 400,
    "mxn": 1000,
    "thb": 1000,
    "czk": 1500,
    "huf": 17500,
}
_MAX_DIGITS: Final = {
    **dict.fromkeys(_codes("amd aoa ars cdf crc gyd inr khr kzt lkr mmk mnt mwk ngn pkr sos tzs ugx vnd yer"), 9),
    **dict.fromkeys(("cop", "huf", "jpy"), 10),
    "lbp": 11,
    "idr": 12,
    "lak": 12,
    "uzs": 12,
}


def money(amount: int, currency: str) -> str:
    """Write an amount as people do: 12345 eur gives `EUR 123.45`, 12345 jpy `JPY 12,345`."""
    decimals = _decimals(currency)
    whole, rest = divmod(amount, 10**decimals)
    fraction = f".{rest:0{decimals}}" if decimals else ""
    return f"{currency.upper()} {whole:,}{fraction}"


def supported(given: str, param: str) -> str:
    """Return a currency's code in small letters; refuse one in which Stripe does not charge."""
    currency = given.lower()
    if currency not in _CURRENCIES:
        raise invalid(
            f"Invalid currency: {given}. Stripe currently supports these currencies: {', '.join(_CURRENCIES)}", param
        )
    return currency


def refuse_fractions(amount: int, currency: str, param: str) -> None:
    """Refuse an amount that cards cannot be charged, or refunded, for its last digits."""
    divisor = 100 if currency in _WITHOUT_FRACTIONS else 10 if currency in _WITH_THREE_DECIMALS else 1
    if amount % divisor:
        raise invalid(f"Invalid amount. Amounts in {currency.upper()} must be evenly divisible by {divisor}.", param)


def refuse_total(amount: int, currency: str) -> None:
    """Refuse the total of a session that is less or more than Stripe charges; a session may cost nothing."""
    least = _least(currency)
    if 0 < amount < least:
        raise invalid(
            f"The Checkout Session's total amount must convert to at least {money(least, currency)}.",
            "line_items",
            "amount_too_small",
        )
    most = 10 ** _MAX_DIGITS.get(currency, 8) - 1
    if amount > most:
        raise invalid(
            f"The Checkout Session's total amount due must be no more than {money(most, currency)}.",
            "line_items",
            "amount_too_large",
        )


def _least(currency: str) -> int:
    if currency in _LEAST:
        return _LEAST[currency]
    code = currency.upper()
    return int(Decimal(decimal(CHARGEABLE[code].least_minor, code)).scaleb(_decimals(currency)))


def _decimals(currency: str) -> int:
    return 0 if currency in _WITHOUT_DECIMALS else 3 if currency in _WITH_THREE_DECIMALS else 2
