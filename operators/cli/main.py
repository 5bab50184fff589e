"""The command `innkeeper`: each of its commands is imported only when it is invoked or asked for its help."""

import atexit
import gc
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

PROGRAM: Final = "innkeeper"
_OPERATE: Final = "Operate"
_RUN: Final = "Run"
#: A shell that completes a command line sets this variable.
_COMPLETE: Final = "_INNKEEPER_COMPLETE"
#: An operators' command mostly allocates what its imports keep. Python's collector would look through that again and
#: again, for a sixth of the time that the command needs to start.
_ALLOCATIONS_BEFORE_COLLECTION: Final = 100_000
#: Without this variable pydantic looks for plugins in the metadata of every package that is installed; we have none.
_NO_PLUGINS: Final = "PYDANTIC_DISABLE_PLUGINS"


@dataclass(frozen=True, slots=True)
class Entry:
    """A command; `is_group`: all of its app is this command.

    `app` is the name of the Typer app in `module`, or of the function there that imports and returns it.
    """

    module: str
    does: str
    panel: str = _OPERATE
    is_group: bool = False
    app: str = "app"


def _of(module: str) -> str:
    return f"operators.cli.commands.{module}"


#: In the order of `innkeeper --help`.
COMMANDS: Final[Mapping[str, Entry]] = {
    "explain": Entry(_of("explain"), "Show a booking's whole history and its next actions."),
    "tail": Entry(_of("tail"), "Show the records of a topic."),
    "lag": Entry(_of("lag"), "Show how far each consumer is behind the log."),
    "replay": Entry(_of("replay"), "Process a range of the log again."),
    "export": Entry(_of("export"), "Write booking.events to files, one a day."),
    "dead-letters": Entry(_of("dead_letters"), "List, show, replay or discard dead letters.", is_group=True),
    "pause": Entry(_of("pause"), "Pause a role: its processes begin no new batch."),
    "resume": Entry(_of("pause"), "Let a paused role continue."),
    "paused": Entry(_of("pause"), "List the roles that are paused."),
    "audit": Entry(_of("audit"), "Recompute the ledger from the log and compare."),
    "rebuild": Entry(_of("rebuild"), "Rebuild a read model while it serves."),
    "restore": Entry(_of("restore"), "Restore an empty database from the log."),
    "reconcile": Entry(_of("reconcile"), "Compare the money at Stripe with the bookings."),
    "refunds": Entry(_of("refunds"), "List refunds that are not back yet; try or close one.", is_group=True),
    "money": Entry(_of("money"), "Show every movement of a booking's money."),
    "new-generation": Entry(_of("new_generation"), "Continue with a log that was cut or replaced."),
    "actions": Entry(_of("actions"), "List what operators changed."),
    "accounts": Entry(_of("accounts"), "Give an account a role.", is_group=True),
    "ingress": Entry(_of("running"), "Run one ingress process.", _RUN),
    "worker": Entry(_of("running"), "Run one worker of a role.", _RUN),
    "topics": Entry(_of("running"), "List, create and check the topics.", _RUN),
    "migrate": Entry(_of("running"), "Bring the database to the newest schema.", _RUN),
    "sandbox": Entry(_of("running"), "Run the whole system on this machine.", _RUN, is_group=True, app="sandbox_app"),
}


class _LazyGroup(TyperGroup):
    """A group whose commands are not imported where they are only listed: in its help and for completion."""

    _is_listing = False

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - typer passes its context
        """Return the commands' names in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002 - typer passes its context
        """Return a command by its name; while they are listed, one that has a name and a help text alone."""
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        if self._is_listing:
            return TyperCommand(cmd_name, help=entry.does, rich_help_panel=entry.panel)
        return load(cmd_name)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help without importing any command."""
        self._is_listing = True
        try:
            super().format_help(ctx, formatter)
        finally:
            self._is_listing = False

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        """Return the commands whose names begin so, without importing any."""
        self._is_listing = True
        try:
            return super().shell_complete(ctx, incomplete)
        finally:
            self._is_listing = False


def load(name: str) -> Any:
    """Import a command of the table and return it as typer's own kind of command."""
    entry = COMMANDS[name]
    app = getattr(import_module(entry.module), entry.app)
    command = typer.main.get_group(app if isinstance(app, typer.Typer) else app())
    if not entry.is_group:
        return command.commands[name]
    command.name = name
    return command


def find(words: Sequence[str]) -> tuple[Any, str, list[str]]:
    """Return the command that the words name, how it is called, and the rest of the words, which are its arguments.

    The first word is in the table.
    """
    command, name = load(words[0]), f"{PROGRAM} {words[0]}"
    rest = list(words[1:])
    while isinstance(command, TyperGroup) and rest and rest[0] in command.commands:
        name = f"{name} {rest[0]}"
        command = command.commands[rest.pop(0)]
    return command, name, rest


app = typer.Typer(
    cls=_LazyGroup,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    epilog="KAFKA_URL and DATABASE_URL name the broker and the database; docs/configuration.md lists every variable."
    " Exit status: 0 fine, 1 something was found or refused, 2 it could not be done.",
)


@app.callback()
def _innkeeper() -> None:
    """Run and operate Innkeeper, a hotel-booking backend that decides bookings on a log."""


def main() -> NoReturn:
    """Run the command line and end the process with its exit status."""
    # At the end Python's collector would look through all modules again: a quarter of the time of a short command.
    atexit.register(gc.freeze)
    words = sys.argv[1:]
    if words and words[0] in COMMANDS and _COMPLETE not in os.environ:
        if COMMANDS[words[0]].panel == _OPERATE:
            gc.set_threshold(_ALLOCATIONS_BEFORE_COLLECTION)
            os.environ.setdefault(_NO_PLUGINS, "__all__")
        # The same as through the groups, whose own options would cost a tenth of a second to parse.
        command, name, arguments = find(words)
        command(arguments, prog_name=name)
    app(prog_name=PROGRAM)
    raise SystemExit(0)
