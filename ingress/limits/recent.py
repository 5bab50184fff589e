"""What happened lately, by key: remembered long enough to matter, and never more than there is memory for."""

from collections.abc import Hashable
from typing import Final, Generic, TypeVar

MAX_KEYS: Final = 100_000
K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Recent(Generic[K, V]):
    """Values that are forgotten some time after they were last put, without anybody having to look for them.

    There are two generations: a value is put into the young one and found in both. Every `keep` units of time the young
    one becomes the old one, and the old one goes. So each value lives for at least `keep`, unless there are more than
    `most` keys: then those go that were not put for the longest time.
    """

    __slots__ = ("_keep", "_most_young", "_old", "_turns_at", "_young")

    def __init__(self, keep: int, *, most: int = MAX_KEYS) -> None:
        """Keep values for `keep` units of whatever clock the callers read `now` from."""
        self._keep = keep
        self._most_young = most // 2
        self._young: dict[K, V] = {}
        self._old: dict[K, V] = {}
        self._turns_at = 0

    def get(self, key: K) -> V | None:
        """Return what was put last, None when there was nothing lately."""
        found = self._young.get(key)
        return self._old.get(key) if found is None else found

    def put(self, key: K, value: V, now: int) -> None:
        """Remember a value in place of the one before it."""
        if now >= self._turns_at or len(self._young) >= self._most_young:
            self._turn(now)
        self._young[key] = value

    def forget(self, key: K) -> None:
        """Forget a key now."""
        self._young.pop(key, None)
        self._old.pop(key, None)

    def __len__(self) -> int:
        return len(self._young.keys() | self._old.keys())

    def _turn(self, now: int) -> None:
        # Nothing was put for two whole turns: then the young ones are as old as the old ones should be.
        self._old = {} if now >= self._turns_at + self._keep else self._young
        self._young = {}
        self._turns_at = now + self._keep
