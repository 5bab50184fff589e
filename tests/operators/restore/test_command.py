"""`innkeeper restore` as an operator sees it after a lost database, and the real trace restored."""

import json
from collections.abc import Iterator, Sequence
from typing import Any
from uuid import UUID

import psycopg
import pytest
from pydantic import SecretStr

from operators.audit import audit
from operators.restore import restore
from sandbox.trace_totals import totals
from storage.migrate import upgrade
from storage.settings import DatabaseSettings
from tests.operators.decided_log import PAID, stay
from tests.operators.restore.test_restore import nights_on_sale, work
from tests.storage.test_tool import run
from tests.support.log import open_log
from tests.support.stack import Server, fresh_database
from tests.system.trace.replayed import ReplayedTrace
from topics.catalogue import BOOKING_EVENTS
from topics.kafka.settings import KafkaSettings
from topics.messages.commands import AddGuests
from workers.payments.settings import PaymentSettings

pytestmark = pytest.mark.system

#: The rows of an ordinary backup: the account, the hotel and the room of `stay(PAID)`.
BACKUP = (
    "insert into app_user (id, email, password_hash) values (7, 'ana', '')",
    "insert into hotel (id, name, city, currency) values (1, 'Mill', 'Porto', 'EUR')",
    "insert into room (id, hotel_id, type, base_price_minor, total_count, capacity) values (1, 1, 'double', 1, 1, 2)",
)


def describe(database: DatabaseSettings, *rows: str) -> None:
    """Load the rows of a backup."""
    with psycopg.connect(database.conninfo()) as connection:
        for row in rows:
            connection.execute(row.encode())


def backup_check(**counts: Sequence[int]) -> list[dict[str, Any]]:
    """Return the report on a backup that lacks nothing: [named, missing] by kind."""
    kinds = ("accounts", "guests", "hotels", "rooms", "promo codes", "guest lists")
    every = {kind: [0, 0] for kind in kinds} | {name.replace("_", " "): count for name, count in counts.items()}
    return [
        {"rows": what, "named": named, "missing": missing, "examples": []} for what, (named, missing) in every.items()
    ]


@pytest.fixture
def new_database(postgres: Server, migrated: str) -> Iterator[DatabaseSettings]:
    """The database that replaces the lost one."""
    with fresh_database(postgres.url, migrated) as url:
        yield DatabaseSettings(_env_file=None, database_url=SecretStr(url))


async def test_an_operator_sees_the_plan_carries_it_out_once_and_is_refused_a_second_time(
    kafka_settings: KafkaSettings,
    database: DatabaseSettings,
    new_database: DatabaseSettings,
    environment: dict[str, str],
) -> None:
    async with open_log(kafka_settings) as log:
        await log.send(nights_on_sale(1), stay(PAID))
        await work(log, database)
    there = environment | {"DATABASE_URL": new_database.conninfo()}
    describe(new_database, *BACKUP)

    asked = await run(there, "restore", "--from-log")
    planned = await run(there, "restore", "--from-log", "--json")
    done = await run(there, "restore", "--from-log", "--yes", "--by", "Ana", "--json")
    again = await run(there, "restore", "--from-log", "--yes", "--json")

    assert (asked.status, done.status, again.status) == (1, 0, 1), asked.err + done.err + again.err
    assert "from 2 records of" in asked.err
    assert "Nothing was done: add --yes" in asked.err
    assert "replayed and discarded dead letters, pauses, actions" in asked.err
    topic, complete = kafka_settings.topic(BOOKING_EVENTS), backup_check(accounts=[1, 0], hotels=[1, 0], rooms=[1, 0])
    would = {"done": False, "topic": topic, "records": 2, "backup_check": complete}
    assert (planned.status, json.loads(planned.out)) == (1, would)
    assert "dead letters" not in planned.err
    outcome = json.loads(done.out)
    assert (outcome["events"], outcome["bookings"], outcome["nights"], outcome["undecided"]) == (2, 1, 6, 0)
    assert outcome["backup_check"] == complete
    assert json.loads(again.out)["detail"].startswith("The database is not empty")
    with psycopg.connect(new_database.conninfo()) as connection:
        assert connection.execute("select who, action from operator_action").fetchall() == [("Ana", "restore")]


