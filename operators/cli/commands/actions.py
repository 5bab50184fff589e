"""`innkeeper actions`: the record of what operators changed."""

from typing import Annotated

import typer

from operators.cli.commands.options import Json, examples, group

app = group("The record of what operators changed.")


@app.command("actions", epilog=examples("innkeeper actions", "innkeeper actions --since 7d --json"))
def actions_command(
    since: Annotated[
        str | None, typer.Option(metavar="WHEN", help="Only since then: `2h`, `7d` ago, or an ISO time.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show what operators did, the newest first: time (UTC), operator, action, target, details.

    Every command that changes something is recorded: pauses, replays, rebuilds, ends of dead letters, and more. The
    record is part of the database, so a restore loses what was done after the backup. DATABASE_URL names the database.

    Exit status: 0 shown; 2 the database cannot be used.
    """
    from operators.cli import actions

    actions.actions_command(since=since, as_json=as_json)
