"""An event loop whose time jumps to the next timer, and whose chance picks which callback is next."""

import asyncio
import heapq
import random
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, Final, TypeVar

T = TypeVar("T")
#: The simulated time in which all that is left at the end of a run may end.
_END_SECONDS: Final = 60.0
_RESTART_SECONDS: Final = 15.0
_MAX_RESTARTS: Final = 5


class NothingLeft(Exception):
    """Every task waits for something that never comes."""


class SimulationLoop(asyncio.BaseEventLoop):
    """Runs callbacks one at a time, in an order that a seed decides; waiting takes no real time.

    Coroutines that are ready at the same instant may run in any order on a real machine, as their answers arrive. Here
    the seed decides, so that the same seed is the same run.
    """

    def __init__(self, seed: str) -> None:
        super().__init__()
        self._random = random.Random(f"{seed}:loop").random
        self._now = 0.0
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._count = 0

    def time(self) -> float:
        """Return the simulated seconds since the beginning."""
        return self._now

    def call_at(  # type: ignore[override] # as in Python itself
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Call a function at a time; asyncio's own compares timers in Python, which takes a tenth of a run."""
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        self._count += 1
        heapq.heappush(self._timers, (when, self._count, timer))
        return timer

    def _run_once(self) -> None:
        """Run one callback; if none is ready, let the time pass until one is."""
        ready: Any = self._ready  # type: ignore[attr-defined] # asyncio's own
        while not ready:
            if not self._timers:
                raise NothingLeft
            when, _, timer = heapq.heappop(self._timers)
            if not timer.cancelled():
                self._now = max(self._now, when)
                ready.append(timer)
        if len(ready) > 1:
            ready.rotate(-int(self._random() * len(ready)))
        handle = ready.popleft()
        if not handle._cancelled:
            handle._run()

    def _asyncgen_finalizer_hook(self, agen: Any) -> None:
        """Leave the generators of killed processes alone: the collector of garbage comes at no simulated time."""

    def _timer_handle_cancelled(self, handle: Any) -> None:
        """Leave a cancelled timer where it is: it is dropped when its time comes."""


async def _end() -> None:
    """Cancel all tasks, and those of processes that start again meanwhile."""
    for _ in range(_MAX_RESTARTS):
        await asyncio.sleep(_RESTART_SECONDS)
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        if not tasks:
            return
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=_END_SECONDS)


def run(main: Coroutine[Any, Any, T], seed: str) -> T:
    """Run a coroutine in simulated time.

    Raises:
        NothingLeft: it waits for something that never comes.
    """
    loop = SimulationLoop(seed)
    # Processes that were killed leave tasks behind, about which asyncio complains at the end. The world notes errors.
    loop.set_exception_handler(lambda *_: None)
    try:
        asyncio.set_event_loop(loop)
        return loop.run_until_complete(main)
    finally:
        # Parts of processes end in order, before Python collects them as garbage without a loop.
        loop.run_until_complete(_end())
        asyncio.set_event_loop(None)
        loop.close()
