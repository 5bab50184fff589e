"""The output and the exit statuses of `innkeeper migrate`, `audit`, `rebuild` and `new-generation`."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from uuid import uuid4

import psycopg
import pytest
from alembic.script import ScriptDirectory
from psycopg import sql
from typer.testing import CliRunner

from operators.cli.main import app
from storage.cursors import generation
from storage.migrate import migrations
from storage.projections.rebuildable import PROJECTIONS
from storage.settings import DatabaseSettings
from tests.operators.decided_ledger import change_ledger, write_ledger
from tests.operators.decided_log import FIRST, DecidedLog, decided_log, publish, record
from tests.support.stack import Server, url_of
from topics.kafka.settings import KafkaSettings

NIGHTS = "no oversold night"
COUNTS = "counts match bookings"
HOLDS = "holds end on time"
CODES = "codes within limits"
DOCUMENTS = "documents add up"
LEDGER = "log matches ledger"
GUESTS = "guest lists are stored"
READS = "read models match events"


@dataclass(frozen=True)
class Ended:
    """A run of the tool that is over."""

    status: int
    out: str
    err: str


async def start(environment: Mapping[str, str], *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "operators",
        *arguments,
        env={**os.environ, "COLUMNS": "100", **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def end(process: asyncio.subprocess.Process) -> Ended:
    out, err = await process.communicate()
    assert process.returncode is not None
    return Ended(process.returncode, out.decode(), err.decode())


async def run(environment: Mapping[str, str], *arguments: str) -> Ended:
    return await end(await start(environment, *arguments))


async def ask(environment: Mapping[str, str], *arguments: str) -> Ended:
    """Run a command that ends by itself in this process, which takes a fraction of the time."""
    result = await asyncio.to_thread(CliRunner().invoke, app, arguments, env=environment)
    return Ended(result.exit_code, result.stdout, result.stderr)


async def write_history(kafka: KafkaSettings, database: DatabaseSettings) -> DecidedLog:
    history = decided_log()
    await write_ledger(kafka, database, history)
    await publish(kafka, [record(kafka, logged) for logged in history.events])
    return history


def counts_of(history: DecidedLog) -> str:
    """Return the counts that an audit of the history prints."""
    return f"{len(history.events)} events, {len(history.bookings)} bookings, {len(history.nights)} nights"


# migrate


async def test_migrating_waits_for_the_database_and_can_be_repeated(postgres: Server) -> None:
    name = f"innkeeper_test_{uuid4().hex[:12]}"
    environment = {"DATABASE_URL": url_of(postgres.url, name)}
    with psycopg.connect(postgres.url, autocommit=True) as operator:
        migrating = await start(environment, "migrate", "--wait", "120")
        assert migrating.stderr is not None
        assert b"Waiting up to 120 s for the database" in await migrating.stderr.readline()
        operator.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
        try:
            first = await end(migrating)
            again = await ask(environment, "migrate")
            machine = await ask(environment, "migrate", "--json")
            with psycopg.connect(environment["DATABASE_URL"]) as connection:
                tables = connection.execute("select count(*) from booking").fetchone()
        finally:
            operator.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))

    assert (first.status, again.status) == (0, 0), first.err + again.err
    assert tables == (0,)
    newest = ScriptDirectory.from_config(migrations()).get_current_head()
    assert first.err.endswith(f"The schema was brought from nothing to v{newest}, the newest.\n")
    assert again.err == f"The schema was the newest already, v{newest}.\n"
    assert json.loads(machine.out) == {"was": newest, "now": newest}


async def test_migrating_without_a_database_fails_with_that_reason(postgres: Server) -> None:
    ended = await ask({"DATABASE_URL": url_of(postgres.url, "nowhere")}, "migrate")

    assert ended.status == 2
    assert 'The database does not answer: connection failed: connection to server at "127.0.0.1"' in ended.err
    assert 'database "nowhere" does not exist' in ended.err


# audit


async def test_an_audit_that_holds_ends_well(
    environment: dict[str, str], kafka_settings: KafkaSettings, database: DatabaseSettings
) -> None:
    history = await write_history(kafka_settings, database)

    plain = await ask(environment, "audit", "--holds")
    machine = await ask(environment, "audit", "--json")

    assert (plain.status, plain.out) == (0, ""), plain.err
    assert f"The audit holds ({counts_of(history)})." in plain.err
    assert machine.status == 0, machine.err
    (line,) = machine.out.splitlines()
    assert json.loads(line)["audit"] == "ok"


async def test_an_audit_that_fails_names_each_problem_on_a_line(
    environment: dict[str, str], kafka_settings: KafkaSettings, database: DatabaseSettings
) -> None:
    await write_history(kafka_settings, database)
    await change_ledger(database, f"update inventory set booked_count = 1 where room_id = 1 and date = '{FIRST}'")

    plain = await ask(environment, "audit")
    machine = await ask(environment, "audit", "--json")

    named = [
        (
            f"{COUNTS}: room 1, night {FIRST}: inventory counts 1 booked and 0 reserved, "
            "bookings sum to 3 booked and 0 reserved"
        ),
        f"{LEDGER}: room 1, night {FIRST}: booked_count is 1 in the ledger and 3 by the log",
    ]
    assert (plain.status, plain.out.splitlines()) == (1, named), plain.err
    assert "The audit failed: counts match bookings, log matches ledger" in plain.err
    found = json.loads(machine.out)
    assert machine.status == 1
    assert (found["audit"], found["problems"]) == ("failed", named)
    assert found["checks"] == {
        NIGHTS: "ok",
        COUNTS: "failed",
        HOLDS: "ok",
        CODES: "ok",
        DOCUMENTS: "ok",
        LEDGER: "failed",
        GUESTS: "ok",
        READS: "ok",
    }


@pytest.mark.parametrize("variable", ["DATABASE_URL", "KAFKA_URL", "TOPIC_PREFIX"])
async def test_an_audit_that_cannot_be_made_is_no_failed_audit(variable: str, environment: dict[str, str]) -> None:
    nowhere = {
        "DATABASE_URL": "postgresql://nobody:nothing@127.0.0.1:1/nowhere",
        "KAFKA_URL": "127.0.0.1:1",
        "TOPIC_PREFIX": "nowhere.",
    }

    ended = await ask({**environment, variable: nowhere[variable]}, "audit", "--json")

    assert (ended.status, ended.out) == (2, "")
    assert "The audit could not be made:" in ended.err


async def test_an_audit_is_made_again_and_again_until_the_operator_has_seen_enough(
    environment: dict[str, str], kafka_settings: KafkaSettings, database: DatabaseSettings
) -> None:
    history = await write_history(kafka_settings, database)
    watching = await start(environment, "audit", "--watch", "--every", "0.1")
    assert watching.stderr is not None
    holds = await watching.stderr.readline()
    await change_ledger(database, f"update inventory set booked_count = 1 where room_id = 1 and date = '{FIRST}'")
    while b"failed" not in (fails := await watching.stderr.readline()):
        assert b"holds" in fails
    watching.send_signal(signal.SIGINT)
    ended = await end(watching)

    assert f"The audit holds ({counts_of(history)})." in holds.decode()
    assert b"The audit failed: counts match bookings, log matches ledger" in fails
    assert f"{COUNTS}: room 1, night {FIRST}" in ended.out
    assert (ended.status, "Traceback" in ended.err) == (1, False), ended.err


async def test_an_interrupt_ends_repeated_audits_that_hold_as_everything_else_that_is_watched(
    environment: dict[str, str], kafka_settings: KafkaSettings, database: DatabaseSettings
) -> None:
    await write_history(kafka_settings, database)
    watching = await start(environment, "audit", "--watch", "--every", "0.1")
    assert watching.stderr is not None
    assert b"holds" in await watching.stderr.readline()
    watching.send_signal(signal.SIGINT)
    ended = await end(watching)

    assert (ended.status, "Traceback" in ended.err) == (130, False), ended.err


# rebuild


async def test_a_rebuild_shows_its_plan_to_people_and_to_programs(environment: dict[str, str]) -> None:
    plain = await ask(environment, "rebuild", "all")
    machine = await ask(environment, "rebuild", "all", "--json")

    assert (plain.status, plain.out, machine.status) == (1, "", 1)
    assert (
        "booking_timeline would be made anew from the whole log, and replace the table booking_timeline." in plain.err
    )
    assert [json.loads(line) for line in machine.out.splitlines()] == [
        {"done": False, "projection": name, "tables": [table.name for table in projection.tables]}
        for name, projection in PROJECTIONS.items()
    ]
    assert "Nothing was done: add --yes" in machine.err


# new-generation


async def begin_generation(database: DatabaseSettings, topic: str) -> int:
    async with await psycopg.AsyncConnection.connect(database.conninfo(), autocommit=True) as connection:
        return await generation(connection, topic, "the broker's id")


async def test_a_new_generation_is_begun_only_when_the_operator_means_it(
    environment: dict[str, str], kafka_settings: KafkaSettings, database: DatabaseSettings
) -> None:
    topic = kafka_settings.topic_prefix + "booking.commands"
    before = await begin_generation(database, topic)

    asked = await ask(environment, "new-generation", "booking.commands")
    unchanged = await begin_generation(database, topic)
    done = await ask(environment, "new-generation", "booking.commands", "--yes")
    after = await begin_generation(database, topic)

    assert asked.status == 1
    assert f"A new generation of {topic} makes every consumer of it leave its cursors" in asked.err
    assert "Nothing was done: add --yes to do it." in asked.err
    assert unchanged == before
    assert done.status == 0, done.err
    assert after > before
    assert f"{topic} is in generation {after} now. Start the workers." in done.err


async def test_a_topic_that_nobody_has_read_has_no_generation_to_leave(
    environment: dict[str, str], kafka_settings: KafkaSettings, database: DatabaseSettings
) -> None:
    known = kafka_settings.topic_prefix + "booking.events"
    await begin_generation(database, known)

    ended = await ask(environment, "new-generation", "booking.comands", "--yes")

    assert ended.status == 1
    assert "No worker has read a topic" in ended.err
    assert f"Known: {known}." in ended.err


# help


@pytest.mark.parametrize("command", ["rebuild", "new-generation"])
def test_help_explains_a_call_without_yes(command: str) -> None:
    ended = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"})

    assert "Without it: print the plan, and end with exit status 1." in " ".join(ended.stdout.split())


@pytest.mark.process
@pytest.mark.parametrize(
    ("arguments", "explained"),
    [
        ((), "Bring the database to the newest schema"),
        (("migrate",), "Repeatable"),
        (("audit",), "0 <= booked + reserved + blocked <= total + allowance"),
        (("rebuild",), "Make a read model anew from the log"),
        (("new-generation",), "Continue with a log that was cut or replaced under its cursors"),
    ],
)
def test_help_explains_what_each_command_does(arguments: tuple[str, ...], explained: str) -> None:
    ended = CliRunner().invoke(app, [*arguments, "--help"], env={"COLUMNS": "100"})

    assert ended.exit_code == 0
    assert explained in " ".join(ended.stdout.split())
