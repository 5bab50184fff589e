"""The load of a row ends when it is enough, and never has more visitors at once than it is allowed."""

import asyncio
import random
from typing import cast

import aiohttp

from tests.support.waiting import wait_until
from tests.system.pipeline.load import Guest, Town

MANY_A_SECOND = 10_000.0


class Inn:
    """Its visitors stay until `leave` is set."""

    def __init__(self) -> None:
        self.leave = asyncio.Event()
        self.came = 0

    def visitor(self, town: Town, chance: random.Random, name: str, until: float) -> Guest:
        """Return the next visitor."""
        return cast("Guest", self)

    async def story(self) -> None:
        """Come, and stay."""
        self.came += 1
        await self.leave.wait()


async def test_no_visitor_comes_while_so_many_are_there_and_all_leave_when_it_is_enough() -> None:
    inn, stopped = Inn(), asyncio.Event()
    async with aiohttp.ClientSession() as http:
        town = Town(http, "", "")
        living = asyncio.create_task(town.live(1, 60, MANY_A_SECOND, 0, inn.visitor, stopped=stopped, at_once=3))
        await wait_until(lambda: inn.came == 3)
        inn.leave.set()
        await wait_until(lambda: inn.came > 6)
        stopped.set()
        await living

    assert town.promises.visits.total() == inn.came


async def test_visitors_whose_load_is_cancelled_are_gone() -> None:
    inn = Inn()
    async with aiohttp.ClientSession() as http:
        living = asyncio.create_task(Town(http, "", "").live(1, 60, 100, 0, inn.visitor))
        await wait_until(lambda: inn.came > 3)
        before = asyncio.all_tasks()
        living.cancel()
        await asyncio.wait([living])
        await wait_until(lambda: all(task.done() for task in before if task is not asyncio.current_task()))
