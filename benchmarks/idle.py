"""`idle`: the CPU time of a whole system that has nothing to do, and the wait of a lone command for its event.

A system that polls more often answers sooner and uses more CPU while idle, so the two figures belong together.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Final

from benchmarks.cost import Meter
from benchmarks.extent import Extent
from benchmarks.flow import flow
from benchmarks.latency import MAX_WAITS_MS
from benchmarks.lines import Figure, Line, wait_figures
from benchmarks.stage import Rooms, Stage, stage
from sandbox.system import ONE_OF_EACH

#: Of one core, for broker, database, ingress and one worker of each role together.
MAX_IDLE_PERCENT: Final = 5.0
#: The most that p50 and p99 should be, in milliseconds: a lone command waits no longer than one among 200 a second. A
#: comparison with an older release needs both on one machine in turns, which no number here can replace.
MAX_LONE_WAITS_MS: Final = MAX_WAITS_MS[200]
PER_SECOND: Final = 20
_SERVER_PARTS: Final = ("kafka", "postgres", "ingress")
# For some seconds after its start the broker compiles, and clients refresh their metadata.
_SETTLE_FACTOR: Final = 2.0
_IDLE_FACTOR: Final = 3.0


async def idle(extent: Extent) -> AsyncIterator[Line]:
    """Yield each part's share of a core without load, their sum, and the wait for an event at 20 commands a second."""
    rooms = Rooms.on_sale(count=20, nights=30)
    async with stage(rooms, ingress=1, workers=ONE_OF_EACH) as ours:
        async with flow(ours.kafka, rooms) as commands:
            waits = await commands.measure(PER_SECOND, extent)
        await asyncio.sleep(extent.seconds * _SETTLE_FACTOR)
        percents = await _percents(ours, extent.seconds * _IDLE_FACTOR)
    for part, percent in percents.items():
        yield Figure(benchmark=f"idle.cpu.{part}", value=round(percent, 2), unit="% of a core")
    total = round(sum(percents.values()), 1)
    yield Figure(benchmark="idle.all", value=total, unit="% of a core", target=MAX_IDLE_PERCENT)
    for line in wait_figures(f"idle.{PER_SECOND}_per_s", waits, *MAX_LONE_WAITS_MS):
        yield line


async def _percents(ours: Stage, seconds: float) -> Mapping[str, float]:
    """Return by part how many percent of one core it uses in so many seconds."""
    clock = asyncio.get_running_loop().time
    meter = Meter({name: ours.system.pid(name) for name in (*_SERVER_PARTS, *ours.system.worker_names)})
    began = clock()
    await asyncio.sleep(seconds)
    used = meter.microseconds()
    return {part: microseconds / (clock() - began) / 1e4 for part, microseconds in used.items()}
