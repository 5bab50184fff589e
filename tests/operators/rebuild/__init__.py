"""Tests of read models that are rebuilt from the log."""
