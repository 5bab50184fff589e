"""`telemetry`: the CPU time that metrics and JSON logs add to a booking."""

from collections.abc import AsyncIterator
from statistics import median
from typing import Final

from benchmarks.closed_loop import OURS, Ours, Run, run_ours, stopped
from benchmarks.extent import Extent
from benchmarks.lines import Figure, Line
from benchmarks.load import Bodies
from benchmarks.stage import Rooms, Stage, progress, stage

MAX_PERCENT: Final = 2.0
#: The ingress and the worker that serve metrics and write JSON logs.
_SEEN: Final = Ours(ingress="ingress-2", worker="reservations-2")
_SEEING: Final = {"METRICS_PORT": "0", "LOG_FORMAT": "json"}


async def telemetry(extent: Extent) -> AsyncIterator[Line]:
    """Compare a hot room with and without `METRICS_PORT`, turn about, by the CPU time that a booking takes."""
    rooms = Rooms.on_sale(count=1, nights=30)
    seeing = {_SEEN.ingress: _SEEING, _SEEN.worker: _SEEING}
    async with stage(rooms, ingress=2, workers=2, of_one=seeing) as ours:
        bodies = Bodies(ours.system.folder, rooms, one_night=True)
        more = [await _more(ours, bodies, extent, turn) for turn in range(1, extent.runs + 1)]
    value = round(median(more), 1)
    yield Figure(benchmark="telemetry.more_cpu", value=value, unit="%", target=MAX_PERCENT)


async def _more(ours: Stage, bodies: Bodies, extent: Extent, turn: int) -> float:
    """Return how many percent more a booking takes where metrics are served."""
    async with stopped(ours, _SEEN):
        unseen = _together(await run_ours(ours, bodies, extent, OURS))
    async with stopped(ours, OURS):
        seen = _together(await run_ours(ours, bodies, extent, _SEEN))
    progress(f"telemetry: run {turn}: {unseen:.1f} us a booking without, {seen:.1f} us with")
    return (seen / unseen - 1) * 100


def _together(run: Run) -> float:
    return sum(used for part, used in run.microseconds.items() if part != "wrk")
