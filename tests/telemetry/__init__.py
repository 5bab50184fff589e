"""Tests of what is told about running processes."""
