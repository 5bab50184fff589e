"""`python -m benchmarks.search.service`: our own operation, answered by one SQL query a search.

The same routes, checks, answers and connections as our ingress has; only the code that finds the hotels is another.
"""

import asyncio
import gc
import signal
from typing import Annotated, Final

import typer
import uvloop
from aiohttp import web

from benchmarks.search.reference import Reference
from ingress.database import Database
from ingress.hotels.search.handlers import Search
from ingress.http.connections import Runner
from ingress.http.problems import answer_problems
from ingress.operations import routes_of
from ingress.settings import IngressSettings
from ingress.tokens import Tokens
from storage.settings import DatabaseSettings

READY_LINE: Final = "the SQL search is ready"
_BACKLOG: Final = 1024


def main(port: Annotated[int, typer.Option(help="The port to listen at.")]) -> None:
    """Answer searches from DATABASE_URL until a signal ends it."""
    uvloop.run(_serve(port))


async def _serve(port: int) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    settings = IngressSettings()
    pool = Database(DatabaseSettings(), pool_size=settings.database_pool_size)
    app = web.Application(middlewares=[answer_problems])
    app.add_routes(routes_of([Search(Reference(pool))], Tokens(settings), limits=None))
    runner = Runner(app, drain_seconds=1.0)
    await runner.setup()
    gc.collect()
    gc.freeze()
    try:
        await web.TCPSite(runner, "127.0.0.1", port, backlog=_BACKLOG).start()
        print(READY_LINE, flush=True)
        await stopped.wait()
    finally:
        await runner.cleanup()
        await pool.close()


if __name__ == "__main__":
    typer.run(main)
