"""The stand-in's own time, by which sessions expire and delayed payments arrive."""

import time
from collections.abc import Callable


class Clock:
    """Real time plus an offset that only grows, so that a test can pass half an hour at once.

    Webhooks do not follow it: they travel in real time and are signed with real time, because
    their receiver judges them by a clock of its own.
    """

    def __init__(self) -> None:
        self._offset_seconds = 0.0
        self._listeners: list[Callable[[], None]] = []

    def now(self) -> float:
        """Seconds since the epoch."""
        return time.time() + self._offset_seconds

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass at once, and wake every task that waits for a moment.

        Raises ValueError for a negative number: an expired object stays expired.
        """
        if seconds < 0:
            raise ValueError("time only goes forward")
        self._offset_seconds += seconds
        for wake in self._listeners:
            wake()

    def wakes(self, listener: Callable[[], None]) -> None:
        """Call `listener` after every leap."""
        self._listeners.append(listener)
