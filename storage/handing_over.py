"""Commands about the ledger whose truth is the workers': they are found here, and carried out there.

What an event does to a booking, or a word of Stripe's to what is owed, only the workers know, and storage imports
nothing of theirs. So the process becomes another one.
"""

import os
import sys
from collections.abc import Callable
from typing import Final, NoReturn

import typer

#: Everything after the command's name is for the other program, `--help` too.
_PASSED_ON: Final = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def register(app: typer.Typer) -> None:
    """Add the commands."""
    _add(app, "restore", "workers.restoring", "Make the ledger anew out of booking.events, into an empty database.")
    _add(app, "reconcile", "workers.reconciling", "Compare the money at Stripe with the bookings, one by one (I4).")


def _add(app: typer.Typer, name: str, module: str, help: str) -> None:
    app.command(name, help=help, context_settings=_PASSED_ON)(_becoming(module))


def _becoming(module: str) -> Callable[[typer.Context], None]:
    def become(context: typer.Context) -> NoReturn:
        os.execv(sys.executable, [sys.executable, "-m", module, *context.args])  # noqa: S606 - our own program.

    return become
