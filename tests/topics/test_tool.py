"""`innkeeper topics`, as operators use it, on a real broker."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from operators.cli.main import app
from sandbox.kafka import Kafka
from sandbox.ports import free_port
from topics import __main__ as topics_tool
from topics.catalogue import CATALOGUE, DEAD_LETTERS
from topics.envelope import EVERY_VERSION
from topics.kafka import admin
from topics.kafka.settings import KafkaSettings

pytestmark = pytest.mark.process

Tool = Callable[..., Result]


@pytest.fixture
def tool(environment: dict[str, str]) -> Tool:
    def run(*arguments: str, **variables: str) -> Result:
        return CliRunner().invoke(app, arguments, env={**environment, "COLUMNS": "80", **variables})

    return run


def lines(result: Result) -> list[Any]:
    assert result.exit_code == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


class TestList:
    """The catalogue, without a broker."""

    def test_a_person_sees_every_topic(self) -> None:
        result = CliRunner().invoke(app, ["topics", "list"], env={"TOPIC_PREFIX": "blue."})

        assert result.exit_code == 0
        for topic in CATALOGUE:
            assert f"blue.{topic.name}" in result.stdout

    def test_a_terminal_of_80_columns_breaks_no_name(self) -> None:
        printed = CliRunner().invoke(app, ["topics", "list"], env={"TOPIC_PREFIX": "", "COLUMNS": "80"}).stdout

        assert max(map(len, printed.splitlines())) <= 80
        words = {word.rstrip(",;") for word in printed.split()}
        for topic in CATALOGUE:
            assert {topic.name, *topic.written_by, *topic.read_by} <= words

    def test_a_program_reads_one_object_a_line(self) -> None:
        rows = lines(CliRunner().invoke(app, ["topics", "list", "--json"]))

        assert [row["topic"] for row in rows] == [topic.name for topic in CATALOGUE]
        assert rows[0]["retention_seconds"] == 7 * 24 * 3600
        assert rows[1]["retention_seconds"] is None
        assert "booking.reserved.v1" in rows[1]["messages"]


class TestCreateAndCheck:
    """Making topics and comparing them with the catalogue."""

    def test_creating_again_changes_nothing(self, tool: Tool) -> None:
        result = tool("topics", "create")

        assert result.exit_code == 0
        assert result.stderr.count("there ") == len(CATALOGUE)

    def test_a_missing_topic_is_made(self, tool: Tool, kafka_settings: KafkaSettings) -> None:
        asyncio.run(admin.delete(kafka_settings, [DEAD_LETTERS]))

        result = tool("topics", "create")

        assert result.exit_code == 0
        assert f"created  {kafka_settings.topic(DEAD_LETTERS)}" in result.stderr
        assert tool("topics", "check").exit_code == 0

    def test_topics_that_no_process_may_start_with_are_no_success(self, tool: Tool) -> None:
        result = tool("topics", "create", TOPIC_PARTITIONS="5")

        assert result.exit_code == 1
        assert "has 4 partitions, not 5" in result.stderr

    def test_a_mismatch_is_reported_and_fails_the_check(self, tool: Tool) -> None:
        result = tool("topics", "check", TOPIC_REPLICATION="3")

        assert result.exit_code == 1
        assert "has 1 replicas, not 3" in result.stderr

    def test_a_program_reads_one_line_when_all_is_as_it_should_be(
        self, tool: Tool, kafka_settings: KafkaSettings
    ) -> None:
        assert lines(tool("topics", "check", "--json")) == [
            {"broker": kafka_settings.kafka_url, "topics": len(CATALOGUE), "differences": 0}
        ]

    def test_a_program_reads_mismatches_as_json(self, tool: Tool, kafka_settings: KafkaSettings) -> None:
        result = tool("topics", "check", "--json", TOPIC_PARTITIONS="5")

        assert result.exit_code == 1
        rows = [json.loads(line) for line in result.stdout.splitlines()]
        assert {row["topic"] for row in rows} == {kafka_settings.topic(topic) for topic in CATALOGUE}
        assert all(row["fatal"] and row["mend"] for row in rows)

    def test_a_broker_that_is_down_is_reported_in_one_sentence(self, tool: Tool) -> None:
        address = f"127.0.0.1:{free_port()}"
        for command in (["topics", "create"], ["topics", "check"], ["tail", "booking.events"]):
            result = tool(*command, KAFKA_URL=address)

            assert result.exit_code == 2
            assert f"The broker at {address} does not answer (KAFKA_URL)" in result.stderr
            assert "Traceback" not in result.stderr

    async def test_an_operator_may_start_before_the_broker(self, tmp_path: Path) -> None:
        kafka = Kafka(tmp_path)
        variables = {**os.environ, "KAFKA_URL": kafka.url, "TOPIC_PARTITIONS": "1"}
        program = [sys.executable, "-m", "operators", "topics", "create", "--wait", "120"]
        with subprocess.Popen(program, env=variables, stderr=subprocess.PIPE, text=True) as waiting:
            assert waiting.stderr is not None
            printed = await asyncio.to_thread(waiting.stderr.readline)
            async with kafka:
                status = await asyncio.to_thread(waiting.wait)
                rest = waiting.stderr.read()

        assert printed == f"No broker at {kafka.url} yet; waiting up to 120 s.\n"
        assert status == 0, rest
        assert rest.count("created ") == len(CATALOGUE)

    async def test_an_operator_may_start_before_all_brokers_of_the_cluster(
        self, kafka_settings: KafkaSettings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        create = admin.create
        missing = [2, 2]

        async def create_with_too_few(settings: KafkaSettings) -> list[str]:
            replication = settings.topic_replication + (missing.pop() if missing else 0)
            return await create(settings.model_copy(update={"topic_prefix": "few.", "topic_replication": replication}))

        monkeypatch.setattr(admin, "create", create_with_too_few)
        monkeypatch.setattr(topics_tool, "_RETRY_SECONDS", 0.01)
        try:
            created = await topics_tool._create_when_there(kafka_settings, 60)
        finally:
            await admin.delete(kafka_settings.model_copy(update={"topic_prefix": "few."}))

        assert len(created) == len(CATALOGUE)
        [line] = capsys.readouterr().err.splitlines()
        assert "replication factor of 3" in line
        assert line.endswith("Waiting up to 60 s.")


class TestSchema:
    """Schemas are for readers without our code."""

    def test_one_line_for_each_message(self) -> None:
        found = lines(CliRunner().invoke(app, ["topics", "schema"]))

        assert {each["$id"] for each in found} == {f"urn:innkeeper:{message_type}" for message_type in EVERY_VERSION}
        assert len(found) == len(EVERY_VERSION)
        [one] = lines(CliRunner().invoke(app, ["topics", "schema", "booking.reserved.v1"]))
        assert one["title"] == "BookingReserved"
        assert CliRunner().invoke(app, ["topics", "schema", "booking.reserved.v9"]).exit_code == 2


@pytest.mark.parametrize("command", ["list", "create", "check", "schema", "acls", "asyncapi"])
def test_every_command_explains_itself(command: str) -> None:
    result = CliRunner().invoke(app, ["topics", command, "--help"])

    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) > 8
