"""The command `innkeeper`: each of its commands is imported only when it is the one that was asked for."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

if TYPE_CHECKING:
    from collections.abc import Callable

_OPERATE: Final = "Operate"
_RUN: Final = "Run"


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a command's code is (`module:attribute`: a function, or a Typer of several), and what it does."""

    code: str
    does: str
    panel: str = _OPERATE


#: In the order of `innkeeper --help`.
COMMANDS: Final[Mapping[str, Entry]] = {
    "explain": Entry("operators.cli.explain:explain_command", "Show a booking's whole history and what it waits for."),
    "tail": Entry("operators.cli.tail:tail_command", "Show the records of a topic."),
    "lag": Entry("operators.cli.lag:lag_command", "Show how far each consumer is behind the log."),
    "replay": Entry("operators.cli.replay:replay_command", "Process a range of the log once more."),
    "export": Entry("operators.cli.export:export_command", "Write booking.events to files, one a day."),
    "dead-letters": Entry("operators.cli.dead_letters:app", "List, show, replay or discard dead letters."),
    "pause": Entry("operators.cli.pause:pause_command", "Stop a role from beginning anything new."),
    "resume": Entry("operators.cli.pause:resume_command", "Let a paused role continue."),
    "paused": Entry("operators.cli.pause:paused_command", "List the roles that are paused."),
    "audit": Entry("operators.cli.audit:audit_command", "Recompute the ledger from the log and compare."),
    "rebuild": Entry("operators.cli.rebuild:rebuild_command", "Rebuild a read model while it serves."),
    "restore": Entry("operators.cli.restore:restore_command", "Restore an empty database from the log."),
    "reconcile": Entry("operators.cli.reconcile:reconcile_command", "Compare the money at Stripe with the bookings."),
    "new-generation": Entry(
        "operators.cli.new_generation:new_generation_command", "Continue with a log that was cut or replaced."
    ),
    "actions": Entry("operators.cli.actions:actions_command", "List what operators changed."),
    "accounts": Entry("operators.cli.accounts:app", "Give an account a role."),
    "ingress": Entry("operators.cli.running:ingress_command", "Run one ingress process.", _RUN),
    "worker": Entry("operators.cli.running:worker_command", "Run one worker of a role.", _RUN),
    "topics": Entry("operators.cli.running:topics_command", "List, create and check the topics.", _RUN),
    "migrate": Entry("operators.cli.running:migrate_command", "Bring the database to the newest schema.", _RUN),
    "sandbox": Entry("sandbox.__main__:app", "Run the whole system on this machine.", _RUN),
}

#: For commands that hand their arguments, `--help` included, to the command line of another package.
_PASSES_ON: Final = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


class _LazyGroup(TyperGroup):
    """A group whose commands are imported when they are invoked or completed, and not when they are listed."""

    _is_listing = False

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - typer passes its context
        """Return the commands' names in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002 - typer passes its context
        """Return a command by its name; one that only knows what it does where commands are listed."""
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        if self._is_listing:
            return TyperCommand(cmd_name, help=entry.does, rich_help_panel=entry.panel)
        return _loaded(cmd_name, entry)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help without importing any command."""
        self._is_listing = True
        try:
            super().format_help(ctx, formatter)
        finally:
            self._is_listing = False


def _loaded(name: str, entry: Entry) -> Any:
    module, _, attribute = entry.code.partition(":")
    code: Callable[..., Any] | typer.Typer = getattr(import_module(module), attribute)
    if not isinstance(code, typer.Typer):
        single = typer.Typer(add_completion=False, rich_markup_mode="markdown", pretty_exceptions_enable=False)
        settings = _PASSES_ON if getattr(code, "passes_on", False) else None
        single.command(name, context_settings=settings)(code)
        code = single
    command = typer.main.get_command(code)
    command.name = name
    return command


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
    app(prog_name="innkeeper")
    raise SystemExit(0)
