"""Events that wait are taken together, as soon as there is one; those that come meanwhile wait for the next time."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

from tests.support.waiting import MAX_WAIT_SECONDS, wait_until
from workers.runtime.taking import take_waiting


class Stream:
    """The parts of a Faust stream that are used: a drainer hands each value of a channel to the processors."""

    def __init__(self) -> None:
        self.channel = self
        self.should_stop = False
        self.current_event: Any = None
        self.looks = 0
        self._queue: asyncio.Queue[str] = asyncio.Queue()
        self._processors: list[Callable[[Any], Any]] = []
        self._drainer: asyncio.Task[None] | None = None

    def __aiter__(self) -> "Stream":
        return self

    async def __anext__(self) -> str:
        return await self._queue.get()

    def put(self, *values: str) -> None:
        for value in values:
            self._queue.put_nowait(value)

    def left(self) -> int:
        return self._queue.qsize()

    def add_processor(self, processor: Callable[[Any], Any]) -> None:
        self._processors.append(processor)

    def _enable_passive(self, _: Any) -> None:
        self._drainer = asyncio.create_task(self._drain())

    async def _drain(self) -> None:
        while True:
            self.current_event = await self._queue.get()
            for processor in self._processors:
                await processor(self.current_event)

    async def wait_for_stopped(self, arrived: asyncio.Event) -> bool:
        self.looks += 1
        await arrived.wait()
        return False

    def stop(self) -> None:
        assert self._drainer is not None
        self._drainer.cancel()


async def test_events_that_wait_are_taken_together_and_later_ones_wait_for_the_next_time() -> None:
    stream = Stream()
    async with asyncio.timeout(MAX_WAIT_SECONDS), aclosing(take_waiting(stream)) as batches:
        taking = asyncio.ensure_future(anext(batches))
        await wait_until(lambda: stream.looks == 1)
        stream.put("one", "two", "three")
        assert await taking == ["one", "two", "three"]

        stream.put("four", "five")
        # The drainer holds one of them; it is not added to the list that is being processed.
        await wait_until(lambda: stream.left() == 1)
        assert await anext(batches) == ["four", "five"]
    stream.stop()


async def test_nothing_is_looked_for_while_nothing_comes() -> None:
    stream = Stream()
    async with asyncio.timeout(MAX_WAIT_SECONDS), aclosing(take_waiting(stream)) as batches:
        taking = asyncio.ensure_future(anext(batches))
        turns = iter(range(10))
        await wait_until(lambda: next(turns) == 9)
        assert stream.looks == 1
        stream.put("one")
        assert await taking == ["one"]
    stream.stop()
