"""Sends records by a producer for each broker that leads partitions, so that one broker's trouble is that of no other.

aiokafka 0.14's idempotent producer sends an unacknowledged batch again for as long as it takes, and can be given up
only as a whole (ADR 0040). With one producer for each leader, to give it up concerns that leader's partitions alone:
they refuse records at once until their leader answers again, or another broker leads them. A leader that acknowledges
other records is kept, and the partitions that it acknowledges nothing of are refused alone.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Collection
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from math import ceil
from typing import Final

from aiokafka import TopicPartition
from aiokafka.errors import (
    KafkaConnectionError,
    KafkaError,
    NotEnoughReplicasAfterAppendError,
    NotEnoughReplicasError,
)

from topics.backoff import Backoff
from topics.envelope import Outgoing
from topics.kafka.partitions import partition_of
from topics.kafka.producer import REFUSALS, NotAcknowledged, Producer, open_producer
from topics.kafka.settings import KafkaSettings

log = logging.getLogger(__name__)

#: Errors of records after which their leader takes others. A producer without idempotence fails for want of replicas.
_OF_A_RECORD_ALONE: Final = (*REFUSALS, NotAcknowledged, NotEnoughReplicasError, NotEnoughReplicasAfterAppendError)
_START_SECONDS: Final = 15.0
_GLANCE_SECONDS: Final = 0.25
_LOOKS: Final = 20


class NotSent(Exception):
    """The record was given to no broker: it is not stored and will not be."""


@dataclass(eq=False, slots=True)
class _Leader:
    """A broker that leads partitions, with the producer for them."""

    node_id: int
    producer: Producer
    stack: AsyncExitStack


@dataclass(eq=False, slots=True)
class _Partition:
    """A partition; `refused` while its leader acknowledges others alone, `change` while it changes over."""

    at: TopicPartition
    leader: _Leader | None = None
    refused: bool = False
    change: asyncio.Event | None = None


class LeaderProducers:
    """Has producers for the partitions whose leaders acknowledge, and none for others; `run` finds the leaders.

    A partition changes over to the producer of its new leader while none of its records is on its way; new ones wait.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        topics: Collection[str],
        *,
        client_id: str,
        ack_seconds: float,
        linger_ms: int,
        backoff: Backoff,
    ) -> None:
        """A leader that has records and acknowledges none for more than `ack_seconds` is given up.

        If it acknowledges some, those partitions alone are refused whose records it does not.
        """
        self._settings = settings
        self._client_id = client_id
        self._ack_seconds = ack_seconds
        self._linger_ms = linger_ms
        self._backoff = backoff
        self._topics = topics
        self._count = settings.topic_partitions
        self._partitions = {
            (topic, number): _Partition(TopicPartition(topic, number))
            for topic in topics
            for number in range(self._count)
        }
        self._leaders: dict[int, _Leader] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._leader_wanted = asyncio.Event()

    @property
    def ready(self) -> bool:
        """Whether any partition takes records."""
        return any(partition.leader is not None and not partition.refused for partition in self._partitions.values())

    def leader_of(self, topic: str, number: int) -> int | None:
        """Return the broker whose producer a partition's records go to; None while they are refused."""
        partition = self._partitions[topic, number]
        return None if partition.leader is None or partition.refused else partition.leader.node_id

    def producer_for(self, record: Outgoing) -> Producer | None:
        """Return the producer for the leader of the record's partition; `failed` takes the errors of its `send`.

        It is None while the partition changes over, which takes milliseconds: ask again after `change_over`.

        Raises:
            NotSent: that leader does not acknowledge records.
        """
        partition = self._partition_of(record)
        if partition.leader is None or partition.refused:
            raise NotSent(f"No broker that leads {record.topic}[{partition.at.partition}] acknowledges records.")
        return partition.leader.producer if partition.change is None else None

    async def change_over(self, record: Outgoing) -> None:
        """Return when the record's partition has changed over, or its leader is given up."""
        if (change := self._partition_of(record).change) is not None:
            await change.wait()

    def _partition_of(self, record: Outgoing) -> _Partition:
        topic, key, _, _, number, _ = record
        return self._partitions[topic, partition_of(key, self._count) if number is None else number]

    def failed(self, producer: Producer, error: KafkaError) -> None:
        """Give up the leader that did not acknowledge a record of this producer, unless others may go on."""
        if isinstance(error, _OF_A_RECORD_ALONE):
            return
        for leader in tuple(self._leaders.values()):
            if leader.producer is producer:
                self._give_up(leader, repr(error))

    async def run(self) -> None:
        """Find leaders, and give up those that do not acknowledge, until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._watch())
                tasks.create_task(self._find_leaders())
        finally:
            leaders = [*self._leaders.values()]
            self._leaders.clear()
            for partition in self._partitions.values():
                partition.leader = None
            await asyncio.gather(*self._closing, *map(self._close, leaders))

    def _give_up(self, leader: _Leader, reason: str) -> None:
        if self._leaders.get(leader.node_id) is not leader:
            return
        del self._leaders[leader.node_id]
        given_up = [partition for partition in self._partitions.values() if partition.leader is leader]
        for partition in given_up:
            partition.leader, partition.refused = None, False
        names = ", ".join(f"{topic}[{number}]" for topic, number in (partition.at for partition in given_up))
        log.warning("broker %d is given up (%s); refused until a leader answers: %s", leader.node_id, reason, names)
        closing = asyncio.create_task(self._close(leader))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)
        self._leader_wanted.set()

    async def _close(self, leader: _Leader) -> None:
        try:
            await leader.stack.aclose()
        except (KafkaError, OSError, TimeoutError) as error:
            log.warning("closing the producer for broker %d: %r", leader.node_id, error)

    async def _watch(self) -> None:
        """Glance at the leaders again and again, until cancelled.

        `ack_seconds` are counted in glances: however long this process was frozen, which read no acknowledgements then,
        that is one glance.
        """
        clock = asyncio.get_running_loop().time
        glance_seconds = min(_GLANCE_SECONDS, self._ack_seconds / _LOOKS)
        glances = deque([clock()], maxlen=ceil(self._ack_seconds / glance_seconds))
        while True:
            await asyncio.sleep(glance_seconds)
            limit = glances[0]
            glances.append(clock())
            for leader in tuple(self._leaders.values()):
                self._judge(leader, limit)
            for partition in self._partitions.values():
                if partition.change is None:
                    self._change_over(partition)

    def _judge(self, leader: _Leader, limit: float) -> None:
        """Give up a leader that has acknowledged nothing since `limit` (of the loop), or refuse some partitions."""
        late = leader.producer.unacknowledged_since(limit)
        if late and leader.producer.acknowledged_at(leader.node_id) < limit:
            self._give_up(leader, f"it has not acknowledged a record for {self._ack_seconds:.1f} s")
        else:
            self._refuse(leader, late)

    def _refuse(self, leader: _Leader, late: Collection[TopicPartition]) -> None:
        """Refuse the partitions whose records this leader does not acknowledge, and no others any more.

        The client goes on with the batch that it has: without it the partition's sequence numbers would have a gap.
        """
        for at in late:
            leader.producer.drop(at)
        for partition in self._partitions.values():
            if partition.leader is leader and partition.refused != (partition.at in late):
                partition.refused = not partition.refused
                state = "is refused: not acknowledged" if partition.refused else "takes records again"
                log.warning("broker %d: %s[%d] %s", leader.node_id, *partition.at, state)

    def _change_over(self, partition: _Partition) -> None:
        """Bind a partition whose records go to another broker by now to the producer for that one."""
        node_id = self._next_leader(partition)
        if node_id is None or partition.leader is None:
            return
        if (leader := self._leaders.get(node_id)) is None:
            self._leader_wanted.set()
        elif leader.producer.leader_of(partition.at) != node_id:
            leader.producer.refresh_leaders(self._topics)
        elif (answer := partition.leader.producer.last_answer(partition.at)) is None:
            partition.leader, partition.refused = leader, False
        else:
            partition.change = asyncio.Event()
            answer.add_done_callback(partial(self._on_last_answer, partition))

    def _on_last_answer(self, partition: _Partition, answer: asyncio.Future[int]) -> None:
        """Change over; those that wait go on also if that is not possible any more."""
        answer.exception()
        change, partition.change = partition.change, None
        self._change_over(partition)
        if change is not None:
            change.set()

    def _next_leader(self, partition: _Partition) -> int | None:
        """Return the broker that leads the partition by now, if its producer is still that for another."""
        if partition.leader is None:
            return None
        node_id = partition.leader.producer.leader_of(partition.at)
        return None if node_id == partition.leader.node_id else node_id

    async def _find_leaders(self) -> None:
        self._leader_wanted.set()
        while True:
            await self._leader_wanted.wait()
            self._leader_wanted.clear()
            try:
                while self._lacks_leaders():
                    await self._find_leader()
            except (KafkaError, OSError, TimeoutError) as error:
                self._leader_wanted.set()
                await self._backoff.wait(error)

    def _lacks_leaders(self) -> bool:
        return any(
            partition.leader is None or self._next_leader(partition) not in {None, *self._leaders}
            for partition in self._partitions.values()
        )

    async def _find_leader(self) -> None:
        """Open a producer, and keep it for the first broker that lacks one and answers; or until none is lacking."""
        async with AsyncExitStack() as stack:
            async with asyncio.timeout(_START_SECONDS):
                producer = await stack.enter_async_context(
                    open_producer(
                        self._settings,
                        client_id=self._client_id,
                        linger_ms=self._linger_ms,
                        request_timeout_seconds=self._ack_seconds,
                    )
                )
            # However it ends: records that it has not sent by then must not be sent later.
            stack.push_async_callback(producer.abandon)
            node_id = await self._until_one_answers(producer)
            if node_id is not None:
                leader = self._leaders[node_id] = _Leader(node_id, producer, stack.pop_all())
                self._bind_to(producer)
                self._backoff.reset()
                log.info("broker %d takes records", leader.node_id)

    async def _until_one_answers(self, producer: Producer) -> int | None:
        """Return a broker that leads partitions, lacks a producer and answers; None when none lacks one any more."""
        asking: dict[int, asyncio.Task[bool]] = {}
        try:
            while self._lacks_leaders():
                async with asyncio.timeout(_START_SECONDS):
                    if not await producer.refresh_leaders(self._topics):
                        raise KafkaConnectionError("No broker answers with the leaders of partitions.")
                reading = [leader.producer.refresh_leaders(self._topics) for leader in self._leaders.values()]
                if reading:
                    # One that is given up meanwhile never answers.
                    await asyncio.wait(reading, timeout=_GLANCE_SECONDS)
                self._bind_to(producer)
                for node_id in self._lacking(producer) - asking.keys():
                    asking[node_id] = asyncio.create_task(producer.answers(node_id))
                if asking:
                    await asyncio.wait(asking.values(), timeout=_GLANCE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                for node_id in [node_id for node_id, answer in asking.items() if answer.done()]:
                    if asking.pop(node_id).result() and node_id in self._lacking(producer):
                        return node_id
                if self._lacks_leaders():
                    await asyncio.sleep(_GLANCE_SECONDS)
            return None
        finally:
            for each in asking.values():
                each.cancel()
            await asyncio.gather(*asking.values(), return_exceptions=True)

    def _bind_to(self, producer: Producer) -> None:
        """Bind partitions without a leader to the producers that there are."""
        for partition in self._partitions.values():
            if partition.leader is None and (node_id := producer.leader_of(partition.at)) in self._leaders:
                leader = self._leaders[node_id]
                # A producer sends to the leader that its own metadata name.
                if leader.producer.leader_of(partition.at) == node_id:
                    partition.leader = leader

    def _lacking(self, producer: Producer) -> set[int]:
        """Return the brokers that lead partitions, by this producer's metadata, and have no producer."""
        leading = {
            producer.leader_of(partition.at) if partition.leader is None else self._next_leader(partition)
            for partition in self._partitions.values()
        }
        return {node_id for node_id in leading if node_id is not None} - self._leaders.keys()
