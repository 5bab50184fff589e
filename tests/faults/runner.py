"""Runs rows, group by group: a group's system is started once, and again only after a row that does not hold."""

import asyncio
import os
import shutil
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol

from tests.faults import scene
from tests.faults.judging import QUIET_ANSWERS, Facts, problems_of
from tests.faults.results import Quiet, Result, Results
from tests.faults.row import Group, Promise, Row, Scene
from tests.system.pipeline.faults import say

#: No row takes longer, with everything that follows its load.
MAX_ROW_SECONDS: Final = 600.0
#: Without a fault a booking is confirmed, and decided, within so long on two cores that do nothing else.
MAX_QUIET_RECOVERY_SECONDS: Final = 10.0
MAX_QUIET_WAIT_SECONDS: Final = 3.0


class AnyStage(Protocol):
    """A system that rows can be played on; `tests.faults.scene.Stage` is the real one."""

    async def calibrate(self) -> Facts:
        """Play a row without a fault."""

    async def play(self, name: str, breaks: Callable[[Scene], Awaitable[None]]) -> Facts:
        """Make a fault under load; return what it leaves behind."""

    async def audit(self) -> Mapping[str, list[str]]:
        """Return the problems of all rows since the start, by what they are about."""


Opens = Callable[[Group, Path, int], AbstractAsyncContextManager[AnyStage]]


