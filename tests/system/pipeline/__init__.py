"""The whole path under faults: load with a seed, faults with a seed, and a reckoning that trusts nobody."""
