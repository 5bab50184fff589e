"""Options that several commands share, and the settings that every command group shares."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Final, TypeAlias

import typer

#: For commands that hand their arguments, `--help` included, to the command line of another package.
PASSES_ON: Final[Mapping[str, Any]] = {
    "allow_extra_args": True,
    "ignore_unknown_options": True,
    "help_option_names": [],
}

Json: TypeAlias = Annotated[bool, typer.Option("--json", help="One JSON object a line, for programs.")]
Yes: TypeAlias = Annotated[
    bool, typer.Option("--yes", help="Do it. Without it: print the plan, and end with exit status 1.")
]
#: The option of every command that changes something.
By: TypeAlias = Annotated[
    str | None, typer.Option("--by", metavar="NAME", help="The operator's name for the record; else the login name.")
]


class Role(StrEnum):
    """The roles of workers."""

    RESERVATIONS = "reservations"
    PAYMENTS = "payments"
    PROJECTIONS = "projections"
    EXPIRY = "expiry"
    COORDINATION = "coordination"
    RECONCILIATION = "reconciliation"


def group(help: str) -> typer.Typer:
    """Return a group to which a module adds its commands."""
    return typer.Typer(
        help=help,
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode="markdown",
        pretty_exceptions_enable=False,
    )


def examples(*lines: str) -> str:
    """Return the last part of a command's help; each line is a whole command."""
    return "\n".join(["**Examples**", "", *(f"- `{line}`" for line in lines)])
