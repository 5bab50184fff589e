"""Recent values by key: kept long enough to matter, and never more than memory allows."""

from collections.abc import Hashable
from typing import Final, Generic, TypeVar

MAX_KEYS: Final = 100_000
K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Recent(Generic[K, V]):
    """Values that are dropped some time after they were last put, without a search for them.

    There are two generations: a value is put into the young one and found in both. Every `keep` units of time the young
    one becomes the old one, and the old one is dropped. So each value is kept for at least `keep`, unless there are
    more than `most` keys: then the keys that were put the longest time ago are dropped.
    """

    __slots__ = ("_keep", "_most_young", "_old", "_turns_at", "_young")

    def __init__(self, keep: int, *, most: int = MAX_KEYS) -> None:
        """Keep values for `keep` units of the clock that callers read `now` from."""
        self._keep = keep
        self._most_young = most // 2
        self._young: dict[K, V] = {}
        self._old: dict[K, V] = {}
        self._turns_at = 0

    def get(self, key: K) -> V | None:
        """Return the value that was put last, None without a recent one."""
        found = self._young.get(key)
        return self._old.get(key) if found is None else found

    def put(self, key: K, value: V, now: int) -> None:
        """Put a value in place of the one before it."""
        if now >= self._turns_at or len(self._young) >= self._most_young:
            self._turn(now)
        self._young[key] = value

    def forget(self, key: K) -> None:
        """Drop a key now."""
        self._young.pop(key, None)
        self._old.pop(key, None)

    def __len__(self) -> int:
        return len(self._young.keys() | self._old.keys())

    def _turn(self, now: int) -> None:
        # After two whole turns without a put the young generation is as old as an old one.
        self._old = {} if now >= self._turns_at + self._keep else self._young
        self._young = {}
        self._turns_at = now + self._keep
