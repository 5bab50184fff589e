"""Takes all waiting events from a Faust stream, as soon as there is one, without acknowledging them.

Faust's own `noack_take` does the same by polling every few milliseconds, which takes 4 % of a core of an idle worker.
"""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, Final

#: The first event waits so long for the others of its fetch, which arrive one after the other.
_LINGER_SECONDS: Final = 0.001
#: It waits so long after the end of the batch before it, so that batches grow with the load.
_BUSY_LINGER_SECONDS: Final = 0.002


async def take_waiting(stream: Any) -> AsyncGenerator[list[Any], None]:
    """Yield lists of events, never an empty one, until the stream stops; the caller acknowledges each event.

    While the caller works on a list, later events wait in the stream's buffer, which is bounded.
    """
    clock = asyncio.get_running_loop().time
    waiting: list[Any] = []
    arrived, is_open = asyncio.Event(), asyncio.Event()

    async def add(value: Any) -> Any:
        await is_open.wait()
        waiting.append(stream.current_event)
        arrived.set()
        return value

    stream.add_processor(add)
    # Faust's drainer reads the stream, and so calls the processors.
    stream._enable_passive(aiter(stream.channel))  # noqa: SLF001 - as `noack_take` does; there is no public way
    ended_at = 0.0
    while not stream.should_stop:
        is_open.set()
        await stream.wait_for_stopped(arrived)
        if waiting:
            await asyncio.sleep(max(_LINGER_SECONDS, ended_at + _BUSY_LINGER_SECONDS - clock()))
            is_open.clear()
            arrived.clear()
            taken, waiting[:] = waiting[:], []
            yield taken
            ended_at = clock()
