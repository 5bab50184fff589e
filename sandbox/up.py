"""Runs the whole system in the foreground until Ctrl-C or SIGTERM."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import typer

from sandbox import days_ahead, kafka, postgres, tansu
from sandbox.brokers import Broker
from sandbox.spawning import StartFailed
from sandbox.system import ONE_OF_EACH, FolderInUse, Plan, System, report

#: The exit status of a program that was interrupted before it had done its work.
INTERRUPTED = 130


def up(
    *, port: int, data: Path, broker: Broker, workers: int, brokers: int = 1, standby: bool = False, ahead: int = 0
) -> int:
    """Run everything until Ctrl-C or SIGTERM; return the exit status.

    `data` is the folder of all data, `workers` the number of reservations workers, `brokers` that of Kafka's, and the
    clock is `ahead` days ahead. With a `standby` the database has a second server.
    Raises typer.Exit when this machine can run no broker, no PostgreSQL, or cannot move the clock.
    """
    if ahead:
        give_up_for(days_ahead.unavailable() or days_ahead.others_servers())
    possible = possible_broker(broker)
    if ahead and possible is Broker.TANSU:
        give_up_for("--days-ahead needs Kafka: Tansu keeps nothing from before its start.")
    if brokers > 1 and possible is Broker.TANSU:
        give_up_for("--brokers needs Kafka: Tansu is a single process.")
    if standby and "DATABASE_URL" in os.environ:
        give_up_for("--standby needs the sandbox's own database: unset DATABASE_URL.")
    plan = Plan(
        folder=data,
        broker=possible.value,
        brokers=brokers,
        standby=standby,
        workers={**ONE_OF_EACH, "reservations": workers},
        port=port,
        days_ahead=ahead,
    )
    return asyncio.run(in_foreground(System(plan), print_and_stay))


async def print_and_stay(system: System) -> int:
    """Print `ready URL` and stay up."""
    print(f"ready {system.url}", flush=True)
    await asyncio.Event().wait()
    return 0


async def in_foreground(system: System, work: Callable[[System], Awaitable[int]], *, interrupted: int = 0) -> int:
    """Start the system, do the work, stop all of it; the exit status.

    Ctrl-C and SIGTERM end the start or the work, with the status `interrupted`: success, where
    staying up was all that was left to do. A part that cannot start is reported on stderr, and the
    status is 1.
    """

    async def start_and_work() -> int:
        await system.start()
        return await work(system)

    working = asyncio.create_task(start_and_work())
    for how in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(how, working.cancel)
    try:
        return await working
    except asyncio.CancelledError:
        return interrupted
    except (StartFailed, FolderInUse, days_ahead.ClockCannotMove) as failure:
        report(str(failure))
        return 1
    finally:
        report("stopping")
        await system.stop()


def possible_broker(wanted: Broker, *, own_servers: bool = False) -> Broker:
    """Return the broker that this machine can run, with a line on stderr when it is not the wanted one.

    `own_servers` also where KAFKA_URL and DATABASE_URL name others. Raises typer.Exit when it can run none, or no
    PostgreSQL.
    """
    given = set() if own_servers else os.environ.keys()
    if "DATABASE_URL" not in given:
        give_up_for(postgres.available())
    if "KAFKA_URL" in given:
        return wanted
    if wanted is Broker.KAFKA:
        reason = kafka.available()
        if reason is None:
            return Broker.KAFKA
        report(f"{reason} Tansu is used instead: it keeps everything in memory, so that bookings")
        report("made now are lost at the end. It is for a first try, and outside all guarantees.")
    give_up_for(tansu.available())
    return Broker.TANSU


def give_up_for(reason: str | None) -> None:
    """End the program with the reason on stderr; do nothing when there is none. Raises typer.Exit."""
    if reason is not None:
        report(reason)
        raise typer.Exit(1)
