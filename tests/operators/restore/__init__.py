"""Tests of a database that is restored from the log."""
