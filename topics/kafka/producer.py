"""The only producer: it is idempotent and waits for the broker's acknowledgement.

Records of one partition are sent together, in the order in which they were given: while one batch is on its way the
next one fills. aiokafka's own sending of single records takes three times as long for each.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from copy import copy
from typing import Any

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaTimeoutError, ProducerClosed
from aiokafka.partitioner import DefaultPartitioner
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.structs import RecordMetadata

from topics.envelope import Outgoing
from topics.kafka.positions import LogPosition
from topics.kafka.settings import KafkaSettings
from topics.kafka.starting import started

_MAX_KEYS = 100_000


class Producer:
    """Sends records and returns when the broker has them (acks=all)."""

    def __init__(self, client: AIOKafkaProducer, linger_seconds: float, request_timeout_seconds: float) -> None:
        """Take a client without a linger of its own; here a batch waits `linger_seconds` for more records."""
        self._client = client
        self._linger_seconds = linger_seconds
        self._request_timeout_seconds = request_timeout_seconds
        self._partition_queues: dict[TopicPartition, _PartitionQueue] = {}
        # By the id of the broker that leads the partition, as far as it is known.
        self._broker_queues: dict[int | None, _BrokerQueue] = {}
        # A key always has the same partition, so it is computed once.
        self._of_key: dict[tuple[str, bytes], _PartitionQueue] = {}
        self._choose = DefaultPartitioner()

    async def send(self, record: Outgoing) -> LogPosition:
        """Produce one record and return its position.

        Raises:
            aiokafka.errors.KafkaError: the broker did not acknowledge it; it may or may not be on the log.
        """
        queue = self._known_queue(record) or await self._queue_of(record)
        batch, index = queue.put(record)
        return LogPosition(queue.partition.topic, queue.partition.partition, await batch.acknowledged() + index)

    async def send_all(self, records: Iterable[Outgoing]) -> Sequence[LogPosition]:
        """Produce records, those of a partition in order, and return their positions. Raises as `send`."""
        queues = [(self._known_queue(record) or await self._queue_of(record), record) for record in records]
        # Nothing may be awaited from here until `acknowledged`: a batch only notifies those that wait when it is done.
        put = [(queue.partition, *queue.put(record)) for queue, record in queues]
        batches = list(dict.fromkeys(batch for _, batch, _ in put))
        firsts = await asyncio.gather(*[batch.acknowledged() for batch in batches])
        first_of = dict(zip(batches, firsts, strict=True))
        return [
            LogPosition(partition.topic, partition.partition, first_of[batch] + index)
            for partition, batch, index in put
        ]

    async def finish(self) -> None:
        """Return when everything has been acknowledged or has failed."""
        while True:
            sending: list[asyncio.Future[Any] | None] = [node.sending for node in self._broker_queues.values()]
            sending += [queue.under_way for queue in self._partition_queues.values()]
            if not (under_way := [each for each in sending if each is not None]):
                return
            await asyncio.wait(under_way)

    async def abandon(self) -> None:
        """Give up: all callers that wait get an error at once, and records that were not sent yet never will be.

        Returns when nothing is on its way any more (within the request timeout); what was may have arrived. Nothing can
        be sent afterwards. Without this an idempotent producer, and its `stop` too, waits until there is a broker.
        """
        # aiokafka 0.14 has no public call for this: its accumulator does the same when the sender fails, in this order,
        # so that neither a retry nor the end of the producer finds a batch that is already gone.
        waiting, sender = self._client._message_accumulator, self._client._sender
        waiting._exception = ProducerClosed()
        for queue in self._partition_queues.values():
            queue.fail(ProducerClosed())
        if not sender.sender_task.done():
            sender.sender_task.cancel()
            await asyncio.wait([sender.sender_task])
        waiting._pending_batches.update(_unsent(waiting))
        waiting._batches.clear()
        for batch in tuple(waiting._pending_batches):
            batch.failure(ProducerClosed())
            batch._drain_waiter.exception()

    def _known_queue(self, record: Outgoing) -> "_PartitionQueue | None":
        topic, key, _, _, partition, _ = record
        return (
            self._of_key.get((topic, key))
            if partition is None
            else self._partition_queues.get(TopicPartition(topic, partition))
        )

    async def _queue_of(self, record: Outgoing) -> "_PartitionQueue":
        """Return the queue of the record's partition, which its key chooses unless the record names one."""
        topic, key, _, _, partition, _ = record
        if partition is not None:
            return self._queue_to(topic, partition)
        partitions = sorted(await self._partitions_of(topic))
        queue = self._queue_to(topic, self._choose(key, partitions, partitions))
        if len(self._of_key) >= _MAX_KEYS:
            self._of_key.clear()
        self._of_key[topic, key] = queue
        return queue

    async def _partitions_of(self, topic: str) -> set[int]:
        # The client would wait for ever for a topic's first metadata if it is stopped meanwhile.
        try:
            async with asyncio.timeout(self._request_timeout_seconds):
                found: set[int] = await self._client.partitions_for(topic)
        except TimeoutError as error:
            raise KafkaTimeoutError(f"The broker did not say which partitions {topic} has.") from error
        return found

    def _queue_to(self, topic: str, partition: int) -> "_PartitionQueue":
        key = TopicPartition(topic, partition)
        if key not in self._partition_queues:
            self._partition_queues[key] = _PartitionQueue(self._client, key, self._linger_seconds, self._enqueue)
        return self._partition_queues[key]

    def _enqueue(self, queue: "_PartitionQueue") -> None:
        leader: int | None = self._client.client.cluster.leader_for_partition(queue.partition)
        self._broker_queues.setdefault(leader, _BrokerQueue()).queue(queue)


