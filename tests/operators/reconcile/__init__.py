"""Tests of the money at Stripe compared with the bookings."""
