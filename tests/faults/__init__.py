"""The fault matrix: every fault that is made on purpose, under load, with what it must not break."""
