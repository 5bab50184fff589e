"""Runs the whole system in the foreground until Ctrl-C or SIGTERM."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from sandbox import folders, kafka, postgres, tansu
from sandbox.spawning import StartFailed
from sandbox.system import ONE_OF_EACH, FolderInUse, Plan, System, report

#: The exit status of a program that was interrupted before it had done its work.
INTERRUPTED = 130


class Broker(StrEnum):
    """The program that carries the log."""

    KAFKA = "kafka"
    TANSU = "tansu"


def up(
    port: Annotated[int, typer.Option(help="The ingress' port.")] = 8080,
    data: Annotated[
        Path, typer.Option(help="The folder of all data.", show_default=".sandbox/up of the checkout")
    ] = folders.STATE / "up",
    broker: Annotated[Broker, typer.Option(help="The broker; Tansu keeps nothing.")] = Broker.KAFKA,
    workers: Annotated[int, typer.Option(min=1, help="How many reservations workers.")] = 1,
) -> None:
    """Run everything until Ctrl-C or SIGTERM; print `ready URL` when every part answers.

    Each line of a process is shown after its name, and a process that ends is started again. A restart with the same
    --data finds the bookings again. Exit status: 0 stopped; 1 a part cannot start.
    """
    plan = Plan(
        folder=data,
        broker=possible_broker(broker).value,
        workers={**ONE_OF_EACH, "reservations": workers},
        port=port,
    )
    raise typer.Exit(asyncio.run(in_foreground(System(plan), print_and_stay)))


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
    except (StartFailed, FolderInUse) as failure:
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
