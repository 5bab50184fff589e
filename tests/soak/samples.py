"""The file of a soak: one JSON object a line, appended as it comes, so that a run that is killed keeps its samples."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Line = Mapping[str, Any]


class SampleFile:
    """Appends lines to a file. Each begins with its kind: `run`, `sample`, `wait`, `fault`, `planted`, `verdict`."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._file = path.open("a", encoding="utf-8")

    def append(self, kind: str, **fields: Any) -> None:
        """Write one line, and hand it to the kernel: a kill of this process loses none."""
        self._file.write(json.dumps({"kind": kind, **fields}, separators=(",", ":")) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


@dataclass
class Run:
    """All lines of one run, by kind, in their order."""

    about: Line = field(default_factory=dict)
    samples: list[Line] = field(default_factory=list)
    waits: list[Line] = field(default_factory=list)
    faults: list[Line] = field(default_factory=list)
    planted: list[Line] = field(default_factory=list)
    #: None: it was killed, or is not over.
    verdict: Line | None = None

    @property
    def hours(self) -> float:
        """How long samples were taken."""
        return float(self.samples[-1]["at"]) / 3600 if self.samples else 0.0

    @property
    def bookings(self) -> int:
        """How many bookings were decided."""
        return max((int(sample["bookings"]) for sample in self.samples if "bookings" in sample), default=0)


def read(path: Path) -> Run:
    """Read a file; a last line that was cut off is left out.

    Raises:
        ValueError: another line is no JSON object of a known kind.
    """
    run = Run()
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        lines.pop()
    for number, line in enumerate(lines, 1):
        try:
            _add(run, json.loads(line))
        except (ValueError, KeyError) as error:
            raise ValueError(f"{path}:{number}: {error!r}") from None
    return run


def _add(run: Run, line: dict[str, Any]) -> None:
    match line.pop("kind"):
        case "run":
            run.about = line
        case "sample":
            run.samples.append(line)
        case "wait":
            run.waits.append(line)
        case "fault":
            run.faults.append(line)
        case "planted":
            run.planted.append(line)
        case "verdict":
            run.verdict = line
        case other:
            raise ValueError(f"no such kind: {other}")


def thinned(points: Sequence[tuple[float, float]], most: int) -> Sequence[tuple[float, float]]:
    """Return every n-th point, at most so many, with the last one."""
    size = -(-len(points) // most)
    return points if size <= 1 else [*points[:-1:size], points[-1]]
