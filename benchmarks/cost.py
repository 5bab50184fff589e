"""The cost of each part of the system: its CPU time, measured from outside."""

from collections.abc import Mapping, Sequence
from typing import Self

import psutil

from sandbox.system import System


class Meter:
    """Adds up the CPU seconds of parts, their processes' children included, dead or alive."""

    def __init__(self, pids: Mapping[str, int | None]) -> None:
        """Take the process of each part; None means all children of this process that have ended."""
        self._pids = pids
        self._before = self._now()

    @classmethod
    def of(cls, system: System, parts: Mapping[str, str]) -> Self:
        """Return a meter of parts of the system, by their names in the output; wrk is added."""
        return cls({**{name: system.pid(part) for name, part in parts.items()}, "wrk": None})

    def microseconds(self) -> dict[str, float]:
        """Return the microseconds of CPU that each part has used since the meter was made."""
        return {name: (now - self._before[name]) * 1e6 for name, now in self._now().items()}

    def _now(self) -> dict[str, float]:
        return {name: _ended_children() if pid is None else _family(pid) for name, pid in self._pids.items()}


def resident_mb(pid: int) -> float:
    """Return the resident memory of a process in MB (10^6 bytes)."""
    return psutil.Process(pid).memory_info().rss / 1e6


def _family(pid: int) -> float:
    process = psutil.Process(pid)
    times = process.cpu_times()
    own = times.user + times.system + times.children_user + times.children_system
    return own + sum(_alone(child) for child in process.children(recursive=True))


def _alone(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return times.user + times.system


def _ended_children() -> float:
    times = psutil.Process().cpu_times()
    return times.children_user + times.children_system


def medians(runs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the median of each part over the runs."""
    return {name: sorted(run[name] for run in runs)[len(runs) // 2] for name in runs[0]}
