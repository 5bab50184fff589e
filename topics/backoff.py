"""Waits after a failure before the next try: longer each time, up to a limit, with one clear log line for each try.

Every loop that waits for a broken dependency uses `Backoff`, so all of them look alike in the log, and `waiting` counts
them for the metrics.
"""

import asyncio
import logging
from typing import Final
from weakref import WeakSet

FIRST_SECONDS: Final = 0.1
MAX_SECONDS: Final = 3.0

log = logging.getLogger(__name__)

# A loop that is cancelled while it waits never calls `reset`; the weak reference ends with its `Backoff`.
_waiting: "WeakSet[Backoff]" = WeakSet()


class Backoff:
    """The waits of one retry loop: `first_seconds`, then twice as long each time, at most `max_seconds`."""

    def __init__(self, trouble: str, *, first_seconds: float = FIRST_SECONDS, max_seconds: float = MAX_SECONDS) -> None:
        """`trouble` says in the log what waits for what: "projections waits for the database"."""
        self._trouble = trouble
        self._first_seconds = first_seconds
        self._max_seconds = max_seconds
        self._next_seconds = first_seconds
        self._failures = 0

    async def wait(self, error: BaseException) -> None:
        """Log the failure and wait before the next try."""
        _waiting.add(self)
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
        self._next_seconds = min(self._next_seconds * 2, self._max_seconds)

    def reset(self) -> None:
        """Begin anew after a success, and log it if there were failures."""
        if self._failures:
            log.warning("works again after %d failures: %s", self._failures, self._trouble)
            _waiting.discard(self)
            self._failures = 0
            self._next_seconds = self._first_seconds


def waiting() -> int:
    """Return how many retry loops of this process failed last and have not succeeded since."""
    return len(_waiting)
