"""How a process that handles many small values collects its garbage."""

import gc


def collect_seldom() -> None:
    """Leave what was imported alone and look for cycles seldom: batches make many short-lived values, and no cycles."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
