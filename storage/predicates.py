"""Predicates that an index and a query must share word for word, so that the index serves the query."""

from typing import Final

#: The bookings of `booking_unpaid`: those that hold or have nights that are not paid.
UNPAID: Final = (
    "status in ('RESERVED', 'GUESTS_ADDED', 'PAYMENTS_PENDING') or status = 'CONFIRMED' and terms = 'at_hotel'"
)
