"""Faust agents, one a role: they read commands and events, decide, and write the ledger."""
