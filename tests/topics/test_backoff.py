"""Waits that grow with each failure, and begin anew after a success."""

import asyncio
import logging

import pytest

from topics.backoff import Backoff, seconds_after


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    seconds: list[float] = []

    async def sleep(delay: float) -> None:
        seconds.append(delay)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    return seconds


async def test_each_wait_is_twice_as_long_up_to_a_limit_and_a_success_begins_anew(slept: list[float]) -> None:
    backoff = Backoff("the test waits for the database", first_seconds=0.5, max_seconds=3.0)

    for _ in range(5):
        await backoff.wait(OSError("away"))
    backoff.reset()
    await backoff.wait(OSError("away"))

    assert slept == [0.5, 1.0, 2.0, 3.0, 3.0, 0.5]


def test_the_wait_keeps_its_limit_however_many_failures_there_were() -> None:
    assert seconds_after(1, first_seconds=0.5, max_seconds=15.0) == 0.5
    assert seconds_after(100_000, first_seconds=0.5, max_seconds=15.0) == 15.0


async def test_each_try_and_the_success_after_them_is_one_line(
    slept: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    backoff = Backoff("the test waits for the database")
    with caplog.at_level(logging.WARNING):
        backoff.reset()
        await backoff.wait(OSError("away\nand more"))
        backoff.reset()

    assert len(slept) == 1
    assert [record.getMessage() for record in caplog.records] == [
        "the test waits for the database (OSError: away); try 2 in 0.1 s",
        "works again after 1 failures: the test waits for the database",
    ]
