"""Tests of Stripe's webhooks."""
