"""The operations for operators: their answers, the roles they need, and their answers without a broker or database."""

from typing import Any
from uuid import uuid4

import psycopg
import pytest
from aiokafka import TopicPartition
from typer.testing import CliRunner

from operators import dead_letters
from operators.cli.main import app
from storage.cursors import CursorKey, create, generation, record_dead_letter
from storage.settings import DatabaseSettings
from tests.ingress.conftest import run_ingress_alone
from tests.ingress.house import STAY, House
from tests.ingress.people import open_connection
from tests.support.log import open_log
from topics.catalogue import BOOKING_COMMANDS, DEAD_LETTERS
from topics.envelope import Outgoing
from topics.kafka import admin
from topics.kafka.settings import KafkaSettings
from workers.runtime.records import dead_letter

ANYTHING = f"/v1/ops/bookings/{uuid4()}"
PATHS = ("/v1/ops/lag", ANYTHING, "/v1/ops/dead-letters")


def operator(house: House) -> dict[str, Any]:
    return {"headers": house.header_of(9, "GUEST", "OPERATOR")}


async def add_dead_letters(kafka: KafkaSettings, database: DatabaseSettings, *reasons: str) -> None:
    """Record one dead letter for each of the reasons: a command with a person's address in it."""
    name = kafka.topic(BOOKING_COMMANDS)
    async with open_log(kafka) as log, open_connection(database) as sql:
        for reason in reasons:
            await log.write(Outgoing(name, b"1", b"Ana Sousa, Rua do Ouro 1", [], 0))
            record = (await log.read(BOOKING_COMMANDS))[TopicPartition(name, 0)][-1]
            topic_generation = await generation(sql, name, "any")
            await record_dead_letter(sql, CursorKey("reservations", name, 0, topic_generation), record.offset, reason)
            await log.write(dead_letter(kafka.topic(DEAD_LETTERS), "reservations", record, reason))


async def test_only_operators_get_answers_and_they_are_no_hotel_managers(house: House) -> None:
    for path in PATHS:
        nobody = await house.get(path)
        guest = await house.get(path, user=1)
        manager = await house.get(path, headers=house.manager_header(1))

        assert (nobody.status, guest.status, manager.status) == (401, 403, 403), path
        assert manager.body == {"detail": "operators only"}

    answered = await house.get("/v1/admin/hotels", **operator(house))
    assert (answered.status, answered.body) == (403, {"detail": "hotel managers only"})


async def test_an_accepted_booking_is_explained_before_anybody_decided_it(house: House) -> None:
    accepted = await house.post("/v1/bookings/init", STAY, user=1)

    explained = await house.get(f"/v1/ops/bookings/{accepted.body['id']}", **operator(house))

    assert explained.status == 200, explained
    history = explained.body
    assert (history["booking_id"], history["status"], history["stay"]) == (accepted.body["id"], "PENDING", None)
    assert (history["request"]["user_id"], history["request"]["source"]) == (1, "innkeeper/ingress")
    assert [(step["kind"], step["what"]) for step in history["steps"]] == [
        ("request", "booking id made"),
        ("command", "booking.reserve.v1"),
    ]
    assert [(each["who"], each["behind"]) for each in history["awaited"]] == [("the reservations worker", 1)]


async def test_a_booking_that_nobody_made_is_not_found(house: House) -> None:
    answered = await house.get(ANYTHING, **operator(house))

    assert (answered.status, answered.body) == (404, {"detail": "no such booking"})


async def test_lag_counts_what_no_consumer_has_applied(
    house: House, kafka_settings: KafkaSettings, database: DatabaseSettings
) -> None:
    name = kafka_settings.topic(BOOKING_COMMANDS)
    async with open_connection(database) as sql:
        topic_generation = await generation(sql, name, (await admin.topic_ids(kafka_settings, [name]))[name])
        for partition in range(kafka_settings.topic_partitions):
            await create(sql, CursorKey("reservations", name, partition, topic_generation), 0)
    await house.post("/v1/bookings/init", STAY, user=1)

    response = await house.get("/v1/ops/lag", **operator(house))

    assert response.status == 200, response
    mine = [row for row in response.body if (row["consumer"], row["topic"]) == ("reservations", name)]
    assert len(mine) == kafka_settings.topic_partitions
    assert sum(row["lag"] for row in mine) == 1


