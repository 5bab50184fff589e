"""The amounts that Stripe can charge, in each currency: its unit, the least and the most, and the step between amounts.

Sources: docs.stripe.com/currencies as of 2026-09-23 (presentment currencies, zero-decimal currencies, special cases,
minimum and maximum charge amounts) and of 2025 (limits of single currencies for cards, three-decimal currencies), and
docs.stripe.com/api/payment_intents/create (eight digits). Stripe does not know every currency of ISO 4217, and counts
three of them in another unit: ISK and UGX have no minor unit, and are sent with two zeros; MGA has two digits, and is
sent in whole ariary.

The least charge applies to an account that is paid out in the same currency. Stripe compares the charge of any other
account with the least of the account's own currency, at the rate of the day, and may refuse an amount that passes here.

The most depends on the card too. Stripe's reference allows eight digits for every amount; its page of currencies allows
more for single currencies, and for cards nine digits (American Express) or twelve (other networks). The table has the
eight digits, and more where eight would not pay for a stay.
"""

from decimal import Decimal
from functools import lru_cache
from typing import Final, NamedTuple

from pricing.currencies import decimal, digits_of, minor_units


class ChargeRules(NamedTuple):
    """The rules of one currency; amounts in minor units of ISO 4217.

    Attributes:
        stripe_digits: digits after the point in the unit in which Stripe counts.
        least_minor: the least amount.
        most_minor: the most.
        step_minor: every amount is a multiple of it.
    """

    stripe_digits: int
    least_minor: int
    most_minor: int
    step_minor: int


#: Zero-decimal currencies of Stripe: all without a minor unit in ISO 4217 but for ISK and UGX, and MGA.
_NO_STRIPE_DIGITS: Final = frozenset(
    ("BIF", "CLP", "DJF", "GNF", "JPY", "KMF", "KRW", "MGA", "PYG", "RWF", "VND", "VUV", "XAF", "XOF", "XPF")
)
#: Stripe refuses amounts in these whose last digit is not 0. Accounts in the United Arab Emirates alone can use them.
_THREE_STRIPE_DIGITS: Final = frozenset(("BHD", "JOD", "KWD", "OMR", "TND"))
#: The least charge in major units, as Stripe documents it for accounts that are paid out in the currency.
_DOCUMENTED_LEAST: Final = {
    "0.30": "GBP",
    "0.50": "ARS AUD BRL CAD CHF COP EUR IDR ILS INR NZD PHP RUB SGD USD ZAR",
    "2": "AED MYR PLN RON",
    "2.50": "DKK",
    "3": "NOK SEK",
    "4": "HKD",
    "10": "MXN THB",
    "15": "CZK",
    "50": "JPY KRW",
    "175": "HUF",
}
#: The least charge in major units of the currencies in which Stripe pays nobody out: from half a US dollar, which is
#: the least after conversion for an account in the United States, to three times that, at the rates of November 2026.
_CONVERTED_LEAST: Final = {
    "0.20": "BHD KWD OMR",
    "0.50": "BMD BSD FKP GIP JOD KYD PAB SHP",
    "2": "AWG AZN BAM BBD BND BYN BZD FJD GEL PEN PGK QAR SAR TND TOP WST XCD XCG",
    "5": "BOB CNY GTQ MOP SBD TTD",
    "10": "BWP LSL MAD MDL MVR NAD SCR SZL TJS",
    "20": "HNL NIO SLE TWD ZMW",
    "25": "SRD UYU",
    "50": "AFN ALL DOP EGP GMD MKD MUR MZN TRY UAH",
    "100": "BDT CVE DJF DZD ETB HTG ISK JMD KES KGS NPR RSD VUV XPF",
    "200": "GYD LKR LRD PKR YER",
    "500": "AMD CRC KMF KZT SOS XAF XOF",
    "1000": "AOA CLP NGN RWF",
    "2000": "BIF CDF MWK TZS UGX",
    "5000": "KHR MGA MMK MNT PYG",
    "10000": "GNF UZS",
    "20000": "LAK VND",
    "100000": "LBP",
}
_USUAL_DIGITS: Final = 8
#: Digits of the most amount, in Stripe's unit, of currencies that have more than eight. Those of COP, HUF, IDR, INR,
#: JPY and LBP are documented one by one. The others have those of cards, because 999,999.99 of them (99,999,999 of VND)
#: are less than 5,000 US dollars: nine, and twelve where nine are less than 1,000 US dollars.
_MORE_DIGITS: Final = {
    9: "AMD AOA ARS CDF CRC GYD INR KHR KZT LKR MMK MNT MWK NGN PKR SOS TZS UGX VND YER",
    10: "COP HUF JPY",
    11: "LBP",
    12: "IDR LAK UZS",
}


def _stripe_digits(currency: str) -> int:
    if currency in _NO_STRIPE_DIGITS:
        return 0
    return 3 if currency in _THREE_STRIPE_DIGITS else 2


