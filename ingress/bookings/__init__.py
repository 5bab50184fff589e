"""A guest's booking, step by step: requests become commands of its room, the ledger's word becomes answers."""
