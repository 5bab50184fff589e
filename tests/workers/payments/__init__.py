"""Payments, tested: the pure mappings, the consumer on a real database, the caller against the stand-in."""
