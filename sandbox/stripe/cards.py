"""The numbers a guest can pay with; Stripe's published test numbers, with what each of them does.

Source: docs.stripe.com/testing (cards, refunds, disputes) and docs.stripe.com/payments/sepa-debit
(account numbers that take their time).
"""

from dataclasses import dataclass
from enum import StrEnum


class Payment(StrEnum):
    """The outcome of a payment."""

    SUCCEEDS = "succeeds"
    DECLINED = "declined"
    SUCCEEDS_LATER = "succeeds later"
    FAILS_LATER = "fails later"


class Refunding(StrEnum):
    """The outcome of a refund of a payment."""

    SUCCEEDS = "succeeds"
    PENDS = "pends, then succeeds"
    FAILS_LATER = "succeeds, then fails"


class Disputing(StrEnum):
    """The dispute that follows a payment: the reason of one that takes the money, or an inquiry."""

    FRAUDULENT = "fraudulent"
    NOT_RECEIVED = "product_not_received"
    INQUIRY = "inquiry"


@dataclass(frozen=True, kw_only=True)
class Card:
    """A card, or a bank account, that behaves in one known way."""

    number: str
    effect: str
    payment: Payment = Payment.SUCCEEDS
    refunding: Refunding = Refunding.SUCCEEDS
    disputing: Disputing | None = None
    error_code: str = "card_declined"
    decline_code: str | None = None
    method: str = "card"

    @property
    def spaced(self) -> str:
        """The number in groups of four, as it is embossed."""
        return " ".join(self.number[i : i + 4] for i in range(0, len(self.number), 4))


CARDS = (
    Card(number="4242424242424242", effect="succeeds"),
    Card(
        number="4000000000000002",
        effect="is declined",
        payment=Payment.DECLINED,
        decline_code="generic_decline",
    ),
    Card(
        number="4000000000009995",
        effect="is declined: insufficient funds",
        payment=Payment.DECLINED,
        decline_code="insufficient_funds",
    ),
    Card(
        number="4000000000000069",
        effect="is declined: expired card",
        payment=Payment.DECLINED,
        error_code="expired_card",
        decline_code="expired_card",
    ),
    Card(
        number="4000000000007726",
        effect="succeeds; a refund of it pends",
        refunding=Refunding.PENDS,
    ),
    Card(
        number="4000000000005126",
        effect="succeeds; a refund of it fails later",
        refunding=Refunding.FAILS_LATER,
    ),
    Card(
        number="4000000000000259",
        effect="succeeds; is disputed as fraudulent",
        disputing=Disputing.FRAUDULENT,
    ),
    Card(
        number="4000000000002685",
        effect="succeeds; is disputed: not received",
        disputing=Disputing.NOT_RECEIVED,
    ),
    Card(
        number="4000000000001976",
        effect="succeeds; the bank inquires",
        disputing=Disputing.INQUIRY,
    ),
    Card(
        number="AT321904300235473204",
        effect="bank debit: the money arrives later",
        payment=Payment.SUCCEEDS_LATER,
        method="sepa_debit",
    ),
    Card(
        number="AT861904300235473202",
        effect="bank debit: fails later",
        payment=Payment.FAILS_LATER,
        error_code="payment_intent_payment_attempt_failed",
        method="sepa_debit",
    ),
)

_BY_NUMBER = {card.number: card for card in CARDS}


def card_of(number: str) -> Card | None:
    """Find a test card by its number, typed with or without spaces and dashes."""
    return _BY_NUMBER.get("".join(c for c in number if c.isalnum()).upper())
