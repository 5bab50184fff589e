"""The plan of a run: its seed, its visitors, and the faults that may happen in it."""

import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum, auto
from typing import Final

HOURS_OF_A_WEEK: Final = 168
WEEKS_OF_A_YEAR: Final = 53
#: The first day of week 0: 2028 has a 29 February.
FIRST_DAY: Final = datetime(2028, 1, 1, tzinfo=UTC)


class Kind(Enum):
    """The kinds of steps by which a process reaches the world around it."""

    BEGIN = auto()
    STATEMENT = auto()
    COMMIT = auto()
    SEND = auto()
    READ = auto()
    CALL = auto()


class Fault(Enum):
    """The faults that may happen to a process at such a step."""

    CRASH_BEFORE = "the process is killed before the step"
    CRASH_AFTER = "the process is killed after the step, without its answer"
    FREEZE_BEFORE = "the process is frozen before the step"
    FREEZE_AFTER = "the process is frozen after the step"
    SLOW = "the step takes long"
    REFUSED = "the step has no effect, and fails"
    ANSWER_LOST = "the step has its effect, and fails"
    IN_PART = "only the first records of several are stored, and the step fails"
    LATE = "the step fails, and has its effect later"
    SERIALIZATION = "the database cannot serialize the transaction"
    TOO_SLOW = "the database ends a long statement"
    FETCHED_TWICE = "records are fetched again that were fetched before"
    FETCH_LOST = "fetched records do not arrive"
    REBALANCE = "the partitions change hands"
    DATABASE_AWAY = "the database is killed and comes back"
    BROKER_AWAY = "the broker is away for a while"
    SERVER_ERROR = "Stripe answers with status 500, and may have carried out the call"
    RATE_LIMITED = "Stripe answers with status 429"
    STRIPE_AWAY = "Stripe is away for a while"


_ANYWHERE: Final = (
    Fault.CRASH_BEFORE,
    Fault.CRASH_AFTER,
    Fault.FREEZE_BEFORE,
    Fault.FREEZE_AFTER,
    Fault.SLOW,
    Fault.REFUSED,
    Fault.REBALANCE,
    Fault.DATABASE_AWAY,
    Fault.BROKER_AWAY,
)
FAULTS: Final[Mapping[Kind, tuple[Fault, ...]]] = {
    Kind.BEGIN: _ANYWHERE,
    Kind.STATEMENT: (*_ANYWHERE, Fault.SERIALIZATION, Fault.TOO_SLOW),
    Kind.COMMIT: (*_ANYWHERE, Fault.ANSWER_LOST, Fault.SERIALIZATION),
    Kind.SEND: (*_ANYWHERE, Fault.ANSWER_LOST, Fault.IN_PART, Fault.LATE),
    Kind.READ: (*_ANYWHERE, Fault.FETCHED_TWICE, Fault.FETCH_LOST),
    Kind.CALL: (
        *_ANYWHERE,
        Fault.ANSWER_LOST,
        Fault.LATE,
        Fault.SERVER_ERROR,
        Fault.SERVER_ERROR,
        Fault.RATE_LIMITED,
        Fault.STRIPE_AWAY,
    ),
}


#: There are few calls to Stripe; a fault is so many times more likely at one of them.
_WEIGHTS: Final[Mapping[Kind, int]] = {Kind.CALL: 15}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One run. Two runs of equal plans have the same history."""

    seed: int
    week: int = 0
    hours: float = HOURS_OF_A_WEEK
    visitors_per_hour: float = 20
    #: The mean number of steps between two faults; the busiest processes have most of them.
    steps_between_faults: float = 250
    kinds: frozenset[Fault] = frozenset(Fault)
    #: The numbers of the faults that happen, of all that would; None: all of them.
    faults: frozenset[int] | None = None
    #: The numbers of the visitors that come, of all that would; None: all of them.
    visitors: frozenset[int] | None = None
    #: The number of the one step at which the one fault of the run happens, to try every step in turn.
    only_step: int | None = None
    only_fault: Fault | None = None

    @property
    def begins_at(self) -> datetime:
        """The time (UTC) at which the run begins."""
        return FIRST_DAY + timedelta(weeks=self.week)

    def chance(self, name: str) -> random.Random:
        """Return a source of chance for one part, so that parts do not depend on each other's draws."""
        return random.Random(f"{self.seed}:{self.week}:{name}")


@dataclass
class Faults:
    """Decides at each step whether a fault happens, and which."""

    plan: Plan
    steps: int = 0
    #: So many faults would have happened; those of `happened` did.
    drawn: int = 0
    happened: Counter[Fault] = field(default_factory=Counter)
    numbers: list[int] = field(default_factory=list)
    are_over: bool = False

    def __post_init__(self) -> None:
        self.chance = self.plan.chance("faults")
        self._left = self._gap()

    def at(self, kind: Kind) -> Fault | None:
        """Return the fault of this step, if there is one."""
        self.steps += 1
        if self.plan.only_step is not None:
            if self.steps != self.plan.only_step:
                return None
            fault = self.plan.only_fault
            assert fault is not None
            self.happened[fault] += 1
            return fault
        self._left -= _WEIGHTS.get(kind, 1)
        if self._left > 0 or self.are_over:
            return None
        self._left = self._gap()
        self.drawn += 1
        fault = self.chance.choice(FAULTS[kind])
        if fault not in self.plan.kinds or (self.plan.faults is not None and self.drawn not in self.plan.faults):
            return None
        self.happened[fault] += 1
        self.numbers.append(self.drawn)
        return fault

    def _gap(self) -> int:
        return 1 + int(self.chance.expovariate(1 / self.plan.steps_between_faults))
