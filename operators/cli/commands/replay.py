"""`innkeeper replay`: a range of the log is processed again."""

from typing import Annotated

import typer

from operators.cli.commands.options import By, Json, Yes, examples, group

app = group("A range of the log is processed again.")


@app.command(
    "replay",
    epilog=examples(
        "innkeeper replay booking.commands --from 2h --type 'booking.*'",
        "innkeeper replay stripe.webhooks --from 2026-11-22T10:00 --to 2026-11-22T11:00 --yes",
        "innkeeper replay booking.events --partition 3 --from 1200 --consumer booking_timeline --yes",
    ),
)
def replay_command(
    topic: Annotated[str, typer.Argument(help="`booking.commands`, `stripe.webhooks`, or `booking.events`.")],
    begin: Annotated[
        str, typer.Option("--from", metavar="OFFSET|WHEN", help="Begin there; WHEN: `10m`, `2h` ago, or an ISO time.")
    ],
    end: Annotated[
        str | None,
        typer.Option("--to", metavar="OFFSET|WHEN", help="The last offset, or the time before which to end; else now."),
    ] = None,
    partition: Annotated[int | None, typer.Option(min=0, help="Only this partition; offsets need it.")] = None,
    kind: Annotated[
        str | None, typer.Option("--type", metavar="TYPE", help="Only this type; `*` matches anything.")
    ] = None,
    consumer: Annotated[
        str | None, typer.Option(metavar="NAME", help="For events: the consumer of ours that reads them again.")
    ] = None,
    wait: Annotated[
        float, typer.Option(metavar="SECONDS", min=1, help="How long to wait for the workers in each step.")
    ] = 60.0,
    by: By = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Process a range of the log again, and show what changed.

    Commands and webhooks are appended to their topic again, each id once. One that had its effect has none again, and
    leaves one event of its repetition or refusal. Dead letters in the range, and records that were not processed yet,
    are left out. Events are read again by one consumer of ours (--consumer): its cursor is set back.

    Exit status: 0 done; 1 refused, not processed in time, or only printed the plan; 2 the broker or the database
    does not answer; 130 interrupted.
    """
    from operators.cli import replay

    replay.replay_command(
        topic,
        begin=begin,
        end=end,
        partition=partition,
        kind=kind,
        consumer=consumer,
        wait=wait,
        by=by,
        yes=yes,
        as_json=as_json,
    )
