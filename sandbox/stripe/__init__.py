"""The local stand-in for Stripe, at the far end of a booking's way: money in, webhooks out."""

from sandbox.stripe.clock import Clock
from sandbox.stripe.server import Running, running_stripe
from sandbox.stripe.till import Settings

__all__ = ["Clock", "Running", "Settings", "running_stripe"]
