"""Tests of the form of requests and responses."""
