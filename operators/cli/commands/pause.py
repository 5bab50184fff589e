"""`innkeeper pause`, `resume`, `paused`: an operator pauses a role, on all machines at once."""

from typing import Annotated

import typer

from operators.cli.commands.options import By, Json, Role, Yes, examples, group

app = group("Pauses of roles.")

RoleName = Annotated[Role, typer.Argument(metavar="ROLE", help=f"One of {', '.join(Role)}.")]


@app.command(
    "pause",
    epilog=examples(
        'innkeeper pause payments --reason "Stripe is down"',
        'innkeeper pause payments --reason "Stripe is down" --by ines --yes',
    ),
)
def pause_command(
    role: RoleName,
    reason: Annotated[str | None, typer.Option(metavar="TEXT", help="The reason, which `paused` shows.")] = None,
    by: By = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Pause every process of a role, within a second, until `resume`: it finishes its batch and begins no other.

    The processes keep their partitions, and a restart changes nothing. Records wait on the log, in order.

    Exit status: 0 the role is paused; 1 only printed the plan; 2 the database cannot be used.
    """
    from operators.cli import pause

    pause.pause_command(role, reason=reason, by=by, yes=yes, as_json=as_json)


@app.command("resume", epilog=examples("innkeeper resume payments", "innkeeper resume payments --yes"))
def resume_command(role: RoleName, by: By = None, yes: Yes = False, as_json: Json = False) -> None:
    """Let every process of a paused role continue where it stopped, within a second.

    Exit status: 0 the role is not paused; 1 only printed the plan; 2 the database cannot be used.
    """
    from operators.cli import pause

    pause.resume_command(role, by=by, yes=yes, as_json=as_json)


@app.command("paused", epilog=examples("innkeeper paused", "innkeeper paused --json"))
def paused_command(as_json: Json = False) -> None:
    """List the paused roles: since when, by whom and why.

    Exit status: 0 listed; 2 the database cannot be used.
    """
    from operators.cli import pause

    pause.paused_command(as_json=as_json)
