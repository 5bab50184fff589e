"""The processes of the system: workers in groups that share partitions, and the expiry timer; each starts again."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC
from functools import partial
from typing import TYPE_CHECKING, Final, cast

import psycopg
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from psycopg import AsyncConnection

from storage.failures import reason_of
from tests.simulation.cursor_statements import CURSORS, HOLDS
from tests.simulation.database import Connection
from tests.simulation.log import LogClient, SimulatedRecord
from tests.simulation.plan import Fault, Kind
from tests.simulation.process import FetchFault, Process
from topics.backoff import Backoff
from topics.catalogue import BOOKING_COMMANDS
from workers.expiry.holds import Timer
from workers.runtime.batch_processor import BatchProcessor, Dependencies
from workers.runtime.role import Role

if TYPE_CHECKING:
    from tests.simulation.world import World

_RESTART_SECONDS: Final = 2.0
_SESSION_SECONDS: Final = 10.0
_LEARN_SECONDS: Final = 3.0
_MAX_MARK_SECONDS: Final = 90.0
_SWEEP_SECONDS: Final = 1.0
_MAX_FETCHED: Final = 40
_FETCH_AGAIN_SECONDS: Final = 120.0


class Member:
    """One worker's place in its group: the partitions that are its own."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.partitions: tuple[TopicPartition, ...] = ()
        self.version = 0
        self.woken = asyncio.Event()

    def learn(self, partitions: tuple[TopicPartition, ...], version: int) -> None:
        """Take new partitions, unless those of a later version came first."""
        if version > self.version:
            self.partitions, self.version = partitions, version
            self.woken.set()


class Group:
    """The workers of one role. A worker that dies, or is frozen for long, loses its partitions to the others.

    Each learns of a change at a time of its own, so for a while two may hold one partition, or none does: harder than
    Kafka, which waits for all.
    """

    def __init__(self, world: "World", name: str, role: Callable[[Process], Role], workers: int) -> None:
        self._world = world
        self._name = name
        self._role = role
        self._topics: Sequence[str] = ()
        self._members: list[Member] = []
        self._version = 0
        self._chance = world.plan.chance(f"group {name}")
        for number in range(workers):
            self._start(f"{name}-{number}")

    def rebalance(self) -> None:
        """Give the partitions to the members anew."""
        members = [member for member in self._members if member.process.is_alive]
        if not members:
            return
        self._version += 1
        shift = self._chance.randrange(len(members))
        for position, member in enumerate(members):
            own = tuple(
                TopicPartition(topic, number)
                for topic in self._topics
                for number in range(self._world.log.partitions)
                if (number + shift) % len(members) == position
            )
            self._world.later(self._chance.random() * _LEARN_SECONDS, partial(member.learn, own, self._version))

    def _start(self, name: str) -> None:
        process = Process(self._world, name)
        member = Member(process)
        self._members.append(member)
        process.at_death.append(lambda: self._lost(member))
        process.at_freeze.append(lambda seconds: self._froze(member, seconds))
        role = self._role(process)
        self._topics = [self._world.kafka.topic(topic) for topic in role.topics]
        process.spawn(_work(self._world, process, member, role))
        if role.background is not None:
            process.spawn(_in_background(role.background))
        self._world.later(0.0, self.rebalance)

    def _lost(self, member: Member) -> None:
        """Start a process that ended again, as a supervisor does; the group notices at some time before or after."""
        self._world.log.forget(member.woken)
        self._world.later(_RESTART_SECONDS, lambda: self._start(member.process.name))
        self._world.later(self._chance.random() * _SESSION_SECONDS, lambda: self._remove(member))

    def _froze(self, member: Member, seconds: float) -> None:
        if seconds > _SESSION_SECONDS:
            self._world.later(_SESSION_SECONDS, lambda: self._remove(member))
            self._world.later(seconds + self._chance.random() * _LEARN_SECONDS, lambda: self._join_again(member))

    def _remove(self, member: Member) -> None:
        if member in self._members:
            self._members.remove(member)
            self.rebalance()

    def _join_again(self, member: Member) -> None:
        if member.process.is_alive and member not in self._members:
            self._members.append(member)
            self.rebalance()


async def _in_background(work: Callable[[], Awaitable[None]]) -> None:
    await work()


