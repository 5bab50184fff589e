"""Tests of Stripe's terms."""
