"""The operator's tool for the database: `python -m storage migrate | audit | rebuild | restore | ...`."""

import asyncio
import json
import sys
import time
from typing import Annotated, Final

import psycopg
import typer
from aiokafka.errors import KafkaError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from storage import handing_over, incarnations
from storage.audit import NoSuchTopic, Report, audit
from storage.migrate import upgrade
from storage.rebuilding import sweep
from storage.rebuilding.command import rebuild_command
from storage.settings import DatabaseSettings
from topics.settings import KafkaSettings, refused_in_words

FAILED: Final = 1
IMPOSSIBLE: Final = 2

app = typer.Typer(
    help="The ledger: bring its schema up to date, audit it against the log, and start a topic's new life.",
    epilog="DATABASE_URL and KAFKA_URL say where PostgreSQL and the broker are.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    add_completion=False,
)
says = Console(stderr=True, soft_wrap=True, highlight=False)


@app.command("migrate")
def migrate_command(
    wait: Annotated[
        float,
        typer.Option(metavar="SECONDS", min=0, help="How long to wait for a database that is not there yet."),
    ] = 0.0,
) -> None:
    """Bring the database to the newest schema.

    Repeatable, and safe to run from several processes at once: one migrates, the others wait and find nothing to do.
    """
    _wait_for(DatabaseSettings(), wait)
    upgrade()
    asyncio.run(sweep(DatabaseSettings()))
    says.print("The schema is the newest.")


@app.command("audit")
def audit_command(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
    holds: Annotated[
        bool, typer.Option("--holds", help="Count a hold that is 10 s past its deadline as a problem, too.")
    ] = False,
) -> None:
    """Recompute from the log and the tables that no room was sold twice and nothing is missing.

    Reads all of booking.events and, at one moment, the ledger; changes nothing, and may run while the system works.

    [bold]I1[/] every room and night: 0 <= booked + reserved <= total, after every event of the log.
    [bold]I2[/] inventory counts equal the sum over bookings by status.
    [bold]I5[/] no hold ends early, and nothing happens to a booking after its hold's deadline.
    [bold]I6[/] no gap in a partition's events, legal moves only, and the log equals the ledger.

    Exit status: 0 all holds; 1 something is wrong, each problem a line; 2 the audit could not be made.
    """
    try:
        report = _audited(holds=holds)
    except (psycopg.Error, KafkaError, NoSuchTopic, OSError) as error:
        says.print(f"The audit could not be made: {type(error).__name__}: {str(error).strip()}", markup=False)
        raise typer.Exit(IMPOSSIBLE) from error
    if as_json:
        print(json.dumps(report.as_json()))
    else:
        _print(report)
    if not report.ok:
        raise typer.Exit(FAILED)


app.command("rebuild")(rebuild_command)
handing_over.register(app)


@app.command("new-incarnation")
def new_incarnation_command(
    topic: Annotated[str, typer.Argument(help="The topic's name, such as booking.commands.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without this, only say what it would do.")] = False,
) -> None:
    """Go on with a log that was cut or replaced under its cursors.

    A worker that finds another log than it left stops and names this command. Stop every worker that reads the topic
    before, start them after.
    """
    prefix = _kafka().topic_prefix
    name = prefix + topic.removeprefix(prefix)
    says.print(incarnations.EXPLANATION.format(topic=name), markup=False)
    if not yes:
        says.print("Nothing was done: add --yes to do it.")
        raise typer.Exit(IMPOSSIBLE)
    try:
        number = incarnations.begin(DatabaseSettings(), name)
    except (incarnations.NoLifeYet, psycopg.Error) as error:
        says.print(str(error).strip(), markup=False)
        raise typer.Exit(FAILED) from error
    says.print(f"{name} is in its life number {number} now. Start the workers.", markup=False)


def _kafka() -> KafkaSettings:
    with refused_in_words():
        return KafkaSettings()


def _wait_for(settings: DatabaseSettings, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    told = False
    while True:
        try:
            psycopg.connect(settings.conninfo(), connect_timeout=5).close()
        except psycopg.OperationalError as error:
            reason = str(error).strip()
            if time.monotonic() >= deadline:
                says.print(f"The database does not answer: {reason}", markup=False)
                raise typer.Exit(IMPOSSIBLE) from error
            if not told:
                says.print(f"Waiting up to {seconds:g} s for the database: {reason}", markup=False)
                told = True
            time.sleep(min(0.25, max(0.0, deadline - time.monotonic())))
        else:
            return


def _audited(*, holds: bool) -> Report:
    kafka = _kafka()
    bar = Progress(TextColumn("reading events"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=says)
    with bar:
        task = bar.add_task("", total=None)
        return asyncio.run(
            audit(
                kafka,
                DatabaseSettings(),
                holds=holds,
                progress=lambda read, to_read: bar.update(task, completed=read, total=to_read),
            )
        )


def _print(report: Report) -> None:
    for problem in report.problems():
        print(problem)
    counts = ", ".join(f"{count} {name}" for name, count in report.counts.items())
    failed = [check for check, state in report.as_json()["checks"].items() if state == "failed"]
    verdict = f"The audit failed: {', '.join(failed)}" if failed else "The audit holds"
    says.print(f"{verdict} ({counts}).", markup=False)
    sys.stdout.flush()


if __name__ == "__main__":
    app(prog_name="python -m storage")
