"""Starts one worker of a role: `python -m workers reservations`."""

import asyncio
import contextlib
import gc
import signal
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

import typer
import uvloop

from storage.settings import DatabaseSettings
from topics import telemetry
from topics.settings import KafkaSettings, refused_in_words
from topics.telemetry.settings import TelemetrySettings
from workers import holding
from workers.empty_ledger import check_ledger
from workers.explaining import explain_command
from workers.log_source import wait_for_topics
from workers.role import Role, Stopped
from workers.stopping import stop_hard

Name = Annotated[
    str | None,
    typer.Option(
        help="A stable name, unique among the workers of the role: the broker then waits for this one to come back"
        " after a crash instead of handing its partitions on."
    ),
]
cli = typer.Typer(
    help="Workers: they read the log, decide, and keep the ledger. Several of a role may run at once, anywhere.",
    no_args_is_help=True,
    add_completion=False,
)


@cli.command()
def reservations(name: Name = None) -> None:
    """Decide every command about a room, one at a time, and keep bookings and inventory."""
    from workers.reservations import build

    _run("reservations", build, name)


@cli.command()
def payments(name: Name = None) -> None:
    """Open and close Checkout Sessions, turn Stripe's webhooks into commands, refund what must go back."""
    from workers.payments import build

    _run("payments", build, name)


@cli.command()
def projections(name: Name = None) -> None:
    """Keep the read models: booking timelines, nights and hotels' lowest prices, daily reports."""
    from workers.projections import build

    _run("projections", build, name)


@cli.command()
def expiry(name: Name = None) -> None:
    """End holds whose time is over, and keep a year of nights on sale; one of several does it, the others stand by."""
    from workers.expiry import run

    _be_seen("expiry", name)
    uvloop.run(_until_terminated(run(*_settings(), name=name or "expiry")))


holding.register(cli)
cli.command("explain")(explain_command)


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

    from workers.agent import build_app

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


if __name__ == "__main__":
    cli()
