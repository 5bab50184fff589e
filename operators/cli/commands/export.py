"""`innkeeper export`: the events of the log as files."""

from pathlib import Path
from typing import Annotated

import typer

from operators.cli.commands.options import Json, examples, group
from operators.export.formats import Format

app = group("The events of the log as files.")


@app.command(
    "export",
    epilog=examples(
        "innkeeper export booking.events --out export",
        "innkeeper export booking.events --out export --until now",
        "innkeeper export booking.events --out export --format csv --since 7d",
    ),
)
def export_command(
    topic: Annotated[str, typer.Argument(help="`booking.events`.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", file_okay=False, help="The folder of the files.")],
    format: Annotated[Format, typer.Option("--format", help="The format of the files.")] = Format.PARQUET,
    since: Annotated[
        str | None,
        typer.Option(metavar="WHEN", help="From that day on: `7d` ago, or an ISO date. Else from the first event's."),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option(
            metavar="WHEN",
            help="Only days that are over by then; `now`: today's events, too. Else every day that is over.",
        ),
    ] = None,
    *,
    as_json: Json = False,
) -> None:
    """Write the events as files of typed columns, one for each day (UTC) of the log; docs/analytics.md has the schema.

    A day that has its file already is skipped, so the same call continues where the last one ended or was interrupted.
    A day without events has no file. Each event is in the files once, in the order of partition and offset; the same
    log gives the same bytes.

    Exit status: 0 written; 1 events are missing on the log, or another export is at work; 2 it could not be done;
    130 interrupted.
    """
    from operators.cli import export

    export.export_command(topic, out, format, since=since, until=until, as_json=as_json)
