"""Tests of the expiry role."""
