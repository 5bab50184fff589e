"""The types of Stripe's events that our webhook endpoint must be sent; reconciliation looks for them in Stripe's list.

Stripe lists at most 20 types at a time. Payments understands `charge.refund.updated` too, which adds nothing to
`refund.updated`.
"""

from typing import Final

EVENT_TYPES: Final = (
    "checkout.session.completed",
    "checkout.session.async_payment_succeeded",
    "checkout.session.async_payment_failed",
    "checkout.session.expired",
    "payment_intent.payment_failed",
    "refund.created",
    "refund.updated",
    "refund.failed",
    "charge.refunded",
    "charge.dispute.created",
    "charge.dispute.updated",
    "charge.dispute.funds_withdrawn",
    "charge.dispute.funds_reinstated",
    "charge.dispute.closed",
)
