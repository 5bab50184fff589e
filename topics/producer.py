"""The one way records get onto the log: an idempotent producer that waits for the broker's acknowledgement.

Records of one partition go together, in the order in which they were given: while one batch is on its way the next one
fills. The client's own way of sending single records takes three times as long for each.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from copy import copy
from typing import Any, NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.errors import ProducerClosed
from aiokafka.partitioner import DefaultPartitioner
from aiokafka.producer.message_accumulator import BatchBuilder

from topics.envelope import Outgoing
from topics.settings import KafkaSettings
from topics.starting import started

_MOST_KEYS = 100_000


class Stands(NamedTuple):
    """Where the broker has put a record."""

    topic: str
    partition: int
    offset: int


class Producer:
    """Sends records and answers when the broker has them (acks=all)."""

    def __init__(self, client: AIOKafkaProducer, linger_seconds: float) -> None:
        """Take a client that waits for nobody itself; here a batch waits `linger_seconds` for others to share it."""
        self._client = client
        self._linger_seconds = linger_seconds
        self._lanes: dict[tuple[str, int], _Lane] = {}
        # For a key it is always the same partition, so it is worked out once.
        self._of_key: dict[tuple[str, bytes], _Lane] = {}
        self._choose = DefaultPartitioner()

    async def send(self, record: Outgoing) -> Stands:
        """Produce one record and return where it stands.

        Raises:
            aiokafka.errors.KafkaError: the broker did not acknowledge it; it may or may not stand on the log.
        """
        lane = self._of_key.get((record.topic, record.key)) if record.partition is None else None
        lane = lane or await self._lane(record)
        batch, place = lane.put(record)
        return Stands(lane.topic, lane.partition, await batch.acknowledged() + place)

    async def send_all(self, records: Iterable[Outgoing]) -> Sequence[Stands]:
        """Produce records, those of a partition in order, and return where they stand. Raises as `send`."""
        put = [(lane := await self._lane(record), *lane.put(record)) for record in records]
        batches = list(dict.fromkeys(batch for _, batch, _ in put))
        firsts = await asyncio.gather(*[batch.acknowledged() for batch in batches])
        first_of = dict(zip(batches, firsts, strict=True))
        return [Stands(lane.topic, lane.partition, first_of[batch] + place) for lane, batch, place in put]

    async def finish(self) -> None:
        """Return when everything has been acknowledged or has failed."""
        while sending := [lane.sending for lane in self._lanes.values() if lane.sending is not None]:
            await asyncio.wait(sending)

    async def abandon(self) -> None:
        """Give up: everybody who waits gets an error at once, and what was not sent yet never will be.

        Returns when nothing is on its way any more (within the request timeout); what was may have arrived. Nothing can
        be sent afterwards. Without this an idempotent producer, and its end too, waits until there is a broker.
        """
        # aiokafka has no public word for this: it is what its accumulator does when the sender fails, and in this
        # order, so that neither a retry nor the end of the producer finds a batch that is already gone.
        waiting, sender = self._client._message_accumulator, self._client._sender
        waiting._exception = ProducerClosed()
        for lane in self._lanes.values():
            lane.fail(ProducerClosed())
        if not sender.sender_task.done():
            sender.sender_task.cancel()
            await asyncio.wait([sender.sender_task])
        waiting._pending_batches.update(_unsent(waiting))
        waiting._batches.clear()
        for batch in tuple(waiting._pending_batches):
            batch.failure(ProducerClosed())
            batch._drain_waiter.exception()

    async def _lane(self, record: Outgoing) -> "_Lane":
        """Return the way to the record's partition, which its key chooses if nobody else did."""
        topic, key, _, _, partition, _ = record
        if partition is not None:
            return self._lane_to(topic, partition)
        lane = self._of_key.get((topic, key))
        if lane is None:
            if len(self._of_key) >= _MOST_KEYS:
                self._of_key.clear()
            partitions = sorted(await self._client.partitions_for(topic))
            lane = self._of_key[topic, key] = self._lane_to(topic, self._choose(key, partitions, partitions))
        return lane

    def _lane_to(self, topic: str, partition: int) -> "_Lane":
        lane = self._lanes.get((topic, partition))
        if lane is None:
            lane = self._lanes[topic, partition] = _Lane(self._client, topic, partition, self._linger_seconds)
        return lane


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

    def fail(self, error: Exception) -> None:
        """Tell everybody who waits that nobody knows whether it stands anywhere."""
        for waiter in self._waiters:
            if not waiter.done():
                # Each raises its own, or their tracebacks would become one that grows.
                waiter.set_exception(copy(error))


class _Lane:
    """The way to one partition: batches in order, one on its way at a time; where one fails, so do those behind it."""

    def __init__(self, client: AIOKafkaProducer, topic: str, partition: int, linger_seconds: float) -> None:
        self.topic = topic
        self.partition = partition
        self.sending: asyncio.Task[None] | None = None
        self._client = client
        self._linger_seconds = linger_seconds
        self._loop = asyncio.get_running_loop()
        self._under_way: _Batch | None = None
        self._open: deque[_Batch] = deque()

    def put(self, record: Outgoing) -> tuple[_Batch, int]:
        """Add a record behind those before it; return its batch and its place there."""
        if not self._open or not self._open[-1].add(record):
            batch = _Batch(self._client.create_batch(), self._loop.time() + self._linger_seconds)
            # The first is always taken, however large it is: the broker says what is too large.
            batch.add(record)
            self._open.append(batch)
            if self.sending is None:
                self.sending = self._loop.create_task(self._send())
        batch = self._open[-1]
        return batch, batch.count - 1

    def fail(self, error: Exception) -> None:
        """Let nobody wait any longer."""
        for batch in self._open if self._under_way is None else (self._under_way, *self._open):
            batch.fail(error)

    async def _send(self) -> None:
        while self._open:
            if len(self._open) == 1 and (seconds := self._open[0].leaves_at - self._loop.time()) > 0:
                await asyncio.sleep(seconds)
            self._under_way = self._open.popleft()
            await self._deliver(self._under_way)
            self._under_way = None
        self.sending = None

    async def _deliver(self, batch: _Batch) -> None:
        batch.builder.close()
        try:
            stands: Any = await (await self._client.send_batch(batch.builder, self.topic, partition=self.partition))
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait raise it
            self.fail(error)
            # When it is sent again, nothing that stood behind it may have overtaken it.
            self._open.clear()
        else:
            batch.done(stands.offset)


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
    producer = Producer(client, linger_ms / 1000)
    try:
        await started(client.start())
        yield producer
    finally:
        try:
            await producer.finish()
        finally:
            await client.stop()
