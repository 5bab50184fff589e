"""Writes the measured figures into docs/performance.md, between the parts that people wrote."""

import os
import platform
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import psutil

from benchmarks.lines import MIN_RATIO, Comparison, Figure, Line, SearchComparison, Without, as_text, goals
from sandbox.kafka import jars
from sandbox.postgres.server import program

PAGE: Final = Path(__file__).parents[1] / "docs" / "performance.md"
BEGINS: Final = "<!-- Figures: written by `python -m benchmarks --write-docs`. -->"
ENDS: Final = "<!-- End of the figures. -->"
SEARCH_BEGINS: Final = "<!-- Figures of search: written by `python -m benchmarks.search --write-docs`. -->"
SEARCH_ENDS: Final = "<!-- End of the figures of search. -->"


def write(lines: Sequence[Line]) -> None:
    """Replace the figures on the page; raises ValueError when their place is not marked."""
    _put(BEGINS, _figures(lines), ENDS)


def write_search(lines: Sequence[Line]) -> None:
    """Replace the figures of search on the page; raises ValueError when their place is not marked."""
    _put(SEARCH_BEGINS, _search_figures(lines), SEARCH_ENDS)


def _put(begin: str, figures: Iterator[str], end: str) -> None:
    text = PAGE.read_text()
    before, begins, rest = text.partition(begin)
    _, ends, after = rest.partition(end)
    if not begins or not ends:
        raise ValueError(f"{PAGE} does not mark where the figures go")
    PAGE.write_text("\n".join([f"{before}{begin}", "", *figures, "", f"{end}{after}"]))


def _figures(lines: Sequence[Line]) -> Iterator[str]:
    yield from _circumstances("make bench ARGS=--write-docs")
    yield from _without(lines)
    yield ""
    yield from _comparisons([line for line in lines if isinstance(line, Comparison)])
    yield ""
    yield from _targets(lines)
    yield ""
    yield from _costs([line for line in lines if isinstance(line, Figure)])
    if parts := _parts(lines, "idle.cpu."):
        yield ""
        shares = ", ".join(f"{part} {as_text(percent)}" for part, percent in parts.items())
        yield f"An idle system uses, in percent of one core: {shares}"


def _search_figures(lines: Sequence[Line]) -> Iterator[str]:
    yield from _circumstances("make bench-search ARGS=--write-docs")
    yield from _without(lines)
    yield ""
    yield "| 64 clients | searches/s | p50 | p99 |"
    yield "|---|---|---|---|"
    for line in lines:
        if isinstance(line, SearchComparison):
            yield f"| ours | {line.ours_per_s:,} | {line.p50_ms:.1f} ms | {line.p99_ms:.1f} ms |"
            yield f"| one SQL query | {line.sql_per_s:,} | {line.sql_p50_ms:.1f} ms | {line.sql_p99_ms:.1f} ms |"
    yield ""
    yield from _targets(lines)
    yield ""
    yield "Where the CPU goes, in us for one search, with its share:"
    yield ""
    for side, name in (("cpu", "ours"), ("sql.cpu", "one SQL query")):
        yield f"- {name}: {_shares(_parts(lines, f'search.{side}.'))}"


def _parts(lines: Sequence[Line], start: str) -> dict[str, float]:
    return {
        line.benchmark.removeprefix(start): line.value
        for line in lines
        if isinstance(line, Figure) and line.benchmark.startswith(start)
    }


def _circumstances(command: str) -> Iterator[str]:
    memory_gb = psutil.virtual_memory().total / 1e9
    yield f"Measured on {datetime.now(UTC):%Y-%m-%d} by `{command}`, everything on one machine:"
    yield ""
    yield f"- {os.cpu_count()} cores ({_processor()}), {memory_gb:.0f} GB of memory, {platform.system()}"
    yield f"- Python {platform.python_version()}, {_postgres_version()}, Apache Kafka {jars.version()}, {_wrk()}"


def _without(lines: Sequence[Line]) -> Iterator[str]:
    for line in lines:
        if isinstance(line, Without):
            yield f"- without {', '.join(line.switched_off)}"


def _comparisons(lines: Sequence[Comparison]) -> Iterator[str]:
    yield "| 64 clients | ours, decided/s | row locks, decided/s | ratio | p50 of our 202 | p99 of our 202 |"
    yield "|---|---|---|---|---|---|"
    for line in lines:
        rates = f"{line.ours_per_s:,} | {line.row_locks_per_s:,} | {line.ratio:.2f}"
        yield f"| `{line.benchmark}` | {rates} | {line.p50_ms:.1f} ms | {line.p99_ms:.1f} ms |"


def _targets(lines: Sequence[Line]) -> Iterator[str]:
    yield "| target | wanted | measured | |"
    yield "|---|---|---|---|"
    for line in lines:
        for goal in goals(line):
            yield f"| {goal.what} | {goal.wanted} | {as_text(goal.measured)} {goal.unit} | {goal.verdict} |"
        if isinstance(line, Figure) and line.target is None and ".cpu." not in line.benchmark:
            yield f"| {line.benchmark} | | {as_text(line.value)} {line.unit} | |"


def _costs(lines: Sequence[Figure]) -> Iterator[str]:
    yield "Where the CPU goes, in us for one booking, with its share:"
    yield ""
    for side, label in (("cpu", "ours"), ("row_locks.cpu", "row locks")):
        for name in MIN_RATIO:
            if parts := _parts(lines, f"{name}.{side}."):
                yield f"- `{name}`, {label}: {_shares(parts)}"


def _shares(parts: Mapping[str, float]) -> str:
    total = sum(value for part, value in parts.items() if "." not in part)
    words = []
    for part, value in parts.items():
        inside, _, of_it = part.partition(".")
        name = f"of {inside} at most {of_it}" if of_it else part
        words.append(f"{name} {value:.0f} ({value / total:.0%})")
    return f"{', '.join(words)}; together {total:.0f}"


def _processor() -> str:
    if Path("/proc/cpuinfo").exists():
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _postgres_version() -> str:
    printed = subprocess.run([program("postgres"), "--version"], capture_output=True, text=True, check=True)
    return printed.stdout.strip().replace("postgres (PostgreSQL)", "PostgreSQL")


def _wrk() -> str:
    # It prints its version and ends with a failure.
    printed = subprocess.run(["wrk", "--version"], capture_output=True, text=True, check=False).stdout
    return " ".join(printed.split()[:2])
