"""The operations for operators and their probes: health, lag, one booking's history, dead letters."""
