"""Serves an HTTP application of a benchmark until a signal ends the process."""

import asyncio
import signal
from typing import Final

from aiohttp import web

from telemetry import garbage

_BACKLOG: Final = 1024


async def serve(runner: web.BaseRunner, port: int, ready_line: str) -> None:
    """Listen at the port of 127.0.0.1, print the line on stdout, and return when SIGTERM or SIGINT comes."""
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    await runner.setup()
    # As in the ingress.
    garbage.collect_seldom()
    try:
        await web.TCPSite(runner, "127.0.0.1", port, backlog=_BACKLOG).start()
        print(ready_line, flush=True)
        await stopped.wait()
    finally:
        await runner.cleanup()
