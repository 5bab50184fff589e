"""The one way records get onto the log: an idempotent producer that waits for the broker's acknowledgement.

Records of one partition go together, in the order in which they were given: while one batch is on its way the next one
fills. The client's own way of sending single records takes three times as long for each.
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
    """Sends records and answers when the broker has them (acks=all)."""

    def __init__(self, client: AIOKafkaProducer, linger_seconds: float, request_timeout_seconds: float) -> None:
        """Take a client that waits for nobody itself; here a batch waits `linger_seconds` for others to share it."""
        self._client = client
        self._linger_seconds = linger_seconds
        self._request_timeout_seconds = request_timeout_seconds
        self._partition_queues: dict[tuple[str, int], _PartitionQueue] = {}
        # By the number of the broker that leads the partition, as far as is known.
        self._broker_queues: dict[int | None, _BrokerQueue] = {}
        # For a key it is always the same partition, so it is worked out once.
        self._of_key: dict[tuple[str, bytes], _PartitionQueue] = {}
        self._choose = DefaultPartitioner()

    async def send(self, record: Outgoing) -> LogPosition:
        """Produce one record and return where it stands.

        Raises:
            aiokafka.errors.KafkaError: the broker did not acknowledge it; it may or may not stand on the log.
        """
        queue = self._known_queue(record) or await self._queue_of(record)
        batch, place = queue.put(record)
        return LogPosition(*queue.place, await batch.acknowledged() + place)

    async def send_all(self, records: Iterable[Outgoing]) -> Sequence[LogPosition]:
        """Produce records, those of a partition in order, and return where they stand. Raises as `send`."""
        lanes = [(self._known_queue(record) or await self._queue_of(record), record) for record in records]
        # From here to the waiting nothing may be awaited: a batch tells only those who wait by then.
        put = [(queue.place, *queue.put(record)) for queue, record in lanes]
        batches = list(dict.fromkeys(batch for _, batch, _ in put))
        firsts = await asyncio.gather(*[batch.acknowledged() for batch in batches])
        first_of = dict(zip(batches, firsts, strict=True))
        return [LogPosition(*place, first_of[batch] + number) for place, batch, number in put]

    async def finish(self) -> None:
        """Return when everything has been acknowledged or has failed."""
        while True:
            sending: list[asyncio.Future[Any] | None] = [node.sending for node in self._broker_queues.values()]
            sending += [queue.under_way for queue in self._partition_queues.values()]
            if not (under_way := [each for each in sending if each is not None]):
                return
            await asyncio.wait(under_way)

    async def abandon(self) -> None:
        """Give up: everybody who waits gets an error at once, and what was not sent yet never will be.

        Returns when nothing is on its way any more (within the request timeout); what was may have arrived. Nothing can
        be sent afterwards. Without this an idempotent producer, and its end too, waits until there is a broker.
        """
        # aiokafka has no public word for this: it is what its accumulator does when the sender fails, and in this
        # order, so that neither a retry nor the end of the producer finds a batch that is already gone.
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
        return self._of_key.get((topic, key)) if partition is None else self._partition_queues.get((topic, partition))

    async def _queue_of(self, record: Outgoing) -> "_PartitionQueue":
        """Return the way to the record's partition, which its key chooses if nobody else did."""
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
        # Who waits for the first word of a topic while the client is stopped would wait for ever.
        try:
            async with asyncio.timeout(self._request_timeout_seconds):
                found: set[int] = await self._client.partitions_for(topic)
        except TimeoutError as error:
            raise KafkaTimeoutError(f"The broker did not tell the partitions of {topic}.") from error
        return found

    def _queue_to(self, topic: str, partition: int) -> "_PartitionQueue":
        place = topic, partition
        if place not in self._partition_queues:
            self._partition_queues[place] = _PartitionQueue(self._client, place, self._linger_seconds, self._enqueue)
        return self._partition_queues[place]

    def _enqueue(self, queue: "_PartitionQueue") -> None:
        leader: int | None = self._client.client.cluster.leader_for_partition(TopicPartition(*queue.place))
        self._broker_queues.setdefault(leader, _BrokerQueue()).queue(queue)


