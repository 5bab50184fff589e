"""One whole system with three brokers, guests who book all the while, and a small disk for one of the brokers."""

import asyncio
import logging
import os
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Final

import pytest
import pytest_asyncio

from sandbox.kafka.probe import as_client
from sandbox.system import System
from tests.support.replicas import replicas, until_in_sync
from tests.system.deploy.guests import Guests
from tests.system.pipeline import chaos
from tests.system.pipeline.chaos import Verdict
from tests.system.pipeline.load import Town
from tests.system.pipeline.visitors import visitor
from topics.catalogue import BOOKING_COMMANDS
from topics.kafka.settings import KafkaSettings

_GUESTS: Final = 3
_VISITORS_A_SECOND: Final = 3.0
_LOAD_SECONDS: Final = 15.0
#: Room for the logs of a few thousand bookings.
_DISK: Final = "size=64m"
#: The broker whose disk is small.
SMALL: Final = "kafka-3"


@pytest.fixture(autouse=True)
def _no_process_is_left_behind() -> None:
    """The system's own supervisor starts its processes, and ends them all."""


@pytest.fixture(autouse=True)
def _clients_are_quiet(caplog: pytest.LogCaptureFixture) -> None:
    # The client logs at length that a broker which was killed does not answer.
    caplog.set_level(logging.CRITICAL, "aiokafka")


@dataclass(frozen=True, kw_only=True)
class Inn:
    """A running system, its visitors with their many stories, and guests who only book, in each room in turn."""

    system: System
    town: Town
    guests: Guests
    #: The folder of a broker's records on a disk of its own, or why there is none.
    disk: Path | str
    numbers: Iterator[int] = field(default_factory=count)

    @property
    def kafka(self) -> KafkaSettings:
        """The settings of a client of the cluster."""
        assert self.system.kafka is not None
        return as_client(self.system.kafka.variables())

    async def leader(self) -> str:
        """Return the broker that leads most partitions of the commands."""
        found = await replicas(self.kafka, self.kafka.topic(BOOKING_COMMANDS))
        ((node_id, _),) = Counter(state.leader for state in found.values()).most_common(1)
        return self.system.broker_names[node_id - 1]

    async def until_in_sync(self) -> None:
        """Wait until each broker has a copy of everything."""
        await until_in_sync(self.kafka, len(self.system.broker_names))

    @asynccontextmanager
    async def guests_book(self) -> AsyncIterator[None]:
        """Let guests book for as long as the block lasts; their bookings join the visitors' promises."""
        self.town.promises.answers.clear()
        self.guests.statuses.clear()
        stopped = asyncio.Event()
        async with asyncio.TaskGroup() as together:
            for _ in range(_GUESTS):
                together.create_task(self.guests.book_until(stopped, self.numbers))
            await self.guests.every_room_decides()
            try:
                yield
            finally:
                stopped.set()
        for booking in self.guests.bookings:
            self.town.promises.booked(booking, None)

    async def survives(self, seed: int, breaks: Callable[[], Awaitable[None]]) -> Verdict:
        """Break something under load: every room decides afterwards; nothing is lost, doubled or left undone."""
        verdict = Verdict(seed, _LOAD_SECONDS, Counter())
        async with asyncio.TaskGroup() as together, self.guests_book():
            together.create_task(self.town.live(seed, _LOAD_SECONDS, _VISITORS_A_SECOND, chaos.FINISH_SECONDS, visitor))
            await breaks()
            await self.until_in_sync()
            await self.guests.every_room_decides()
        accepted = self.guests.statuses[202]
        await chaos.judge(self.system, self.town, verdict)
        assert verdict.problems == {}, verdict.as_json()
        assert verdict.holds
        assert verdict.promised >= accepted > 0
        assert self.guests.surprises == []
        return verdict

    def refused(self) -> int:
        """Return how many requests were answered with 500 or more since the load began."""
        of_visitors = sum(number for status, number in self.town.promises.answers.items() if status.startswith("5"))
        return of_visitors + sum(number for status, number in self.guests.statuses.items() if status >= 500)


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def inn(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Inn]:
    """Start everything once."""
    folder = tmp_path_factory.mktemp("system")
    with _small_disk(folder / "cluster" / SMALL / "log") as disk:
        plan = chaos.plan(folder, brokers=3)
        async with System(plan) as system, chaos.settled_town(system) as town:
            guests = Guests(town.http, system.url, town.rooms)
            await guests.log_in()
            yield Inn(system=system, town=town, guests=guests, disk=disk)


@contextmanager
def _small_disk(folder: Path) -> Iterator[Path | str]:
    """Mount a small disk of memory for as long as the block lasts; yield its folder, or why there is none."""
    folder.mkdir(parents=True)
    if os.geteuid() != 0:
        yield "only root can mount a small disk for a broker"
        return
    mount = ["mount", "-t", "tmpfs", "-o", _DISK, "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        yield f"no small disk can be mounted for a broker: {done.stderr.strip()}"
        return
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
