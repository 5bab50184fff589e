"""`innkeeper tail`: the records of a topic."""

from typing import Annotated

import typer

from operators.cli.commands.options import examples, group

app = group("The records of a topic.")


@app.command(
    "tail",
    epilog=examples(
        "innkeeper tail booking.events --follow",
        "innkeeper tail booking.events --type 'booking.re*' --since 10m",
        "innkeeper tail booking.commands --booking 019c1e40-77aa-8b15-8d6e-3c5a7e9f1b2d --json",
    ),
)
def tail_command(
    topic: Annotated[str, typer.Argument(help="Its name in the catalogue, such as `booking.events`.")],
    booking: Annotated[str | None, typer.Option(metavar="ID", help="Only records about this booking.")] = None,
    room: Annotated[int | None, typer.Option(metavar="ID", help="Only records of this room.")] = None,
    kind: Annotated[
        str | None, typer.Option("--type", metavar="TYPE", help="Only this type; `*` matches anything.")
    ] = None,
    since: Annotated[
        str | None, typer.Option(metavar="WHEN", help="Begin then: `30s`, `10m`, `2h`, `1d` ago, or an ISO time.")
    ] = None,
    from_beginning: Annotated[bool, typer.Option("--from-beginning", help="Begin at the first record.")] = False,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Show new records too, until Ctrl-C.")] = False,
    with_headers: Annotated[bool, typer.Option("--headers", help="Show each record's headers below it.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="CloudEvents in structured mode, one a line.")] = False,
    limit: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Show at most this many records; with --follow the last N and then all new ones.",
        ),
    ] = None,
) -> None:
    """Show the records of a topic, one a line: log time, partition@offset, type, subject, fields, #sequence.

    Without --since and --from-beginning it shows the last ten records (or --limit); with a filter, all that match.
    A webhook is about a booking when it contains the booking's id. With --follow the command waits for a broker that
    goes away. It joins no consumer group, so it disturbs no reader.

    Exit status: 0 also where nothing matches; 1 the broker has no such topic; 2 the broker does not answer, or the
    arguments are wrong.
    """
    from operators.cli import tail

    tail.tail_command(
        topic,
        booking=booking,
        room=room,
        kind=kind,
        since=since,
        from_beginning=from_beginning,
        follow=follow,
        with_headers=with_headers,
        as_json=as_json,
        limit=limit,
    )
