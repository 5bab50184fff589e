"""`innkeeper lag`: how far each consumer is behind, on a real broker and a real database."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from aiokafka import AIOKafkaConsumer
from typer.testing import CliRunner, Result

from operators.cli import console
from operators.cli import lag as cli_lag
from operators.cli.main import app
from operators.lag import Lag, lags, totals, with_rates
from sandbox.ports import free_port
from storage import pauses
from storage.settings import DatabaseSettings
from tests.operators.cli.test_tail import commands, lines, reserve, write
from tests.support.waiting import MAX_WAIT_SECONDS, wait_until
from topics.catalogue import BOOKING_COMMANDS, CATALOGUE
from topics.consumers import CONSUMERS
from topics.kafka import admin
from topics.kafka.settings import KafkaSettings
from workers import coordination, projections
from workers.payments.consumer import Payments
from workers.reservations import handler

pytestmark = pytest.mark.system

Tool = Callable[..., Result]
#: One look, and so no rates.
AT_ONCE = ("lag", "--interval", "0")


@pytest.fixture
def tool(environment: dict[str, str]) -> Tool:
    def run(*arguments: str, **variables: str) -> Result:
        return CliRunner().invoke(app, arguments, env={**environment, **variables})

    return run


def cursors(database: DatabaseSettings, settings: KafkaSettings, broker_id: str, applied: int) -> None:
    """Let `reservations` have applied so much of each partition, in a generation of the topic."""
    name = settings.topic(BOOKING_COMMANDS)
    with psycopg.connect(database.conninfo()) as connection:
        found = connection.execute(
            "insert into topic_generation (topic, broker_id) values (%s, %s) returning id", (name, broker_id)
        ).fetchone()
        assert found is not None
        connection.execute(
            "insert into log_cursor (consumer, topic, partition, generation, applied) "
            "select 'reservations', %s, partition, %s, %s from generate_series(0, 3) partition",
            (name, found[0], applied),
        )


def broker_id(settings: KafkaSettings) -> str:
    name = settings.topic(BOOKING_COMMANDS)
    return asyncio.run(admin.topic_ids(settings, [name]))[name]


def five_commands_for_each_partition(settings: KafkaSettings) -> None:
    [record] = commands(settings, reserve())
    write(settings, [record._replace(partition=partition) for partition in range(4) for _ in range(5)])


def of_reservations(result: Result) -> list[dict[str, Any]]:
    return [row for row in lines(result) if row["consumer"] == "reservations"]


def test_it_is_the_cursor_against_the_end_of_the_log(
    tool: Tool, database: DatabaseSettings, kafka_settings: KafkaSettings
) -> None:
    five_commands_for_each_partition(kafka_settings)
    cursors(database, kafka_settings, broker_id(kafka_settings), applied=2)

    rows = of_reservations(tool(*AT_ONCE, "--json"))

    assert [(row["partition"], row["applied"], row["end"], row["lag"]) for row in rows] == [
        (partition, 2, 5, 2) for partition in range(4)
    ]
    assert {row["role"] for row in rows} == {"reservations"}
    assert all(0 < row["seconds"] < 3600 for row in rows)
    shown = tool(*AT_ONCE).stdout.splitlines()
    assert [line.split()[:3] for line in shown if "reservations" in line] == [
        ["reservations", "booking.commands", "8"],
        *(["reservations", f"booking.commands[{partition}]", "3/5"] for partition in range(4)),
    ]


def test_a_terminal_of_80_columns_shows_every_name_in_one_piece(
    tool: Tool, database: DatabaseSettings, kafka_settings: KafkaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    five_commands_for_each_partition(kafka_settings)
    cursors(database, kafka_settings, broker_id(kafka_settings), applied=2)
    monkeypatch.setattr(console.out, "width", 80)

    result = tool("lag", "--interval", "0.1")

    reported = result.stdout.splitlines()
    assert max(map(len, reported)) <= 80
    words = result.stdout.split()
    assert {each.name for each in CONSUMERS} | {topic.name for each in CONSUMERS for topic in each.topics} <= {*words}
    assert {f"booking.commands[{partition}]" for partition in range(4)} <= {*words}
    assert words.count("3/5") == 4
    # Nothing is lost: cells without room are written below their row.
    assert reported[2].startswith("reservations")
    assert reported[3] == "    caught up never; read by nobody"


def test_it_counts_how_long_the_first_record_that_waits_has_waited(
    tool: Tool, database: DatabaseSettings, kafka_settings: KafkaSettings
) -> None:
    asyncio.run(admin.delete(kafka_settings))
    asyncio.run(admin.create(kafka_settings.model_copy(update={"topic_create_time": True})))
    [record] = commands(kafka_settings, reserve())
    # Whole seconds: a float of so many is exact.
    now = datetime.now(UTC).replace(microsecond=0)
    ages = [timedelta(hours=3), timedelta(minutes=2), timedelta(minutes=1)]
    write(
        kafka_settings,
        [record._replace(partition=0, timestamp_ms=int((now - age).timestamp() * 1000)) for age in ages],
    )
    cursors(database, kafka_settings, broker_id(kafka_settings), applied=0)

    first, *others = of_reservations(tool(*AT_ONCE, "--json"))

    assert 120 <= first["seconds"] < 3600
    assert [row["seconds"] for row in others] == [0, 0, 0]
    by_its_own_clock = of_reservations(tool(*AT_ONCE, "--json", TOPIC_CREATE_TIME="true"))
    assert by_its_own_clock[0]["seconds"] == 60


@pytest.mark.parametrize(("generation", "applied", "lag"), [("another", -1, 5), ("this", 4, 0)])
def test_only_the_cursor_of_the_topics_present_generation_counts(  # noqa: PLR0917 - fixtures
    generation: str, applied: int, lag: int, tool: Tool, database: DatabaseSettings, kafka_settings: KafkaSettings
) -> None:
    five_commands_for_each_partition(kafka_settings)
    cursors(database, kafka_settings, "another generation", applied=1000)
    if generation == "this":
        cursors(database, kafka_settings, broker_id(kafka_settings), applied=4)

    rows = of_reservations(tool(*AT_ONCE, "--json"))

    assert [(row["applied"], row["lag"], row["started"]) for row in rows] == [(applied, lag, generation == "this")] * 4


def test_a_limit_makes_it_an_alarm(tool: Tool, database: DatabaseSettings, kafka_settings: KafkaSettings) -> None:
    five_commands_for_each_partition(kafka_settings)
    cursors(database, kafka_settings, broker_id(kafka_settings), applied=2)

    assert tool(*AT_ONCE, "--limit", "2", "--limit-seconds", "3600").exit_code == 0
    exceeded = tool(*AT_ONCE, "--limit", "1")
    assert exceeded.exit_code == 1
    assert "More than 1 record behind: reservations in" in exceeded.stderr
    late = tool(*AT_ONCE, "--limit-seconds", "0")
    assert late.exit_code == 1
    assert "More than 0 s behind: reservations in" in late.stderr


def test_a_consumer_that_never_ran_is_shown(tool: Tool, kafka_settings: KafkaSettings) -> None:
    rows = lines(tool(*AT_ONCE, "--json"))

    assert {(row["consumer"], row["role"]) for row in rows} == {(each.name, each.role) for each in CONSUMERS}
    assert {(row["applied"], row["lag"], row["started"], row["owner"]) for row in rows} == {(-1, 0, False, None)}
    assert tool(*AT_ONCE).stdout.count("never ran") == len({(row["consumer"], row["topic"]) for row in rows})


def test_the_house_has_the_consumers_that_its_workers_are(
    kafka_settings: KafkaSettings, database: DatabaseSettings
) -> None:
    built = [
        handler.build(kafka_settings, database),
        projections.build(kafka_settings, database),
        coordination.build(kafka_settings, database),
    ]
    found = {(each.name, role.name, each.topics) for role in built for each in role.consumers}
    found.add((Payments.name, "payments", Payments.topics))

    assert {(each.name, each.role, each.topics) for each in CONSUMERS} == found


async def test_each_partition_is_shown_with_its_reader_and_its_roles_pause(
    kafka_settings: KafkaSettings, database: DatabaseSettings
) -> None:
    group = kafka_settings.group("payments")
    async with (
        await psycopg.AsyncConnection.connect(database.conninfo(), autocommit=True) as connection,
        AIOKafkaConsumer(
            *(kafka_settings.topic(topic) for topic in CATALOGUE[1:3]),
            bootstrap_servers=kafka_settings.kafka_url,
            group_id=group,
            client_id="payments-7",
        ) as consumer,
    ):
        await pauses.begin(connection, "projections", who="anna", reason=None)

        async def looked() -> list[Lag]:
            found = await lags(kafka_settings, connection)
            return found if any(lag.owner for lag in found) else []

        assert consumer.assignment() is not None
        found = await wait_until(looked)

    assert {(lag.role, lag.owner, lag.host) for lag in found} == {
        ("reservations", None, None),
        ("payments", "payments-7", "127.0.0.1"),
        ("projections", None, None),
        ("coordination", None, None),
    }
    assert {lag.role for lag in found if lag.paused} == {"projections"}
    assert {(total.members, total.unassigned) for total in totals(found) if total.consumer == "payments"} == {
        (("payments-7",), 0)
    }


def test_a_pause_that_begins_meanwhile_is_shown_in_the_table_and_below_it_or_in_neither(
    tool: Tool, database: DatabaseSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def then_paused(*arguments: Any) -> list[Lag]:
        found = await lags(*arguments)
        async with await psycopg.AsyncConnection.connect(database.conninfo(), autocommit=True) as connection:
            await pauses.begin(connection, "payments", who="anna", reason=None)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(cli_lag, "lags", then_paused)
        during = tool(*AT_ONCE)
    after = tool(*AT_ONCE)

    assert "paused" not in during.stdout + during.stderr
    assert ("paused" in after.stdout, "payments is paused" in after.stderr) == (True, True)


def test_a_worker_that_makes_no_calls_to_stripe_is_named_with_the_number_of_calls_that_are_due(
    tool: Tool, database: DatabaseSettings
) -> None:
    with psycopg.connect(database.conninfo()) as connection:
        for number, status in enumerate(("creating", "closing", "open"), start=1):
            # The last has been answered: no call to Stripe is left.
            connection.execute(
                "insert into checkout_session (booking_id, attempt, room_id, status, params, idempotency_key,"
                " expires_at, causation, correlation, next_attempt_at)"
                " values (gen_random_uuid(), %s, 7, %s, '{}', %s, now(), '', '', now())",
                (number, status, status),
            )
        connection.execute(
            "insert into stripe_circuit (worker, state, since, reason) values ('host:7', 'open', '2026-11-30 12:00Z',"
            " 'it is away')"
        )

    result = tool(*AT_ONCE)

    assert result.exit_code == 0, result.output
    line = "Stripe: open since 2026-11-30 12:00:00 UTC for host:7, it is away; 2 calls due."
    assert line in " ".join(result.stderr.split())
    assert "Stripe" not in result.stdout


SEEN = datetime(2026, 11, 23, tzinfo=UTC)


def seen(seconds: float, applied: int, end: int, partition: int = 0) -> Lag:
    return Lag(
        consumer="reservations",
        topic="booking.commands",
        partition=partition,
        applied=applied,
        end=end,
        lag=end - applied - 1,
        last_time=None,
        seen_at=SEEN + timedelta(seconds=seconds),
    )


@pytest.mark.parametrize(
    ("before", "after", "rate", "caught_up_seconds"),
    [
        (seen(0, 99, 1000), seen(2, 299, 1000), 100.0, 7.0),
        (seen(0, 99, 1000), seen(2, 299, 1100), 100.0, 16.0),
        (seen(0, 99, 1000), seen(2, 299, 1400), 100.0, None),
        (seen(0, 99, 1000), seen(2, 99, 1000), 0.0, None),
        (seen(0, 99, 100), seen(2, 99, 100), 0.0, 0.0),
    ],
)
def test_two_measurements_give_the_time_until_it_is_caught_up(
    before: Lag, after: Lag, rate: float, caught_up_seconds: float | None
) -> None:
    [reported] = with_rates([before], [after])
    assert replace(reported, still_seconds=None) == replace(after, rate=rate, caught_up_seconds=caught_up_seconds)
    assert with_rates([], [after]) == [after]


def test_a_consumer_is_caught_up_when_its_last_partition_is() -> None:
    before = [seen(0, 99, 1000, partition=0), seen(0, 99, 500, partition=1)]
    after = [seen(1, 199, 1000, partition=0), seen(1, 199, 500, partition=1)]

    [total] = totals(with_rates(before, after))

    assert (total.lag, total.rate, total.caught_up_seconds) == (1100, 200.0, 8.0)


def test_a_cursor_that_does_not_move_while_records_wait_is_still_for_as_long_as_it_is_watched() -> None:
    looks = [seen(0, 99, 100), seen(2, 99, 105), seen(4, 99, 105), seen(6, 99, 110), seen(8, 100, 110)]

    reported = [looks[0]]
    for look in looks[1:]:
        reported += with_rates([reported[-1]], [look])

    # Records that came after the first look may have come only just before the second.
    assert [each.still_seconds for each in reported] == [None, None, 2.0, 4.0, None]


@pytest.mark.parametrize(("moved", "state"), [((0, 0), "stalled"), ((0, 9), "1 of 2 stalled"), ((9, 9), "reads")])
def test_a_consumer_whose_reader_hangs_is_not_shown_as_reading(moved: Sequence[int], state: str) -> None:
    before = [replace(seen(0, 99, 1000, partition=number), owner="reservations-1") for number in range(2)]
    after = [
        replace(lag, applied=lag.applied + by, seen_at=SEEN + timedelta(seconds=1))
        for lag, by in zip(before, moved, strict=True)
    ]

    [total] = totals(with_rates(before, after))

    assert cli_lag._state(total) == state


async def test_a_worker_that_is_frozen_is_shown_as_stalled(
    kafka_settings: KafkaSettings, database: DatabaseSettings
) -> None:
    cursors(database, kafka_settings, await asyncio.to_thread(broker_id, kafka_settings), applied=-1)
    topic = kafka_settings.topic(BOOKING_COMMANDS)
    # As a process that hangs: the broker has it as a member until its session ends, and nothing is processed.
    async with AIOKafkaConsumer(
        topic, bootstrap_servers=kafka_settings.kafka_url, group_id=kafka_settings.group("reservations")
    ):
        await asyncio.to_thread(five_commands_for_each_partition, kafka_settings)

        async def looked() -> list[Lag]:
            found = [lag for lag in await lags(kafka_settings, database) if lag.consumer == "reservations"]
            return found if all(lag.owner for lag in found) else []

        first = await wait_until(looked)
        second = [replace(lag, seen_at=lag.seen_at + timedelta(seconds=12)) for lag in await wait_until(looked)]

    [total] = totals(with_rates(first, second))
    assert (total.behind, total.stalled, cli_lag._state(total)) == (4, 4, "stalled")


def test_a_watcher_gets_a_line_for_each_look_and_ends_at_the_limit(
    environment: dict[str, str], database: DatabaseSettings, kafka_settings: KafkaSettings
) -> None:
    cursors(database, kafka_settings, broker_id(kafka_settings), applied=-1)
    program = [sys.executable, "-m", "operators", "lag", "--watch", "--interval", "0.1", "--json", "--limit", "4"]

    with subprocess.Popen(
        program, env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as watching:
        assert watching.stdout is not None
        looks = [json.loads(watching.stdout.readline()) for _ in range(2)]
        five_commands_for_each_partition(kafka_settings)
        _, reported = watching.communicate(timeout=MAX_WAIT_SECONDS)

    assert looks[0]["at"] < looks[1]["at"]
    assert [look["lags"][0]["rate"] for look in looks] == [None, 0.0]
    assert watching.returncode == 1
    assert "More than 4 records behind: reservations in" in reported


def test_a_watcher_leaves_at_ctrl_c(environment: dict[str, str]) -> None:
    program = [sys.executable, "-m", "operators", "lag", "--watch", "--interval", "0.1"]
    with subprocess.Popen(
        program, env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as watching:
        assert watching.stdout is not None
        while "booking_timeline" not in watching.stdout.readline():
            assert watching.poll() is None
        watching.send_signal(signal.SIGINT)
        _, reported = watching.communicate(timeout=MAX_WAIT_SECONDS)

    assert watching.returncode == 130
    assert reported == ""


def test_a_database_that_is_away_is_reported_in_one_sentence(tool: Tool) -> None:
    result = tool(*AT_ONCE, DATABASE_URL=f"postgresql://innkeeper:secret@127.0.0.1:{free_port()}/innkeeper")

    assert result.exit_code == 2
    assert "(DATABASE_URL)" in result.stderr
    assert "secret" not in result.stderr
    assert "Traceback" not in result.stderr
