"""The real trace, replayed through the whole system."""
