"""`innkeeper lag`: how far each consumer is behind the log."""

from typing import Annotated

import typer

from operators.cli.commands.options import Json, examples, group

app = group("How far each consumer is behind the log.")


@app.command(
    "lag",
    epilog=examples(
        "innkeeper lag",
        "innkeeper lag --watch",
        "innkeeper lag --limit-seconds 30",
        "innkeeper lag --partitions --json",
    ),
)
def lag_command(
    limit: Annotated[
        int | None, typer.Option(metavar="N", min=0, help="Exit status 1 when any partition is further behind.")
    ] = None,
    limit_seconds: Annotated[
        float | None, typer.Option(metavar="SECONDS", min=0, help="Exit status 1 when a record has waited longer.")
    ] = None,
    partitions: Annotated[bool, typer.Option("--partitions", help="Every partition, not only those behind.")] = False,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Measure again and again, until Ctrl-C or a limit is exceeded.")
    ] = False,
    interval: Annotated[
        float,
        typer.Option(metavar="SECONDS", min=0, help="Time between two measurements; 0: measure once, without rates."),
    ] = 1.0,
    as_json: Json = False,
) -> None:
    """Show how far each consumer is behind: its cursor in PostgreSQL against the end of the log.

    - **behind**: how many records wait; **seconds**: for how long the first of them has waited.
    - **done/written**: how many of a partition's records the consumer has applied, of all that were written.
    - **caught up**: in how many seconds nothing waits, at the rates of the last interval.
    - **stalled**: the consumer has a reader, records wait, and its cursor has not moved for a second or more: the
      process hangs, or waits for another.

    A consumer that has never run is shown, too. A line below the table names each payments worker that makes no calls
    because Stripe does not answer, with the time since, the reason, and how many calls are due; another line names each
    worker's name that more than one process has. With --json one line for each partition; with --watch one for each
    measurement. DATABASE_URL names the database.

    Exit status: 0 fine; 1 a limit is exceeded; 2 the broker or the database does not answer.
    """
    from operators.cli import lag

    lag.lag_command(
        limit=limit,
        limit_seconds=limit_seconds,
        partitions=partitions,
        watch=watch,
        interval=interval,
        as_json=as_json,
    )
