"""Waiting for a broken dependency: with backoff, a clear log, and nothing skipped."""

import asyncio
import logging
from weakref import WeakSet

from telemetry import metrics

log = logging.getLogger(__name__)

# Who is given up on while it waits is gone from here too.
_troubled: "WeakSet[Patience]" = WeakSet()
metrics.TROUBLES.ask(lambda: [((), len(_troubled))])


class Patience:
    """Waits longer after each failure, from 0.1 s up to `most_seconds`, and says so."""

    def __init__(self, trouble: str, most_seconds: float = 3.0) -> None:
        self._trouble = trouble
        self._most_seconds = most_seconds
        self._next_seconds = 0.1
        self._failures = 0

    async def wait(self, error: BaseException) -> None:
        """Log the failure and wait before the next try."""
        _troubled.add(self)
        self._failures += 1
        log.warning(
            "%s (%s: %s); try %d in %.1f s",
            self._trouble,
            type(error).__name__,
            str(error).strip().partition("\n")[0],
            self._failures + 1,
            self._next_seconds,
        )
        await asyncio.sleep(self._next_seconds)
        self._next_seconds = min(self._next_seconds * 2, self._most_seconds)

    def over(self) -> None:
        """Say that it works again, if it did not."""
        if self._failures:
            log.warning("works again after %d failures: %s", self._failures, self._trouble)
            _troubled.discard(self)
            self._failures = 0
            self._next_seconds = 0.1