class _Batch:
    """Records that the broker takes or refuses together."""

    __slots__ = ("_append", "_waiters", "builder", "count", "leaves_at")

    def __init__(self, builder: BatchBuilder, leaves_at: float) -> None:
        self.builder = builder
        self.leaves_at = leaves_at
        self.count = 0
        self._append = builder.append
        self._waiters: list[asyncio.Future[int]] = []

    def add(self, record: Outgoing) -> bool:
        """Take a record in, unless it is full."""
        _, key, value, headers, _, timestamp_ms = record
        if self._append(timestamp=timestamp_ms, key=key, value=value, headers=headers) is None:
            return False
        self.count += 1
        return True

    def acknowledged(self) -> asyncio.Future[int]:
        """Return the offset of its first record, once the broker has them all; whoever waits may be cancelled."""
        waiter: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        return waiter

    def done(self, first_offset: int) -> None:
        """Tell everybody who waits where it stands."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(first_offset)

    def fail(self, error: BaseException) -> None:
        """Tell everybody who waits that nobody knows whether it stands anywhere."""
        for waiter in self._waiters:
            if not waiter.done():
                # Each raises its own, or their tracebacks would become one that grows.
                waiter.set_exception(copy(error))


class _PartitionQueue:
    """The way to one partition: batches in order, one on its way at a time; where one fails, so do those behind it."""

    def __init__(
        self,
        client: AIOKafkaProducer,
        place: tuple[str, int],
        linger_seconds: float,
        queue: Callable[["_PartitionQueue"], None],
    ) -> None:
        """`queue` is told when there is something to send, and nothing on its way."""
        self.place = place
        self.under_way: asyncio.Future[RecordMetadata] | None = None
        self._client = client
        self._linger_seconds = linger_seconds
        self._queue = queue
        # From when it was queued until what then went was answered.
        self._busy = False
        self._loop = asyncio.get_running_loop()
        self._sent: _Batch | None = None
        self._open: deque[_Batch] = deque()

    @property
    def leaves_at(self) -> float:
        """When (by the loop's clock) what waits has waited long enough for others."""
        return self._open[0].leaves_at if self._open else 0.0

    def put(self, record: Outgoing) -> tuple[_Batch, int]:
        """Add a record behind those before it; return its batch and its place there."""
        if not self._open or not self._open[-1].add(record):
            batch = _Batch(self._client.create_batch(), self._loop.time() + self._linger_seconds)
            # The first is always taken, however large it is: the broker says what is too large.
            batch.add(record)
            self._open.append(batch)
            if not self._busy:
                self._busy = True
                self._queue(self)
        batch = self._open[-1]
        return batch, batch.count - 1

    async def submit(self) -> asyncio.Future[RecordMetadata] | None:
        """Give the oldest batch to the client; return what it will say of it, None when it does not take it."""
        if not self._open:
            self._busy = False
            return None
        self._sent = self._open.popleft()
        self._sent.builder.close()
        try:
            topic, partition = self.place
            self.under_way = await self._client.send_batch(self._sent.builder, topic, partition=partition)
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait raise it
            self.fail(error)
            self._sent, self._busy = None, False
            return None
        self.under_way.add_done_callback(self._settled)
        return self.under_way

    def fail(self, error: BaseException) -> None:
        """Let nobody wait any longer, and send nothing that waits: sent again it would stand behind what came later."""
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
    """One broker, to which one request goes at a time, with a batch for each partition that has one."""

    def __init__(self) -> None:
        self.sending: asyncio.Task[None] | None = None
        self._partition_queues: list[_PartitionQueue] = []

    def queue(self, queue: _PartitionQueue) -> None:
        """Let a lane's next batch go with the next request."""
        self._partition_queues.append(queue)
        if self.sending is None:
            self.sending = asyncio.create_task(self._send())

    async def _send(self) -> None:
        loop = asyncio.get_running_loop()
        while self._partition_queues:
            if (seconds := self._partition_queues[0].leaves_at - loop.time()) > 0:
                await asyncio.sleep(seconds)
            lanes, self._partition_queues = self._partition_queues, []
            sent = [future for queue in lanes if (future := await queue.submit()) is not None]
            if sent:
                # They are answered together, but for those that the client has to try again: nobody waits for them.
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
