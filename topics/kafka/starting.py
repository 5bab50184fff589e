"""Starts Kafka clients so that a cancelled start leaves no connection open.

aiokafka 0.14's `bootstrap` closes its first connection after Kafka's errors and timeouts, but not when it is cancelled
while it waits for metadata; and no later `stop` knows that connection.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, Final

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
