"""Tests of bookings and their lists."""
