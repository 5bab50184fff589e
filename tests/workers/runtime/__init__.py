"""Tests of the runtime of every role."""
