"""Tests of topics.kafka."""
