"""One ingress process, from its settings until SIGTERM or Ctrl-C."""

import asyncio
import logging
import os
import signal
import sys

import uvloop
from aiohttp import web

import telemetry
from ingress.application import create_app
from ingress.http.connections import Runner
from ingress.log.broker import WrongTopics
from ingress.settings import IngressSettings
from storage.settings import DatabaseSettings
from telemetry import garbage
from telemetry.settings import TelemetrySettings
from topics.kafka.settings import KafkaSettings, exit_on_invalid_settings

log = logging.getLogger("ingress")

_DRAIN_SECONDS = 10.0
_BACKLOG = 1024


def run(*, host: str, port: int, name: str) -> int:
    """Take bookings over HTTP until SIGTERM or Ctrl-C; return the exit status.

    `port` 0 takes a free one. A wrong setting ends the process with a sentence and status 78.
    """
    settings, kafka, database = _settings()
    with exit_on_invalid_settings():
        telemetry.start(TelemetrySettings(), "ingress", name)
    # aiokafka logs every failed attempt as an error of its own; the ingress logs the outcome.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    return uvloop.run(_serve(settings, kafka, database, host, port))


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
            log.critical("stopped by an unexpected error", exc_info=error)
            stop(os.EX_SOFTWARE)

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop, os.EX_OK)
    app = create_app(settings, kafka, database, failed=failed)
    runner = Runner(app, drain_seconds=_DRAIN_SECONDS)
    await runner.setup()
    garbage.collect_seldom()
    try:
        await web.TCPSite(runner, host, port, backlog=_BACKLOG).start()
        bound_host, bound_port = runner.addresses[0][:2]
        log.info("listening at http://%s:%s", bound_host, bound_port)
        return await stopped
    finally:
        log.info("stopping")
        await runner.cleanup()


def _settings() -> tuple[IngressSettings, KafkaSettings, DatabaseSettings]:
    """Read the settings; a wrong one ends the process with a sentence that contains no value."""
    with exit_on_invalid_settings():
        settings, kafka, database = IngressSettings(), KafkaSettings(), DatabaseSettings()
    try:
        settings.refuse_default_database(database)
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(os.EX_CONFIG)
    return settings, kafka, database
