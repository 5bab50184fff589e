"""`innkeeper restore`: a lost database, a lost log, or both are restored from what is left."""

from pathlib import Path
from typing import Annotated

import typer

from operators.cli.commands.options import By, Json, Yes, examples, group

app = group("A lost database, a lost log, or both.")


@app.command(
    "restore",
    epilog=examples(
        "innkeeper restore --from-log",
        "innkeeper restore --from-log --yes",
        "innkeeper restore --from-ledger --from-export export --yes",
        "innkeeper restore --from-export export --yes",
    ),
)
def restore_command(
    *,
    from_log: Annotated[
        bool, typer.Option("--from-log", help="The database is lost: restore it from booking.events.")
    ] = False,
    from_ledger: Annotated[
        bool,
        typer.Option("--from-ledger", help="The log is lost: continue it from the database, which has the ledger."),
    ] = False,
    from_export: Annotated[
        Path | None,
        typer.Option(
            "--from-export",
            metavar="DIR",
            file_okay=False,
            help="Files of innkeeper export --format jsonl: both are lost, or with --from-ledger only the log.",
        ),
    ] = None,
    without_backup: Annotated[
        bool,
        typer.Option("--without-backup", help="Go ahead although accounts, hotels and rooms were not loaded before."),
    ] = False,
    despite_gaps: Annotated[
        bool,
        typer.Option("--despite-gaps", help="With --from-ledger: go on without events that files and outbox lack."),
    ] = False,
    yes: Yes = False,
    by: By = None,
    as_json: Json = False,
) -> None:
    """Restore what is lost from what is left: the database, the log, or both.

    **--from-log**: an empty database gets every booking whose event the broker has: bookings, inventory, holds, read
    models and the pending calls to Stripe are made again, and the workers continue after the last command that was
    decided. It is refused for a database that is not empty or has no backup loaded, while workers are connected, and
    for a log that lacks events. It shows which accounts, guests, hotels and rooms the log names and the backup lacks.

    **--from-ledger**: the lost topics are new and empty, the database is left. The new log gets the events of the files
    and those that the outbox keeps (OUTBOX_KEPT_HOURS), and every consumer resumes behind its last one. Lost commands
    are named, as far as the database knows them.

    **--from-export**: the topics are empty, and the database has the backup and no bookings. The files are checked,
    their events are put back on the log, and the database is restored from it. Interrupted, the same call continues.
    Both are refused while an ingress is connected. docs/restore.md has each case step by step.

    Exit status: 0 restored; 1 refused, or only printed the plan; 2 broker or database do not answer.
    """
    from operators.cli import restore

    restore.restore_command(
        from_log=from_log,
        from_ledger_left=from_ledger,
        folder=from_export,
        without_backup=without_backup,
        despite_gaps=despite_gaps,
        yes=yes,
        by=by,
        as_json=as_json,
    )
