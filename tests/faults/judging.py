"""Judges a row: compares the facts after its fault with the limits of the row."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from tests.faults.row import Promise, Row
from tests.system.pipeline.load import HUNG_UP

#: The statuses that clients of a quiet system get; some guests do not wait for theirs.
QUIET_ANSWERS: Final = frozenset({"200", "201", "202", "204", "404", "409", HUNG_UP})

#: Each problem of these kinds counts as a double.
DOUBLED: Final = ("sold_twice", "keys_broken")
#: So many problems of a kind are shown.
_MAX_SHOWN: Final = 10


@dataclass(kw_only=True)
class Facts:
    """The facts that a row left behind."""

    promised: int
    decided: int
    #: Problems by what they are about: all lists must be empty. `lost` and those of `DOUBLED` are counted apart.
    found: Mapping[str, list[str]]
    republished: int
    dead_letters: int
    answers: Counter[str]
    longest_wait_seconds: float
    #: The longest time from a guest's first request to the decision that the guest saw.
    guest_wait_seconds: float
    #: None: no booking was confirmed in the time that a row has.
    recovery_seconds: float | None
    fault_seconds: float = 0.0
    causes: Counter[str] = field(default_factory=Counter)
    #: How often each part ended with a failure of its own; one that was killed or asked to end has none.
    ended: Counter[str] = field(default_factory=Counter)
    figures: Mapping[str, str] = field(default_factory=dict)

    @property
    def lost(self) -> int:
        """How many promises were not kept."""
        return len(self.found.get("lost", ()))

    @property
    def doubled(self) -> int:
        """How much was sold or decided twice, and how many keys have two bookings."""
        return sum(len(self.found.get(name, ())) for name in DOUBLED)


def problems_of(row: Row, facts: Facts, *, timed: bool = True) -> list[str]:
    """Return, in sentences, what a row must not leave behind; unless `timed`, no time has a limit."""
    problems = [f"{name}: {problem}" for name, found in facts.found.items() for problem in found[:_MAX_SHOWN]]
    problems += [
        f"{name}: {len(found) - _MAX_SHOWN} more" for name, found in facts.found.items() if len(found) > _MAX_SHOWN
    ]
    if facts.promised == 0:
        problems.append("nothing was promised: there was no load")
    if facts.recovery_seconds is None:
        problems.append("no booking was confirmed after the fault")
    if timed:
        problems += _too_late(row, facts)
    strange = {
        status: count for status, count in facts.answers.items() if status not in QUIET_ANSWERS | row.answers and count
    }
    problems += [f"{count} requests got the answer {status}" for status, count in sorted(strange.items())]
    problems += [f"it was not seen that {cause}" for cause in row.causes if not facts.causes[cause]]
    problems += [f"{part} ended by itself" for part in sorted(facts.ended) if part not in row.may_end]
    if facts.dead_letters and Promise.DEAD_LETTERS_ARE_EXPLAINED not in row.promises:
        problems.append(f"{facts.dead_letters} records went to the dead-letter topic")
    return problems


def _too_late(row: Row, facts: Facts) -> list[str]:
    # A guest who is refused asks again until the fault is over, and is then served as all others are.
    guest_limit_seconds = facts.fault_seconds + max(row.max_wait_seconds, row.max_recovery_seconds)
    recovery_seconds = facts.recovery_seconds or 0.0
    waits = (
        ("a booking waited {:.1f} s for its decision", facts.longest_wait_seconds, row.max_wait_seconds),
        ("a guest waited {:.1f} s from the first request", facts.guest_wait_seconds, guest_limit_seconds),
        ("a booking was confirmed {:.1f} s after the fault", recovery_seconds, row.max_recovery_seconds),
    )
    return [f"{what.format(took)}, {limit:g} s are allowed" for what, took, limit in waits if took > limit]
