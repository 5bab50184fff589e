"""Tests of ranges of the log that operators replay."""
