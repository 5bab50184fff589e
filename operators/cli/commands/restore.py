"""`innkeeper restore`: a lost database is restored from the log."""

from typing import Annotated

import typer

from operators.cli.commands.options import By, Json, Yes, examples, group

app = group("A lost database restored from the log.")


@app.command(
    "restore",
    epilog=examples("innkeeper restore --from-log", "innkeeper restore --from-log --yes"),
)
def restore_command(
    *,
    from_log: Annotated[
        bool, typer.Option("--from-log", help="Restore from booking.events; there is no other way.")
    ] = False,
    without_backup: Annotated[
        bool,
        typer.Option("--without-backup", help="Go ahead although accounts, hotels and rooms were not loaded before."),
    ] = False,
    yes: Yes = False,
    by: By = None,
    as_json: Json = False,
) -> None:
    """Make the ledger anew from booking.events, in an empty database.

    For the day the database is lost. Every booking whose event the broker has is restored: bookings, inventory, holds,
    read models and the pending calls to Stripe are made again, and the workers continue after the last command that was
    decided. The command refuses a database that is not empty or has no backup loaded, workers that are connected, and a
    log that lacks events. It shows which accounts, guests, hotels and rooms the log names and the backup lacks.

    Exit status: 0 restored; 1 refused, or only printed the plan; 2 broker or database do not answer.
    """
    from operators.cli import restore

    restore.restore_command(from_log=from_log, without_backup=without_backup, yes=yes, by=by, as_json=as_json)
