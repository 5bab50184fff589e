"""`innkeeper sandbox`, or `python -m sandbox`: the whole system on this machine.

Only options and help are here; a command imports what does its work when it runs.
"""

from pathlib import Path
from typing import Annotated

import typer

from operators.cli.commands.options import examples, group
from sandbox import folders
from sandbox.brokers import Broker

app = group("Run the whole system on this machine.")


@app.callback()
def _about() -> None:
    """Run the whole system on this machine.

    `up` uses the servers named in KAFKA_URL and DATABASE_URL, if any, instead of its own.
    """


@app.command("demo", epilog=examples("innkeeper sandbox demo", "innkeeper sandbox demo --exit"))
def demo_command(
    *,
    port: Annotated[int | None, typer.Option(help="The ingress' port; else a free one.")] = None,
    data: Annotated[
        Path, typer.Option(help="The folder of all data.", show_default=".sandbox/demo of the checkout")
    ] = folders.STATE / "demo",
    leave: Annotated[bool, typer.Option("--exit", help="End after the booking instead of staying up.")] = False,
) -> None:
    """Start everything, book a room as a guest would over HTTP, and show each hop.

    Then everything stays up until Ctrl-C, so that you can try it. It starts servers of its own and ignores KAFKA_URL
    and DATABASE_URL. Exit status: 0 only if the booking was confirmed.
    """
    from sandbox.demo import demo

    raise typer.Exit(demo(port=port, data=data, leave=leave))


@app.command(
    "up",
    epilog=examples(
        "innkeeper sandbox up",
        "innkeeper sandbox up --port 8081 --workers 2",
        "innkeeper sandbox up --brokers 3",
        "innkeeper sandbox up --standby",
        "innkeeper sandbox up --days-ahead 3",
    ),
)
def up_command(
    *,
    port: Annotated[int, typer.Option(help="The ingress' port.")] = 8080,
    data: Annotated[
        Path, typer.Option(help="The folder of all data.", show_default=".sandbox/up of the checkout")
    ] = folders.STATE / "up",
    broker: Annotated[Broker, typer.Option(help="The broker; Tansu keeps nothing.")] = Broker.KAFKA,
    brokers: Annotated[int, typer.Option(min=1, max=5, help="How many brokers; each has a copy of everything.")] = 1,
    standby: Annotated[
        bool, typer.Option("--standby", help="Run a second database server, a synchronous standby.")
    ] = False,
    workers: Annotated[int, typer.Option(min=1, help="How many reservations workers.")] = 1,
    days_ahead: Annotated[
        int, typer.Option(min=0, max=365, metavar="DAYS", help="Move the clock of all parts ahead; needs libfaketime.")
    ] = 0,
) -> None:
    """Run everything until Ctrl-C or SIGTERM; print `ready URL` when every part answers.

    Each line of a process is shown after its name, and a process that ends is started again. A restart with the same
    --data finds the bookings again. With --days-ahead that restart is later: check in, check out, or record a no-show.
    The clock of a folder never goes back. Exit status: 0 stopped; 1 a part cannot start, or the clock cannot be moved.
    """
    from sandbox.up import up

    raise typer.Exit(
        up(port=port, data=data, broker=broker, workers=workers, brokers=brokers, standby=standby, ahead=days_ahead)
    )


@app.command("fail-over", epilog=examples("innkeeper sandbox fail-over"))
def fail_over_command(
    data: Annotated[
        Path, typer.Option(help="The folder of all data.", show_default=".sandbox/up of the checkout")
    ] = folders.STATE / "up",
) -> None:
    """Kill the primary database server of a running `up --standby`, and promote its standby.

    The killed server is started again as a standby of the other. Exit status: 0 done; 1 no standby answers, and nothing
    was done.
    """
    from sandbox.postgres.standby import fail_over_and_report

    raise typer.Exit(fail_over_and_report(data))


@app.command(
    "replay",
    epilog=examples("innkeeper sandbox replay tests/system/trace/hotel_bookings.csv.gz --rooms 100 --workers 3"),
)
def replay_command(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="The trace, as CSV or gzipped.")],
    rooms: Annotated[int, typer.Option(min=0, help="How many rooms of each type are on sale.")] = 1000,
    workers: Annotated[int, typer.Option(min=1, help="How many reservations workers.")] = 1,
    kill_every: Annotated[
        float | None,
        typer.Option(min=0, metavar="SECONDS", help="SIGKILL a worker this long after the last replacement committed."),
    ] = None,
    *,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the folder with all data and logs.")] = False,
) -> None:
    """Send the real trace through the log of a fresh system, and print the totals as one JSON line.

    The totals are counted from the database. Exit status: 0 only if everything was decided and the audit holds.
    """
    from sandbox.replay import replay

    raise typer.Exit(replay(file, rooms=rooms, workers=workers, kill_every=kill_every, keep=keep))


if __name__ == "__main__":
    app()
