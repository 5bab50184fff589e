"""A simulation of years in minutes: the real workers over a log, a ledger and a clock in memory, all by one seed."""
