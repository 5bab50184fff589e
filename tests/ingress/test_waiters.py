"""Waiting for a decision on a machine that freezes now and then."""

import asyncio
from collections.abc import Generator

from ingress.log.waiters import Waiters
from tests.ingress.clocks import freeze
from topics.kafka.settings import KafkaSettings


class OneTurn:
    """Awaited, it lets everybody else of the loop run once."""

    def __await__(self) -> Generator[None, None, None]:
        """Give way."""
        yield


async def test_nobody_stops_looking_for_the_end_of_the_log_because_the_machine_stood_still() -> None:
    waiters = Waiters(KafkaSettings(_env_file=None), asyncio.Event())
    looking = asyncio.create_task(waiters.following(2.0))
    await OneTurn()

    freeze(5.0)
    for _ in range(10):
        await OneTurn()
    assert not looking.done()

    waiters._following.set()
    await looking


async def test_who_finds_no_end_of_the_log_asks_all_the_same_after_a_while() -> None:
    await Waiters(KafkaSettings(_env_file=None), asyncio.Event()).following(0.2)
