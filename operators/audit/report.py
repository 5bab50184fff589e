"""What an audit found: each problem a sentence under the check that it breaks."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

CHECKS: Final = {
    "I1": "every room and night: 0 <= booked + reserved <= total, after every event of the log",
    "I2": "inventory counts equal the sum over bookings by status",
    "I5": "no hold ends early or is acted on after its deadline (with --holds: none is 10 s overdue)",
    "I6": "events: no gap in a partition's sequence, legal moves only, and the log equals the ledger",
    "I7": "read models: every row is what the events make of it, as far as their projection has come",
}

_MAX_PROBLEMS_SHOWN: Final = 100


@dataclass
class Report:
    """The problems found so far; of each check the first hundred are told, the others counted."""

    counts: dict[str, int] = field(default_factory=dict)
    _told: list[str] = field(default_factory=list)
    _found: Counter[str] = field(default_factory=Counter)

    def add(self, check: str, sentence: str) -> None:
        """Note a problem with one of `CHECKS`."""
        self._found[check] += 1
        if self._found[check] <= _MAX_PROBLEMS_SHOWN:
            self._told.append(f"{check}: {sentence}")

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self._found

    def problems(self) -> list[str]:
        """Return one line a problem, in the order in which they were found."""
        untold = [
            f"{check}: and {count - _MAX_PROBLEMS_SHOWN} more"
            for check, count in sorted(self._found.items())
            if count > _MAX_PROBLEMS_SHOWN
        ]
        return self._told + untold

    def as_json(self) -> dict[str, Any]:
        """Return the outcome for machines."""
        return {
            "audit": "ok" if self.ok else "failed",
            "checks": {check: "failed" if self._found[check] else "ok" for check in CHECKS},
            "problems": self.problems(),
            **self.counts,
        }
