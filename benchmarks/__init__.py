"""The speed of the system, measured beside the strongest row-lock service that we could write."""
