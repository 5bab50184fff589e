"""`innkeeper rebuild`: a read model is rebuilt while it serves."""

from enum import StrEnum
from typing import Annotated

import typer

from operators.cli.commands.options import By, Json, Yes, examples, group

app = group("Read models rebuilt from the log.")


class ReadModel(StrEnum):
    """The read models that can be rebuilt."""

    BOOKING_TIMELINE = "booking_timeline"
    ROOM_NIGHTS = "room_nights"
    DAILY_REPORT = "daily_report"
    MONEY_MOVEMENTS = "money_movements"
    ALL = "all"


@app.command(
    "rebuild",
    epilog=examples(
        "innkeeper rebuild room_nights --compare-only",
        "innkeeper rebuild room_nights --yes",
        "innkeeper rebuild all --yes --json",
    ),
)
def rebuild_command(
    projection: Annotated[ReadModel, typer.Argument(help="Which read model.", show_default=False)],
    *,
    compare_only: Annotated[
        bool, typer.Option("--compare-only", help="Rebuild it, show how it differs, and throw the new tables away.")
    ] = False,
    yes: Yes = False,
    by: By = None,
    as_json: Json = False,
) -> None:
    """Make a read model anew from the log, beside the one that serves, and put it in its place.

    New tables are filled from the whole of booking.events while the old ones are read and updated as before. Then both
    are compared at one moment, row by row, and the differences are shown: how many, and the first ten. Then, in one
    transaction, the new tables replace the old ones; the projection's workers wait for a moment.

    Ctrl-C leaves nothing behind. The tables of a killed rebuild are removed by the next one, and by **migrate**.

    Exit status: 0 done, and with --compare-only nothing differs; 1 something differs, or refused, or only printed
    the plan; 2 it could not be done.
    """
    from operators.cli import rebuild

    rebuild.rebuild_command(projection.value, compare_only=compare_only, yes=yes, by=by, as_json=as_json)