async def _work(world: "World", process: Process, member: Member, role: Role) -> None:
    """Work as the agent does: read what the partitions have, let it be processed, begin anew at new partitions."""
    dependencies = Dependencies(
        log=LogClient(process, world.log), connect=lambda: _connect(world, process), cursors=CURSORS
    )
    processor = BatchProcessor(role, world.kafka, dependencies)
    processed = asyncio.Event()
    process.spawn(_mark(process, processor, processed))
    world.log.wake(member.woken, [world.kafka.topic(topic) for topic in role.topics])
    positions: dict[TopicPartition, int] = {}
    version = 0
    while True:
        member.woken.clear()
        if member.version != version:
            version = member.version
            await processor.on_revoked()
            positions = await processor.on_assigned(member.partitions)
        fetched = await _fetch(world, process, member, positions)
        if fetched:
            positions |= await processor.process(fetched)
            processed.set()
        elif not world.log.has_more(positions) and member.version == version:
            await member.woken.wait()


async def _fetch(
    world: "World", process: Process, member: Member, positions: dict[TopicPartition, int]
) -> Sequence[Sequence[SimulatedRecord]]:
    """Return records behind the positions, which move; maybe fewer than there are, or some of them twice."""
    if not world.log.has_more(positions):
        return []
    chance = world.faults.chance
    again, is_lost = 0, False
    try:
        await process.step(Kind.READ, lambda: None)
    except KafkaError:
        return []
    except FetchFault as fault:
        again = 1 + int(chance.random() * 5)
        is_lost = fault.fault is Fault.FETCH_LOST
    before = dict(positions)
    fetched = []
    for partition, position in before.items():
        records = world.log.records(*partition)
        if position < len(records):
            first = max(0, position - again)
            found = records[first : first + 1 + again + int(chance.random() * _MAX_FETCHED)]
            fetched.append(found)
            positions[partition] = max(position, found[-1].offset + 1)
    if is_lost:
        world.later(_FETCH_AGAIN_SECONDS, lambda: _read_again(member, positions, before))
        return []
    return fetched


def _read_again(member: Member, positions: dict[TopicPartition, int], before: dict[TopicPartition, int]) -> None:
    """Go back to where a lost fetch began, as a client does in the end; later records may have come before."""
    for partition, position in before.items():
        positions[partition] = min(positions[partition], position)
    member.woken.set()


async def _mark(process: Process, processor: BatchProcessor, processed: asyncio.Event) -> None:
    """Mark what is published, a moment after each batch; a real worker also tries when there was none."""
    while True:
        await processed.wait()
        await process.pause(process.world.faults.chance.random() * _MAX_MARK_SECONDS)
        processed.clear()
        await processor.mark_published()


async def _connect(world: "World", process: Process) -> AsyncConnection:
    await process.step(Kind.BEGIN, lambda: None)
    return cast("AsyncConnection", Connection(world.database, process))


class Expiry:
    """The expiry timer: the real `Timer`, which looks when a hold is over, and not each second for nothing."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._changed = asyncio.Event()
        world.database.at_commit.append(self._changed.set)
        self._start()

    def _start(self) -> None:
        process = Process(self._world, "expiry")
        process.at_death.append(lambda: self._world.later(_RESTART_SECONDS, self._start))
        process.spawn(self._run(process))

    async def _run(self, process: Process) -> None:
        backoff = Backoff("the expiry timer waits for the database and the broker")
        while True:
            try:
                await self._lead(process)
            except (psycopg.Error, KafkaError, OSError) as error:
                await backoff.wait(error, reason_of(error))

    async def _lead(self, process: Process) -> None:
        world = self._world
        connection = await _connect(world, process)
        async with LogClient(process, world.log).open_sender() as sender:
            topic = world.kafka.topic(BOOKING_COMMANDS)
            timer = Timer(connection, sender, topic, HOLDS, clock=lambda: world.now().astimezone(UTC))
            while True:
                await self._until_due(process)
                await timer.sweep()
                await process.pause(_SWEEP_SECONDS)

    async def _until_due(self, process: Process) -> None:
        """Wait until a hold is over."""
        while True:
            self._changed.clear()
            deadlines = [deadline for deadline, _ in self._world.database.rows.holds.values()]
            if not deadlines:
                await self._changed.wait()
                continue
            seconds = (min(deadlines) - self._world.now()).total_seconds() + _SWEEP_SECONDS
            if seconds <= 0:
                return
            await process.pause(min(seconds, 60.0))
