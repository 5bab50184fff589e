"""`python -m topics`, as operators use it, on a real broker and a real database."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import aclosing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from typer.testing import CliRunner, Result

from operators.cli import console
from operators.cli.main import app
from sandbox.kafka import Kafka
from sandbox.ports import free_port
from tests.support.waiting import MAX_WAIT_SECONDS
from topics import pages
from topics.catalogue import BOOKING_COMMANDS, CATALOGUE, DEAD_LETTERS, STRIPE_WEBHOOKS
from topics.envelope import EVERY_VERSION, Outgoing, command_record
from topics.kafka import admin, log_reader
from topics.kafka.producer import open_producer
from topics.kafka.settings import KafkaSettings
from topics.messages.commands import AddGuests, Command, ExpireHold, ReserveStay

pytestmark = pytest.mark.process

BOOKING = UUID("01931f3e-9c4a-8d27-b6e1-5f0c2a7d9e48")
ANOTHER = UUID("01931f40-77aa-8b15-8d6e-3c5a7e9f1b2d")
Tool = Callable[..., Result]


@pytest.fixture
def tool(environment: dict[str, str]) -> Tool:
    def run(*arguments: str, **variables: str) -> Result:
        return CliRunner().invoke(app, arguments, env={**environment, "COLUMNS": "80", **variables})

    return run


@pytest.fixture
def timed(kafka_settings: KafkaSettings) -> KafkaSettings:
    """Topics that keep the time of each command, a second apart: the order of all partitions is then certain."""
    settings = kafka_settings.model_copy(update={"topic_create_time": True})
    asyncio.run(admin.delete(settings))
    asyncio.run(admin.create(settings))
    return settings


def lines(result: Result) -> list[Any]:
    assert result.exit_code == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def write(settings: KafkaSettings, records: Iterable[Outgoing]) -> None:
    async def send() -> None:
        async with open_producer(settings, client_id="test") as producer:
            await producer.send_all(records)

    asyncio.run(send())


def commands(settings: KafkaSettings, *given: Command) -> list[Outgoing]:
    began = datetime.now(UTC) - timedelta(minutes=5)
    return [
        command_record(
            settings.topic(BOOKING_COMMANDS),
            command,
            id=f"command-{number}",
            source="innkeeper/ingress",
            time=datetime(2026, 11, 22, 10, 15, tzinfo=UTC),
        )._replace(timestamp_ms=int((began + timedelta(seconds=number)).timestamp() * 1000))
        for number, command in enumerate(given)
    ]


def reserve(booking_id: UUID = BOOKING, room_id: int = 412) -> ReserveStay:
    return ReserveStay(
        room_id=room_id,
        booking_id=booking_id,
        user_id=7,
        hotel_id=37,
        check_in=date(2026, 12, 24),
        check_out=date(2026, 12, 26),
    )


STORY = (
    reserve(),
    reserve(ANOTHER, room_id=413),
    AddGuests(room_id=412, booking_id=BOOKING, user_id=7, guest_ids=(1, 2)),
    ExpireHold(room_id=413, booking_id=ANOTHER),
)


class TestList:
    """The catalogue, without a broker."""

    def test_a_person_sees_every_topic(self) -> None:
        result = CliRunner().invoke(app, ["list"], env={"TOPIC_PREFIX": "blue."})

        assert result.exit_code == 0
        for topic in CATALOGUE:
            assert f"blue.{topic.name}" in result.stdout

    def test_a_terminal_of_80_columns_breaks_no_name(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(console.out, "width", 80)

        told = CliRunner().invoke(app, ["list"], env={"TOPIC_PREFIX": ""}).stdout

        assert max(map(len, told.splitlines())) <= 80
        words = {word.rstrip(",;") for word in told.split()}
        for topic in CATALOGUE:
            assert {topic.name, *topic.written_by, *topic.read_by} <= words

    def test_a_program_reads_one_object_a_line(self) -> None:
        rows = lines(CliRunner().invoke(app, ["list", "--json"]))

        assert [row["topic"] for row in rows] == [topic.name for topic in CATALOGUE]
        assert rows[0]["retention_seconds"] == 7 * 24 * 3600
        assert rows[1]["retention_seconds"] is None
        assert "booking.reserved.v1" in rows[1]["messages"]


class TestCreateAndCheck:
    """Making topics and comparing them with the catalogue."""

    def test_creating_again_changes_nothing(self, tool: Tool) -> None:
        result = tool("create")

        assert result.exit_code == 0
        assert result.stderr.count("there ") == len(CATALOGUE)

    def test_a_missing_topic_is_made(self, tool: Tool, kafka_settings: KafkaSettings) -> None:
        asyncio.run(admin.delete(kafka_settings, [DEAD_LETTERS]))

        result = tool("create")

        assert result.exit_code == 0
        assert f"created  {kafka_settings.topic(DEAD_LETTERS)}" in result.stderr
        assert tool("check").exit_code == 0

    def test_topics_that_no_process_may_start_with_are_no_success(self, tool: Tool) -> None:
        result = tool("create", TOPIC_PARTITIONS="5")

        assert result.exit_code == 1
        assert "has 4 partitions, not 5" in result.stderr

    def test_a_mismatch_is_told_and_fails_the_check(self, tool: Tool) -> None:
        result = tool("check", TOPIC_REPLICATION="3")

        assert result.exit_code == 1
        assert "has 1 replicas, not 3" in result.stderr

    def test_a_program_reads_one_line_when_all_is_as_it_should_be(
        self, tool: Tool, kafka_settings: KafkaSettings
    ) -> None:
        assert lines(tool("check", "--json")) == [
            {"broker": kafka_settings.kafka_url, "topics": len(CATALOGUE), "differences": 0}
        ]

    def test_a_program_reads_mismatches_as_json(self, tool: Tool, kafka_settings: KafkaSettings) -> None:
        result = tool("check", "--json", TOPIC_PARTITIONS="5")

        assert result.exit_code == 1
        rows = [json.loads(line) for line in result.stdout.splitlines()]
        assert {row["topic"] for row in rows} == {kafka_settings.topic(topic) for topic in CATALOGUE}
        assert all(row["fatal"] and row["mend"] for row in rows)

    def test_a_broker_that_is_away_is_told_in_one_sentence(self, tool: Tool) -> None:
        address = f"127.0.0.1:{free_port()}"
        for command in (["create"], ["check"], ["tail", "booking.events"]):
            result = tool(*command, KAFKA_URL=address)

            assert result.exit_code == 2
            assert f"The broker at {address} does not answer (KAFKA_URL)" in result.stderr
            assert "Traceback" not in result.stderr

    async def test_an_operator_may_start_before_the_broker(self, tmp_path: Path) -> None:
        kafka = Kafka(tmp_path)
        variables = {**os.environ, "KAFKA_URL": kafka.url, "TOPIC_PARTITIONS": "1"}
        program = [sys.executable, "-m", "topics", "create", "--wait", "120"]
        with subprocess.Popen(program, env=variables, stderr=subprocess.PIPE, text=True) as waiting:
            assert waiting.stderr is not None
            told = await asyncio.to_thread(waiting.stderr.readline)
            async with kafka:
                status = await asyncio.to_thread(waiting.wait)
                rest = waiting.stderr.read()

        assert told == f"No broker at {kafka.url} yet; waiting up to 120 s.\n"
        assert status == 0, rest
        assert rest.count("created ") == len(CATALOGUE)


class TestTail:
    """Reading what stands on a topic."""

    def test_a_person_reads_one_record_a_line_in_the_order_of_the_log(self, tool: Tool, timed: KafkaSettings) -> None:
        write(timed, commands(timed, *STORY))

        result = tool("tail", "booking.commands")

        told = result.stdout.splitlines()
        assert [line.split()[2] for line in told] == [command.message_type for command in STORY]
        assert str(BOOKING) in told[0]
        assert "check_in=2026-12-24" in told[0]
        assert "guest_ids=[1, 2]" in told[2]

    def test_a_bookings_story_is_picked_from_the_whole_topic(self, tool: Tool, kafka_settings: KafkaSettings) -> None:
        noise = [reserve(UUID(int=number), room_id=number) for number in range(40)]
        write(kafka_settings, commands(kafka_settings, *STORY, *noise))

        found = lines(tool("tail", "booking.commands", "--booking", str(BOOKING), "--json"))

        assert [event["type"] for event in found] == ["booking.reserve.v1", "booking.add_guests.v1"]

    def test_records_come_as_cloud_events_with_their_place(self, tool: Tool, kafka_settings: KafkaSettings) -> None:
        write(kafka_settings, commands(kafka_settings, reserve()))

        [event] = lines(tool("tail", "booking.commands", "--json"))

        place = {name: event.pop(name) for name in list(event) if name.startswith("kafka")}
        assert event == {
            "specversion": "1.0",
            "id": "command-0",
            "type": "booking.reserve.v1",
            "source": "innkeeper/ingress",
            "subject": str(BOOKING),
            "time": "2026-11-22T10:15:00.000Z",
            "correlationid": "command-0",
            "partitionkey": "412",
            "datacontenttype": "application/json",
            "data": {
                "room_id": 412,
                "booking_id": str(BOOKING),
                "user_id": 7,
                "hotel_id": 37,
                "check_in": "2026-12-24",
                "check_out": "2026-12-26",
            },
        }
        assert place["kafkatopic"] == kafka_settings.topic(BOOKING_COMMANDS)
        assert place["kafkaoffset"] == 0

    def test_filters_can_be_combined(self, tool: Tool, timed: KafkaSettings) -> None:
        write(timed, commands(timed, *STORY))

        def types(*filters: str) -> list[tuple[str, str]]:
            found = lines(tool("tail", "booking.commands", "--json", *filters))
            return [(event["type"], event["partitionkey"]) for event in found]

        assert types("--room", "413") == [("booking.reserve.v1", "413"), ("booking.expire_hold.v1", "413")]
        assert types("--type", "booking.re*") == [("booking.reserve.v1", "412"), ("booking.reserve.v1", "413")]
        assert types("--type", "booking.re*", "--room", "413") == [("booking.reserve.v1", "413")]
        assert types("--room", "99") == []

    def test_only_the_last_records_unless_asked_for_more(self, tool: Tool, timed: KafkaSettings) -> None:
        many = commands(timed, *(reserve(UUID(int=number), room_id=number) for number in range(30)))
        write(timed, many)
        twentieth = datetime.fromtimestamp((many[20].timestamp_ms or 0) / 1000, UTC).isoformat()

        def rooms(*options: str) -> list[int]:
            return [event["data"]["room_id"] for event in lines(tool("tail", "booking.commands", "--json", *options))]

        assert rooms() == list(range(20, 30))
        assert rooms("--limit", "3") == [27, 28, 29]
        assert sorted(rooms("--from-beginning")) == list(range(30))
        assert len(rooms("--from-beginning", "--limit", "7")) == 7
        assert sorted(rooms("--since", "1h")) == list(range(30))
        assert sorted(rooms("--since", twentieth)) == list(range(20, 30))
        # So many seconds ago is later with each of them.
        youngest = sorted(rooms("--since", "285s"))
        assert youngest == list(range(30 - len(youngest), 30))
        assert len(youngest) <= 15
        assert rooms("--since", "2099-01-01") == []

    async def test_who_follows_sees_the_last_that_match_and_then_what_comes(
        self, environment: dict[str, str], timed: KafkaSettings
    ) -> None:
        *story, later = commands(timed, *STORY, ExpireHold(room_id=412, booking_id=BOOKING))
        program = [sys.executable, "-m", "operators", "tail", "booking.commands", "--follow", "--limit", "1", "--json"]
        async with open_producer(timed, client_id="test") as producer:
            await producer.send_all(story)
            with subprocess.Popen(
                [*program, "--booking", str(BOOKING)], env={**os.environ, **environment}, stdout=subprocess.PIPE
            ) as tail:
                assert tail.stdout is not None
                shown = [json.loads(await asyncio.to_thread(tail.stdout.readline))]
                await producer.send(later)
                shown.append(json.loads(await asyncio.to_thread(tail.stdout.readline)))
                tail.send_signal(signal.SIGINT)
                await asyncio.to_thread(tail.wait)

        assert [event["type"] for event in shown] == ["booking.add_guests.v1", "booking.expire_hold.v1"]

    def test_who_asks_for_what_is_not_there_is_told_so(self, tool: Tool, kafka_settings: KafkaSettings) -> None:
        empty = tool("tail", "booking.commands")
        assert (empty.exit_code, empty.stderr) == (0, "Nothing stands on booking.commands.\n")
        write(kafka_settings, commands(kafka_settings, reserve()))

        for wanted in (["--booking", str(ANOTHER)], ["--type", "booking.nothing.*"], ["--since", "2099-01-01"]):
            result = tool("tail", "booking.commands", *wanted)

            assert (result.exit_code, result.stderr) == (0, "Nothing on booking.commands matches.\n"), wanted
            assert not result.stdout
        assert len(lines(tool("tail", "booking.commands", "--json", "--booking", str(BOOKING).upper()))) == 1

    def test_in_a_terminal_no_word_of_a_record_is_broken(
        self, tool: Tool, kafka_settings: KafkaSettings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write(kafka_settings, commands(kafka_settings, reserve()))
        piped = tool("tail", "booking.commands").stdout
        monkeypatch.setattr(console.out, "width", 80)
        monkeypatch.setattr(console.out, "_force_terminal", True)

        shown = tool("tail", "booking.commands", NO_COLOR="1").stdout

        told = re.sub(r"\x1b\[[0-9;]*m", "", shown)
        assert len(told.splitlines()) > 1
        assert max(map(len, told.splitlines())) <= 80
        assert told.split() == piped.split()

    def test_foreign_bytes_are_shown_as_what_they_are(self, tool: Tool, kafka_settings: KafkaSettings) -> None:
        name = kafka_settings.topic(STRIPE_WEBHOOKS)
        webhook = {"id": "evt_1", "type": "checkout.session.completed", "data": {"booking_id": str(BOOKING)}}
        write(
            kafka_settings,
            [
                Outgoing(name, b"412", json.dumps(webhook).encode(), []),
                Outgoing(name, b"412", b"\xff\x00[red]", []),
            ],
        )

        paid, junk = lines(tool("tail", "stripe.webhooks", "--json"))

        assert (paid["id"], paid["type"], paid["data"]) == ("evt_1", "checkout.session.completed", webhook)
        assert (junk["type"], junk["data_base64"]) == ("unreadable", "/wBbcmVkXQ==")
        assert len(lines(tool("tail", "stripe.webhooks", "--json", "--booking", str(BOOKING)))) == 1
        assert len(tool("tail", "stripe.webhooks").stdout.splitlines()) == 2

    def test_a_person_may_read_the_headers_too(self, tool: Tool, kafka_settings: KafkaSettings) -> None:
        [record] = commands(kafka_settings, reserve())
        write(kafka_settings, [record._replace(headers=[*record.headers, ("odd", b"[red]\xff")])])

        _, *headers = tool("tail", "booking.commands", "--headers").stdout.splitlines()

        assert "    ce_id: command-0" in headers
        assert "    ce_type: booking.reserve.v1" in headers
        assert headers[-1] == "    odd: [red]\\xff"

    @pytest.mark.system
    async def test_following_waits_for_a_broker_that_goes_away_and_comes_back(self, tmp_path: Path) -> None:
        async with Kafka(tmp_path) as kafka:
            settings = KafkaSettings(_env_file=None, kafka_url=kafka.url, topic_partitions=2)
            await admin.create(settings)
            first, second = commands(settings, reserve(), ExpireHold(room_id=412, booking_id=BOOKING))
            await asyncio.to_thread(write, settings, [first])
            coming = log_reader.read(
                settings, settings.topic(BOOKING_COMMANDS), log_reader.Wanted(), since=None, last=None, follow=True
            )
            async with aclosing(coming):
                shown = [(await anext(coming)).offset]
                waiting = asyncio.ensure_future(anext(coming))
                await kafka.kill()
                await kafka.start()
                await asyncio.to_thread(write, settings, [second])
                shown.append((await asyncio.wait_for(waiting, MAX_WAIT_SECONDS)).offset)

        assert shown == [0, 1]

    async def test_following_shows_what_comes_until_ctrl_c(
        self, environment: dict[str, str], kafka_settings: KafkaSettings
    ) -> None:
        first, second = commands(kafka_settings, reserve(), ExpireHold(room_id=412, booking_id=BOOKING))
        program = [sys.executable, "-m", "operators", "tail", "booking.commands", "--follow", "--json"]
        async with open_producer(kafka_settings, client_id="test") as producer:
            await producer.send(first)
            with subprocess.Popen(
                program, env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            ) as tail:
                assert tail.stdout is not None
                shown = [json.loads(await asyncio.to_thread(tail.stdout.readline))]
                await producer.send(second)
                shown.append(json.loads(await asyncio.to_thread(tail.stdout.readline)))
                tail.send_signal(signal.SIGINT)
                _, errors = await asyncio.to_thread(tail.communicate)

        assert [event["id"] for event in shown] == ["command-0", "command-1"]
        assert tail.returncode == 130
        assert "Traceback" not in errors

    @pytest.mark.parametrize(
        ("arguments", "told"),
        [
            (["tail", "booking.rumours"], "there is no topic booking.rumours"),
            (["tail", "booking.events", "--since", "yesterday"], "nor an ISO time"),
            (["tail", "booking.events", "--booking", "foo"], "foo is no booking's id"),
            (["tail", "booking.events", "-f", "--limit", "1", "--from-beginning"], "leave out --from-beginning"),
        ],
    )
    def test_a_wrong_question_is_answered_with_what_can_be_asked(self, arguments: Sequence[str], told: str) -> None:
        result = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})

        assert result.exit_code == 2
        assert told in result.stderr

    def test_a_topic_that_was_never_made_is_told(self, tool: Tool) -> None:
        result = tool("tail", "booking.events", TOPIC_PREFIX="nobody.")

        assert result.exit_code == 1
        assert "nobody.booking.events does not exist" in result.stderr


class TestSchema:
    """Schemas for those who read without our code."""

    def test_one_line_for_each_message(self) -> None:
        found = lines(CliRunner().invoke(app, ["schema"]))

        assert {each["$id"] for each in found} == {f"urn:innkeeper:{message_type}" for message_type in EVERY_VERSION}
        assert len(found) == len(EVERY_VERSION)
        [one] = lines(CliRunner().invoke(app, ["schema", "booking.reserved.v1"]))
        assert one["title"] == "BookingReserved"
        assert CliRunner().invoke(app, ["schema", "booking.reserved.v9"]).exit_code == 2


class TestDocs:
    """Pages that the code writes."""

    @pytest.fixture
    def checkout(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setattr(pages, "PAGES", {"docs/one.md": lambda: "one\n", ".two": lambda: "two\n"})
        monkeypatch.setattr(pages, "ROOT", tmp_path)
        return tmp_path

    def test_they_are_written_once_and_then_left_alone(self, checkout: Path) -> None:
        assert CliRunner().invoke(app, ["docs"]).stderr.splitlines() == ["wrote docs/one.md", "wrote .two"]
        assert CliRunner().invoke(app, ["docs"]).stderr == ""
        assert (checkout / "docs" / "one.md").read_text() == "one\n"

    def test_the_check_writes_nothing_and_names_what_differs(self, checkout: Path) -> None:
        (checkout / ".two").write_text("two\n")

        result = CliRunner().invoke(app, ["docs", "--check"])

        assert result.exit_code == 1
        assert "Not what the code says: docs/one.md." in result.stderr
        assert not (checkout / "docs").exists()

    def test_the_check_is_content_when_all_is_as_the_code_says(self, checkout: Path) -> None:
        CliRunner().invoke(app, ["docs"])

        assert CliRunner().invoke(app, ["docs", "--check"]).exit_code == 0


@pytest.mark.parametrize("command", ["list", "create", "check", "tail", "lag", "actions", "schema", "docs"])
def test_every_command_explains_itself(command: str) -> None:
    result = CliRunner().invoke(app, [command, "--help"])

    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) > 8
