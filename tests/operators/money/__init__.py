"""Tests of the money of one booking."""
