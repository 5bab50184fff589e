"""`python -m benchmarks.search.service`: our own operation, answered by one SQL query a search.

Routes, checks, responses and connections are those of our ingress; only the code that finds the hotels differs.
"""

from typing import Annotated, Final

import typer
import uvloop
from aiohttp import web

from benchmarks.search.reference import Reference
from benchmarks.serving import serve
from ingress.database import Database
from ingress.hotels.search.handlers import Search
from ingress.http.connections import Runner
from ingress.http.problems import answer_problems
from ingress.operations import routes_of
from ingress.rates.exchange_rates import ExchangeRates
from ingress.settings import IngressSettings
from ingress.tokens import Tokens
from storage.settings import DatabaseSettings

READY_LINE: Final = "the SQL search is ready"


def main(port: Annotated[int, typer.Option(help="The port to listen at.")]) -> None:
    """Answer searches from DATABASE_URL until a signal ends it."""
    uvloop.run(_serve(port))


async def _serve(port: int) -> None:
    settings = IngressSettings()
    pool = Database(DatabaseSettings(), pool_size=settings.database_pool_size)
    app = web.Application(middlewares=[answer_problems])
    app.add_routes(routes_of([Search(Reference(pool), ExchangeRates(""))], Tokens(settings), limits=None))
    try:
        await serve(Runner(app, drain_seconds=1.0), port, READY_LINE)
    finally:
        await pool.close()


if __name__ == "__main__":
    typer.run(main)
