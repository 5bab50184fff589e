"""Makes a failing run smaller: fewer faults, visitors and hours, while the same promise is still broken."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from tests.simulation.plan import Fault, Plan
from tests.simulation.world import Result, simulate

#: Each try is a run; a failure with few faults needs far fewer.
MAX_TRIES = 200


def promise_of(result: Result) -> str | None:
    """Return the name of the promise that a run broke first; None: it broke none."""
    return result.problems[0].partition(":")[0] if result.problems else None


class Shrinking:
    """Looks for a smaller plan that fails with the same promise."""

    def __init__(self, failed: Result, simulated: Callable[[Plan], Result] = simulate) -> None:
        self.result = failed
        self.tries = 0
        self._promise = promise_of(failed)
        self._simulated = simulated

    def shrink(self) -> Result:
        """Return the smallest failing run that was found."""
        self._try(replace(self.result.plan, faults=frozenset(self.result.fault_numbers)))
        self._try(replace(self.result.plan, faults=frozenset()))
        self._shorten()
        self._leave_out_kinds()
        self._leave_out("faults", lambda: self.result.plan.faults or frozenset())
        self._leave_out("visitors", lambda: self.result.plan.visitors or frozenset(range(1, self.result.visitors + 1)))
        return self.result

    def _try(self, plan: Plan) -> bool:
        """Take a plan if it fails as the first did."""
        if plan == self.result.plan or self.tries >= MAX_TRIES:
            return False
        self.tries += 1
        found = self._simulated(plan)
        if promise_of(found) != self._promise:
            return False
        self.result = found
        return True

    def _shorten(self) -> None:
        while self.result.plan.hours > 0.5 and self._try(replace(self.result.plan, hours=self.result.plan.hours / 2)):
            pass

    def _leave_out_kinds(self) -> None:
        for kind in Fault:
            plan = self.result.plan
            if self.result.faults[kind]:
                self._try(replace(plan, kinds=plan.kinds - {kind}))

    def _leave_out(self, field: str, present: Callable[[], frozenset[int]]) -> None:
        """Leave out ever smaller parts of what is left, as delta debugging does (Zeller and Hildebrandt, 2002)."""
        parts = 2
        while (left := sorted(present())) and self.tries < MAX_TRIES:
            if any(self._try(_with(self.result.plan, field, kept)) for kept in _without_parts(left, parts)):
                parts = max(parts - 1, 2)
            elif parts >= len(left):
                return
            else:
                parts = min(parts * 2, len(left))


def _with(plan: Plan, field: str, kept: frozenset[int]) -> Plan:
    return replace(plan, faults=kept) if field == "faults" else replace(plan, visitors=kept)


def _without_parts(numbers: list[int], parts: int) -> Iterator[frozenset[int]]:
    """Yield the numbers without one of so many parts."""
    size = -(-len(numbers) // parts)
    for first in range(0, len(numbers), size):
        yield frozenset((*numbers[:first], *numbers[first + size :]))


def command_of(plan: Plan) -> str:
    """Return the command that repeats a run."""
    words = [f"python -m tests.simulation --seed {plan.seed} --week {plan.week} --hours {plan.hours:g}"]
    if plan.kinds != frozenset(Fault):
        words += [f"--kind {kind.name}" for kind in Fault if kind in plan.kinds]
    if plan.faults is not None:
        words.append(f"--faults {_listed(plan.faults)}")
    if plan.visitors is not None:
        words.append(f"--visitors {_listed(plan.visitors)}")
    return " ".join(words)


def _listed(numbers: Iterable[int]) -> str:
    return ",".join(map(str, sorted(numbers))) or "none"


def parsed(text: str) -> frozenset[int] | None:
    """Return the numbers of such a list; None for an empty text."""
    if not text:
        return None
    return frozenset() if text == "none" else frozenset(map(int, text.split(",")))
