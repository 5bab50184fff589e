"""Clocks that stand still unless a test moves them on: so no machine is so slow that a pause is over too soon."""

import asyncio
import time

import pytest


class Clock:
    """A clock that only a test moves on, in microseconds."""

    def __init__(self) -> None:
        self.now_us = 1_000_000_000

    def __call__(self) -> int:
        return self.now_us


def keep_the_day(patch: pytest.MonkeyPatch) -> None:
    """Let no day turn anywhere on earth until the test ends."""
    now = time.time()
    patch.setattr("ingress.stays.time.time", lambda: now)


def stand_still(seconds: float) -> None:
    """Move the running loop's clock on, as if the whole machine had stood still for so long."""
    loop = asyncio.get_running_loop()
    told = loop.time
    # It is never moved back: whatever the loop is to do later is to come at its time.
    loop.time = lambda: told() + seconds  # type: ignore[method-assign]
