"""`python -m benchmarks.row_locks`: runs the baseline until a signal ends it."""

import asyncio
import gc
import signal
from typing import Annotated

import typer
import uvloop
from aiohttp import web

from benchmarks.row_locks.service import create_app
from ingress.settings import IngressSettings
from storage.settings import DatabaseSettings

READY_LINE = "row locks ready"
_BACKLOG = 1024


def main(port: Annotated[int, typer.Option(help="The port to listen at.")]) -> None:
    """Book rooms by row locks: DATABASE_URL names a migrated database, JWT_SECRET_KEY signs the tokens."""
    uvloop.run(_serve(port))


async def _serve(port: int) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    app = create_app(IngressSettings(), DatabaseSettings())
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    gc.collect()
    gc.freeze()
    try:
        await web.TCPSite(runner, "127.0.0.1", port, backlog=_BACKLOG).start()
        print(READY_LINE, flush=True)
        await stopped.wait()
    finally:
        await runner.cleanup()


if __name__ == "__main__":
    typer.run(main)
