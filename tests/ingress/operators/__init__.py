"""Tests of the operations for operators and probes."""
