"""The one way records get onto the log: an idempotent producer that waits for the broker's acknowledgement."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaProducer
from aiokafka.errors import ProducerClosed
from aiokafka.structs import RecordMetadata

from topics.envelope import Outgoing
from topics.settings import KafkaSettings


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

    def abandon(self) -> None:
        """Give up at once: what was not sent yet never will be, and everybody who waits gets an error.

        What is on its way to the broker may still arrive. Nothing can be sent afterwards.
        """
        # aiokafka has no public word for this: an idempotent producer of its own would try again for ever.
        waiting = self._client._message_accumulator  # noqa: SLF001
        waiting.fail_all(ProducerClosed())
        waiting._batches.clear()  # noqa: SLF001
        sending = self._client._sender.sender_task  # noqa: SLF001
        if sending is not None:
            sending.cancel()

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
        bootstrap_servers=settings.kafka_url,
        client_id=client_id,
        acks="all",
        enable_idempotence=settings.kafka_idempotent,
        linger_ms=linger_ms,
        request_timeout_ms=int(request_timeout_seconds * 1000),
        max_request_size=8 * 1024 * 1024,
        max_batch_size=256 * 1024,
    )
    try:
        await client.start()
        yield Producer(client)
    finally:
        await client.stop()
