"""Restores what is lost, the database, the log or both, and sets every cursor so that the workers resume.

From the log (`restore`), from exported files (`from_export`: `exported` checks and reads them, `refill` puts their
events on the log, then as from the log), or from the ledger (`from_ledger`: the log is filled, and continued).

A restore from the log uses, in this order: `target` (the database is empty and no worker is connected),
`backup_check` (the backup has all rows that the log names), `log` (events in order, none missing), `apply` (events to
rows), `resume` (the last command that was decided), `payments` (pending Stripe calls), `sequences` (ids for new rows),
`restore` (all of it, in one transaction).

It uses the workers' own code: `evolve` defines what an event does to a booking, the projections what it does to a read
model, and payments which Stripe calls follow from it. None of that is written here a second time.
"""

from operators.restore.restore import Restored, plan, restore
from operators.restore.target import NotRestored

__all__ = ["NotRestored", "Restored", "plan", "restore"]
