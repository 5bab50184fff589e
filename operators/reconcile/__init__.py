"""Compares the money that Stripe has for each booking with the booking (check `money matches bookings`).

It reads Stripe with a client of its own and the tables with SQL of its own. It audits payments and so shares no code
with it, except the settings that have Stripe's address. Files in the order in which they are used: `bookings` (tables),
`stripe_client` (Stripe), `comparison` (pure), `corrections` (rows updated to Stripe's state).
"""

from operators.reconcile.reconcile import Reconciled, reconcile

__all__ = ["Reconciled", "reconcile"]
