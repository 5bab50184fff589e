"""One worker's process, from its settings until it is told to stop."""

import asyncio
import contextlib
import gc
import signal
from collections.abc import Callable, Coroutine
from importlib import import_module
from typing import Any

import uvloop

import telemetry
from storage.settings import DatabaseSettings
from telemetry.settings import TelemetrySettings
from topics.kafka.settings import KafkaSettings, refused_in_words
from workers.runtime.empty_ledger import check_ledger
from workers.runtime.log_source import wait_for_topics
from workers.runtime.role import Role, Stopped
from workers.runtime.stopping import stop_hard


def run(role: str, name: str | None = None) -> None:
    """Run one worker of a role until SIGTERM or Ctrl-C; only this role is imported.

    `name`: stable, and unique among the workers of the role.
    """
    if role == "expiry":
        from workers.expiry import run as run_timer

        _be_seen(role, name)
        uvloop.run(_until_terminated(run_timer(*_settings(), name=name or role)))
    else:
        _run(role, import_module(f"workers.{role}").build, name)


async def _until_terminated(work: Coroutine[Any, Any, None]) -> None:
    """Run until SIGTERM or Ctrl-C, and let the work tidy up."""
    task = asyncio.ensure_future(work)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task


def _run(part: str, build: Callable[[KafkaSettings, DatabaseSettings], Role], name: str | None) -> None:
    """Run a role's agent until SIGTERM or Ctrl-C."""
    # Who only asks something does not wait for Faust to be loaded.
    import faust

    from workers.runtime.agent import build_app

    _be_seen(part, name)
    kafka, database = _settings()
    role = build(kafka, database)
    try:
        # Faust itself gives up when there is no broker at its start.
        asyncio.run(wait_for_topics(kafka, role.topics, kafka.group(role.name)))
        asyncio.run(check_ledger(kafka, database))
    except Stopped as error:
        stop_hard(error)
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    app = build_app(role, kafka, database, name)
    worker = faust.Worker(app, loglevel="WARNING", override_logging=False, redirect_stdouts=False, quiet=True)
    worker.spinner = None
    _collect_garbage_seldom()
    worker.execute_from_commandline()


def _settings() -> tuple[KafkaSettings, DatabaseSettings]:
    with refused_in_words():
        return KafkaSettings(), DatabaseSettings()


def _collect_garbage_seldom() -> None:
    """Leave what was imported alone and look for cycles seldom: batches make many short-lived values, and no cycles."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def _be_seen(part: str, name: str | None) -> None:
    """Log to stderr, and be measured and traced as far as the settings say."""
    with refused_in_words():
        settings = TelemetrySettings()
    telemetry.start(settings, part, name or part)
