"""`python -m benchmarks.search`: measures search on real size beside one SQL query over inventory."""

from typing import Annotated

import typer
import uvloop

from benchmarks import page
from benchmarks.extent import Extent
from benchmarks.lines import Line
from benchmarks.printing import prepare, print_lines, print_switched_off
from benchmarks.search.comparison import compare
from benchmarks.search.data import Size


def main(
    seconds: Annotated[float, typer.Option(min=1, help="The length of one run.")] = Extent().seconds,
    *,
    quick: Annotated[
        bool, typer.Option("--quick", help="Once, for a second, among few hotels: shows that it works, no more.")
    ] = False,
    write_docs: Annotated[bool, typer.Option("--write-docs", help="Write the figures to docs/performance.md.")] = False,
) -> None:
    """Measure searches beside SQL: JSON lines on stdout, progress and verdicts on stderr.

    Starts a broker, a database, two workers and an ingress of its own and stops them. Nothing else should run
    meanwhile. The load comes from wrk, which must be installed.
    """
    if write_docs and quick:
        raise typer.BadParameter("--write-docs writes all figures: it takes no --quick")
    prepare()
    extent, size = (Extent(seconds=1.0, runs=1), Size.small()) if quick else (Extent(seconds=seconds), Size())
    lines = uvloop.run(_measure(extent, size))
    if write_docs:
        page.write_search(lines)


async def _measure(extent: Extent, size: Size) -> list[Line]:
    return [print_switched_off(), *await print_lines("search", compare(extent, size))]


if __name__ == "__main__":
    typer.run(main)
