"""Starts Kafka clients so that whoever stops meanwhile leaves no connection half open."""

import asyncio
from collections.abc import Coroutine
from typing import Any, Final

_MAX_START_SECONDS: Final = 5.0


async def started(start: Coroutine[Any, Any, object]) -> None:
    """Await a client's start. When that is cancelled the start comes to its end first, within some seconds.

    The client knows nothing of a connection that it is just opening, and so its `stop` would leave that behind.
    """
    starting = asyncio.ensure_future(start)
    try:
        await asyncio.shield(starting)
    except asyncio.CancelledError:
        await asyncio.wait([starting], timeout=_MAX_START_SECONDS)
        if not starting.cancel():
            # Nobody is there any more to be told why it failed.
            starting.exception()
        raise
