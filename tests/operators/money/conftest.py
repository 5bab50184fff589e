"""Every request to Stripe is validated against Stripe's own description."""

from tests.support.stripe_traffic import stripe_knows_our_requests

__all__ = ["stripe_knows_our_requests"]
