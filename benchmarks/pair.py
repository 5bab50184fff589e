"""`make bench-pair REV=...`: whether a booking costs this checkout more CPU time than it cost an older one.

Both checkouts run their own code and their own `python -m benchmarks hot` (or `spread`), in turn: older, newer, newer,
older. A drift of the machine so falls on both alike, and one such block gives one ratio. The blocks together give an
interval.
"""

import asyncio
import json
import shutil
import subprocess
import sys
import tempfile
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from statistics import mean
from typing import Annotated, Final

import typer

from benchmarks.interval import Interval, ratio_interval
from benchmarks.stage import BenchmarkFailed, progress

#: The parts of a booking's cost by their names in a benchmark's lines. `sum` is that of the first two: our own code.
OUR_PARTS: Final = ("ingress", "worker")
PARTS: Final = (*OUR_PARTS, "sum", "kafka", "postgres")
#: An option of the benchmarks that leaves out the baseline, so that a measurement takes a third of the time.
ALONE: Final = "--alone"
_CHECKOUT: Final = Path(__file__).parents[1]
_TEMPORARY: Final = _CHECKOUT / ".sandbox"


class MeasuredBenchmark(StrEnum):
    """The benchmarks that print the cost of a booking."""

    HOT = "hot"
    SPREAD = "spread"


@dataclass(frozen=True, kw_only=True, slots=True)
class PairLine:
    """One line of the result: microseconds of CPU a booking (means), the ratio newer to older, and a verdict."""

    part: str
    older_us: float
    newer_us: float
    ratio: float
    low: float
    high: float
    verdict: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """Two measurements of each checkout, taken as older, newer, newer, older: CPU microseconds a booking by part."""

    older: Sequence[Mapping[str, float]]
    newer: Sequence[Mapping[str, float]]

    def ratio(self, part: str) -> float:
        """Return how many times the older checkout's cost the newer one's is."""
        return mean(run[part] for run in self.newer) / mean(run[part] for run in self.older)


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkout:
    """A folder with a release's code, and the Python that runs it."""

    name: str
    folder: Path
    python: Path

    async def measure(self, benchmark: str, *arguments: str) -> dict[str, float]:
        """Run the checkout's own benchmark of this name once; return CPU microseconds a booking by part.

        Raises:
            BenchmarkFailed: the benchmark failed, or did not print a part.
        """
        output = await self.run("-m", "benchmarks", benchmark, *arguments)
        return costs(benchmark, output.splitlines())

    async def run(self, *arguments: str) -> str:
        """Run this checkout's Python in its folder; return what it prints on stdout. Stderr is shown when it fails."""
        process = await asyncio.create_subprocess_exec(
            self.python, *arguments, cwd=self.folder, stdout=PIPE, stderr=PIPE
        )
        try:
            output, errors = await process.communicate()
        except asyncio.CancelledError:
            process.terminate()
            await process.communicate()
            raise
        if process.returncode != 0:
            raise BenchmarkFailed(f"{self.name}: {' '.join(arguments)} failed:\n{errors.decode(errors='replace')}")
        return output.decode()


def costs(benchmark: str, lines: Sequence[str]) -> dict[str, float]:
    """Return CPU microseconds a booking by part, from the JSON lines that the benchmark prints.

    Raises:
        BenchmarkFailed: a part is missing.
    """
    found = {str(line.get("benchmark")): line.get("value") for line in map(json.loads, lines)}
    parts = {part: found.get(f"{benchmark}.cpu.{part}") for part in PARTS if part != "sum"}
    if missing := [part for part, value in parts.items() if value is None]:
        raise BenchmarkFailed(f"`{benchmark}` printed no CPU time of {', '.join(missing)}")
    known = {part: float(value) for part, value in parts.items() if value is not None}
    return {**known, "sum": round(sum(known[part] for part in OUR_PARTS), 1)}


def summary(blocks: Sequence[Block], limit_percent: float) -> Iterator[PairLine]:
    """Yield the result of each part."""
    for part in PARTS:
        interval = ratio_interval([block.ratio(part) for block in blocks])
        yield PairLine(
            part=part,
            older_us=round(mean(run[part] for block in blocks for run in block.older), 1),
            newer_us=round(mean(run[part] for block in blocks for run in block.newer), 1),
            ratio=round(interval.middle, 4),
            low=round(interval.low, 4),
            high=round(interval.high, 4),
            verdict=verdict(interval, limit_percent),
        )


def verdict(interval: Interval, limit_percent: float) -> str:
    """Return `worse` where the whole interval is beyond the limit, else `not worse`; and whether it is too wide.

    An interval that is wider than the limit cannot exclude a loss of that size: the verdict then names its width.
    """
    word = "worse" if interval.low > 1 + limit_percent / 100 else "not worse"
    width = (interval.high - interval.low) * 100
    if width > limit_percent:
        return f"{word}; the interval of {width:.1f} % is wider than the limit of {limit_percent:g} %"
    return word


