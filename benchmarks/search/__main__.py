"""`python -m benchmarks.search`: measures search on real size beside one SQL query over inventory."""

import logging
import sys
from typing import Annotated

import typer
import uvloop

from benchmarks import load, page
from benchmarks.extent import Extent
from benchmarks.lines import Line, Without, as_json
from benchmarks.search.comparison import compare
from benchmarks.search.data import Size
from benchmarks.stage import SWITCHED_OFF, BenchmarkFailed, progress
from sandbox import kafka, postgres
from sandbox.spawning import StartFailed


def main(
    seconds: Annotated[float, typer.Option(min=1, help="The length of one run.")] = Extent().seconds,
    *,
    quick: Annotated[
        bool, typer.Option("--quick", help="Once, for a second, among few hotels: shows that it works, no more.")
    ] = False,
    write_docs: Annotated[bool, typer.Option("--write-docs", help="Write the figures to docs/performance.md.")] = False,
) -> None:
    """Measure searches beside SQL: JSON lines on stdout, what goes on on stderr.

    Starts a broker, a database, two workers and an ingress of its own and stops them. Nothing else should run
    meanwhile. The load comes from wrk, which must be installed.
    """
    if write_docs and quick:
        raise typer.BadParameter("--write-docs needs the whole of it: no --quick")
    for reason in (load.missing(), kafka.available(), postgres.available()):
        if reason is not None:
            progress(reason)
            raise typer.Exit(1)
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    extent, size = (Extent(seconds=1.0, runs=1), Size.small()) if quick else (Extent(seconds=seconds), Size())
    lines = uvloop.run(_measure(extent, size))
    if write_docs:
        page.write_search(lines)


async def _measure(extent: Extent, size: Size) -> list[Line]:
    lines: list[Line] = [Without(switched_off=list(SWITCHED_OFF))]
    print(as_json(lines[0]), flush=True)
    try:
        async for line in compare(extent, size):
            print(as_json(line), flush=True)
            lines.append(line)
    except (BenchmarkFailed, StartFailed) as failure:
        progress(f"search: {failure}")
        raise typer.Exit(1) from None
    return lines


if __name__ == "__main__":
    typer.run(main)
