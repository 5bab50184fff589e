"""`latency`, `kill`, `restart`: how long a consumer waits for a command's event, also while workers end."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import cycle
from typing import Final

from benchmarks.extent import Extent
from benchmarks.flow import flow
from benchmarks.lines import Figure, Line, wait_figures
from benchmarks.stage import Rooms, Stage, progress, stage

#: The most that p50 and p99 should be, in milliseconds, by commands a second.
MAX_WAITS_MS: Final = {200: (12.0, 30.0), 1000: (25.0, None)}
MAX_DISTURBED_WAIT_SECONDS: Final = 3.0
_DISTURBED_PER_S: Final = 100
_CALM_SECONDS: Final = 2.0
_RESTART_POLL_SECONDS: Final = 0.02


async def latency(extent: Extent) -> AsyncIterator[Line]:
    """Yield the median and the 99th percentile at each rate."""
    rooms = Rooms.on_sale(count=200, nights=30)
    async with stage(rooms, ingress=0) as ours:
        for per_s, (max_p50, max_p99) in MAX_WAITS_MS.items():
            async with flow(ours.kafka, rooms) as commands:
                waits = await commands.measure(per_s, extent)
            for line in wait_figures(f"latency.{per_s}_per_s", waits, max_p50, max_p99):
                yield line


async def kill(extent: Extent) -> AsyncIterator[Line]:
    """Yield the longest that any booking waited while a worker with a name was killed -9 and started again."""
    yield await _longest_wait("kill", extent, _kill, workers=1)


async def restart(extent: Extent) -> AsyncIterator[Line]:
    """Yield the longest that any booking waited while two workers in turn were asked to end and started again."""
    yield await _longest_wait("restart", extent, _restart, workers=2)


async def _longest_wait(
    name: str, extent: Extent, disturb: Callable[[Stage, str], Awaitable[None]], *, workers: int
) -> Figure:
    rooms = Rooms.on_sale(count=200, nights=30)
    async with stage(rooms, ingress=0, workers=workers) as ours, flow(ours.kafka, rooms) as commands:
        sending = asyncio.create_task(commands.send_steadily(_DISTURBED_PER_S))
        for number, worker in zip(range(1, extent.kills + 1), cycle(ours.system.worker_names), strict=False):
            await asyncio.sleep(_CALM_SECONDS)
            await disturb(ours, worker)
            progress(f"{name}: {number} of {extent.kills}; longest wait until now {max(commands.waits):.2f} s")
        await asyncio.sleep(_CALM_SECONDS)
        sending.cancel()
        await asyncio.wait([sending])
        await commands.until_all_are_seen()
        longest = round(max(commands.waits), 2)
    return Figure(benchmark=f"{name}.longest_wait", value=longest, unit="s", target=MAX_DISTURBED_WAIT_SECONDS)


async def _kill(ours: Stage, worker: str) -> None:
    """Kill the worker from outside, as a lack of memory would; return when its replacement decides."""
    pid = ours.system.pid(worker)
    os.kill(pid, signal.SIGKILL)
    service = ours.system.supervisor[worker]
    while not (service.running and service.pid != pid):
        await asyncio.sleep(_RESTART_POLL_SECONDS)
    before = await ours.decided()
    while await ours.decided() == before:
        await asyncio.sleep(_RESTART_POLL_SECONDS)


async def _restart(ours: Stage, worker: str) -> None:
    """Restart the worker as for a new version."""
    await ours.system.stop_part(worker)
    await ours.system.start_part(worker)
