"""Kills reservations workers at random while they decide, each time after the last one's replacement has committed."""

import asyncio
import os
import random
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import cast

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment

from sandbox.spawning import PROCESS_POLL_SECONDS
from sandbox.system import System, report
from topics.kafka.settings import KafkaSettings

ROLE = "reservations"
_LENGTH_OF_AN_ID = 36
_STABLE = "Stable"


class Killer:
    """SIGKILLs one worker after the other; the system's supervisor starts each again at once."""

    def __init__(
        self,
        system: System,
        kafka: KafkaSettings,
        decided: Callable[[], Awaitable[Mapping[int, int]]],
        written: Mapping[int, int],
    ) -> None:
        """Take the end of the decided part and of the log, by partition."""
        self.kills = 0
        self._system = system
        self._kafka = kafka
        self._decided = decided
        self._written = written
        self._names = [name for name in system.worker_names if name.startswith(ROLE)]

    async def kill_forever(self, every_seconds: float) -> None:
        """Kill until cancelled, `every_seconds` after the start or after the last replacement's first commit."""
        while True:
            await asyncio.sleep(every_seconds)
            name = random.choice(self._names)
            assigned = await self._partitions_of(name)
            await self._kill_and_see_it_back(name)
            await self._until_committed(assigned)

    async def _kill_and_see_it_back(self, name: str) -> None:
        worker = self._system.supervisor[name]
        while (pid := worker.running_pid) is None:
            await asyncio.sleep(PROCESS_POLL_SECONDS)
        os.kill(pid, signal.SIGKILL)
        self.kills += 1
        report(f"killed {name}")
        while worker.running_pid in {None, pid} or not await worker.is_ready():
            await asyncio.sleep(PROCESS_POLL_SECONDS)

    async def _until_committed(self, assigned: set[int]) -> None:
        """Wait until one of the partitions has moved, unless nothing is left to decide in any of them."""
        before = await self._decided()
        while any(before.get(partition, 0) < self._written.get(partition, 0) for partition in assigned):
            now = await self._decided()
            if any(now.get(partition, 0) > before.get(partition, 0) for partition in assigned):
                return
            await asyncio.sleep(PROCESS_POLL_SECONDS)

    async def _partitions_of(self, name: str) -> set[int]:
        """Return the partitions that the broker has assigned to a worker; its member id is its name and a UUID."""
        assignments = [
            ConsumerProtocolMemberAssignment.decode(assignment)
            for member_id, _, _, _, assignment in await self._members()
            if member_id[:-_LENGTH_OF_AN_ID] == f"{name}-"
        ]
        return {number for assignment in assignments for _, numbers in assignment.assignment for number in numbers}

    async def _members(self) -> Sequence[tuple[str, str, str, bytes, bytes]]:
        """Return the group's members once no rebalance is under way; until then they have no partitions."""
        admin = AIOKafkaAdminClient(**self._kafka.client_options())
        await admin.start()
        try:
            while True:
                (answer,) = await admin.describe_consumer_groups([self._kafka.group(ROLE)])
                ((_, _, state, _, _, members, *_),) = answer.groups
                if state == _STABLE:
                    return cast("Sequence[tuple[str, str, str, bytes, bytes]]", members)
                await asyncio.sleep(PROCESS_POLL_SECONDS)
        finally:
            await admin.close()
