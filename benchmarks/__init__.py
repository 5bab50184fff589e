"""What the system can do, measured beside the strongest row-lock service that we could write."""
