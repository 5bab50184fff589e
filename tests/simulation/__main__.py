"""`make simulate`: simulated years of bookings under faults; a failure is made small and printed as a command."""

import time
from collections import Counter
from typing import Annotated

import typer

from tests.simulation.plan import HOURS_OF_A_WEEK, WEEKS_OF_A_YEAR, Fault, Plan
from tests.simulation.shrinking import Shrinking, command_of, parsed
from tests.simulation.world import Result, simulate


def main(  # noqa: PLR0917 - the options of a command
    seed: Annotated[int, typer.Option(help="The seed of all chance.")] = 1,
    years: Annotated[float, typer.Option(help="How many years are simulated, a week at a time.")] = 1.0,
    week: Annotated[int | None, typer.Option(help="Only this week, counted from the first day of 2028.")] = None,
    hours: Annotated[float, typer.Option(help="How long visitors come in each week.")] = HOURS_OF_A_WEEK,
    kind: Annotated[list[str] | None, typer.Option(help="Only faults of this kind, such as CRASH_AFTER.")] = None,
    faults: Annotated[str, typer.Option(help="Only the faults of these numbers (3,17), or none.")] = "",
    visitors: Annotated[str, typer.Option(help="Only the visitors of these numbers (3,17), or none.")] = "",
    shrink: Annotated[bool, typer.Option(help="Make a failing run smaller.")] = True,
) -> None:
    """Print a line for each week; the exit status is 1 when a promise is broken."""
    weeks = range(round(years * WEEKS_OF_A_YEAR)) if week is None else [week]
    total, faults_seen, steps, began = 0, Counter[Fault](), 0, time.process_time()
    for number in weeks:
        plan = Plan(
            seed=seed,
            week=number,
            hours=hours,
            kinds=frozenset(Fault[name] for name in kind) if kind else frozenset(Fault),
            faults=parsed(faults),
            visitors=parsed(visitors),
        )
        result = simulate(plan)
        total, steps = total + result.visitors, steps + result.steps
        faults_seen += result.faults
        seconds = time.process_time() - began
        print(
            f"week {number}: {result.visitors} visitors, {result.faults.total()} faults, {result.history}", flush=True
        )
        if result.problems:
            _report(result, shrinks=shrink)
            raise typer.Exit(1)
    for fault, count in faults_seen.most_common():
        print(f"{count:8}  {fault.value}")
    print(f"{total} bookings asked for, {steps} steps, {seconds:.0f} s of CPU time: every promise was kept")


def _report(result: Result, *, shrinks: bool) -> None:
    """Print what is wrong, and the smallest run in which it is."""
    print("\n".join(result.problems))
    print(f"repeat it: {command_of(result.plan)}", flush=True)
    if shrinks:
        shrinking = Shrinking(result)
        smaller = shrinking.shrink()
        print(f"after {shrinking.tries} smaller runs: {len(smaller.fault_numbers)} faults")
        print("\n".join(smaller.problems))
        print(f"repeat it: {command_of(smaller.plan)}")


if __name__ == "__main__":
    typer.run(main)
