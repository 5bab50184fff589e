"""A broker that hangs concerns the rooms of the partitions that it leads; guests book all others all the while.

This is so once the other leaders wait for it no more as a replica: `replica.lag.time.max.ms` has to be short.
"""

import asyncio
import os
import signal
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Final
from uuid import uuid4

import pytest

from sandbox import kafka
from tests.support.client import Answer
from tests.support.quorum import active_controller
from tests.support.replicas import replicas
from tests.support.waiting import wait_until
from tests.system.cluster.conftest import Inn
from topics.catalogue import BOOKING_COMMANDS
from topics.kafka.partitions import partition_of

NO_KAFKA = kafka.available()
pytestmark = [
    pytest.mark.skipif(NO_KAFKA is not None, reason=NO_KAFKA or ""),
    pytest.mark.system,
    pytest.mark.long,
    pytest.mark.timeout(900),
    pytest.mark.asyncio(loop_scope="package"),
]

_PAUSE_SECONDS: Final = 0.05


@dataclass
class Desk:
    """Books each room one time after the other, and keeps what was answered."""

    inn: Inn
    answers: defaultdict[int, list[Answer]] = field(default_factory=lambda: defaultdict(list))

    async def book(self, index: int, stopped: asyncio.Event) -> None:
        """Book one room until it is enough."""
        rooms = self.inn.guests.rooms
        numbers = count(1_000)
        while not stopped.is_set():
            stay = self.inn.guests.stay(next(numbers) * len(rooms) + index)
            answer = await self.inn.guests.ask("POST", "/v1/bookings/init", stay, key=uuid4().hex)
            if answer.status == 202:
                self.inn.guests.bookings.append(answer.body["id"])
            self.answers[rooms[index].id].append(answer)
            with suppress(TimeoutError):
                async with asyncio.timeout(_PAUSE_SECONDS):
                    await stopped.wait()

    def statuses(self, room_ids: set[int]) -> set[int]:
        """Return the statuses of all answers about these rooms."""
        return {answer.status for room_id in room_ids for answer in self.answers[room_id]}


async def leaders_of_rooms(inn: Inn) -> dict[int, int]:
    """Return the node id of the broker that leads each room's commands."""
    found = await replicas(inn.kafka, inn.kafka.topic(BOOKING_COMMANDS))
    leaders = {partition.partition: state.leader for partition, state in found.items()}
    return {
        room.id: leaders[partition_of(str(room.id).encode(), inn.kafka.topic_partitions)] for room in inn.guests.rooms
    }


async def test_guests_book_the_rooms_of_other_leaders_all_the_while_a_broker_hangs(inn: Inn) -> None:
    desk = Desk(inn)
    rooms: dict[str, set[int]] = {}

    async def freeze_a_leader() -> None:
        await inn.until_in_sync()
        leaders = await leaders_of_rooms(inn)
        # While a new controller is elected no replica leaves those in sync, and all leaders wait for them.
        controller = await active_controller(inn.kafka)
        frozen = next(node_id for node_id in leaders.values() if node_id != controller)
        rooms["frozen"] = {room_id for room_id, node_id in leaders.items() if node_id == frozen}
        rooms["others"] = set(leaders) - rooms["frozen"]
        pid = inn.system.pid(inn.system.broker_names[frozen - 1])
        stopped = asyncio.Event()
        booking = [asyncio.create_task(desk.book(index, stopped)) for index in range(len(inn.guests.rooms))]
        await wait_until(lambda: len(desk.answers) == len(inn.guests.rooms))

        os.kill(pid, signal.SIGSTOP)
        try:
            # Some may have arrived when the broker hung; all later ones are refused at once.
            await wait_until(
                lambda: all(is_refused_at_once(desk.answers[room_id][-1]) for room_id in rooms["frozen"]),
                message="the rooms of the broker that hangs are refused",
            )
            await wait_until(
                lambda: all(desk.answers[room_id][-1].status == 202 for room_id in rooms["frozen"]),
                message="other brokers take over those rooms",
            )
        finally:
            os.kill(pid, signal.SIGCONT)
            stopped.set()
            await asyncio.gather(*booking)

    await inn.survives(11, freeze_a_leader)

    assert desk.statuses(rooms["others"]) == {202}
    assert desk.statuses(rooms["frozen"]) == {202, 503}
    refused = [each for room_id in rooms["frozen"] for each in desk.answers[room_id] if each.status == 503]
    assert {each.headers.get("Retry-After") for each in refused} == {"2"}


def is_refused_at_once(answer: Answer) -> bool:
    """Return whether nothing was done about a request."""
    return answer.status == 503 and "nothing was done" in answer.body["detail"]
