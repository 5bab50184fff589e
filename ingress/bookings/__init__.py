"""Bookings: from asking for a stay to its end, and lists of them."""
