"""Collects the garbage of a process that handles many small values."""

import gc
from typing import Final

#: As many values more than before lead to a collection, some of which visit older values too. A batch of a worker, or
#: the requests that an ingress answers at one time, have fewer: else most collections would find values in use.
_THRESHOLDS: Final = (200_000, 20, 100)


def collect_seldom() -> None:
    """Exempt objects that exist by now, and look for cycles seldom: records and requests leave hardly any behind."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
