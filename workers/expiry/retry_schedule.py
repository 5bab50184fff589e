"""What the expiry role asked rooms' owners for and is not done yet: asked for again, ever more rarely."""

from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import Generic, NamedTuple, TypeVar

Key = TypeVar("Key", bound=Hashable)


class _Asked(NamedTuple):
    """When something is asked for again, by the caller's clock in seconds, and after which pause."""

    again_at: float
    pause_seconds: float


class RetrySchedule(Generic[Key]):
    """Says what to ask for now.

    What was asked for once and is not done yet stands in the log behind guests' own commands: at most `most_awaited` of
    it does, by weight.
    """

    def __init__(self, *, first_pause_seconds: float, longest_pause_seconds: float, most_awaited: int) -> None:
        self._first_pause_seconds = first_pause_seconds
        self._longest_pause_seconds = longest_pause_seconds
        self._most_awaited = most_awaited
        self._asked: dict[Key, _Asked] = {}
        self._still_due: dict[Key, _Asked] = {}
        self._awaited = 0

    @contextmanager
    def sweep(self) -> Iterator[None]:
        """Go through all that is due inside the block; what was asked for and is not due any more is forgotten."""
        self._still_due, self._awaited = {}, 0
        yield
        self._asked = self._still_due

    def cut_short(self) -> None:
        """End the sweep before it came to everything: what it has not met may be due as before."""
        self._still_due = self._asked | self._still_due

    def is_asked_now(self, key: Key, now: float, weight: int = 1) -> bool:
        """Tell whether to ask for something that is due, and remember when it was asked for."""
        asked = self._asked.get(key)
        if asked is not None and now < asked.again_at:
            self._still_due[key] = asked
            if asked.pause_seconds == self._first_pause_seconds:
                self._awaited += weight
            return False
        if asked is None and self._awaited and self._awaited + weight > self._most_awaited:
            return False
        pause = self._first_pause_seconds
        if asked is not None:
            pause = min(2 * asked.pause_seconds, self._longest_pause_seconds)
        self._still_due[key] = _Asked(now + pause, pause)
        self._awaited += weight if asked is None else 0
        return True

    def __len__(self) -> int:
        """Return how much is asked for and not done."""
        return len(self._still_due)
