"""Ends a worker that cannot continue, at once, with a status that asks its supervisor to start it again."""

import logging
import os
from typing import Final

from workers.runtime.role import Stopped

log = logging.getLogger(__name__)

#: The exit status that asks a supervisor to start the worker again.
EXIT_FAILED: Final = 70


def stop_hard(error: Exception) -> None:
    """End this process at once, so that no failed work can count as done."""
    if isinstance(error, Stopped):
        log.critical("stopped: %s", error)
    else:
        log.critical("failed", exc_info=error)
    logging.shutdown()
    os._exit(EXIT_FAILED)
