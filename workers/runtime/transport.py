"""Faust's Kafka transport, made safe and fast: one event for many records, and offsets from the cursors in PostgreSQL.

Faust 0.15 spends about 130 us of Python on each event, more than a booking costs, so all records that one fetch brings
from a partition are one event. Faust's commit to Kafka stays as a hint; the cursors decide which record is read next.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Mapping
from functools import partial
from typing import Any, Final, Protocol, cast

import aiokafka
from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.errors import IllegalStateError, NodeNotReadyError
from faust.exceptions import ConsumerNotStarted
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, AppT, ConsumerMessage

from topics.kafka.silent_brokers import give_up_silent_brokers
from workers.runtime.fetch_wait import choose_fetch_wait, end_fetches
from workers.runtime.membership import Membership
from workers.runtime.pause_gate import PauseGate
from workers.runtime.stopping import stop_hard

log = logging.getLogger(__name__)

#: A rebalance waits so long for the cursors; after that the first batch finds the right offsets.
MAX_ASSIGNED_SECONDS = 20.0
#: A paused worker looks so often whether it is resumed.
PAUSED_SECONDS: Final = 0.2
#: A partition that does not exist, for a fetch of nothing: aiokafka fetches from all partitions when it is given none.
NO_PARTITION: Final = TP("", 0)


class Assignee(Protocol):
    """The part of `BatchProcessor` that opens partitions and lets them go."""

    async def on_assigned(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Open partitions that were assigned to this process; return the offset to read next, for each."""
        ...

    async def on_revoked(self) -> None:
        """Let all partitions go."""
        ...


class WorkerConsumer(driver.Consumer):
    """Hands the agent messages whose value is the list of records that one fetch brought from a partition."""

    logger = driver.logger

    def _new_consumer_thread(self) -> "WorkerConsumerThread":
        return WorkerConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, ConsumerMessage]]:  # noqa: ASYNC109 - as Faust calls it
        """Yield one message for each partition. The checks are those that Faust makes for each record."""
        gate = cast("WorkerTransport", self.transport).gate
        if gate.paused or gate.draining:
            await self._wait_for_resume(gate)
            return
        records, active = await self._wait_next_records(timeout)
        generation = self.app.consumer_generation_id
        if records is None or self.should_stop:
            return
        if not self.flow_active:
            await self.perform_seek()
            return
        assigned = cast("set[TP]", active)
        for partition, fetched in records.items():
            if self._is_interrupted(generation):
                return
            if fetched and (partition in assigned or partition in self._buffered_partitions):
                self._read_offset[partition] = fetched[-1].offset - 1
                yield partition, self._as_message(partition, fetched)

    async def _wait_for_resume(self, gate: PauseGate) -> None:
        """Poll without reading, as a member of the group must; after the pause, begin at the cursors."""
        if not self.flow_active:
            await self.wait(cast("Any", self.can_resume_flow))
        if self._get_active_partitions():
            await self._getmany(active_partitions={NO_PARTITION}, timeout=PAUSED_SECONDS)
        else:
            await self.sleep(PAUSED_SECONDS)
        if not self.flow_active:
            await self.perform_seek()
        elif gate.draining and not gate.paused and not self.unacked:
            await self.perform_seek()
            gate.draining = gate.paused

    def _is_interrupted(self, generation: int) -> bool:
        return not self.flow_active or self.app.consumer_generation_id != generation

    def _as_message(self, partition: TP, fetched: Any) -> ConsumerMessage:
        last = fetched[-1]
        return ConsumerMessage(
            last.topic,
            last.partition,
            last.offset,
            last.timestamp / 1000.0,
            last.timestamp_type,
            [],
            None,
            fetched,
            None,
            0,
            0,
            partition,
            generation_id=self.app.consumer_generation_id,
        )

    def _new_offset(self, partition: TP) -> int | None:
        """Return the offset to commit: the agent acknowledges in order, so it is one past the highest."""
        acknowledged = self._acked[partition]
        if not acknowledged:
            return None
        highest: int = max(acknowledged)
        acknowledged.clear()
        self._acked_index[partition].clear()
        # Records dropped because of a pause are not committed; they are read again after resume.
        return None if cast("WorkerTransport", self.transport).gate.draining else highest + 1

    async def perform_seek(self) -> None:
        """Start each partition at its cursors in the database, once the worker before us has committed.

        Faust would ask Kafka for the committed offsets, one partition after the other, and fail when one of them is
        revoked meanwhile. Until the database answers, the client reads from those offsets by itself.
        """
        assignee = cast("WorkerTransport", self.transport).assignee
        assigned = {TopicPartition(*partition): partition for partition in self.assignment()}
        if not assigned:
            return
        task = asyncio.ensure_future(assignee.on_assigned(list(assigned)))
        task.add_done_callback(_stop_if_failed)
        try:
            offsets = await asyncio.wait_for(asyncio.shield(task), MAX_ASSIGNED_SECONDS)
        except TimeoutError:
            log.warning("the database does not answer; the cursors are read again with the first batch")
            return
        await self.start_at({assigned[partition]: offset for partition, offset in offsets.items()})

    async def start_at(self, offsets: dict[TP, int]) -> None:
        """Read the partitions from these offsets on."""
        assigned = {partition: offset for partition, offset in offsets.items() if partition in self.assignment()}
        if not assigned:
            return
        try:
            await self._thread.seek_wait(assigned)
        except IllegalStateError:
            # One of them was revoked this moment; the rebalance that follows reads the cursors again for the others.
            log.info("partitions were revoked while they were being opened")
            return
        for partition, offset in assigned.items():
            self._read_offset[partition] = offset - 1 if offset > 0 else None
            self._committed_offset[partition] = offset

    def end_of(self, partition: TP) -> int | None:
        """Return the offset after the partition's last record, as of the last fetch; None before the first fetch."""
        try:
            return cast("int | None", self._thread.highwater(partition))
        except (AssertionError, ConsumerNotStarted):
            # The client asserts that the partition is assigned to it, and it is not.
            return None

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Commit to Kafka and to the cursors, before another worker is given the partitions."""
        await self.commit()
        await super().on_partitions_revoked(revoked)
        await cast("WorkerTransport", self.transport).assignee.on_revoked()


class WorkerConsumerThread(driver.AIOKafkaConsumerThread):
    """Chooses the wait of each fetch (Faust has a fixed 1.5 s), and leaves the group when other workers remain."""

    logger = driver.logger

    def _create_worker_consumer(self, transport: Any) -> aiokafka.AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        client = consumer._client  # noqa: SLF001 - it has no setting
        give_up_silent_brokers(client)
        client.coordinator_lookup = partial(_coordinator_lookup, client)
        return consumer

    async def on_start(self) -> None:
        """Start reading. An error that ends the client's membership ends the process: Faust would wait for ever."""
        await super().on_start()
        assert self._consumer is not None
        Membership.adopt(self._consumer)
        choose_fetch_wait(self._consumer)
        self._consumer._coordinator._coordination_task.add_done_callback(_stop_if_failed)  # noqa: SLF001 - as above

    async def _seek_wait(self, consumer: aiokafka.AIOKafkaConsumer, partitions: Mapping[TP, int]) -> None:
        """Read from other offsets on, at once. Runs in the consumer's thread, as every use of the consumer must."""
        end_fetches(consumer)
        await super()._seek_wait(consumer, partitions)

    async def on_thread_stop(self) -> None:
        """Stop reading; when other workers of the role remain, our partitions are assigned to them at once."""
        consumer = self._consumer
        if consumer is not None and _others_remain(consumer):
            consumer._coordinator._group_instance_id = None  # noqa: SLF001 - only a member without a name leaves
        await super().on_thread_stop()


