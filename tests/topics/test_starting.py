"""A client whose start is cancelled has started, or failed to, before it is stopped."""

import asyncio

import pytest

from topics.starting import started


class Client:
    """Connects when the broker answers."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.began = asyncio.Event()
        self.answered = asyncio.Event()
        self.connected = False
        self._failure = failure

    async def start(self) -> None:
        self.began.set()
        await self.answered.wait()
        if self._failure is not None:
            raise self._failure
        self.connected = True


async def test_a_start_that_is_cancelled_comes_to_its_end_first() -> None:
    client = Client()
    starting = asyncio.create_task(started(client.start()))
    await client.began.wait()

    starting.cancel()
    asyncio.get_running_loop().call_later(0.05, client.answered.set)

    with pytest.raises(asyncio.CancelledError):
        await starting
    assert client.connected


async def test_a_start_that_fails_after_it_was_cancelled_troubles_nobody() -> None:
    client = Client(ConnectionError("no broker"))
    starting = asyncio.create_task(started(client.start()))
    await client.began.wait()

    starting.cancel()
    client.answered.set()

    with pytest.raises(asyncio.CancelledError):
        await starting


async def test_a_start_that_fails_says_so() -> None:
    client = Client(ConnectionError("no broker"))
    client.answered.set()

    with pytest.raises(ConnectionError, match="no broker"):
        await started(client.start())
