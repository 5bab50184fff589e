"""`python -m benchmarks`: measures, on this machine, what the design promises."""

import logging
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from typing import Annotated, Final

import typer
import uvloop

from benchmarks import against_row_locks, idle, latency, load, operating, page, telemetry
from benchmarks.extent import Extent
from benchmarks.lines import Line, Without, as_json
from benchmarks.stage import SWITCHED_OFF, BenchmarkFailed, progress
from sandbox import kafka, postgres
from sandbox.spawning import StartFailed

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
_QUICK: Final = Extent(seconds=1.0, runs=1, kills=1, pauses=1, records=20_000, commands=5_000)


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
    """Measure the system beside the row-lock baseline: JSON lines on stdout, progress on stderr.

    Every benchmark starts a broker, a database, a worker and an ingress of its own and stops them. Nothing else should
    run meanwhile. The load comes from wrk, which must be installed.
    """
    wanted = names or list(BENCHMARKS)
    unknown = [name for name in wanted if name not in BENCHMARKS]
    if unknown:
        raise typer.BadParameter(f"no benchmark is called {', '.join(unknown)}: {', '.join(BENCHMARKS)}")
    if write_docs and (quick or alone or set(wanted) != set(BENCHMARKS)):
        raise typer.BadParameter("--write-docs needs the whole of it: no names, no --quick, no --alone")
    for reason in (load.missing(), kafka.available(), postgres.available()):
        if reason is not None:
            progress(reason)
            raise typer.Exit(1)
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    extent = replace(_QUICK if quick else Extent(seconds=seconds), alone=alone)
    lines = uvloop.run(_measure(wanted, extent))
    if write_docs:
        page.write(lines)


async def _measure(names: list[str], extent: Extent) -> list[Line]:
    lines: list[Line] = [Without(switched_off=list(SWITCHED_OFF))]
    print(as_json(lines[0]), flush=True)
    for name in names:
        progress(f"{name}: starting a system of its own")
        try:
            async for line in BENCHMARKS[name](extent):
                print(as_json(line), flush=True)
                lines.append(line)
        except (BenchmarkFailed, StartFailed) as failure:
            progress(f"{name}: {failure}")
            raise typer.Exit(1) from None
    return lines


if __name__ == "__main__":
    typer.run(main)
