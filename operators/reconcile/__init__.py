"""The auditor of money: what Stripe has for each booking beside what the booking says (check `money matches bookings`).

It asks Stripe with a client of its own and the tables with SQL of its own, and shares no code with payments, which it
audits: their settings alone say where Stripe is. The reader follows it through `counter` (Stripe), `books` (tables),
`comparison` (pure), `mending` (rows that were lost, brought up to date).
"""

from operators.reconcile.reconcile import Reconciled, reconcile

__all__ = ["Reconciled", "reconcile"]
