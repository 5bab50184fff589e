"""Clocks that only tests move, so that no pause ends too soon on a slow machine."""

import asyncio
import time

import pytest


class Clock:
    """A clock that only a test moves, in microseconds."""

    def __init__(self) -> None:
        self.now_us = 1_000_000_000

    def __call__(self) -> int:
        return self.now_us


def keep_the_day(patch: pytest.MonkeyPatch) -> None:
    """Keep the present day in every time zone until the test ends."""
    now = time.time()
    patch.setattr("ingress.stays.time.time", lambda: now)


def freeze(seconds: float) -> None:
    """Move the running loop's clock forward, as if the whole machine had been frozen for this time."""
    loop = asyncio.get_running_loop()
    real_time = loop.time
    # It is never moved back, so that everything that is scheduled happens at its time.
    loop.time = lambda: real_time() + seconds  # type: ignore[method-assign]