class _Batch:
    """Records that the broker accepts or refuses together."""

    __slots__ = ("_append", "_waiters", "builder", "count", "leaves_at")

    def __init__(self, builder: BatchBuilder, leaves_at: float) -> None:
        self.builder = builder
        self.leaves_at = leaves_at
        self.count = 0
        self._append = builder.append
        self._waiters: list[asyncio.Future[int]] = []

    def add(self, record: Outgoing) -> bool:
        """Add a record; return False when the batch is full."""
        _, key, value, headers, _, timestamp_ms = record
        if self._append(timestamp=timestamp_ms, key=key, value=value, headers=headers) is None:
            return False
        self.count += 1
        return True

    def acknowledged(self) -> asyncio.Future[int]:
        """Return the offset of its first record, once the broker has all of them; a waiter may be cancelled."""
        waiter: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        return waiter

    def done(self, first_offset: int) -> None:
        """Give all waiters the offset of its first record."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(first_offset)

    def fail(self, error: BaseException) -> None:
        """Give all waiters an error: it is not known whether the broker has the batch."""
        for waiter in self._waiters:
            if not waiter.done():
                # Each raises its own, or their tracebacks would become one that grows.
                waiter.set_exception(copy(error))


class _PartitionQueue:
    """The batches of one partition, in order, one on its way at a time; when one fails, so do those behind it."""

    def __init__(
        self,
        client: AIOKafkaProducer,
        partition: TopicPartition,
        linger_seconds: float,
        queue: Callable[["_PartitionQueue"], None],
    ) -> None:
        """`queue` is called when there is something to send, and nothing on its way."""
        self.partition = partition
        self.under_way: asyncio.Future[RecordMetadata] | None = None
        self._client = client
        self._linger_seconds = linger_seconds
        self._queue = queue
        # From being queued until the batch that was then sent is answered.
        self._busy = False
        self._loop = asyncio.get_running_loop()
        self._sent: _Batch | None = None
        self._open: deque[_Batch] = deque()

    @property
    def leaves_at(self) -> float:
        """When (by the loop's clock) the first batch has waited long enough for more records."""
        return self._open[0].leaves_at if self._open else 0.0

    def put(self, record: Outgoing) -> tuple[_Batch, int]:
        """Add a record behind those before it; return its batch and its index there."""
        if not self._open or not self._open[-1].add(record):
            batch = _Batch(self._client.create_batch(), self._loop.time() + self._linger_seconds)
            # The first is always accepted, however large it is: the broker says what is too large.
            batch.add(record)
            self._open.append(batch)
            if not self._busy:
                self._busy = True
                self._queue(self)
        batch = self._open[-1]
        return batch, batch.count - 1

    async def submit(self) -> asyncio.Future[RecordMetadata] | None:
        """Give the oldest batch to the client; return its answer, None when the client refuses it."""
        if not self._open:
            self._busy = False
            return None
        self._sent = self._open.popleft()
        self._sent.builder.close()
        try:
            topic, partition = self.partition
            self.under_way = await self._client.send_batch(self._sent.builder, topic, partition=partition)
        except Exception as error:  # noqa: BLE001 - the waiters raise it
            self.fail(error)
            self._sent, self._busy = None, False
            return None
        self.under_way.add_done_callback(self._settled)
        return self.under_way

    def fail(self, error: BaseException) -> None:
        """Fail all waiting batches and send none of them: sent again they would be behind later records."""
        for batch in self._open if self._sent is None else (self._sent, *self._open):
            batch.fail(error)
        self._open.clear()

    def _settled(self, under_way: asyncio.Future[RecordMetadata]) -> None:
        assert self._sent is not None
        self.under_way = None
        if under_way.cancelled():
            self.fail(ProducerClosed())
        elif (error := under_way.exception()) is None:
            self._sent.done(under_way.result().offset)
        else:
            self.fail(error)
        self._sent = None
        self._busy = bool(self._open)
        if self._busy:
            self._queue(self)


class _BrokerQueue:
    """One broker: one request at a time, with a batch of each partition that has one."""

    def __init__(self) -> None:
        self.sending: asyncio.Task[None] | None = None
        self._partition_queues: list[_PartitionQueue] = []

    def queue(self, queue: _PartitionQueue) -> None:
        """Send a partition's next batch with the next request."""
        self._partition_queues.append(queue)
        if self.sending is None:
            self.sending = asyncio.create_task(self._send())

    async def _send(self) -> None:
        loop = asyncio.get_running_loop()
        while self._partition_queues:
            if (seconds := self._partition_queues[0].leaves_at - loop.time()) > 0:
                await asyncio.sleep(seconds)
            ready, self._partition_queues = self._partition_queues, []
            sent = [future for queue in ready if (future := await queue.submit()) is not None]
            if sent:
                # All are answered together, except those that the client has to retry; the others do not wait for them.
                await asyncio.wait(sent, return_when=asyncio.FIRST_COMPLETED)
        self.sending = None


def _unsent(accumulator: Any) -> list[Any]:
    return [batch for batches in accumulator._batches.values() for batch in batches]


@asynccontextmanager
async def open_producer(
    settings: KafkaSettings,
    *,
    client_id: str,
    linger_ms: int = 0,
    request_timeout_seconds: float = 15.0,
) -> AsyncIterator[Producer]:
    """Open a producer for the lifetime of a process; leaving sends what is still waiting."""
    client = AIOKafkaProducer(
        **settings.client_options(),
        client_id=client_id,
        acks="all",
        enable_idempotence=settings.kafka_idempotent,
        request_timeout_ms=int(request_timeout_seconds * 1000),
        max_batch_size=256 * 1024,
    )
    producer = Producer(client, linger_ms / 1000, request_timeout_seconds)
    try:
        await started(client.start())
        yield producer
    finally:
        try:
            await producer.finish()
        finally:
            await client.stop()