def main(
    rev: Annotated[str, typer.Argument(help="The older release: a tag, a branch or a commit.")],
    limit: Annotated[float, typer.Option(min=0, help="How many percent more than the older release are worse.")] = 3.0,
    blocks: Annotated[int, typer.Option(min=2, help="How often older, newer, newer, older.")] = 10,
    seconds: Annotated[float, typer.Option(min=1, help="The length of one run; a measurement has three.")] = 4.0,
    *,
    of: Annotated[MeasuredBenchmark, typer.Option(help="The benchmark that both run.")] = MeasuredBenchmark.HOT,
    quick: Annotated[
        bool, typer.Option("--quick", help="Two blocks of runs of a second: shows that it works, no more.")
    ] = False,
) -> None:
    """Compare this checkout with an older one by the CPU time of a booking: JSON lines on stdout, progress on stderr.

    The exit status is 1 where a part is worse. Nothing else should run meanwhile.
    """
    extent = ("--quick",) if quick else ("--seconds", str(seconds))
    try:
        lines = asyncio.run(_compare(rev, limit, 2 if quick else blocks, (of.value, *extent)))
    except (BenchmarkFailed, subprocess.CalledProcessError) as failure:
        progress(str(failure))
        raise typer.Exit(1) from None
    for line in lines:
        print(json.dumps(asdict(line)), flush=True)
    raise typer.Exit(int(any(line.verdict.startswith("worse") for line in lines)))


async def _compare(rev: str, limit: float, count: int, measured: Sequence[str]) -> list[PairLine]:
    newer = Checkout(name="newer", folder=_CHECKOUT, python=Path(sys.executable))
    async with _older_checkout(rev) as older:
        # Both sides measure in the same way, so the short form is used only where both have it.
        texts = [await checkout.run("-m", "benchmarks", "--help") for checkout in (older, newer)]
        arguments = (*measured, ALONE) if all(ALONE in text for text in texts) else tuple(measured)
        blocks = [await _measure_block(older, newer, number, count, arguments) for number in range(1, count + 1)]
    return list(summary(blocks, limit))


async def _measure_block(older: Checkout, newer: Checkout, number: int, count: int, arguments: Sequence[str]) -> Block:
    runs: dict[str, list[dict[str, float]]] = {older.name: [], newer.name: []}
    for checkout in (older, newer, newer, older):
        runs[checkout.name].append(measured := await checkout.measure(*arguments))
        shown = ", ".join(f"{part} {measured[part]}" for part in PARTS)
        progress(f"block {number} of {count}: {checkout.name}: {shown}")
    return Block(older=runs[older.name], newer=runs[newer.name])


def _temporary_folder() -> Path:
    """Return a new folder that every user can enter: the database server does not run as root."""
    folder = Path(tempfile.mkdtemp(prefix="older-", dir=_TEMPORARY))
    folder.chmod(0o755)
    return folder


@asynccontextmanager
async def _older_checkout(rev: str) -> AsyncIterator[Checkout]:
    """Make a work tree of the revision on the same disk as this checkout; remove it afterwards."""
    _TEMPORARY.mkdir(exist_ok=True)
    temporary = _temporary_folder()
    folder = temporary / "checkout"
    _git("worktree", "add", "--detach", str(folder), rev)
    try:
        older = Checkout(name="older", folder=folder, python=_python_of(folder))
        await older.run("-m", "sandbox.kafka", "fetch")
        yield older
    finally:
        _git("worktree", "remove", "--force", str(folder))
        shutil.rmtree(temporary, ignore_errors=True)


def _python_of(folder: Path) -> Path:
    """Return the Python of an older checkout: ours if its lock is the same as ours, else one of its own, installed now.

    Kafka's jars are shared in the same way. `make setup` may not see a shared environment: to make, it would be older
    than the fresh lock, and be installed again.
    """
    if _same("sandbox/kafka/pom.xml", folder) and (_CHECKOUT / ".cache").exists():
        (folder / ".cache").symlink_to((_CHECKOUT / ".cache").resolve())
    if _same("requirements.lock", folder):
        return Path(sys.executable)
    progress("the older release's lock differs from ours: it gets an environment of its own")
    subprocess.run(["make", "setup", f"PYTHON={sys.executable}"], cwd=folder, check=True, stdout=sys.stderr)
    return folder / ".venv" / "bin" / "python"


def _same(file: str, folder: Path) -> bool:
    return (folder / file).exists() and (_CHECKOUT / file).read_bytes() == (folder / file).read_bytes()


def _git(*arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=_CHECKOUT, check=True, stdout=sys.stderr)


if __name__ == "__main__":
    typer.run(main)
