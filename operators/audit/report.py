"""The checks of an audit, and its report: each problem is a sentence under the check that failed."""

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final


class Check(StrEnum):
    """The checks of an audit, by name.

    | check | meaning |
    |---|---|
    | no oversold night | each night after every event: 0 <= booked + reserved + blocked <= total + allowance |
    | counts match bookings | inventory counts equal the sum over bookings by status, and over blocks |
    | holds end on time | no hold ends early or is acted on after its deadline (`--holds`: none is 10 s overdue) |
    | codes within limits | each use of a promo code when it was granted: at most as many as its terms allow |
    | documents add up | a hotel's numbers have no gap; a booking's documents add up to the money that is kept of it |
    | log matches ledger | no gap in a partition's sequence, legal transitions, sales by their terms, ledger rows |
    | guest lists are stored | each list of guests that a booking names is there; an erasure would blank it |
    | read models match events | every row is what the events make of it, as far as its projection has applied them |
    """

    NO_OVERSOLD_NIGHT = "no oversold night"
    COUNTS_MATCH_BOOKINGS = "counts match bookings"
    HOLDS_END_ON_TIME = "holds end on time"
    CODES_WITHIN_LIMITS = "codes within limits"
    DOCUMENTS_ADD_UP = "documents add up"
    LOG_MATCHES_LEDGER = "log matches ledger"
    GUEST_LISTS_ARE_STORED = "guest lists are stored"
    READ_MODELS_MATCH_EVENTS = "read models match events"


_MAX_PROBLEMS_SHOWN: Final = 100


@dataclass
class Report:
    """The problems found so far. Of each check the first hundred are listed, the others counted."""

    counts: dict[str, int] = field(default_factory=dict)
    _listed: list[str] = field(default_factory=list)
    _found: Counter[Check] = field(default_factory=Counter)

    def add(self, check: Check, sentence: str) -> None:
        """Add a problem."""
        self._found[check] += 1
        if self._found[check] <= _MAX_PROBLEMS_SHOWN:
            self._listed.append(f"{check}: {sentence}")

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self._found

    def failed(self) -> list[Check]:
        """Return the checks that found a problem."""
        return [check for check in Check if self._found[check]]

    def problems(self) -> list[str]:
        """Return one line for each problem, in the order in which they were found."""
        others = [
            f"{check}: and {self._found[check] - _MAX_PROBLEMS_SHOWN} more"
            for check in Check
            if self._found[check] > _MAX_PROBLEMS_SHOWN
        ]
        return self._listed + others

    def as_json(self) -> dict[str, Any]:
        """Return the outcome for machines; `checks` has `ok` or `failed` by the check's name."""
        return {
            "audit": "ok" if self.ok else "failed",
            "checks": {check.value: "failed" if self._found[check] else "ok" for check in Check},
            "problems": self.problems(),
            **self.counts,
        }
