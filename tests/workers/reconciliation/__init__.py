"""Tests of the reconciliation role."""
