"""One worker's process, from its settings until SIGTERM or Ctrl-C."""

import asyncio
import contextlib
import signal
from collections.abc import Callable, Coroutine
from importlib import import_module
from typing import Any

import uvloop

import telemetry
from storage.settings import DatabaseSettings
from telemetry import garbage
from telemetry.settings import TelemetrySettings
from topics.catalogue import BOOKING_EVENTS, CATALOGUE, Service, Topic
from topics.kafka.settings import KafkaSettings, exit_on_invalid_settings
from workers.runtime.empty_ledger import check_ledger
from workers.runtime.process_names import wait_for_name
from workers.runtime.role import Role, Stopped
from workers.runtime.stopping import stop_hard
from workers.runtime.topics_ready import wait_for_topics


def run(role: str, name: str | None = None) -> None:
    """Run one worker of a role until SIGTERM or Ctrl-C; only this role is imported.

    `name`: stable, and unique among the workers of the role.
    """
    if role == "expiry":
        from workers.expiry import run as run_timer

        _start_telemetry(role, name)
        kafka, database = _settings()
        _run_without_group(role, kafka, database, lambda: run_timer(kafka, database, name=name or role))
    elif role == "reconciliation":
        from workers.reconciliation.role import run as run_reconciliation
        from workers.reconciliation.settings import ReconciliationSettings

        _start_telemetry(role, name)
        kafka, database = _settings()
        with exit_on_invalid_settings():
            own = ReconciliationSettings()
        _run_without_group(role, kafka, database, lambda: run_reconciliation(kafka, database, own, name=name or role))
    else:
        _run(role, import_module(f"workers.{role}").build, name)


def topics_of(role: str) -> list[Topic]:
    """Return the topics that a role needs: those that it reads or writes, and the log of events.

    No role works beside a log that is only half there: reservations would write behind it, and expiry and
    reconciliation would send commands that no worker can decide.
    """
    service = Service(role)
    return [topic for topic in CATALOGUE if topic is BOOKING_EVENTS or service in (*topic.read_by, *topic.written_by)]


async def wait_until_ready(kafka: KafkaSettings, database: DatabaseSettings, role: str, group: str | None) -> None:
    """Wait until broker and database answer, and the broker has the role's topics; None: the role has no group.

    Raises:
        Stopped: an operator must act before a worker may start.
    """
    await wait_for_topics(kafka, topics_of(role), group)
    await check_ledger(kafka, database)


def _run_without_group(
    role: str, kafka: KafkaSettings, database: DatabaseSettings, work: Callable[[], Coroutine[Any, Any, None]]
) -> None:
    """Run a role that reads no topic as a member of a group, until SIGTERM or Ctrl-C."""

    async def run_when_ready() -> None:
        await wait_until_ready(kafka, database, role, None)
        await work()

    try:
        uvloop.run(_run_until_terminated(run_when_ready()))
    except Stopped as error:
        stop_hard(error)


async def _run_until_terminated(work: Coroutine[Any, Any, None]) -> None:
    """Run until SIGTERM or Ctrl-C, then cancel the work and wait until it has tidied up."""
    task = asyncio.ensure_future(work)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task


def _run(part: str, build: Callable[[KafkaSettings, DatabaseSettings], Role], name: str | None) -> None:
    """Run a role's agent until SIGTERM or Ctrl-C."""
    # Faust takes most of a second to load, and neither `--help` nor the roles without an agent need it.
    import faust

    from workers.runtime.agent import build_app

    _start_telemetry(part, name)
    kafka, database = _settings()
    role = build(kafka, database)
    try:
        # Faust itself gives up when no broker answers at its start.
        asyncio.run(wait_until_ready(kafka, database, role.name, kafka.group(role.name)))
        if name is not None:
            asyncio.run(wait_for_name(kafka, database, role.name, name))
    except Stopped as error:
        stop_hard(error)
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    app = build_app(role, kafka, database, name)
    worker = faust.Worker(app, loglevel="WARNING", override_logging=False, redirect_stdouts=False, quiet=True)
    worker.spinner = None
    garbage.collect_seldom()
    worker.execute_from_commandline()


def _settings() -> tuple[KafkaSettings, DatabaseSettings]:
    with exit_on_invalid_settings():
        return KafkaSettings(), DatabaseSettings()


def _start_telemetry(part: str, name: str | None) -> None:
    """Start logs on stderr, metrics and traces by the settings."""
    with exit_on_invalid_settings():
        settings = TelemetrySettings()
    telemetry.start(settings, part, name or part)
