"""Tests of the explanation of one booking, and of its page."""
