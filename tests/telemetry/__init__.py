"""Tests of metrics, logs and traces."""
