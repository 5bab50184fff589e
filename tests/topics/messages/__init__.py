"""Tests of topics.messages."""
