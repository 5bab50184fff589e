"""The account's balance: each movement of money is an entry of the books and a balance transaction of the API.

Fees are 0 here; Stripe's differ by card, country and contract. Funds are available at once.
"""

from typing import Final, Literal

import stripe

from sandbox.stripe.books import Json, MoneyKind
from sandbox.stripe.till import Till, new_id, nulls_of

Shortage = Literal["refuse", "pend"]
"""The fate of a refund above the available balance. Stripe lets it pend; above an account's overdraft it refuses."""

_AVAILABLE: Final = "available_minor"
_WHEN_SHORT: Final = "when_short"

# Sign, type and reporting category (docs.stripe.com/reports/balance-transaction-types).
_TYPES: Final[dict[MoneyKind, tuple[int, str, str]]] = {
    "capture": (1, "charge", "charge"),
    "refund": (-1, "refund", "refund"),
    "refund_reversed": (1, "refund_failure", "refund_failure"),
    "dispute": (-1, "adjustment", "dispute"),
    "dispute_reversed": (1, "adjustment", "dispute_reversal"),
}
_TYPES_OF_BANK_DEBITS: Final = {"charge": "payment", "refund": "payment_refund"}


def move(till: Till, kind: MoneyKind, source: Json, amount_minor: int) -> Json:
    """Record that money came or went because of a charge, refund or dispute; returns the balance transaction."""
    payment = till.get("payment_intent", source["payment_intent"])
    charge = till.get("charge", source.get("charge") or payment["latest_charge"])
    sign, type_, category = _TYPES[kind]
    if charge["payment_method_details"]["type"] != "card":
        type_ = _TYPES_OF_BANK_DEBITS.get(type_, type_)
    transaction = {
        **nulls_of(stripe.BalanceTransaction),
        "id": new_id("txn_"),
        "object": "balance_transaction",
        "amount": sign * amount_minor,
        "available_on": till.now(),
        "balance_type": "payments",
        "created": till.now(),
        "currency": payment["currency"],
        "fee": 0,
        "fee_details": [],
        "net": sign * amount_minor,
        "reporting_category": category,
        "source": source["id"],
        "status": "available",
        "type": type_,
    }
    till.books.put(transaction)
    till.books.move_money(kind, payment, amount_minor, till.clock.now())
    return transaction


def available_minor(till: Till) -> int | None:
    """Return the sum that can leave the account, in minor units of whichever currency; None is without a limit."""
    available: int | None = till.books.setting(_AVAILABLE)
    return available


def when_short(till: Till) -> Shortage:
    """Return the fate of a refund above the available balance."""
    return "pend" if till.books.setting(_WHEN_SHORT) == "pend" else "refuse"


def set_available(till: Till, amount_minor: int | None, shortage: Shortage) -> None:
    """Set the sum that can leave the account, and the fate of a refund above it."""
    till.books.write_setting(_AVAILABLE, amount_minor)
    till.books.write_setting(_WHEN_SHORT, shortage)


def is_short(till: Till, amount_minor: int) -> bool:
    """Return whether the available balance does not cover an amount."""
    available = available_minor(till)
    return available is not None and amount_minor > available


def change_available(till: Till, by_minor: int) -> None:
    """Let money that came back or left change the available balance, which disputes can make negative."""
    available = available_minor(till)
    if available is not None:
        till.books.write_setting(_AVAILABLE, available + by_minor)
