"""Tests of the way in: HTTP against a real broker and a real database."""
