"""The operator's tool for the database: `python -m storage migrate | audit | rebuild | restore | ...`."""

import asyncio
import time
from dataclasses import asdict
from typing import Annotated, Final

import psycopg
import typer
from rich.console import Console

from storage import handing_over, incarnations
from storage.audit.command import audit_command
from storage.migrate import upgrade
from storage.rebuilding import sweep
from storage.rebuilding.command import rebuild_command
from storage.settings import CONNECT_SECONDS, DatabaseSettings
from topics.console import Json, Yes, print_json
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
    *,
    as_json: Json = False,
) -> None:
    """Bring the database to the newest schema.

    Repeatable, and safe to run from several processes at once: one migrates, the others wait and find nothing to do.

    Exit status: 0 the schema is the newest; 2 the database does not answer.
    """
    _wait_for(DatabaseSettings(), wait)
    migrated = upgrade()
    asyncio.run(sweep(DatabaseSettings()))
    if as_json:
        print_json([asdict(migrated)])
    elif migrated.was == migrated.now:
        says.print(f"The schema was the newest already, v{migrated.now}.")
    else:
        was = "nothing" if migrated.was is None else f"v{migrated.was}"
        says.print(f"The schema was brought from {was} to v{migrated.now}, the newest.")


app.command("audit")(audit_command)
app.command("rebuild")(rebuild_command)
handing_over.register(app)


@app.command("new-incarnation")
def new_incarnation_command(
    topic: Annotated[str, typer.Argument(help="The topic's name, such as booking.commands.")],
    *,
    yes: Yes = False,
) -> None:
    """Go on with a log that was cut or replaced under its cursors.

    A worker that finds another log than it left stops and names this command. Stop every worker that reads the topic
    before, start them after.

    Exit status: 0 done; 1 refused, or only said what would be done; 2 the database cannot be used.
    """
    prefix = _kafka().topic_prefix
    name = prefix + topic.removeprefix(prefix)
    says.print(incarnations.EXPLANATION.format(topic=name), markup=False)
    if not yes:
        says.print("Nothing was done: add --yes to do it.")
        raise typer.Exit(FAILED)
    try:
        number = incarnations.begin(DatabaseSettings(), name)
    except (incarnations.NoLifeYet, psycopg.Error) as error:
        says.print(str(error).strip(), markup=False)
        raise typer.Exit(FAILED if isinstance(error, incarnations.NoLifeYet) else IMPOSSIBLE) from error
    says.print(f"{name} is in its life number {number} now. Start the workers.", markup=False)


def _kafka() -> KafkaSettings:
    with refused_in_words():
        return KafkaSettings()


def _wait_for(settings: DatabaseSettings, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    told = False
    while True:
        try:
            psycopg.connect(settings.conninfo(), connect_timeout=CONNECT_SECONDS).close()
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


if __name__ == "__main__":
    app(prog_name="python -m storage")
