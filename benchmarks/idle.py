"""`idle`: the CPU time of a whole system that has nothing to do, and how long a lone command waits for its event there.

A system that polls more often answers sooner and never rests, so the two figures belong together.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Final

from benchmarks.cost import Meter
from benchmarks.extent import Extent
from benchmarks.flow import flow
from benchmarks.lines import Figure, Line, percentile
from benchmarks.stage import Rooms, Stage, stage
from sandbox.system import ONE_OF_EACH

MAX_PERCENT: Final = 5.0
"""Of one core, for broker, database, ingress and one worker of each role together."""
MAX_P50_MS: Final = 9.0
PER_SECOND: Final = 20
_SERVERS: Final = ("kafka", "postgres", "ingress")
# After its start the broker compiles, and clients look around, for some seconds.
_SETTLE_FACTOR: Final = 2.0
_IDLE_FACTOR: Final = 3.0


async def idle(extent: Extent) -> AsyncIterator[Line]:
    """Yield each part's share of a core without load, their sum, and the wait for an event at 20 commands a second."""
    rooms = Rooms.on_sale(count=20, nights=30)
    async with stage(rooms, ingress=1, workers=ONE_OF_EACH) as ours:
        async with flow(ours.kafka, rooms) as commands:
            await commands.send_steadily(PER_SECOND, extent.warm_up_seconds)
            await commands.until_all_are_seen()
            commands.waits.clear()
            await commands.send_steadily(PER_SECOND, extent.seconds)
            await commands.until_all_are_seen()
        waits = [wait * 1000 for wait in commands.waits]
        await asyncio.sleep(extent.seconds * _SETTLE_FACTOR)
        percents = await _percents(ours, extent.seconds * _IDLE_FACTOR)
    for part, percent in percents.items():
        yield Figure(benchmark=f"idle.cpu.{part}", value=round(percent, 2), unit="% of a core")
    total = round(sum(percents.values()), 1)
    yield Figure(benchmark="idle.all", value=total, unit="% of a core", target=MAX_PERCENT)
    for name, share, target in (("p50", 0.5, MAX_P50_MS), ("p99", 0.99, None)):
        value = round(percentile(waits, share), 1)
        yield Figure(benchmark=f"idle.{PER_SECOND}_per_s.{name}", value=value, unit="ms", target=target)


async def _percents(ours: Stage, seconds: float) -> Mapping[str, float]:
    """Return by part how many percent of one core it uses in so many seconds."""
    clock = asyncio.get_running_loop().time
    meter = Meter({name: ours.system.pid(name) for name in (*_SERVERS, *ours.system.worker_names)})
    began = clock()
    await asyncio.sleep(seconds)
    used = meter.microseconds()
    return {part: microseconds / (clock() - began) / 1e4 for part, microseconds in used.items()}
