"""What counting in one place for all ingress processes takes: a place that may be away, and programs that it runs."""

from collections.abc import Sequence
from hashlib import sha1
from typing import Protocol


class Script:
    """A program in Lua that the place runs at one go; it answers with a whole number."""

    def __init__(self, source: str) -> None:
        self.source = source
        #: By which Redis knows a script that it was given.
        self.sha = sha1(source.encode(), usedforsecurity=False).hexdigest()


class Shared(Protocol):
    """Where all processes count together (`ingress/limits/redis_link.py`)."""

    async def ask(self, script: Script, keys: Sequence[str], arguments: Sequence[int]) -> int | None:
        """Run a script; None when there is no answer soon: then every process counts by itself."""
        ...
