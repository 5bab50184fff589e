"""`python -m workers pause`, `resume`, `paused`: an operator holds a role, on all machines at once."""

# ruff: noqa: FBT002 - an option without a value is a bool, and typer passes it by name

import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from enum import StrEnum
from typing import Annotated, Final, TypeVar

import typer

from topics import pauses
from topics.console import Json, Yes, err, fail, kafka_settings, ledger, out, run
from topics.operators import By, who
from topics.pauses import Connection

T = TypeVar("T")


class Pausable(StrEnum):
    """The roles that can be held."""

    RESERVATIONS = "reservations"
    PAYMENTS = "payments"
    PROJECTIONS = "projections"
    EXPIRY = "expiry"


_MEANWHILE: Final = {
    Pausable.RESERVATIONS: "bookings are still accepted, and none of them is decided",
    Pausable.PAYMENTS: "no Checkout Session is opened or closed, nothing is refunded, and webhooks wait on the log",
    Pausable.PROJECTIONS: "search, timelines and reports stay as they are",
    Pausable.EXPIRY: "holds whose time is over keep their rooms, and no nights go on sale",
}

_NOT_DONE: Final = "Nothing was done: add --yes to do it."

RoleName = Annotated[Pausable, typer.Argument(metavar="ROLE", help=f"One of {', '.join(Pausable)}.")]


def pause_command(
    role: RoleName,
    reason: Annotated[str | None, typer.Option(metavar="TEXT", help="Why; whoever looks is told.")] = None,
    by: By = None,
    yes: Yes = False,
) -> None:
    """Hold every process of a role: it finishes what it does and begins nothing new, within a second, until `resume`.

    The processes keep their partitions, and a restart changes nothing. What waits stays on the log, in order.
    """
    err.print(f"Until `python -m workers resume {role}`: {_MEANWHILE[role]}.")
    if not yes:
        fail(_NOT_DONE)

    async def begin(connection: Connection) -> str:
        made = await pauses.begin(connection, role, who=who(by), reason=reason)
        pause = await pauses.of(connection, role)
        return f"{pause}." if made else f"{pause}; nothing was changed."

    err.print(_asked(begin), markup=False)


def resume_command(role: RoleName, by: By = None, yes: Yes = False) -> None:
    """Let every process of a role go on where it stood, within a second."""
    err.print(f"All processes of {role} go on where they stood.")
    if not yes:
        fail(_NOT_DONE)

    async def end(connection: Connection) -> str:
        return f"{role} goes on." if await pauses.end(connection, role, who=who(by)) else f"{role} was not paused."

    err.print(_asked(end), markup=False)


def paused_command(as_json: Json = False) -> None:
    """Tell which roles are paused, since when, by whom and why."""
    for pause in _asked(pauses.listed):
        if as_json:
            out.print(json.dumps({**asdict(pause), "at": pause.at.isoformat()}, ensure_ascii=False), markup=False)
        else:
            out.print(f"{pause}.", markup=False)


def register(cli: typer.Typer) -> None:
    """Add the commands to the workers' own."""
    cli.command("pause")(pause_command)
    cli.command("resume")(resume_command)
    cli.command("paused")(paused_command)


def _asked(work: Callable[[Connection], Awaitable[T]]) -> T:
    async def ask() -> T:
        async with ledger() as connection:
            return await work(connection)

    return run(ask(), kafka_settings())
