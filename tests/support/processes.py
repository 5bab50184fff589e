"""The end of a process, however quickly it goes."""

import psutil


def is_gone(process: psutil.Process) -> bool:
    """Whether a process has ended; its entry may remain until whoever started it has looked."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:  # It went between the two questions.
        return True
