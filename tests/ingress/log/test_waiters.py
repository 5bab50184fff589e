"""Waiting for a decision on a machine that freezes now and then."""

import asyncio
from collections.abc import Generator

import pytest

from ingress.log import waiters as module
from ingress.log.waiters import Waiters
from sandbox.ports import free_port
from tests.ingress.clocks import freeze
from tests.support.waiting import wait_until
from topics.kafka.settings import KafkaSettings


class OneTurn:
    """Awaited, it lets everybody else of the loop run once."""

    def __await__(self) -> Generator[None, None, None]:
        """Give way."""
        yield


async def test_a_frozen_machine_stops_nobody_from_looking_for_the_end_of_the_log() -> None:
    waiters = Waiters(KafkaSettings(_env_file=None), asyncio.Event())
    looking = asyncio.create_task(waiters.until_following(2.0))
    await OneTurn()

    freeze(5.0)
    for _ in range(10):
        await OneTurn()
    assert not looking.done()

    waiters._following.set()
    await looking


async def test_without_an_end_of_the_log_the_wait_ends_after_a_while() -> None:
    await Waiters(KafkaSettings(_env_file=None), asyncio.Event()).until_following(0.2)


@pytest.mark.process
async def test_a_log_that_cannot_be_read_is_tried_again_after_equal_pauses(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "_REREAD_SECONDS", 0.1)
    topics_checked = asyncio.Event()
    topics_checked.set()
    waiters = Waiters(KafkaSettings(_env_file=None, kafka_url=f"127.0.0.1:{free_port()}"), topics_checked)
    reading = asyncio.create_task(waiters.run())

    await wait_until(lambda: "try 4 in 0.1 s" in caplog.text, message="the log is not tried again")

    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    assert "waiting requests cannot read the events (" in caplog.text
    assert not waiters.ready
