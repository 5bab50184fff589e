"""Money that leaves again, in a whole system over HTTP, as a guest, a host and an operator try it."""
