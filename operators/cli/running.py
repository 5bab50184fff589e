"""`innkeeper ingress`, `worker`, `topics`, `migrate`: each runs a part of the house, and imports no other."""

# ruff: noqa: PLC0415 - who runs one part does not wait for the others to be loaded

from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, TypeVar

import typer

Function = TypeVar("Function", bound=Callable[..., None])


class RoleName(StrEnum):
    """The roles of workers."""

    RESERVATIONS = "reservations"
    PAYMENTS = "payments"
    PROJECTIONS = "projections"
    EXPIRY = "expiry"


def _passes_on(command: Function) -> Function:
    """Mark a command that hands its arguments, `--help` included, to the command line of another package."""
    command.passes_on = True  # type: ignore[attr-defined]
    return command


def ingress_command(
    port: Annotated[int, typer.Option(help="The port; 0 takes a free one.")] = 8080,
    host: Annotated[str, typer.Option(help="The address to listen at.")] = "127.0.0.1",
    name: Annotated[str, typer.Option(help="How this process calls itself in its log.")] = "ingress",
) -> None:
    """Take bookings over HTTP and put them on the log.

    Starts without broker and database and looks for them until they are there (/health/ready says so). SIGTERM and
    Ctrl-C let requests that began be answered. Settings come from the environment: .env.example lists them.
    """
    from ingress.process import run

    raise typer.Exit(run(host=host, port=port, name=name))


def worker_command(
    role: Annotated[RoleName, typer.Argument(help="What the worker does.")],
    name: Annotated[
        str | None,
        typer.Option(
            help="A stable name, unique among the workers of the role: the broker then waits for this one to come back"
            " after a crash instead of handing its partitions on."
        ),
    ] = None,
) -> None:
    """Run one worker: it reads the log, decides, and keeps the ledger. Several of a role may run at once, anywhere.

    `reservations` decides every command about a room and keeps bookings and inventory. `payments` opens and closes
    Checkout Sessions, turns Stripe's webhooks into commands, and refunds. `projections` keeps the read models.
    `expiry` ends holds whose time is over and keeps a year of nights on sale; one of several does it.
    """
    from workers.process import run

    run(role, name)


@_passes_on
def topics_command(context: typer.Context) -> None:
    """List, create and check the topics; print schemas and access rights."""
    from topics.__main__ import main

    raise typer.Exit(main(context.args, program="innkeeper topics"))


@_passes_on
def migrate_command(context: typer.Context) -> None:
    """Bring the database to the newest schema."""
    from storage.__main__ import main

    raise typer.Exit(main(["migrate", *context.args], program="innkeeper"))
