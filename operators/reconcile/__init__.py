"""Compares the money that Stripe has for each booking with the booking (check `money matches bookings`).

It reads Stripe with a client of its own and the tables with SQL of its own. It audits payments and so shares no code
with it, except the settings that have Stripe's address, the marks of our objects, Stripe's words for their states, and
the ids of their commands. Files in the order in which they are used: `bookings` (tables), `stripe_client` and
`ownership` (Stripe), `comparison` and `payment_comparison` (pure), `corrections` (commands and rows that mend a
difference).
"""

from operators.reconcile.reconcile import Reconciled, reconcile

__all__ = ["Reconciled", "reconcile"]
