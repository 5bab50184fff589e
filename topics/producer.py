"""The one way records get onto the log: an idempotent producer that waits for the broker's acknowledgement."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import ProducerClosed
from aiokafka.structs import RecordMetadata

from topics.envelope import Outgoing
from topics.settings import KafkaSettings
from topics.starting import started


class Producer:
    """Sends records and answers when the broker has them (acks=all)."""

    def __init__(self, client: AIOKafkaProducer) -> None:
        self._client = client

    async def send(self, record: Outgoing) -> RecordMetadata:
        """Produce one record and return where it stands.

        Raises:
            aiokafka.errors.KafkaError: the broker did not acknowledge it; it may or may not stand on the log.
        """
        return await (await self._enqueue(record))

    async def send_all(self, records: Iterable[Outgoing]) -> Sequence[RecordMetadata]:
        """Produce records in order, together, and return where they stand. Raises as `send`."""
        pending = [await self._enqueue(record) for record in records]
        return await asyncio.gather(*pending)

    async def abandon(self) -> None:
        """Give up: everybody who waits gets an error at once, and what was not sent yet never will be.

        Returns when nothing is on its way any more (within the request timeout); what was may have arrived. Nothing can
        be sent afterwards. Without this an idempotent producer, and its end too, waits until there is a broker.
        """
        # aiokafka has no public word for this: it is what its accumulator does when the sender fails, and in this
        # order, so that neither a retry nor the end of the producer finds a batch that is already gone.
        waiting, sender = self._client._message_accumulator, self._client._sender
        waiting._exception = ProducerClosed()
        for batch in (*_unsent(waiting), *waiting._pending_batches):
            for acknowledgement, _ in batch._msg_futures:
                if not acknowledgement.done():
                    acknowledgement.set_exception(ProducerClosed())
        if not sender.sender_task.done():
            sender.sender_task.cancel()
            await asyncio.wait([sender.sender_task])
        waiting._pending_batches.update(_unsent(waiting))
        waiting._batches.clear()
        for batch in tuple(waiting._pending_batches):
            batch.failure(ProducerClosed())
            batch._drain_waiter.exception()

    async def _enqueue(self, record: Outgoing) -> asyncio.Future[RecordMetadata]:
        future: asyncio.Future[RecordMetadata] = await self._client.send(
            record.topic,
            value=record.value,
            key=record.key,
            partition=record.partition,
            timestamp_ms=record.timestamp_ms,
            headers=record.headers,
        )
        return future


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
        linger_ms=linger_ms,
        request_timeout_ms=int(request_timeout_seconds * 1000),
        max_request_size=8 * 1024 * 1024,
        max_batch_size=256 * 1024,
    )
    try:
        await started(client.start())
        yield Producer(client)
    finally:
        await client.stop()
