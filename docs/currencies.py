"""Makes docs/currencies.md: the currencies, and what can be charged in each."""

from typing import Final

from pricing.charges import CHARGEABLE
from pricing.currencies import CURRENCIES, decimal
from topics.pages import table

_INTRODUCTION: Final = """\
A hotel has one currency, which is fixed once it has a room. Everything is counted in minor units of ISO 4217 (cents of
a euro), and written in major units (`120.00`). Only the calls to Stripe use Stripe's unit
([pricing/charges.py](../pricing/charges.py), with its sources and their date).

- **The step.** Each night's price x surge is rounded half-up to the step: in search, on the hotel's page, in the lowest
  prices, and when a stay is reserved. Amounts are sums of such prices, so they are multiples of the step too. It is the
  currency's minor unit, but ten of them for dinars and rials with three digits, whose last digit must be 0 at Stripe,
  and 1.00 for MGA.
- **The unit.** ISK and UGX have no minor unit, and Stripe wants two zeros after the amount: 5 ISK are sent as 500. MGA
  has two digits, and Stripe counts whole ariary. All other currencies have the same unit in both.
- **The least and the most** are of one charge, which pays for all nights and rooms of a stay. Stripe documents the
  least for accounts that are paid out in the same currency. For a currency in which it pays nobody out, the table has
  half a US dollar to three times that. An account that is paid out in another currency has the least of that currency,
  at the rate of the day; a refusal by Stripe is the reason of the refused payment. The most are the digits that Stripe
  allows; American Express may allow fewer."""
_CHECKS: Final = (
    (
        "a hotel is added, or its currency is changed",
        "a currency that cannot be charged: 422. A hotel that has one from before can be read and changed",
    ),
    (
        "a room's `base_price` or a night's `price` is set",
        "a price at which one room could not be paid for one night: beyond the limits, or no multiple of the step: 422",
    ),
    (
        "a guest searches",
        "a room whose price for the stay, times the rooms wanted, is less or more than can be charged is left out",
    ),
    ("a guest reads a hotel with dates", "the `total` of such a room is null"),
    (
        "a stay is reserved",
        "`booking.rejected.v1` with the reason `not_chargeable`; `init` answers 409 with it, the limits in `detail`",
    ),
)
_PRICES: Final = """\
A price that was set before there was a step stays as it is in the inventory, and is rounded when a night is sold. A
payment confirms the booking at the price agreed when the stay was reserved, also if it arrives late and prices have
changed since. A stay that is paid at the hotel is not charged; it costs at most 10^12 minor units."""


def currencies_page(generated: str) -> str:
    """Return the page; `generated` is the remark about its source."""
    rows = (
        (
            currency,
            str(CURRENCIES[currency]),
            str(rules.stripe_digits),
            decimal(rules.step_minor, currency),
            decimal(rules.least_minor, currency),
            decimal(rules.most_minor, currency),
        )
        for currency, rules in sorted(CHARGEABLE.items())
    )
    charged = table(("currency", "digits", "digits at Stripe", "step", "least", "most"), rows)
    others = ", ".join(currency for currency in sorted(CURRENCIES) if currency not in CHARGEABLE)
    parts = [
        "# Currencies",
        generated,
        _INTRODUCTION,
        table(("when", "refused"), _CHECKS),
        _PRICES,
        "## Chargeable",
        charged,
        "## Not chargeable",
        f"Stripe does not charge these currencies of ISO 4217: {others}.",
    ]
    return "\n\n".join(parts) + "\n"
