"""Makes the ledger anew out of `booking.events`, and says where on the other topics the system goes on.

The reader follows a restore through `target` (is the database empty and nobody at work?), `described` (does the backup
know all that the log names?), `hearing` (events, in order and whole), `retelling` (events -> rows), `going_on` (the
last command that was decided), `money` (what is owed to Stripe), `numbering` (what the log names is not given to
others), `restore` (all of it, in one transaction).

It lives among the workers because it needs their truth: `evolve` says what an event does to a booking, the projections
what it does to a read model, payments what it makes us owe. None of that is told here a second time.
"""

from operators.restore.restore import Restored, plan, restore
from operators.restore.target import NotRestored

__all__ = ["NotRestored", "Restored", "plan", "restore"]
