"""`innkeeper reconcile`: the money at Stripe against the bookings (check `money matches bookings`).

The comparison is that of the role `reconciliation` (`workers.reconciliation`), which makes it by itself now and then.
"""

from operators.reconcile.reconcile import Reconciled, reconcile

__all__ = ["Reconciled", "reconcile"]
