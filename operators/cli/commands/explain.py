"""`innkeeper explain`: a booking's whole history."""

from typing import Annotated

import typer

from operators.cli.commands.options import Json, examples, group

app = group("A booking's whole history.")


@app.command(
    "explain",
    epilog=examples(
        "innkeeper explain 019c1e40-77aa-8b15-8d6e-3c5a7e9f1b2d",
        "innkeeper explain 019c1e40-77aa-8b15-8d6e-3c5a7e9f1b2d --all",
        "innkeeper explain 019c1e40-77aa-8b15-8d6e-3c5a7e9f1b2d --json",
    ),
)
def explain_command(
    booking: Annotated[str, typer.Argument(metavar="BOOKING", help="The booking's id.")],
    *,
    everything: Annotated[
        bool, typer.Option("--all", help="A row also for each record that was sent again and changed nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show a booking's whole history: request, commands, events, webhooks, Stripe's objects, and its next actions.

    Every step has its place on the log and the time since the step before. A record that was sent again (a request
    repeated, a replay) is shown with the record that it repeats; with --json it is an object of its own, marked
    `sent_again`. Its invoices and credit notes are shown too, and the promo code that it used or gave back. The command
    reads a few hundred records, however long the log is, and changes nothing.

    Exit status: 0 the history was shown; 1 neither the log nor the database has the booking; 2 the broker or the
    database does not answer, or the argument is no booking's id.
    """
    from operators.cli import explain

    explain.explain_command(booking, everything=everything, as_json=as_json)
