"""Tests of the adapter between the log and the roles, on a real broker and a real database."""
