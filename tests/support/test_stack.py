"""The servers that all other tests use: where they come from, and that each test has a corner of its own."""

import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from storage.settings import DatabaseSettings
from tests.support.servers import shared_server
from tests.support.stack import Server, kafka_container_environment, name_of, source_of, url_of
from topics.kafka.settings import KafkaSettings


@pytest.mark.parametrize(
    ("environment", "source"),
    [
        ({}, "sandbox"),
        ({"INNKEEPER_TEST_STACK": ""}, "sandbox"),
        ({"INNKEEPER_TEST_STACK": "sandbox"}, "sandbox"),
        ({"INNKEEPER_TEST_STACK": "testcontainers"}, "testcontainers"),
        ({"KAFKA_URL": "broker:9092"}, "given"),
        ({"KAFKA_URL": "broker:9092", "INNKEEPER_TEST_STACK": "testcontainers"}, "given"),
        ({"KAFKA_URL": "", "INNKEEPER_TEST_STACK": "testcontainers"}, "testcontainers"),
        ({"DATABASE_URL": "postgresql://db/innkeeper"}, "sandbox"),
    ],
)
def test_the_environment_names_the_source_of_a_server(environment: dict[str, str], source: str) -> None:
    assert source_of("KAFKA_URL", environment) == source


def test_an_unknown_stack_is_refused() -> None:
    with pytest.raises(ValueError, match="must be sandbox or testcontainers"):
        source_of("KAFKA_URL", {"INNKEEPER_TEST_STACK": "podman"})


def test_the_containers_broker_gives_clients_the_address_that_they_used() -> None:
    environment = kafka_container_environment("127.0.0.1:12345")

    assert environment["KAFKA_ADVERTISED_LISTENERS"] == "PLAINTEXT://127.0.0.1:12345"
    assert environment["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"


def test_an_address_can_name_another_database_of_its_server() -> None:
    url = url_of("postgresql://innkeeper:secret@db:5432/one?sslmode=require", "other")

    assert url == "postgresql://innkeeper:secret@db:5432/other?sslmode=require"
    assert name_of(url) == "other"


@pytest.mark.parametrize("turn", [1, 2])
def test_every_test_finds_the_schema_and_nobody_elses_rows(database: DatabaseSettings, turn: int) -> None:
    with psycopg.connect(database.conninfo()) as connection:
        assert connection.execute("select count(*) from booking").fetchone() == (0,)
        connection.execute("insert into topic_generation (topic, broker_id) values ('mine', %s)", (str(turn),))

    with psycopg.connect(database.conninfo()) as connection:
        rows = connection.execute("select broker_id from topic_generation where topic = 'mine'").fetchall()
    assert rows == [(str(turn),)]


def test_a_process_of_ours_reaches_this_tests_servers(
    environment: dict[str, str], database: DatabaseSettings, kafka_settings: KafkaSettings
) -> None:
    program = (
        "from storage.settings import DatabaseSettings; from topics.kafka.settings import KafkaSettings;"
        "print(DatabaseSettings().conninfo(), KafkaSettings().topic_prefix, KafkaSettings().topic_partitions)"
    )
    ended = subprocess.run([sys.executable, "-c", program], env=environment, check=True, capture_output=True, text=True)

    assert ended.stdout.split() == [database.conninfo(), kafka_settings.topic_prefix, "4"]


def test_a_forgotten_process_is_ended_and_reported(
    pytester: pytest.Pytester, pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(pytestconfig.rootpath))
    pytester.makeconftest("from tests.conftest import _no_process_is_left_behind  # noqa: F401")
    pytester.makepyfile(
        """
        import subprocess, sys
        def test_it():
            subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        """
    )

    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")

    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*left running: * time.sleep(600)*"])


def test_a_server_of_the_run_that_could_not_start_is_no_wait(tmp_path: Path) -> None:
    folder = tmp_path / "kafka"
    folder.with_name("kafka.failed").write_text("kafka ended with 1 before it was ready")

    with pytest.raises(RuntimeError, match="ended with 1"), shared_server(("127.0.0.1:9", str(folder))):
        pass


def test_a_shared_server_is_not_this_processs_own(tmp_path: Path) -> None:
    folder = tmp_path / "kafka"
    folder.with_name("kafka.ready").touch()

    with shared_server(("127.0.0.1:9", str(folder))) as server:
        assert server == Server(url="127.0.0.1:9")