@dataclass
class Run:
    """The outcome of a run: the results of its rows, old ones too; `missing` are rows that this machine cannot have."""

    results: list[Result] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    #: The rows whose system did not start, or was not quiet: they have no result.
    without_system: list[str] = field(default_factory=list)
    #: The systems that failed after a row, such as one that did not end: a problem that no row has.
    failed_systems: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Whether every row that this machine can have was run and holds, and every system ended."""
        return not (self.failed or self.without_system or self.failed_systems)

    @property
    def failed(self) -> list[str]:
        """The rows that do not hold."""
        return [result.row for result in self.results if result.problems]


class NotQuiet(Exception):
    """The system does not keep its promises without a fault, or the machine is too busy for it."""


@dataclass
class Runner:
    """Runs rows under one seed; a row that has a result already is skipped unless `again`.

    On a machine that is too busy for the load alone no row is judged; `busy` judges all but the times.
    """

    results: Results
    again: bool = False
    busy: bool = False
    opens: Opens = scene.opened
    run: Run = field(default_factory=Run)

    async def play(self, rows: Sequence[Row]) -> Run:
        """Play the rows, those of one group after each other, and its crowds last."""
        for group in dict.fromkeys(row.group for row in rows):
            of_group = [row for row in rows if row.group is group]
            await self._play_group(group, sorted(of_group, key=lambda row: row.is_crowd))
        return self.run

    async def _play_group(self, group: Group, rows: Sequence[Row]) -> None:
        left = [row for row in rows if self._is_to_be_played(row)]
        while left:
            before = len(left)
            try:
                await self._play_on_one_system(group, left)
            except (Exception, ExceptionGroup) as error:  # noqa: BLE001 - a system may fail in any way, and the others go on
                failure = f"{group.name} failed: {'; '.join(_sentences(error))}"
                say(failure)
                if len(left) == before:
                    # Without a quiet system there is nothing to compare a row with.
                    self.run.without_system += [row.id for row in left]
                    return
                self.run.failed_systems.append(failure)

    def _is_to_be_played(self, row: Row) -> bool:
        found = None if self.again else self.results.get(row.id)
        if found is not None:
            say(f"{row.id} has a result: {_in_words(found)}")
            self.run.results.append(found)
            return False
        reason = row.group.missing() or row.missing()
        if reason is not None:
            say(f"{row.id} cannot be run here: {reason}")
            self.run.missing[row.id] = reason
        return reason is None

    async def _play_on_one_system(self, group: Group, left: list[Row]) -> None:
        """Play rows until one does not hold; those that stay in the list are left for another system."""
        folder = Path(tempfile.mkdtemp(prefix=f"innkeeper-faults-{group.name}-"))
        say(f"starting {group.name}: {group.system}")
        result: Result | None = None
        async with self.opens(group, folder, self.results.seed) as stage:
            quiet = _quiet(await _played(stage.calibrate()), busy=self.busy)
            say(f"quiet: the longest wait is {quiet.longest_wait_seconds:.2f} s")
            while left and (result is None or not result.problems):
                row = left.pop(0)
                say(f"{row.id}: {row.fault}")
                began = time.monotonic()
                facts = await _played(stage.play(row.id, row.breaks))
                if not left or Promise.READ_MODELS_AGREE in row.promises or self._problems(row, facts):
                    facts = await _audited(stage, facts)
                result = self._keep(row, quiet, facts)
                say(f"{row.id} in {time.monotonic() - began:.0f} s: {_in_words(result)}")
        if result is None or not result.problems:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            say(f"SEED {self.results.seed}: {result.row} FAILED; the logs and the data are in {folder}")

    def _problems(self, row: Row, facts: Facts) -> list[str]:
        return problems_of(row, facts, timed=not self.busy)

    def _keep(self, row: Row, quiet: Quiet, facts: Facts) -> Result:
        result = _result(row, self.results, quiet, facts, self._problems(row, facts))
        self.results.put(result)
        self.run.results.append(result)
        return result


async def _played(playing: Awaitable[Facts]) -> Facts:
    """Return what was found; a fault that could not be made, or an end that did not come, is a problem of its own."""
    try:
        async with asyncio.timeout(MAX_ROW_SECONDS):
            return await playing
    except (Exception, ExceptionGroup) as error:  # noqa: BLE001 - a row may fail in any way, and the others go on
        traceback.print_exception(error)
        return Facts(
            promised=0,
            decided=0,
            found={"not played": [*_sentences(error)]},
            republished=0,
            dead_letters=0,
            answers=Counter(),
            longest_wait_seconds=0.0,
            guest_wait_seconds=0.0,
            recovery_seconds=None,
        )


async def _audited(stage: AnyStage, facts: Facts) -> Facts:
    """Add what an audit finds; one that does not come to its end is a problem of its own."""
    try:
        async with asyncio.timeout(MAX_ROW_SECONDS):
            found = await stage.audit()
    except (Exception, ExceptionGroup) as error:  # noqa: BLE001 - it may fail in any way, and the others go on
        found = {"audit": [*_sentences(error)]}
    return replace(facts, found={**facts.found, **found})


def _quiet(calibration: Facts, *, busy: bool) -> Quiet:
    """Return the calibration. Raises NotQuiet: no row could be judged beside it."""
    problems = [problem for found in calibration.found.values() for problem in found]
    if calibration.recovery_seconds is None:
        raise NotQuiet("; ".join([*problems, "no booking was confirmed"]))
    if not busy:
        if calibration.recovery_seconds > MAX_QUIET_RECOVERY_SECONDS:
            problems.append(f"the machine is too busy: a booking takes {calibration.recovery_seconds:.1f} s")
        if calibration.longest_wait_seconds > MAX_QUIET_WAIT_SECONDS:
            problems.append(f"the machine is too busy: a decision takes {calibration.longest_wait_seconds:.1f} s")
        problems += [
            f"the machine is too busy: {count} requests got the answer {status}"
            for status, count in sorted(calibration.answers.items())
            if status not in QUIET_ANSWERS
        ]
    if problems:
        raise NotQuiet("; ".join(problems))
    return Quiet(
        longest_wait_seconds=round(calibration.longest_wait_seconds, 2),
        recovery_seconds=round(calibration.recovery_seconds, 2),
        answers=dict(sorted(calibration.answers.items())),
    )


def _result(row: Row, results: Results, quiet: Quiet, facts: Facts, problems: Sequence[str]) -> Result:
    return Result(
        row=row.id,
        seed=results.seed,
        commit=results.commit,
        date=datetime.now(UTC).date().isoformat(),
        cores=os.cpu_count() or 1,
        quiet=quiet,
        fault_seconds=round(facts.fault_seconds, 1),
        promised=facts.promised,
        decided=facts.decided,
        lost=facts.lost,
        doubled=facts.doubled,
        republished=facts.republished,
        answers=dict(sorted(facts.answers.items())),
        longest_wait_seconds=round(facts.longest_wait_seconds, 2),
        guest_wait_seconds=round(facts.guest_wait_seconds, 2),
        recovery_seconds=None if facts.recovery_seconds is None else round(facts.recovery_seconds, 2),
        causes=dict(sorted(facts.causes.items())),
        figures=dict(facts.figures),
        problems=problems,
    )


def _in_words(result: Result) -> str:
    recovery = "none" if result.recovery_seconds is None else f"{result.recovery_seconds:.1f} s"
    answers = ", ".join(f"{count}x {status}" for status, count in result.answers.items())
    holds = "FAILED: " + "; ".join(result.problems) if result.problems else "holds"
    return (
        f"{result.promised} promised, {result.decided} decided, {result.lost} lost, {result.doubled} doubled,"
        f" longest wait {result.longest_wait_seconds:.1f} s (quiet {result.quiet.longest_wait_seconds:.1f} s),"
        f" of a guest {result.guest_wait_seconds:.1f} s,"
        f" recovery {recovery}; {answers}; {holds}"
    )


def _sentences(error: BaseException) -> Iterator[str]:
    """Yield the message of each failure, of those in groups too."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _sentences(inner)
    else:
        yield f"{type(error).__name__}: {error}"
