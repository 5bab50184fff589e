"""Tests of managers' operations."""
