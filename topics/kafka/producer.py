"""Produces records: an idempotent producer that waits for the broker's acknowledgement.

Records of one partition are sent together, in order: while one batch is in flight the next one fills. aiokafka 0.14's
`send` takes each record by itself: it waits for metadata, chooses the partition and makes a future for every record,
which costs a fifth to a quarter more CPU in all (ADR 0019). No release on PyPI puts records into a batch before that.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from copy import copy
from typing import Any, Final

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    InvalidTimestampError,
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    PolicyViolationError,
    ProducerClosed,
    RecordListTooLargeError,
    TopicAuthorizationFailedError,
    UnsupportedForMessageFormatError,
)
from aiokafka.producer.message_accumulator import BatchBuilder, MessageBatch
from aiokafka.record import MemoryRecords
from aiokafka.structs import RecordMetadata

from topics.envelope import Outgoing
from topics.kafka.partitions import partition_of
from topics.kafka.positions import LogPosition
from topics.kafka.settings import KafkaSettings
from topics.kafka.silent_brokers import give_up_silent_brokers
from topics.kafka.starting import start_client

#: One record may be the reason why a broker refuses a batch.
_REFUSALS_OF_A_RECORD: Final = (InvalidTimestampError, MessageSizeTooLargeError, RecordListTooLargeError)
#: Errors of records that the broker refused outright: they are not stored, and the next ones may be.
REFUSALS: Final[tuple[type[KafkaError], ...]] = (
    *_REFUSALS_OF_A_RECORD,
    ClusterAuthorizationFailedError,
    PolicyViolationError,
    TopicAuthorizationFailedError,
    UnsupportedForMessageFormatError,
)
_MAX_KEYS: Final = 100_000
_NO_LEADER: Final = -1
_OTHERS_WAIT_SECONDS: Final = 0.25


class NotAcknowledged(KafkaError):  # type: ignore[misc] # aiokafka has no types
    """The leader acknowledges other records, but none of this partition."""


class MaybeStored(KafkaError):  # type: ignore[misc] # aiokafka has no types
    """The broker refused a record that was sent again; it may have stored it the first time."""


class Producer:
    """Sends records and returns their positions once the broker has stored them (acks=all)."""

    def __init__(self, client: AIOKafkaProducer, linger_seconds: float, request_timeout_seconds: float) -> None:
        """Take a client without a linger of its own; a batch waits `linger_seconds` for more records."""
        self._client = client
        self._linger_seconds = linger_seconds
        self._request_timeout_seconds = request_timeout_seconds
        # By topic and number: a pair is made several times as fast as a `TopicPartition`.
        self._partition_queues: dict[tuple[str, int], _PartitionQueue] = {}
        # By the id of the broker that leads the partition, None while that is unknown.
        self._broker_queues: dict[int | None, _BrokerQueue] = {}
        # The partition of a key never changes.
        self._of_key: dict[tuple[str, bytes], _PartitionQueue] = {}

    async def send(self, record: Outgoing) -> LogPosition:
        """Produce one record and return its position.

        Raises:
            aiokafka.errors.KafkaError: the broker did not acknowledge it. If the error is one of `REFUSALS`, it is not
                stored, and others are not concerned; after any other it may or may not be.
        """
        queue = self._known_queue(record) or await self._queue_of(record)
        batch, index = queue.put(record)
        topic, number = queue.partition
        return LogPosition(topic, number, await batch.stored(index))

    async def send_all(self, records: Iterable[Outgoing]) -> Sequence[LogPosition]:
        """Produce records, those of a partition in order, and return their positions. Raises as `send`.

        When one is refused, those after it in its partition fail too.
        """
        queues = [(self._known_queue(record) or await self._queue_of(record), record) for record in records]
        # Nothing may be awaited between these lines: a batch reports to those alone that wait when it is acknowledged.
        added = [(queue.partition, *queue.put(record)) for queue, record in queues]
        batches = list(dict.fromkeys(batch for _, batch, _ in added))
        firsts = await asyncio.gather(*[batch.acknowledged() for batch in batches])
        first_of = dict(zip(batches, firsts, strict=True))
        return [LogPosition(topic, number, first_of[batch] + index) for (topic, number), batch, index in added]

    async def finish(self) -> None:
        """Wait until every record is acknowledged or has failed."""
        while True:
            sending: list[asyncio.Future[Any] | None] = [queue.sending for queue in self._broker_queues.values()]
            sending += [queue.in_flight for queue in self._partition_queues.values()]
            if not (in_flight := [each for each in sending if each is not None]):
                return
            await asyncio.wait(in_flight)

    async def abandon(self) -> None:
        """Give up: every waiter gets an error at once, and records that were not sent yet never will be.

        Returns when nothing is in flight any more (within the request timeout); records in flight may have arrived.
        Nothing can be sent afterwards. Without this an idempotent producer, and its end too, waits until there is a
        broker.
        """
        # aiokafka 0.14 has no public call for this. Its accumulator does the same when the sender fails, in this order,
        # so that neither a retry nor the end of the producer finds a batch that has already failed.
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

    def leader_of(self, partition: TopicPartition) -> int | None:
        """Return the id of the broker that leads a partition by the metadata at hand; None while none is known."""
        leader: int | None = self._client.client.cluster.leader_for_partition(partition)
        return None if leader == _NO_LEADER else leader

    def refresh_leaders(self, topics: Iterable[str]) -> asyncio.Future[bool]:
        """Begin to read the leaders of these topics' partitions anew; return a future of whether a broker answered."""
        for topic in topics:
            self._client.client.add_topic(topic)
        reading: asyncio.Future[bool] = self._client.client.force_metadata_update()
        return reading

    async def answers(self, node_id: int) -> bool:
        """Return whether a broker answers: there is a connection to it, or it takes a new one."""
        return bool(await self._client.client.ready(node_id))

    def last_answer(self, partition: TopicPartition) -> asyncio.Future[int] | None:
        """Return a future of when this partition's records so far are acknowledged or fail; None if none is on its way.

        Its exception has to be read.
        """
        queue = self._partition_queues.get(partition)
        return None if queue is None else queue.last_answer()

    def unacknowledged_since(self, time: float) -> list[TopicPartition]:
        """Return the partitions with an unacknowledged record that could be sent before `time` (of the loop)."""
        return [
            queue.partition
            for queue in self._partition_queues.values()
            if queue.unacknowledged_since is not None and queue.unacknowledged_since < time
        ]

    def acknowledged_at(self, node_id: int) -> float:
        """Return the time (by the loop's clock) at which this broker last acknowledged a record; 0.0 if it has not."""
        times = [
            queue.acknowledged_at
            for queue in self._partition_queues.values()
            if self.leader_of(queue.partition) == node_id
        ]
        return max(times, default=0.0)

    def drop(self, partition: TopicPartition) -> None:
        """Fail all records of a partition with `NotAcknowledged`, and drop those that are not with the client yet."""
        self._partition_queues[partition].fail(NotAcknowledged())

    def _known_queue(self, record: Outgoing) -> "_PartitionQueue | None":
        topic, key, _, _, number, _ = record
        if number is None:
            return self._of_key.get((topic, key))
        return self._partition_queues.get((topic, number))

    async def _queue_of(self, record: Outgoing) -> "_PartitionQueue":
        """Return the queue of the record's partition, which the key chooses unless the record names one."""
        topic, key, _, _, number, _ = record
        if number is not None:
            return self._queue_to(topic, number)
        queue = self._queue_to(topic, partition_of(key, len(await self._numbers_of(topic))))
        if len(self._of_key) >= _MAX_KEYS:
            self._of_key.clear()
        self._of_key[topic, key] = queue
        return queue

    async def _numbers_of(self, topic: str) -> set[int]:
        # aiokafka would wait for ever for the first metadata of a topic while the client is stopped.
        try:
            async with asyncio.timeout(self._request_timeout_seconds):
                found: set[int] = await self._client.partitions_for(topic)
        except TimeoutError as error:
            raise KafkaTimeoutError(f"The broker did not answer with the partitions of {topic}.") from error
        return found

    def _queue_to(self, topic: str, number: int) -> "_PartitionQueue":
        partition = TopicPartition(topic, number)
        if partition not in self._partition_queues:
            queue = _PartitionQueue(self._client, partition, self._linger_seconds, self._enqueue)
            self._partition_queues[partition] = queue
        return self._partition_queues[partition]

    def _enqueue(self, queue: "_PartitionQueue") -> None:
        leader: int | None = self._client.client.cluster.leader_for_partition(queue.partition)
        self._broker_queues.setdefault(leader, _BrokerQueue()).queue(queue)