async def test_an_operator_sees_the_rows_that_an_old_backup_does_not_have(
    kafka_settings: KafkaSettings,
    database: DatabaseSettings,
    new_database: DatabaseSettings,
    environment: dict[str, str],
) -> None:
    late = (stay(UUID(int=100 + user_id), user_id=user_id) for user_id in range(11, 18))
    named = AddGuests(room_id=1, booking_id=PAID, user_id=7, guest_ids=(31, 32), guest_list_id=UUID(int=5))
    async with open_log(kafka_settings) as log:
        await log.send(nights_on_sale(1), nights_on_sale(2), stay(PAID), named, *late)
        await work(log, database)
    there = environment | {"DATABASE_URL": new_database.conninfo()}
    describe(new_database, *BACKUP, "insert into guest (id, user_id, name) values (31, 7, 'Ana')")

    asked = await run(there, "restore", "--from-log")
    planned = await run(there, "restore", "--from-log", "--json")
    done = await run(there, "restore", "--from-log", "--yes")

    assert (asked.status, planned.status, done.status) == (1, 1, 0), asked.err + planned.err + done.err
    assert json.loads(planned.out)["backup_check"] == [
        {"rows": "accounts", "named": 8, "missing": 7, "examples": [11, 12, 13, 14, 15]},
        {"rows": "guests", "named": 2, "missing": 1, "examples": [32]},
        {"rows": "hotels", "named": 1, "missing": 0, "examples": []},
        {"rows": "rooms", "named": 2, "missing": 1, "examples": [2]},
        {"rows": "promo codes", "named": 0, "missing": 0, "examples": []},
        {"rows": "guest lists", "named": 1, "missing": 1, "examples": [str(PAID)]},
    ]
    for text in (asked.err, done.out):
        rows = [" ".join(line.split()) for line in text.splitlines()]
        assert {"accounts 8 7 11, 12, 13, 14, 15, ...", "guests 2 1 32", "hotels 1 0 -", "rooms 2 1 2"} <= {*rows}, text
        assert f"guest lists 1 1 {PAID}" in rows, text


async def test_an_operator_who_forgot_the_backup_is_refused_without_the_option(
    kafka_settings: KafkaSettings,
    database: DatabaseSettings,
    new_database: DatabaseSettings,
    environment: dict[str, str],
) -> None:
    async with open_log(kafka_settings) as log:
        await log.send(nights_on_sale(1), stay(PAID))
        await work(log, database)
    there = environment | {"DATABASE_URL": new_database.conninfo()}
    account, *_ = BACKUP
    describe(new_database, account)

    planned = await run(there, "restore", "--from-log")
    refused = await run(there, "restore", "--from-log", "--yes", "--json")
    done = await run(there, "restore", "--from-log", "--yes", "--without-backup", "--json")

    assert (planned.status, refused.status, done.status) == (1, 1, 0), planned.err + refused.err + done.err
    assert "hotel and room are empty" in planned.err
    assert "--without-backup" in json.loads(refused.out)["detail"]
    rooms, _, guest_lists = json.loads(done.out)["backup_check"][-3:]
    assert rooms == {"rows": "rooms", "named": 1, "missing": 1, "examples": [1]}
    assert guest_lists == {"rows": "guest lists", "named": 0, "missing": 0, "examples": []}


async def test_reconciling_without_stripe_ends_with_a_sentence(environment: dict[str, str]) -> None:
    ended = await run(environment | {"STRIPE_API_URL": "http://127.0.0.1:9"}, "reconcile")

    assert ended.status == 2
    assert "Stripe does not answer /v1/checkout/sessions" in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.trace
@pytest.mark.timeout(900)
async def test_the_real_trace_is_restored_with_equal_totals(
    replayed_trace: ReplayedTrace, monkeypatch: pytest.MonkeyPatch
) -> None:
    kafka = replayed_trace.kafka
    with fresh_database(replayed_trace.database.conninfo()) as url:
        monkeypatch.setenv("DATABASE_URL", url)
        upgrade()
        database = DatabaseSettings(_env_file=None, database_url=SecretStr(url))

        restored = await restore(
            kafka, database, PaymentSettings(_env_file=None), operator="a test", without_backup=True
        )

        report = await audit(kafka, database)
        async with await psycopg.AsyncConnection.connect(url) as connection:
            counted = await totals(connection)
    assert (restored.bookings, restored.undecided, restored.unpublished) == (119_390, 0, 0)
    assert counted == {name: replayed_trace.result[name] for name in counted}
    assert report.ok, list(report.problems())
