"""How soon a search shows a change that was sent to the log, while other changes of prices go on everywhere."""

import asyncio
import itertools
import time
from collections.abc import Coroutine
from datetime import UTC, date, datetime, timedelta
from random import Random
from typing import Any, Final
from urllib.parse import urlencode
from uuid import uuid4

import aiohttp

from benchmarks.search.data import PROBES
from benchmarks.search.queries import PATH
from benchmarks.stage import SOURCE, BenchmarkFailed
from topics.catalogue import BOOKING_COMMANDS
from topics.envelope import command_record
from topics.kafka.producer import Producer, open_producer
from topics.kafka.settings import KafkaSettings
from topics.messages.commands import ChangeInventory

CHANGES_PER_S: Final = 200
_CHANGED_NIGHTS: Final = 3
_SEARCH_POLL_SECONDS: Final = 0.005
_MAX_VISIBLE_WAIT_SECONDS: Final = 120.0


class Changes:
    """Sends managers' changes of prices to the log, and searches until they are visible; `waits` are seconds."""

    def __init__(
        self, kafka: KafkaSettings, producer: Producer, session: aiohttp.ClientSession, rooms: int, first: date
    ) -> None:
        self.waits: list[float] = []
        self._topic = kafka.topic(BOOKING_COMMANDS)
        self._producer = producer
        self._session = session
        self._rooms = rooms
        self._first = first + timedelta(days=10)
        self._prices = itertools.count(10_000)
        self._chance = Random(1)

    async def change_prices(self, seconds: float) -> None:
        """Change prices of any rooms at a steady rate, and of every probe once a second."""
        began = time.perf_counter()
        tasks: list[asyncio.Task[None]] = []
        for number in range(round(CHANGES_PER_S * seconds)):
            pause = began + number / CHANGES_PER_S - time.perf_counter()
            if pause > 0:
                await asyncio.sleep(pause)
            tasks.append(asyncio.create_task(self._change(number)))
        await asyncio.gather(*tasks)

    def _change(self, number: int) -> Coroutine[Any, Any, None]:
        every = CHANGES_PER_S // PROBES
        if number % every == 0:
            return self._probe(1 + number // every % PROBES)
        room_id = self._chance.randint(PROBES + 1, self._rooms)
        return self._send(room_id, self._chance.randint(5_000, 20_000))

    async def _probe(self, room_id: int) -> None:
        """Give a hotel that is alone in its city a new price, and search until it is visible."""
        price_minor = next(self._prices)
        began = time.perf_counter()
        await self._send(room_id, price_minor)
        while await self._price(room_id) != f"{price_minor / 100:.2f}":
            if time.perf_counter() > began + _MAX_VISIBLE_WAIT_SECONDS:
                raise BenchmarkFailed(f"a change is not visible after {_MAX_VISIBLE_WAIT_SECONDS:.0f} s")
            await asyncio.sleep(_SEARCH_POLL_SECONDS)
        self.waits.append(time.perf_counter() - began)

    async def _send(self, room_id: int, price_minor: int) -> None:
        command = ChangeInventory(
            room_id=room_id,
            first_night=self._first,
            end_night=self._first + timedelta(days=_CHANGED_NIGHTS),
            price_minor=price_minor,
            surge_milli=1000,
            closed=False,
        )
        await self._producer.send(
            command_record(self._topic, command, id=uuid4().hex, source=SOURCE, time=datetime.now(UTC))
        )

    async def _price(self, room_id: int) -> str | None:
        query = {
            "city": f"Probe {room_id}",
            "check_in_date": str(self._first),
            "check_out_date": str(self._first + timedelta(days=_CHANGED_NIGHTS)),
        }
        async with self._session.get(f"{PATH}?{urlencode(query)}") as response:
            hits: list[dict[str, Any]] = await response.json()
        return str(hits[0]["min_price"]) if hits else None


async def changes_seen(kafka: KafkaSettings, url: str, rooms: int, first: date, seconds: float) -> list[float]:
    """Return how many seconds each probed change took until it was visible, from before it was sent."""
    async with (
        aiohttp.ClientSession(url) as session,
        open_producer(kafka, client_id="innkeeper-benchmarks") as producer,
    ):
        changes = Changes(kafka, producer, session, rooms, first)
        await changes.change_prices(2.0)
        changes.waits.clear()
        await changes.change_prices(seconds)
    return changes.waits
