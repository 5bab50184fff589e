"""Named points at which a test kills a process as hard as a power cut; no-ops otherwise.

`INNKEEPER_FAILPOINT=reservations.after_commit:3` kills the process with SIGKILL at its third pass.
"""

import os
import signal
from collections import Counter
from typing import Final

_passes: Final[Counter[str]] = Counter()
_name, _, _count = os.environ.get("INNKEEPER_FAILPOINT", "").partition(":")
_nth: Final = int(_count or 1)


def failpoint(name: str) -> None:
    """Kill this process if `INNKEEPER_FAILPOINT` names this point, and this is the pass that it asks for."""
    if name != _name:
        return
    _passes[name] += 1
    if _passes[name] == _nth:
        os.kill(os.getpid(), signal.SIGKILL)
