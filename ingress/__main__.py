"""`python -m ingress`: runs one ingress process until it is told to stop."""

import asyncio
import gc
import logging
import os
import signal
import sys
from typing import Annotated

import typer
import uvloop
from aiohttp import web
from pydantic import ValidationError

from ingress.application import create_app
from ingress.broker import WrongTopics
from ingress.connections import Runner
from ingress.settings import IngressSettings
from storage.settings import DatabaseSettings
from topics.settings import KafkaSettings

log = logging.getLogger("ingress")

_DRAIN_SECONDS = 10.0
_BACKLOG = 1024


def main(
    port: Annotated[int, typer.Option(help="The port; 0 takes a free one.")] = 8080,
    host: Annotated[str, typer.Option(help="The address to listen at.")] = "127.0.0.1",
    name: Annotated[str, typer.Option(help="How this process calls itself in its log.")] = "ingress",
) -> None:
    """Take bookings over HTTP and put them on the log.

    Starts without broker and database and looks for them until they are there (/health/ready tells). SIGTERM and Ctrl-C
    let what was begun come to its end. Settings come from the environment: .env.example lists them.
    """
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format=f"%(asctime)s {name} %(levelname)s %(message)s")
    # The client's own complaints about a broker that is away say nothing that ours do not.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    settings, kafka, database = _settings()
    raise typer.Exit(uvloop.run(_serve(settings, kafka, database, host, port)))


async def _serve(
    settings: IngressSettings, kafka: KafkaSettings, database: DatabaseSettings, host: str, port: int
) -> int:
    stopped: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def stop(status: int) -> None:
        if not stopped.done():
            stopped.set_result(status)

    def failed(error: BaseException) -> None:
        if isinstance(error, WrongTopics):
            log.critical("%s", error)
            stop(os.EX_CONFIG)
        else:
            log.critical("stopped by what nobody foresaw", exc_info=error)
            stop(os.EX_SOFTWARE)

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop, os.EX_OK)
    app = create_app(settings, kafka, database, failed=failed)
    runner = Runner(app, drain_seconds=_DRAIN_SECONDS)
    await runner.setup()
    # What has been loaded by now stays; the collector need not walk through it again and again.
    gc.collect()
    gc.freeze()
    try:
        await web.TCPSite(runner, host, port, backlog=_BACKLOG).start()
        bound_host, bound_port = runner.addresses[0][:2]
        log.info("listening at http://%s:%s", bound_host, bound_port)
        return await stopped
    finally:
        log.info("stopping")
        await runner.cleanup()


def _settings() -> tuple[IngressSettings, KafkaSettings, DatabaseSettings]:
    """Read the settings; what is wrong with them is said in plain sentences, without a value in them."""
    try:
        settings, kafka, database = IngressSettings(), KafkaSettings(), DatabaseSettings()
        settings.refuse_default_database(database)
    except ValidationError as error:
        for problem in error.errors(include_input=False, include_url=False):
            name = " ".join(str(part).upper() for part in problem["loc"])
            sentence = problem["msg"].removeprefix("Value error, ")
            sys.stderr.write(f"{name}: {sentence}\n" if name else f"{sentence}\n")
        raise typer.Exit(os.EX_CONFIG) from None
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        raise typer.Exit(os.EX_CONFIG) from None
    return settings, kafka, database


if __name__ == "__main__":
    typer.run(main)
