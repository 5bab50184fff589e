"""A client whose start is cancelled has started, or failed to, before it is stopped."""

import asyncio

import pytest

from topics.kafka import starting
from topics.kafka.starting import start_client


@pytest.fixture(autouse=True)
def _time_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A start that is about to end has the time for it."""
    monkeypatch.setattr(starting, "_MAX_START_SECONDS", 60.0)


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
    under_way = asyncio.create_task(start_client(client.start()))
    await client.began.wait()

    under_way.cancel()
    asyncio.get_running_loop().call_later(0.05, client.answered.set)

    with pytest.raises(asyncio.CancelledError):
        await under_way
    assert client.connected


async def test_a_start_that_fails_after_it_was_cancelled_raises_nothing_else() -> None:
    client = Client(ConnectionError("no broker"))
    under_way = asyncio.create_task(start_client(client.start()))
    await client.began.wait()

    under_way.cancel()
    client.answered.set()

    with pytest.raises(asyncio.CancelledError):
        await under_way


async def test_a_start_that_fails_raises() -> None:
    client = Client(ConnectionError("no broker"))
    client.answered.set()

    with pytest.raises(ConnectionError, match="no broker"):
        await start_client(client.start())
