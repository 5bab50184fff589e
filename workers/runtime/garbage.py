"""Collects the garbage of a process that handles many small values."""

import gc


def collect_seldom() -> None:
    """Exempt imported objects and look for cycles seldom: batches make many short-lived values, and no cycles."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
