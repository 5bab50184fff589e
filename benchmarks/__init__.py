"""Measures the system beside the strongest row-lock service that we could write."""
