"""Starts and stops Kafka clients so that no connection is left open.

aiokafka 0.14's `bootstrap` closes its first connection after Kafka's errors and timeouts, but not when it is cancelled
while it waits for metadata; and no later `stop` knows that connection. A consumer's `stop` cancels fetches and awaits
them: one that failed, and sleeps before the next, ends `stop` with a CancelledError before it closes the connections.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, Final

from aiokafka import AIOKafkaConsumer

_MAX_START_SECONDS: Final = 5.0


async def start_client(start: Coroutine[Any, Any, object]) -> None:
    """Await a client's start; when cancelled, let the start come to its end first, within some seconds."""
    starting = asyncio.ensure_future(start)
    try:
        await asyncio.shield(starting)
    except asyncio.CancelledError:
        await asyncio.wait([starting], timeout=_MAX_START_SECONDS)
        if not starting.cancel():
            # The caller is cancelled, so its failure is dropped.
            starting.exception()
        raise


async def stop_consumer(consumer: AIOKafkaConsumer) -> None:
    """Stop a consumer and close its connections; a CancelledError is raised only if the caller is cancelled."""
    try:
        await consumer.stop()
    except asyncio.CancelledError:
        await consumer._client.close()  # noqa: SLF001 - `stop` has ended before this, and does nothing a second time
        caller = asyncio.current_task()
        if caller is None or caller.cancelling():
            raise
