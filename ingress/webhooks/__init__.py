"""Stripe's webhooks: verified, and put on the log."""
