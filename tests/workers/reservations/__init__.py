"""Tests of workers.reservations."""
