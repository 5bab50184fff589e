"""The money of one booking: every movement with its object at Stripe, sums, and all that does not agree.

Events are the truth of it. The ledger, the payments workers' rows and, if asked for, Stripe's balance transactions are
compared with them. Nothing is changed.
"""

from operators.money.money import BookingMoney, Line, NoSuchBooking, Sums, money_of

__all__ = ["BookingMoney", "Line", "NoSuchBooking", "Sums", "money_of"]
