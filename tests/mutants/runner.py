"""Runs the tests of each mutant in a copy of the checkout."""

import asyncio
import os
import re
import shutil
import sys
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.mutants.catalogue import Mutant

CHECKOUT: Final = Path(__file__).parents[2]
_FAILED: Final = re.compile(r"^(?:FAILED|ERROR) (tests/.+?)(?: - |$)", re.MULTILINE)
#: A copy is without files that programs made, and without the two folders that all copies share.
_NOT_COPIED: Final = shutil.ignore_patterns(".git", ".venv", ".cache", ".sandbox", ".hypothesis", "__pycache__")
_SHARED: Final = (".venv", ".cache")
_TESTS_FAILED: Final = 1
_TESTS_PASSED: Final = 0


class CannotJudge(Exception):
    """The tests did not run, or they fail without a broken rule."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The first test of a mutant that failed; None when all passed."""

    mutant: Mutant
    noticed_by: str | None


class Copy:
    """A copy of the checkout in which one rule at a time is broken."""

    def __init__(self, folder: Path) -> None:
        """Copy the checkout's files to a new folder."""
        self._folder = folder
        shutil.copytree(CHECKOUT, folder, ignore=_NOT_COPIED, symlinks=True)
        for name in _SHARED:
            (folder / name).symlink_to((CHECKOUT / name).resolve())

    async def judge(self, mutant: Mutant) -> Verdict:
        """Break the mutant's rule, run its tests and mend the rule.

        Raises:
            CannotJudge: the tests did not run.
        """
        with broken(self._folder, mutant):
            status, output = await self.test(mutant.tests)
        if status == _TESTS_PASSED:
            return Verdict(mutant=mutant, noticed_by=None)
        found = _FAILED.search(output)
        if status != _TESTS_FAILED or found is None:
            raise CannotJudge(f"{mutant.name}: pytest ended with status {status}:\n{output[-2000:]}")
        return Verdict(mutant=mutant, noticed_by=found.group(1))

    async def test(self, tests: Sequence[str]) -> tuple[int, str]:
        """Run tests until one fails; return pytest's status and output."""
        options = ("-x", "-q", "--no-header", "-p", "no:cacheprovider", "--hypothesis-profile", "repeatable")
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "pytest", *options, *tests),
            cwd=self._folder,
            stdout=PIPE,
            stderr=STDOUT,
            # A mutant is judged by its source, never by bytecode of the same size and second.
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPYCACHEPREFIX": ""},
        )
        try:
            output, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
        return process.returncode or 0, output.decode(errors="replace")


@contextmanager
def broken(folder: Path, mutant: Mutant) -> Iterator[None]:
    """Break a rule in the folder's source for the length of the block.

    Raises:
        CannotJudge: the source does not have the passage exactly once.
    """
    path = folder / mutant.file
    text = path.read_text()
    if text.count(mutant.right) != 1:
        raise CannotJudge(f"{mutant.name}: {mutant.file} has the passage {text.count(mutant.right)} times, not once")
    path.write_text(text.replace(mutant.right, mutant.wrong))
    try:
        yield
    finally:
        path.write_text(text)


async def judged(mutants: Sequence[Mutant], folder: Path, *, copies: int) -> AsyncIterator[Verdict]:
    """Yield the verdict on each mutant, as soon as it is known.

    Raises:
        CannotJudge: the unbroken tests fail, or the tests of a mutant do not run.
    """
    free: asyncio.Queue[Copy] = asyncio.Queue()
    for number in range(copies):
        free.put_nowait(Copy(folder / str(number)))

    async def judge(mutant: Mutant) -> Verdict:
        copy = await free.get()
        try:
            return await copy.judge(mutant)
        finally:
            free.put_nowait(copy)

    unbroken = await free.get()
    status, output = await unbroken.test(sorted({test for mutant in mutants for test in mutant.tests}))
    free.put_nowait(unbroken)
    if status != _TESTS_PASSED:
        raise CannotJudge(f"the tests fail while no rule is broken:\n{output[-2000:]}")
    for verdict in asyncio.as_completed([judge(mutant) for mutant in mutants]):
        yield await verdict
