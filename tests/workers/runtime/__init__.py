"""Tests of what every role runs on."""
