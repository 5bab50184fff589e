"""Search beside the same question as one SQL query over the ledger's inventory."""
