"""`innkeeper tail`: the records of a topic as operators see them, on a real broker."""

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
from tests.support.waiting import MAX_WAIT_SECONDS
from topics.catalogue import BOOKING_COMMANDS, STRIPE_WEBHOOKS
from topics.envelope import Outgoing, command_record
from topics.kafka import admin, log_reader
from topics.kafka.producer import open_producer
from topics.kafka.settings import KafkaSettings
from topics.messages.commands import AddGuests, ClaimCode, Command, ExpireHold, ReserveStay, ReturnCode

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


def test_a_person_reads_one_record_a_line_in_the_order_of_the_log(tool: Tool, timed: KafkaSettings) -> None:
    write(timed, commands(timed, *STORY))

    result = tool("tail", "booking.commands")

    shown = result.stdout.splitlines()
    assert [line.split()[2] for line in shown] == [command.message_type for command in STORY]
    assert str(BOOKING) in shown[0]
    assert "check_in=2026-12-24" in shown[0]
    assert "guest_ids=[1, 2]" in shown[2]


def test_a_bookings_story_is_picked_from_the_whole_topic(tool: Tool, kafka_settings: KafkaSettings) -> None:
    noise = [reserve(UUID(int=number), room_id=number) for number in range(40)]
    write(kafka_settings, commands(kafka_settings, *STORY, *noise))

    found = lines(tool("tail", "booking.commands", "--booking", str(BOOKING), "--json"))

    assert [event["type"] for event in found] == ["booking.reserve.v1", "booking.add_guests.v1"]


def test_records_come_as_cloud_events_with_their_place(tool: Tool, kafka_settings: KafkaSettings) -> None:
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


def test_filters_can_be_combined(tool: Tool, timed: KafkaSettings) -> None:
    # A promo code and a hotel may have the number of a room.
    others: Sequence[Command] = (ReturnCode(code_id=413, booking_id=ANOTHER), ClaimCode(code_id=99, reserve=reserve()))
    write(timed, commands(timed, *STORY, *others))

    def types(*filters: str) -> list[tuple[str, str]]:
        found = lines(tool("tail", "booking.commands", "--json", *filters))
        return [(event["type"], event["partitionkey"]) for event in found]

    assert types("--room", "413") == [("booking.reserve.v1", "413"), ("booking.expire_hold.v1", "413")]
    assert types("--type", "booking.re*") == [("booking.reserve.v1", "412"), ("booking.reserve.v1", "413")]
    assert types("--type", "booking.re*", "--room", "413") == [("booking.reserve.v1", "413")]
    assert types("--room", "99") == []
    assert types("--type", "code.*") == [("code.return.v1", "413"), ("code.claim.v1", "99")]
    assert types("--booking", str(BOOKING), "--type", "code.*") == [("code.claim.v1", "99")]


def test_only_the_last_records_unless_asked_for_more(tool: Tool, timed: KafkaSettings) -> None:
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


async def test_following_shows_the_last_records_that_match_and_then_new_ones(
    environment: dict[str, str], timed: KafkaSettings
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


def test_an_empty_topic_and_a_filter_without_matches_are_reported(tool: Tool, kafka_settings: KafkaSettings) -> None:
    empty = tool("tail", "booking.commands")
    assert (empty.exit_code, empty.stderr) == (0, "booking.commands is empty.\n")
    write(kafka_settings, commands(kafka_settings, reserve()))

    for wanted in (["--booking", str(ANOTHER)], ["--type", "booking.nothing.*"], ["--since", "2099-01-01"]):
        result = tool("tail", "booking.commands", *wanted)

        assert (result.exit_code, result.stderr) == (0, "Nothing on booking.commands matches.\n"), wanted
        assert not result.stdout
    assert len(lines(tool("tail", "booking.commands", "--json", "--booking", str(BOOKING).upper()))) == 1


def test_in_a_terminal_no_word_of_a_record_is_broken(
    tool: Tool, kafka_settings: KafkaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(kafka_settings, commands(kafka_settings, reserve()))
    piped = tool("tail", "booking.commands").stdout
    monkeypatch.setattr(console.out, "width", 80)
    monkeypatch.setattr(console.out, "_force_terminal", True)

    shown = tool("tail", "booking.commands", NO_COLOR="1").stdout

    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown)
    assert len(plain.splitlines()) > 1
    assert max(map(len, plain.splitlines())) <= 80
    assert plain.split() == piped.split()


def test_foreign_bytes_are_shown_as_what_they_are(tool: Tool, kafka_settings: KafkaSettings) -> None:
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


def test_a_person_may_read_the_headers_too(tool: Tool, kafka_settings: KafkaSettings) -> None:
    [record] = commands(kafka_settings, reserve())
    write(kafka_settings, [record._replace(headers=[*record.headers, ("odd", b"[red]\xff")])])

    _, *headers = tool("tail", "booking.commands", "--headers").stdout.splitlines()

    assert "    ce_id: command-0" in headers
    assert "    ce_type: booking.reserve.v1" in headers
    assert headers[-1] == "    odd: [red]\\xff"


@pytest.mark.system
async def test_following_waits_for_a_broker_that_goes_away_and_comes_back(tmp_path: Path) -> None:
    async with Kafka(tmp_path) as kafka:
        settings = KafkaSettings(_env_file=None, kafka_url=kafka.url, topic_partitions=2)
        await admin.create(settings)
        first, second = commands(settings, reserve(), ExpireHold(room_id=412, booking_id=BOOKING))
        await asyncio.to_thread(write, settings, [first])
        coming = log_reader.read(
            settings, settings.topic(BOOKING_COMMANDS), log_reader.RecordFilter(), since=None, last=None, follow=True
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
    environment: dict[str, str], kafka_settings: KafkaSettings
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
    ("arguments", "expected"),
    [
        (["tail", "booking.rumours"], "there is no topic booking.rumours"),
        (["tail", "booking.events", "--since", "yesterday"], "nor an ISO time"),
        (["tail", "booking.events", "--booking", "foo"], "foo is no booking's id"),
        (["tail", "booking.events", "-f", "--limit", "1", "--from-beginning"], "leave out --from-beginning"),
    ],
)
def test_a_wrong_question_is_answered_with_what_can_be_asked(arguments: Sequence[str], expected: str) -> None:
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})

    assert result.exit_code == 2
    assert expected in result.stderr


def test_a_topic_that_does_not_exist_is_reported(tool: Tool) -> None:
    result = tool("tail", "booking.events", TOPIC_PREFIX="nobody.")

    assert result.exit_code == 1
    assert "nobody.booking.events does not exist" in result.stderr


@pytest.mark.parametrize("command", ["tail", "lag", "actions"])
def test_every_command_explains_itself(command: str) -> None:
    result = CliRunner().invoke(app, [command, "--help"])

    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) > 8
