"""Publishes records that a transaction has committed, in order, and retries for as long as it takes."""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import AsyncExitStack

from aiokafka.errors import KafkaError

from telemetry import metrics
from topics.backoff import Backoff
from topics.envelope import Outgoing
from workers.runtime.log import Log, Sender

log = logging.getLogger(__name__)


class Publisher:
    """Has a producer and replaces it when a send fails, so that no newer record can overtake a failed one."""

    def __init__(self, to: Log) -> None:
        self._log = to
        self._stack = AsyncExitStack()
        self._producer: Sender | None = None

    async def publish(self, records: Sequence[Outgoing]) -> None:
        """Return when the broker has acknowledged every record; all of them again after any failure."""
        if not records:
            return
        backoff = Backoff("the broker does not acknowledge committed records")
        while True:
            try:
                producer = self._producer or await self._open()
                await producer.send_all(records)
            except (TimeoutError, KafkaError, OSError) as error:
                metrics.PUBLISH_RETRIES.add()
                await self.close()
                await backoff.wait(error)
            else:
                backoff.reset()
                return

    async def close(self) -> None:
        """Close the producer; records that it had not sent are given up, and published again by the caller."""
        producer, self._producer = self._producer, None
        stack, self._stack = self._stack, AsyncExitStack()
        try:
            async with asyncio.timeout(5):
                if producer is not None:
                    # Records that wait in it must not be sent late, after those that are published next.
                    await producer.abandon()
                await stack.aclose()
        except (KafkaError, OSError, TimeoutError) as error:
            log.warning("closing the producer: %r", error)

    async def _open(self) -> Sender:
        self._producer = await self._stack.enter_async_context(self._log.open_sender())
        return self._producer
