"""The baseline: the same booking decided by row locks, one SQL function a request, answered when it is committed."""
