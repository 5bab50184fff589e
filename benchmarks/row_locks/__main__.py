"""`python -m benchmarks.row_locks`: runs the baseline until a signal ends it."""

from typing import Annotated, Final

import typer
import uvloop
from aiohttp import web

from benchmarks.row_locks.service import create_app
from benchmarks.serving import serve
from ingress.settings import IngressSettings
from storage.settings import DatabaseSettings

READY_LINE: Final = "row locks ready"


def main(port: Annotated[int, typer.Option(help="The port to listen at.")]) -> None:
    """Book rooms by row locks: DATABASE_URL names a migrated database, JWT_SECRET_KEY signs the tokens."""
    uvloop.run(_serve(port))


async def _serve(port: int) -> None:
    app = create_app(IngressSettings(), DatabaseSettings())
    await serve(web.AppRunner(app, access_log=None), port, READY_LINE)


if __name__ == "__main__":
    typer.run(main)
