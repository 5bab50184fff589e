"""Tests of the refunds that operators list, try and close."""
