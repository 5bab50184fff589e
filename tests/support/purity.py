"""Keeps unit tests from starting a process and from opening a connection. Python itself reports both.

`unit` is given to the tests of most rooms that ask for no server. One that needs a process or a connection is marked
`process`.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

#: Events that Python audits when a process is started.
_STARTS: Final = frozenset({"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.exec"})
_FORBIDDEN: Final = _STARTS | {"socket.connect"}


class NotPureError(RuntimeError):
    """A unit test did what needs a process or a server."""


class Guard:
    """Refuses what a unit test may not do, for as long as a block lasts; `started` counts processes at any time."""

    def __init__(self) -> None:
        self.started = 0
        self._seen: list[str] | None = None
        # A hook stays for as long as the process does: it only counts outside the block.
        sys.addaudithook(self._audit)

    @contextmanager
    def pure(self) -> Iterator[list[str]]:
        """Refuse it inside the block; yield what was tried, also where the refusal itself was swallowed."""
        seen = self._seen = []
        try:
            yield seen
        finally:
            self._seen = None

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event not in _FORBIDDEN:
            return
        if event in _STARTS:
            self.started += 1
        if self._seen is None:
            return
        self._seen.append(f"{event} {arguments[1] if event == 'socket.connect' else arguments[0]}")
        raise NotPureError(f"a unit test asks for {event}: mark it `process`, or take this from it")