class _Batch:
    """Records that the broker takes or refuses together."""

    __slots__ = ("_append", "_senders", "_waiters", "builder", "count", "leaves_at")

    def __init__(self, builder: BatchBuilder, leaves_at: float) -> None:
        self.builder = builder
        self.leaves_at = leaves_at
        self.count = 0
        self._append = builder.append
        self._waiters: list[asyncio.Future[int]] = []
        # Each with the index of its record.
        self._senders: list[tuple[int, asyncio.Future[int]]] = []

    def add(self, record: Outgoing) -> bool:
        """Add a record, unless the batch is full."""
        _, key, value, headers, _, timestamp_ms = record
        if self._append(timestamp=timestamp_ms, key=key, value=value, headers=headers) is None:
            return False
        self.count += 1
        return True

    def acknowledged(self) -> asyncio.Future[int]:
        """Return a future of the offset of the first record, set once the broker has them all; it may be cancelled."""
        waiter: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        return waiter

    def stored(self, index: int) -> asyncio.Future[int]:
        """Return a future of the offset of one record, set once the broker has it; it may be cancelled."""
        sender: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._senders.append((index, sender))
        return sender

    @property
    def is_waited_for_as_a_whole(self) -> bool:
        """Whether anyone waits for all records, so that none may be stored after one that failed."""
        return bool(self._waiters)

    def split(self, first: "_Batch", second: "_Batch") -> None:
        """Move the first half of the records into one batch and the second half into another, both new."""
        records = MemoryRecords(bytes(self.builder._build())).next_batch()
        assert records is not None
        middle = self.count // 2
        for index, record in enumerate(records):
            half = first if index < middle else second
            half.add(Outgoing("", record.key, record.value, record.headers, None, record.timestamp))
        for index, sender in self._senders:
            half, within = (first, index) if index < middle else (second, index - middle)
            half._senders.append((within, sender))

    def done(self, first_offset: int) -> None:
        """Give every waiter the offset of the first record, and every sender that of its own."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(first_offset)
        for index, sender in self._senders:
            if not sender.done():
                sender.set_result(first_offset + index)

    def fail(self, error: BaseException) -> None:
        """Give everyone who waits the error."""
        for waiter in (*self._waiters, *[sender for _, sender in self._senders]):
            if not waiter.done():
                # Each waiter raises a copy, or one traceback would grow with every waiter.
                waiter.set_exception(copy(error))


class _PartitionQueue:
    """The batches of one partition in order, one in flight at a time; when one fails, those after it fail too.

    A batch that the broker refused outright fails alone if nobody waits for its records as a whole.
    """

    def __init__(
        self,
        client: AIOKafkaProducer,
        partition: TopicPartition,
        linger_seconds: float,
        queue: Callable[["_PartitionQueue"], None],
    ) -> None:
        """`queue` is called when there is something to send and nothing is in flight."""
        self.partition = partition
        self.in_flight: asyncio.Future[RecordMetadata] | None = None
        self.acknowledged_at = 0.0
        self._client = client
        self._linger_seconds = linger_seconds
        self._queue = queue
        # True from the queueing of a batch until the broker has answered it.
        self._busy = False
        self._loop = asyncio.get_running_loop()
        self._sent: _Batch | None = None
        # The client's own object for it.
        self._message_batch: MessageBatch | None = None
        self._open: deque[_Batch] = deque()

    @property
    def leaves_at(self) -> float:
        """The time (by the loop's clock) at which the oldest batch has waited long enough for more records."""
        return self._open[0].leaves_at if self._open else 0.0

    @property
    def unacknowledged_since(self) -> float | None:
        """The time from which on the oldest batch without an answer could be sent; None when there is none."""
        if self._sent is not None:
            return self._sent.leaves_at
        return self._open[0].leaves_at if self._open else None

    def last_answer(self) -> asyncio.Future[int] | None:
        """Return a future of when the last record is acknowledged or fails; None when there is none."""
        last = self._open[-1] if self._open else self._sent
        return None if last is None else last.stored(last.count - 1)

    def put(self, record: Outgoing) -> tuple[_Batch, int]:
        """Add a record after those before it; return its batch and its index there."""
        if not self._open or not self._open[-1].add(record):
            batch = _Batch(self._client.create_batch(), self._loop.time() + self._linger_seconds)
            # The first record is always taken, however large it is: the broker refuses one that is too large.
            batch.add(record)
            self._open.append(batch)
            if not self._busy:
                self._busy = True
                self._queue(self)
        batch = self._open[-1]
        return batch, batch.count - 1

    async def submit(self) -> asyncio.Future[RecordMetadata] | None:
        """Give the oldest batch to the client; return the future of its answer, None when the client refuses it."""
        if not self._open:
            self._busy = False
            return None
        self._sent = self._open.popleft()
        self._sent.builder.close()
        try:
            topic, number = self.partition
            self.in_flight = await self._client.send_batch(self._sent.builder, topic, partition=number)
            # The client has no public name for it.
            self._message_batch = self._client._message_accumulator._batches[self.partition][-1]
        except Exception as error:  # noqa: BLE001 - the waiters raise every kind
            self.fail(error)
            self._sent, self._busy = None, False
            return None
        self.in_flight.add_done_callback(self._on_answer)
        return self.in_flight

    def fail(self, error: BaseException) -> None:
        """Fail all batches: sent again, one of them would be stored after records that came later.

        Whether the one that was sent is stored is unknown.
        """
        for batch in self._open if self._sent is None else (self._sent, *self._open):
            batch.fail(error)
        self._open.clear()

    def _on_answer(self, in_flight: asyncio.Future[RecordMetadata]) -> None:
        assert self._sent is not None
        self.in_flight = None
        if in_flight.cancelled():
            self.fail(ProducerClosed())
        elif (error := in_flight.exception()) is None:
            self.acknowledged_at = self._loop.time()
            self._sent.done(in_flight.result().offset)
        elif isinstance(error, REFUSALS):
            self._on_refusal(self._sent, error)
        else:
            self.fail(error)
        self._sent = None
        self._busy = bool(self._open)
        if self._busy:
            self._queue(self)

    def _on_refusal(self, batch: _Batch, error: KafkaError) -> None:
        """Fail a batch that the broker refused, or let its records go again in two batches."""
        assert self._message_batch is not None
        if self._message_batch.retry_count > 1:
            self.fail(MaybeStored(str(error)))
            return
        if (manager := self._client._txn_manager) is not None:
            # aiokafka 0.14 leaves a gap in the sequence numbers, for which the broker would refuse all later records.
            manager.increment_sequence_number(self.partition, -batch.count)
        if batch.is_waited_for_as_a_whole:
            self.fail(error)
        elif batch.count > 1 and isinstance(error, _REFUSALS_OF_A_RECORD):
            first, second = (_Batch(self._client.create_batch(), batch.leaves_at) for _ in range(2))
            batch.split(first, second)
            self._open.extendleft((second, first))
        else:
            batch.fail(error)


class _BrokerQueue:
    """The requests to one broker, one at a time, each with a batch of every partition that has one."""

    def __init__(self) -> None:
        self.sending: asyncio.Task[None] | None = None
        self._partition_queues: list[_PartitionQueue] = []

    def queue(self, queue: _PartitionQueue) -> None:
        """Let the next batch of a partition go with the next request."""
        self._partition_queues.append(queue)
        if self.sending is None:
            self.sending = asyncio.create_task(self._send())

    async def _send(self) -> None:
        loop = asyncio.get_running_loop()
        while self._partition_queues:
            if (seconds := self._partition_queues[0].leaves_at - loop.time()) > 0:
                await asyncio.sleep(seconds)
            queues, self._partition_queues = self._partition_queues, []
            sent = [future for queue in queues if (future := await queue.submit()) is not None]
            if sent:
                # They are answered together, except those that the client retries. If it retries all of them, as for
                # a partition without enough replicas, other partitions wait for that only so long.
                await asyncio.wait(sent, timeout=_OTHERS_WAIT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
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
    """Open a producer for the lifetime of a process; at the end, records that still wait are sent."""
    client = AIOKafkaProducer(
        **settings.client_options(),
        client_id=client_id,
        acks="all",
        enable_idempotence=settings.kafka_idempotent,
        request_timeout_ms=int(request_timeout_seconds * 1000),
        max_batch_size=256 * 1024,
    )
    give_up_silent_brokers(client.client)
    producer = Producer(client, linger_ms / 1000, request_timeout_seconds)
    try:
        await start_client(client.start())
        yield producer
    finally:
        try:
            await producer.finish()
        finally:
            await client.stop()
