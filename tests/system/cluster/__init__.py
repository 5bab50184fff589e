"""A whole system on a cluster of three brokers."""