async def test_dead_letters_are_listed_without_their_contents(
    house: House, kafka_settings: KafkaSettings, database: DatabaseSettings
) -> None:
    await add_dead_letters(kafka_settings, database, "Undecodable: the first", "Undecodable: the second")

    response = await house.get("/v1/ops/dead-letters", **operator(house))
    first = await house.get("/v1/ops/dead-letters?limit=1", **operator(house))

    assert response.status == 200, response
    assert [each["reason"] for each in response.body] == ["Undecodable: the second", "Undecodable: the first"]
    assert [each["origin"]["offset"] for each in response.body] == [1, 0]
    assert first.body == response.body[:1]
    assert "Ana" not in str(response.body)


async def test_dead_letters_are_listed_by_their_state(
    house: House, kafka_settings: KafkaSettings, database: DatabaseSettings
) -> None:
    await add_dead_letters(kafka_settings, database, "the first", "the second", "the third")
    async with await psycopg.AsyncConnection.connect(database.conninfo(), autocommit=True) as connection:
        *_, newest = await dead_letters.find_dead_letters(kafka_settings, connection)
        await dead_letters.discard(connection, newest, operator="ines", note="a test")

    async def reasons(query: str) -> list[str]:
        response = await house.get(f"/v1/ops/dead-letters?{query}", **operator(house))
        assert response.status == 200, response
        return [each["reason"] for each in response.body]

    assert await reasons("state=discarded") == ["the third"]
    assert await reasons("state=open") == await reasons("open_only=true") == ["the second", "the first"]
    assert await reasons("state=open&limit=1") == ["the second"]
    assert await reasons("state=open,discarded") == await reasons("state=open&state=discarded") == await reasons("")
    assert await reasons("state=replayed") == await reasons("state=discarded&open_only=true") == []
    refused = await house.get("/v1/ops/dead-letters?state=buried", **operator(house))
    assert (refused.status, [error["field"] for error in refused.body["errors"]]) == (422, ["state.0"])


@pytest.mark.process
async def test_while_the_broker_is_away_the_operator_is_asked_to_come_again() -> None:
    async with run_ingress_alone() as house:
        for path in PATHS:
            answered = await house.get(path, **operator(house))

            assert (answered.status, answered.headers["Retry-After"]) == (503, "2"), path


def test_the_command_line_makes_an_operator_and_writes_down_who_did(
    environment: dict[str, str], database: DatabaseSettings
) -> None:
    with psycopg.connect(database.conninfo(), autocommit=True) as sql:
        sql.execute("insert into app_user (email, password_hash) values ('anna@example.com', 'x')")
        for _ in range(2):
            done = CliRunner().invoke(
                app, ["accounts", "grant", "anna@example.com", "OPERATOR", "--by", "grace"], env=environment
            )
            assert done.exit_code == 0, done.output
        roles = sql.execute("select roles from app_user").fetchall()
        actions = sql.execute("select who, action, target from operator_action").fetchall()

    assert roles == [(["GUEST", "OPERATOR"],)]
    assert actions == [("grace", "grant", "user 1 OPERATOR")]


async def test_nobody_becomes_an_operator_over_http(house: House) -> None:
    for body in ({"roles": ["OPERATOR"]}, {"role": "OPERATOR"}):
        answered = await house.post("/v1/auth/signup", {"email": "b@example.com", "password": "correct horse"} | body)
        assert answered.status == 422, answered
    hosting = await house.post("/v1/users/host", user=1)
    assert "OPERATOR" not in str(hosting.body)
