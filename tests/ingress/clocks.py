"""Clocks that stand still unless a test moves them on: so no machine is so slow that a pause is over too soon."""

import asyncio


class Clock:
    """A clock that only a test moves on, in microseconds."""

    def __init__(self) -> None:
        self.now_us = 1_000_000_000

    def __call__(self) -> int:
        return self.now_us


def stand_still(seconds: float) -> None:
    """Move the running loop's clock on, as if the whole machine had stood still for so long."""
    loop = asyncio.get_running_loop()
    time = loop.time
    # It is never moved back: whatever the loop is to do later is to come at its time.
    loop.time = lambda: time() + seconds  # type: ignore[method-assign]
