"""Statements of a hotel: the money that its bookings brought and lost, month by month."""
