"""Schedules commands that are sent until they take effect: ever more rarely, and not too many at once."""

from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import Generic, NamedTuple, TypeVar

Key = TypeVar("Key", bound=Hashable)


class _Sent(NamedTuple):
    """The time at which a command is sent again, by the caller's clock in seconds, and the pause before it."""

    again_at: float
    pause_seconds: float


class RetrySchedule(Generic[Key]):
    """Decides for each due item whether its command is sent now.

    Commands that were sent once and have no effect yet wait in the log behind guests' own commands: they may be at most
    `max_awaited`, by weight.
    """

    def __init__(self, *, first_pause_seconds: float, max_pause_seconds: float, max_awaited: int) -> None:
        self._first_pause_seconds = first_pause_seconds
        self._max_pause_seconds = max_pause_seconds
        self._max_awaited = max_awaited
        self._sent: dict[Key, _Sent] = {}
        self._still_due: dict[Key, _Sent] = {}
        self._awaited = 0

    @contextmanager
    def sweep(self) -> Iterator[None]:
        """Go through all due items inside the block; the schedule forgets items that are not due any more."""
        self._still_due, self._awaited = {}, 0
        yield
        self._sent = self._still_due

    def cut_short(self) -> None:
        """End the sweep early: items that it has not reached may be due as before."""
        self._still_due = self._sent | self._still_due

    def is_sent_now(self, key: Key, now: float, weight: int = 1) -> bool:
        """Return whether the command of a due item is to be sent, and note it as sent."""
        sent = self._sent.get(key)
        if sent is not None and now < sent.again_at:
            self._still_due[key] = sent
            if sent.pause_seconds == self._first_pause_seconds:
                self._awaited += weight
            return False
        if sent is None and self._awaited and self._awaited + weight > self._max_awaited:
            return False
        pause = self._first_pause_seconds
        if sent is not None:
            pause = min(2 * sent.pause_seconds, self._max_pause_seconds)
        self._still_due[key] = _Sent(now + pause, pause)
        self._awaited += weight if sent is None else 0
        return True

    def __len__(self) -> int:
        """Return how many commands were sent and have no effect yet."""
        return len(self._still_due)
