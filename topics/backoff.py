"""Waits after a failure before the next try: longer each time, up to a limit, with one clear log line for each try.

Every loop that waits for a broken dependency uses `Backoff`, so all of them look alike in the log, and `waiting` counts
them for the metrics. The checks of optional servers (a replica, Redis) do not: the process works without them, so they
are made at a fixed interval, and an outage is logged once.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping
from typing import Final
from weakref import WeakSet

FIRST_SECONDS: Final = 0.1
MAX_SECONDS: Final = 3.0
#: No wait doubles more often than this, so that the number fits a float however long the failures go on.
_MAX_DOUBLINGS: Final = 30

#: The reason of a failure that has no word of its own: a broker, Stripe or another service.
OTHER: Final = "other"

log = logging.getLogger(__name__)

# A loop that is cancelled while it waits never calls `reset`; the weak reference ends with its `Backoff`.
_waiting: "WeakSet[Backoff]" = WeakSet()
_seen: set[str] = {OTHER}


def seconds_after(failures: int, *, first_seconds: float = FIRST_SECONDS, max_seconds: float = MAX_SECONDS) -> float:
    """Return the wait after so many failures in a row (at least 1), in seconds."""
    return min(first_seconds * 2.0 ** min(failures - 1, _MAX_DOUBLINGS), max_seconds)


class Backoff:
    """The waits of one retry loop: `first_seconds`, then twice as long each time, at most `max_seconds`."""

    def __init__(self, name: str, *, first_seconds: float = FIRST_SECONDS, max_seconds: float = MAX_SECONDS) -> None:
        """`name` is the trouble as the log shows it, a clause: "projections waits for the database"."""
        self._name = name
        self._first_seconds = first_seconds
        self._max_seconds = max_seconds
        self._failures = 0
        self.reason = OTHER

    async def wait(self, error: BaseException, reason: str | None = None) -> None:
        """Log the failure and wait before the next try. `reason` is one word for it, which the metrics show too."""
        _waiting.add(self)
        self.reason = reason or OTHER
        _seen.add(self.reason)
        self._failures += 1
        seconds = seconds_after(self._failures, first_seconds=self._first_seconds, max_seconds=self._max_seconds)
        log.warning(
            "%s (%s%s: %s); try %d in %.1f s",
            self._name,
            f"{reason}, " if reason else "",
            type(error).__name__,
            str(error).strip().partition("\n")[0],
            self._failures + 1,
            seconds,
        )
        await asyncio.sleep(seconds)

    def reset(self) -> None:
        """Begin anew after a success, and log it if there were failures."""
        if self._failures:
            log.warning("works again after %d failures: %s", self._failures, self._name)
            _waiting.discard(self)
            self._failures = 0


def waiting() -> Mapping[str, int]:
    """Return how many retry loops of this process failed last and have not succeeded since, by reason.

    A reason that there was once has 0 afterwards, so that a metric goes back to it.
    """
    return dict.fromkeys(sorted(_seen), 0) | Counter(backoff.reason for backoff in _waiting)
