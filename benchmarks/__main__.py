"""`python -m benchmarks`: measures the promises of the design on this machine."""

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from typing import Annotated, Final

import typer
import uvloop

from benchmarks import against_row_locks, idle, latency, operating, page, telemetry
from benchmarks.extent import Extent
from benchmarks.lines import Line
from benchmarks.printing import prepare, print_lines, print_switched_off
from benchmarks.stage import progress

BENCHMARKS: Final[Mapping[str, Callable[[Extent], AsyncIterator[Line]]]] = {
    "hot": against_row_locks.hot,
    "spread": against_row_locks.spread,
    "latency": latency.latency,
    "idle": idle.idle,
    "kill": latency.kill,
    "restart": latency.restart,
    "memory": against_row_locks.memory,
    "telemetry": telemetry.telemetry,
    "explain": operating.explain,
    "trace": operating.trace,
    "pause": operating.pause,
}
_QUICK_EXTENT: Final = Extent(seconds=1.0, runs=1, kills=1, pauses=1, records=20_000, commands=5_000)


def main(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help=f"Which: {', '.join(BENCHMARKS)}; all unless named.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=1, help="The length of one run.")] = Extent().seconds,
    *,
    quick: Annotated[
        bool, typer.Option("--quick", help="Once and for a second: shows that it works, no more.")
    ] = False,
    alone: Annotated[
        bool, typer.Option("--alone", help="Without the baseline: `hot` and `spread` measure what a booking costs us.")
    ] = False,
    write_docs: Annotated[bool, typer.Option("--write-docs", help="Write the figures to docs/performance.md.")] = False,
) -> None:
    """Measure the system beside the row-lock baseline: JSON lines on stdout, progress and verdicts on stderr.

    Every benchmark starts a broker, a database, a worker and an ingress of its own and stops them. Nothing else should
    run meanwhile. The load comes from wrk, which must be installed.
    """
    chosen = names or list(BENCHMARKS)
    unknown = [name for name in chosen if name not in BENCHMARKS]
    if unknown:
        raise typer.BadParameter(f"no benchmark is called {', '.join(unknown)}: {', '.join(BENCHMARKS)}")
    if write_docs and (quick or alone or set(chosen) != set(BENCHMARKS)):
        raise typer.BadParameter("--write-docs writes all figures: it takes no names, no --quick, no --alone")
    prepare()
    extent = replace(_QUICK_EXTENT if quick else Extent(seconds=seconds), alone=alone)
    lines = uvloop.run(_measure(chosen, extent))
    if write_docs:
        page.write(lines)


async def _measure(names: list[str], extent: Extent) -> list[Line]:
    lines = [print_switched_off()]
    for name in names:
        progress(f"{name}: starting a system of its own")
        lines += await print_lines(name, BENCHMARKS[name](extent))
    return lines


if __name__ == "__main__":
    typer.run(main)
