"""`telemetry`: the CPU time that metrics and JSON logs add to a booking."""

from collections.abc import AsyncIterator
from statistics import median
from typing import Final

from benchmarks.closed_loop import OURS, Ours, Run, run_ours, stopped
from benchmarks.extent import Extent
from benchmarks.lines import Figure, Line
from benchmarks.load import Bodies
from benchmarks.stage import Rooms, Stage, progress, stage

MAX_MORE_CPU_PERCENT: Final = 2.0
#: The ingress and the worker that serve metrics and write JSON logs.
_OBSERVED: Final = Ours(ingress="ingress-2", worker="reservations-2")
_OBSERVING: Final = {"METRICS_PORT": "0", "LOG_FORMAT": "json"}


async def telemetry(extent: Extent) -> AsyncIterator[Line]:
    """Compare a hot room with and without `METRICS_PORT`, turn about, by the CPU time that a booking takes."""
    rooms = Rooms.on_sale(count=1, nights=30)
    observing = {_OBSERVED.ingress: _OBSERVING, _OBSERVED.worker: _OBSERVING}
    async with stage(rooms, ingress=2, workers=2, of_one=observing) as ours:
        bodies = Bodies(ours.system.folder, rooms, one_night=True)
        more = [await _more(ours, bodies, extent, turn) for turn in range(1, extent.runs + 1)]
    value = round(median(more), 1)
    yield Figure(benchmark="telemetry.more_cpu", value=value, unit="%", target=MAX_MORE_CPU_PERCENT)


async def _more(ours: Stage, bodies: Bodies, extent: Extent, turn: int) -> float:
    """Return how many percent more a booking takes where metrics are served."""
    async with stopped(ours, _OBSERVED):
        without = _together(await run_ours(ours, bodies, extent, OURS))
    async with stopped(ours, OURS):
        with_telemetry = _together(await run_ours(ours, bodies, extent, _OBSERVED))
    progress(f"telemetry: run {turn}: {without:.1f} us a booking without, {with_telemetry:.1f} us with")
    return (with_telemetry / without - 1) * 100


def _together(run: Run) -> float:
    return sum(used for part, used in run.microseconds.items() if part != "wrk")