async def _coordinator_lookup(client: AIOKafkaClient, kind: CoordinationType, name: str) -> int:
    """Ask which broker coordinates the group. While a broker starts it knows of none, itself included.

    Raises:
        NodeNotReadyError: no broker is known; the client tries again. Its own assertion would end it.
    """
    if client.get_random_node() is None:
        raise NodeNotReadyError
    node: int = await type(client).coordinator_lookup(client, kind, name)
    return node


def _others_remain(consumer: aiokafka.AIOKafkaConsumer) -> bool:
    """Return whether some partitions are assigned to us, and the others to other workers of the role."""
    assigned = len(consumer.assignment())
    return 0 < assigned < sum(len(consumer.partitions_for_topic(topic) or ()) for topic in consumer.subscription())


def _stop_if_failed(task: asyncio.Task[Any]) -> None:
    """End the process when a task failed that it cannot do without; Faust would end with a status of its own."""
    error = None if task.cancelled() else task.exception()
    if isinstance(error, Exception):
        stop_hard(error)


class WorkerProducer(driver.Producer):
    """Faust starts a producer in any case; we send nothing with it, but its start asks a broker too."""

    logger = driver.logger

    def _new_producer(self, transactional_id: str | None = None) -> aiokafka.AIOKafkaProducer:
        producer = super()._new_producer(transactional_id)
        give_up_silent_brokers(producer.client)
        return producer


class WorkerTransport(driver.Transport):
    """The transport of every worker; `assignee` opens partitions, and `gate` decides whether they may be read."""

    Consumer = WorkerConsumer
    Producer = WorkerProducer

    def __init__(self, url: Any, app: AppT, assignee: Assignee, gate: PauseGate) -> None:
        super().__init__(url, app)
        self.assignee = assignee
        self.gate = gate
