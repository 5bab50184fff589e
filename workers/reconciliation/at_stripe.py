"""The objects that Stripe has for one booking, and the sums of one payment among them."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from workers.reconciliation.stripe_client import Dispute, Refund, Session


@dataclass(kw_only=True)
class AtStripe:
    """All sessions, refunds and disputes that Stripe has for one booking."""

    sessions: list[Session] = field(default_factory=list)
    refunds: list[Refund] = field(default_factory=list)
    disputes: list[Dispute] = field(default_factory=list)

    @property
    def net_minor(self) -> int:
        """The amount that was paid, neither refunded nor lost in a dispute."""
        paid = {session.payment: session.amount_minor for session in self.sessions if session.paid}
        refunded = sum(refund.amount_minor for refund in self.refunds if refund.is_effective and refund.payment in paid)
        lost = sum(each.amount_minor for each in self.disputes if each.state == "lost" and each.payment in paid)
        return sum(paid.values()) - refunded - lost

    def without(self, payments: Collection[str]) -> "AtStripe":
        """Return the objects of all other payments."""
        return AtStripe(
            sessions=[session for session in self.sessions if session.payment not in payments],
            refunds=[refund for refund in self.refunds if refund.payment not in payments],
            disputes=[dispute for dispute in self.disputes if dispute.payment not in payments],
        )

    def of(self, payment: str) -> "PaymentAtStripe":
        """Return the part about one payment."""
        captured = next((each.amount_minor for each in self.sessions if each.paid and each.payment == payment), 0)
        return PaymentAtStripe(
            captured_minor=captured,
            refunds=tuple(refund for refund in self.refunds if refund.payment == payment),
            disputes=tuple(dispute for dispute in self.disputes if dispute.payment == payment),
        )


@dataclass(frozen=True, kw_only=True)
class PaymentAtStripe:
    """One payment at Stripe, with its refunds and disputes, in minor units."""

    captured_minor: int
    refunds: Sequence[Refund]
    disputes: Sequence[Dispute]

    @property
    def pending_minor(self) -> int:
        """The sum of the refunds that are on their way."""
        return sum(refund.amount_minor for refund in self.refunds if refund.state == "pending")

    @property
    def succeeded_minor(self) -> int:
        """The sum of the refunds that were carried out."""
        return sum(refund.amount_minor for refund in self.refunds if refund.state == "succeeded")

    @property
    def left_minor(self) -> int:
        """The amount that Stripe has of it, refunds on their way included."""
        left = self.captured_minor - self.succeeded_minor
        # A lost dispute may have taken more than the payment had left: other money of the hotel.
        return left - min(max(0, left), sum(each.amount_minor for each in self.disputes if each.state == "lost"))
