"""What an operator sees who restores a lost database, and the real trace restored."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from pydantic import SecretStr

from sandbox.kafka import available
from sandbox.replay import _course
from sandbox.system import Plan, System
from sandbox.trace import read_trace
from sandbox.trace_totals import totals
from storage.audit import audit
from storage.migrate import upgrade
from storage.settings import DatabaseSettings
from tests.storage.hotel import PAID, stay
from tests.storage.test_restore import nights_on_sale, work
from tests.storage.test_tool import run
from tests.support.log import open_log
from tests.support.stack import Server, fresh_database
from tests.trace.test_trace import TRACE
from topics.catalogue import BOOKING_EVENTS
from topics.settings import KafkaSettings
from workers.payments.settings import PaymentSettings
from workers.restoring import restore

pytestmark = pytest.mark.system

MOST_SECONDS = 60.0
NO_KAFKA = available()


@pytest.fixture
def new_database(postgres: Server, migrated: str) -> Iterator[DatabaseSettings]:
    """What stands in for the lost one."""
    with fresh_database(postgres.url, migrated) as url:
        yield DatabaseSettings(_env_file=None, database_url=SecretStr(url))


async def test_an_operator_is_told_what_would_be_done_does_it_once_and_is_refused_a_second_time(
    kafka_settings: KafkaSettings,
    database: DatabaseSettings,
    new_database: DatabaseSettings,
    environment: dict[str, str],
) -> None:
    async with open_log(kafka_settings) as log:
        await log.send(nights_on_sale(1), stay(PAID))
        await work(log, database)
    there = environment | {"DATABASE_URL": new_database.conninfo()}

    asked = await run(there, "restore", "--from-log")
    planned = await run(there, "restore", "--from-log", "--json")
    done = await run(there, "restore", "--from-log", "--yes", "--by", "Ana", "--json")
    again = await run(there, "restore", "--from-log", "--yes", "--json")

    assert (asked.status, done.status, again.status) == (1, 0, 1), asked.err + done.err + again.err
    assert "out of 2 records of" in asked.err
    assert "Nothing was done: add --yes" in asked.err
    assert "which dead letters were replayed or discarded, which roles are paused, and who did what" in asked.err
    topic = kafka_settings.topic(BOOKING_EVENTS)
    assert (planned.status, json.loads(planned.out)) == (1, {"done": False, "topic": topic, "records": 2})
    assert "dead letters" not in planned.err
    told = json.loads(done.out)
    assert (told["events"], told["bookings"], told["nights"], told["undecided"]) == (2, 1, 6, 0)
    assert json.loads(again.out)["detail"].startswith("The database is not empty")
    with psycopg.connect(new_database.conninfo()) as connection:
        assert connection.execute("select who, action from operator_action").fetchall() == [("Ana", "restore")]


async def test_reconciling_without_stripe_ends_with_a_sentence(environment: dict[str, str]) -> None:
    ended = await run(environment | {"STRIPE_API_URL": "http://127.0.0.1:9"}, "reconcile")

    assert ended.status == 2
    assert "Stripe does not answer /v1/checkout/sessions" in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.trace
@pytest.mark.timeout(400)
@pytest.mark.skipif(NO_KAFKA is not None, reason=NO_KAFKA or "")
async def test_the_real_trace_is_restored_within_a_minute_with_equal_totals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = read_trace(TRACE, rooms=1000)
    plan = Plan(
        folder=tmp_path,
        workers={"reservations": 1},
        ingress=False,
        stripe=False,
        own_servers=True,
        environment={"TOPIC_CREATE_TIME": "true"},
    )
    async with System(plan) as system:
        kafka = KafkaSettings(_env_file=None, kafka_url=system.kafka_url, topic_create_time=True)
        lost = DatabaseSettings(_env_file=None, database_url=SecretStr(system.database_url))
        async with _course(kafka, lost) as course:
            await course.send(steps)
            await course.until_decided(len(steps), lambda: None)
            await course.until_published()
            expected = await totals(course.connection)
        with fresh_database(system.database_url) as url:
            monkeypatch.setenv("DATABASE_URL", url)
            upgrade()
            database = DatabaseSettings(_env_file=None, database_url=SecretStr(url))
            began = time.monotonic()
            await restore(kafka, database, PaymentSettings(_env_file=None), who="a test")
            seconds = time.monotonic() - began
            async with await psycopg.AsyncConnection.connect(url) as connection:
                assert await totals(connection) == expected
            report = await audit(kafka, database)
    assert report.ok, list(report.problems())
    assert seconds < MOST_SECONDS
