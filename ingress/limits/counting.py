"""Counters that all ingress processes share: the scripts that Redis runs, and an interface that may be away."""

from collections.abc import Sequence
from hashlib import sha1
from typing import Protocol


class Script:
    """A Lua program that Redis runs atomically; its result is a whole number."""

    def __init__(self, source: str) -> None:
        self.source = source
        #: Redis names a loaded script by this hash.
        self.sha = sha1(source.encode(), usedforsecurity=False).hexdigest()


class Shared(Protocol):
    """Counters that all processes share (`ingress/limits/redis_link.py`)."""

    async def ask(self, script: Script, keys: Sequence[str], arguments: Sequence[int]) -> int | None:
        """Run a script; None without a quick answer: then every process counts by itself."""
        ...