def _rules(currency: str, least_major: str, digits: int) -> ChargeRules:
    stripe_digits, iso_digits = _stripe_digits(currency), digits_of(currency)
    # An amount is a whole number of Stripe's unit where that is the larger one.
    step = 10 if currency in _THREE_STRIPE_DIGITS else 10 ** max(0, iso_digits - stripe_digits)
    most = (10**digits - 1) * 10**iso_digits // 10**stripe_digits
    return ChargeRules(stripe_digits, minor_units(Decimal(least_major), currency), most - most % step, step)


def _table() -> dict[str, ChargeRules]:
    digits = {currency: count for count, listed in _MORE_DIGITS.items() for currency in listed.split()}
    return {
        currency: _rules(currency, least, digits.get(currency, _USUAL_DIGITS))
        for table in (_DOCUMENTED_LEAST, _CONVERTED_LEAST)
        for least, listed in table.items()
        for currency in listed.split()
    }


#: The currencies that Stripe can charge, by their code in capital letters. All others cannot be charged.
CHARGEABLE: Final = _table()


def is_chargeable(currency: str) -> bool:
    """Return whether Stripe can charge the currency at all."""
    return currency.upper() in CHARGEABLE


def has_another_unit(currency: str) -> bool:
    """Return whether Stripe counts the currency in another unit than ISO 4217: true of ISK, MGA and UGX."""
    rules = CHARGEABLE.get(currency.upper())
    return rules is not None and rules.stripe_digits != digits_of(currency)


def charge_limits(currency: str) -> tuple[int, int]:
    """Return the least and the most amount of one charge, in minor units.

    Raises:
        ValueError: the currency cannot be charged.
    """
    rules = CHARGEABLE.get(currency.upper())
    if rules is None:
        raise ValueError(f"{currency} cannot be charged")
    return rules.least_minor, rules.most_minor


@lru_cache(maxsize=1_000)
def step_minor(currency: str) -> int:
    """Return the step, in minor units, of which every chargeable amount is a multiple; 1 if nothing can be charged."""
    rules = CHARGEABLE.get(currency.upper())
    return 1 if rules is None else rules.step_minor


def can_be_charged(amount_minor: int, currency: str) -> bool:
    """Return whether a Checkout Session can charge the amount; nothing is charged for 0."""
    if amount_minor == 0:
        return True
    rules = CHARGEABLE.get(currency.upper())
    if rules is None:
        return False
    return rules.least_minor <= amount_minor <= rules.most_minor and amount_minor % rules.step_minor == 0


def can_be_charged_in_part(amount_minor: int, currency: str) -> bool:
    """Return whether a charge can have the amount as a part of it: the least charge counts for the whole alone."""
    rules = CHARGEABLE.get(currency.upper())
    if rules is None:
        return amount_minor == 0
    return amount_minor <= rules.most_minor and amount_minor % rules.step_minor == 0


def reason_not_chargeable(amount_minor: int, currency: str) -> str | None:
    """Return why the amount cannot be charged, in words for a person, or None if it can."""
    if can_be_charged(amount_minor, currency):
        return None
    rules = CHARGEABLE.get(currency.upper())
    if rules is None:
        return f"payments in {currency} are not possible"
    if amount_minor % rules.step_minor:
        return f"must be a multiple of {decimal(rules.step_minor, currency)} {currency}"
    return limits_in_words(currency)


def limits_in_words(currency: str) -> str:
    """Return the least and the most amount of one charge, in words for a person."""
    rules = CHARGEABLE.get(currency.upper())
    if rules is None:
        return f"payments in {currency} are not possible"
    return f"must be from {decimal(rules.least_minor, currency)} to {decimal(rules.most_minor, currency)} {currency}"


def to_stripe(amount_minor: int, currency: str) -> int:
    """Return an amount in the unit in which Stripe counts the currency.

    Raises:
        ValueError: the amount is no whole number of that unit.
    """
    factor, divisor = _factor_and_divisor(currency)
    amount, rest = divmod(amount_minor * factor, divisor)
    if rest:
        raise ValueError(f"{amount_minor} minor units of {currency} are no whole number of Stripe's unit")
    return amount


def from_stripe(amount: int, currency: str) -> int:
    """Return an amount that Stripe counts in its own unit in minor units (ISO 4217).

    Stripe has no fractions of ISK or UGX; should it name one all the same, it is rounded half-up.
    """
    factor, divisor = _factor_and_divisor(currency)
    return (2 * amount * divisor + factor) // (2 * factor)


def _factor_and_divisor(currency: str) -> tuple[int, int]:
    """Return by what a number of minor units is multiplied and divided to be one of Stripe's units."""
    rules = CHARGEABLE.get(currency.upper())
    more = 0 if rules is None else rules.stripe_digits - digits_of(currency)
    return int(10 ** max(0, more)), int(10 ** max(0, -more))
