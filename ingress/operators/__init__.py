"""What operators and their probes ask: whether the ingress can work, what the log and the ledger say."""
