"""Dead letters in an operator's hands: shown with their reason, replayed once, discarded with a note."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from typer.testing import Result

from operators import dead_letters
from operators.cli import console
from operators.cli import dead_letters as cli_dead_letters
from operators.dead_letters import DeadLetter, Refused, State
from storage.settings import DatabaseSettings
from tests.operators.conftest import Ledger, Operator, at_work
from tests.support.log import Log, open_processor, process_all
from topics.catalogue import BOOKING_COMMANDS, DEAD_LETTERS
from topics.envelope import Outgoing, command_record, decode_replay
from topics.kafka import log_reader
from topics.kafka.producer import Producer
from topics.messages.commands import OpenInventory, ReserveStay
from topics.times import to_the_second
from workers.reservations import handler
from workers.runtime.records import dead_letter as dead_letter_of
from workers.runtime.role import Role

pytestmark = pytest.mark.system

ROOM = 7
BOOKING = UUID("01931f3e-9c4a-8d27-b6e1-5f0c2a7d9e48")
POISON = b'{"room_id": '
#: The seconds that an operator waits in tests of a replay's result: on a busy machine a worker may be slow.
MAX_WAIT = "120"


@pytest.fixture
def role(log: Log, database: DatabaseSettings) -> Role:
    return handler.build(log.settings, database)


def a_stay(log: Log, booking_id: UUID = BOOKING) -> Outgoing:
    stay = ReserveStay(
        room_id=ROOM,
        booking_id=booking_id,
        user_id=1,
        hotel_id=1,
        check_in=date(2027, 5, 1),
        check_out=date(2027, 5, 3),
    )
    topic = log.settings.topic(BOOKING_COMMANDS)
    return command_record(topic, stay, id=f"command-{booking_id}", source="test", time=datetime.now(UTC))


def nights(log: Log) -> Outgoing:
    opened = OpenInventory(
        room_id=ROOM,
        hotel_id=1,
        first_night=date(2027, 5, 1),
        end_night=date(2027, 5, 11),
        total_count=3,
        price_minor=10_000,
        currency="EUR",
    )
    topic = log.settings.topic(BOOKING_COMMANDS)
    return command_record(topic, opened, id="command-opened", source="test", time=datetime.now(UTC))


async def write_and_process(log: Log, role: Role, database: DatabaseSettings, *records: Outgoing) -> None:
    """Let the worker process records; it sends those that it cannot decode to the dead-letter topic."""
    await log.write(*records)
    async with open_processor(role, log, database) as processor:
        await process_all(processor, role, log)


async def write_readable_dead_letters(log: Log, *records: Outgoing) -> None:
    """Write dead letters as an older worker did, which could not read records that today's worker reads."""
    topic = log.settings.topic(DEAD_LETTERS)
    for number, record in enumerate(records):
        consumed = _Consumed(record, partition=0, offset=10_000 + number)
        await log.write(dead_letter_of(topic, "reservations", consumed, "UnknownType: of a later release"))


class _Consumed:
    """A record as the Kafka client returns it."""

    timestamp = 0

    def __init__(self, record: Outgoing, *, partition: int, offset: int) -> None:
        self.topic = record.topic
        self.partition = partition
        self.offset = offset
        self.key: bytes | None = record.key
        self.value: bytes | None = record.value
        self.headers: Sequence[tuple[str, bytes]] = record.headers


def objects(result: Result) -> list[Any]:
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


async def commands(log: Log) -> list[Any]:
    return [record for records in (await log.read(BOOKING_COMMANDS)).values() for record in records]


async def only_dead_letter(log: Log, ledger: Ledger) -> DeadLetter:
    (found,) = await dead_letters.find_dead_letters(log.settings, ledger)
    return found


async def test_an_operator_sees_each_dead_letter_with_its_origin_and_its_reason(
    log: Log, role: Role, database: DatabaseSettings, operator: Operator
) -> None:
    await write_and_process(log, role, database, nights(log), a_stay(log)._replace(value=POISON))
    command = (await commands(log))[1]

    (listed,) = objects(await operator("dead-letters", "list", "--json"))

    assert listed["origin"] == f"{command.topic}[{command.partition}]@{command.offset}"
    assert listed["type"] == "booking.reserve.v1"
    assert listed["booking"] == str(BOOKING)
    assert listed["consumer"] == "reservations"
    assert listed["state"] == "open"
    assert listed["reason"].startswith("Undecodable: booking.reserve.v1")
    table = await operator("dead-letters", "list")
    assert listed["id"] in table.stdout
    assert str(BOOKING) in table.stdout
    (shown,) = objects(await operator("dead-letters", "show", listed["id"], "--json"))
    assert shown["value"] == POISON.decode()
    assert shown["key"] == str(ROOM)
    assert ["ce_id", f"command-{BOOKING}"] in shown["headers"]
    assert shown["before"] == f"{command.topic}[{command.partition}]@{command.offset - 1}"
    assert shown["after"] is None
    page = (await operator("dead-letters", "show", listed["id"])).stdout
    assert POISON.decode() in page
    assert to_the_second(datetime.fromisoformat(listed["at"])) in page


async def test_a_terminal_of_80_columns_shows_where_it_came_from_and_why_uncut(
    log: Log, role: Role, database: DatabaseSettings, operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    await write_and_process(log, role, database, a_stay(log)._replace(value=POISON))
    (listed,) = objects(await operator("dead-letters", "list", "--json"))
    monkeypatch.setattr(console.out, "width", 80)

    shown = (await operator("dead-letters", "list")).stdout

    assert max(map(len, shown.splitlines())) <= 80
    row = shown.splitlines()[2].split()
    assert (row[0], row[4], row[-1]) == (listed["id"], listed["origin"].removeprefix(log.settings.topic_prefix), "open")
    words = shown.replace(";", " ").split()
    assert {"booking.reserve.v1", str(BOOKING)} <= {*words}
    assert listed["reason"].split() == words[-len(listed["reason"].split()) :]


async def test_of_very_many_a_person_is_shown_the_youngest_and_a_program_all(
    log: Log, operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    await write_readable_dead_letters(log, *(a_stay(log, uuid4()) for _ in range(5)))
    monkeypatch.setattr(cli_dead_letters, "_MAX_SHOWN", 2)

    listed = objects(await operator("dead-letters", "list", "--json"))
    shown = await operator("dead-letters", "list")

    assert len(listed) == 5
    assert [each["booking"] in shown.stdout for each in listed] == [False, False, False, True, True]
    assert "3 older ones are not shown" in shown.stderr
    assert "5 open, of 5 dead letters." in shown.stderr


async def test_bytes_that_are_no_text_are_shown_in_hex(
    log: Log, role: Role, database: DatabaseSettings, operator: Operator
) -> None:
    await write_and_process(log, role, database, a_stay(log)._replace(value=b"\xff\x00", headers=[]))

    (listed,) = objects(await operator("dead-letters", "list", "--json"))
    (shown,) = objects(await operator("dead-letters", "show", listed["id"], "--json"))

    assert shown["value"] == "hex ff00"
    assert listed["type"] is None
    assert listed["booking"] is None


async def test_filters_leave_out_what_is_not_asked_for(log: Log, ledger: Ledger, operator: Operator) -> None:
    await write_readable_dead_letters(log, a_stay(log))
    begun = datetime.now(UTC).isoformat()

    assert objects(await operator("dead-letters", "list", "--json", "--topic", "stripe.webhooks")) == []
    assert objects(await operator("dead-letters", "list", "--json", "--type", "booking.cancel.*")) == []
    assert objects(await operator("dead-letters", "list", "--json", "--since", begun)) == []
    assert len(objects(await operator("dead-letters", "list", "--json", "--topic", "booking.commands"))) == 1
    await dead_letters.discard(ledger, await only_dead_letter(log, ledger), operator="ines", note="a test")
    assert objects(await operator("dead-letters", "list", "--json", "--open")) == []
    assert "No dead letters" in (await operator("dead-letters", "list", "--open")).stderr


async def test_a_dead_letter_that_can_be_read_by_now_is_replayed_once_and_takes_effect(
    log: Log, role: Role, database: DatabaseSettings, ledger: Ledger, operator: Operator
) -> None:
    await write_and_process(log, role, database, nights(log))
    await write_readable_dead_letters(log, a_stay(log))
    id = (await only_dead_letter(log, ledger)).id

    would = await operator("dead-letters", "replay", id)
    assert would.exit_code == 1
    assert "Would send 1" in would.stderr
    assert len(await commands(log)) == 1
    async with at_work(role, log, database):
        (result,) = objects(await operator("dead-letters", "replay", id, "--wait", MAX_WAIT, "--yes", "--json"))

    assert result["read"]
    sent = (await commands(log))[-1]
    *headers, replayed = sent.headers
    assert (sent.key, sent.value, headers) == (b"7", a_stay(log).value, a_stay_headers(log, sent))
    named = decode_replay([replayed])
    assert named is not None
    assert (named.action, named.by, named.of) == ("dead-letters replay", "ines", f"{sent.topic}[0]@10000")
    assert await rows(ledger, "select details ->> 'replay_id' from operator_action") == [(named.id,)]
    assert result["position"] == f"{sent.topic}[{sent.partition}]@{sent.offset}"
    assert await rows(ledger, "select status from booking") == [("RESERVED",)]
    again = await operator("dead-letters", "replay", id, "--yes")
    assert again.exit_code == 1
    assert f"{id} was replayed by ines" in again.stderr
    assert len(await commands(log)) == 2
    assert await rows(ledger, "select who, action, target from operator_action") == [
        ("ines", "dead-letters replay", id)
    ]
    (listed,) = objects(await operator("dead-letters", "list", "--json"))
    assert (listed["state"], listed["by"]) == ("replayed", "ines")


def a_stay_headers(log: Log, sent: Any) -> list[tuple[str, bytes]]:
    """Return the headers of `a_stay`, with the time at which this test wrote it."""
    time = dict(sent.headers)["ce_time"]
    return [(name, time if name == "ce_time" else value) for name, value in a_stay(log).headers]


async def test_a_replayed_record_that_is_still_unreadable_comes_back_and_the_rest_is_left_alone(
    log: Log, role: Role, database: DatabaseSettings, operator: Operator
) -> None:
    await write_and_process(log, role, database, *(a_stay(log, uuid4())._replace(value=POISON) for _ in range(3)))

    async with at_work(role, log, database):
        result = await operator("dead-letters", "replay", "--all", "--type", "booking.*", "--wait", MAX_WAIT, "--yes")

    assert result.exit_code == 1
    assert "came back as another dead letter: Undecodable" in result.stderr
    assert "2 are left as they were" in result.stderr
    listed = objects(await operator("dead-letters", "list", "--json"))
    assert [each["state"] for each in listed] == ["replayed", "open", "open", "open"]


async def test_a_dead_letter_that_comes_back_while_they_are_listed_is_not_open_beside_what_it_became(
    log: Log, database: DatabaseSettings, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    await write_readable_dead_letters(log, a_stay(log))
    dead_letter = await only_dead_letter(log, ledger)

    async def meanwhile(*arguments: Any, **options: Any) -> AsyncIterator[Any]:
        # Somebody replays it, and it comes back, before the first of them is read.
        await dead_letters.replay(log.settings, ledger, log.producer, dead_letter, operator="ines")
        await write_readable_dead_letters(log, a_stay(log, uuid4()))
        async for record in log_reader.read(*arguments, **options):
            yield record

    with monkeypatch.context() as patch:
        patch.setattr(dead_letters, "read", meanwhile)
        async with await psycopg.AsyncConnection.connect(database.conninfo(), autocommit=True) as another:
            found = await dead_letters.find_dead_letters(log.settings, another)

    assert [each.state for each in found] == [State.REPLAYED, State.OPEN]


async def test_two_operators_at_once_send_it_once(
    log: Log, database: DatabaseSettings, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    await write_readable_dead_letters(log, a_stay(log))
    dead_letter = await only_dead_letter(log, ledger)
    arrived, may_send = asyncio.Event(), asyncio.Event()
    send = Producer.send

    async def slowly(producer: Producer, record: Outgoing) -> Any:
        arrived.set()
        await may_send.wait()
        return await send(producer, record)

    monkeypatch.setattr(Producer, "send", slowly)
    first = asyncio.ensure_future(
        dead_letters.replay(log.settings, ledger, log.producer, dead_letter, operator="ines", again=True)
    )
    await arrived.wait()
    async with await psycopg.AsyncConnection.connect(database.conninfo(), autocommit=True) as another:
        for again in (False, True):
            with pytest.raises(Refused, match="another operator is resolving it"):
                await dead_letters.replay(log.settings, another, log.producer, dead_letter, operator="rui", again=again)
        may_send.set()
        await first
        for again in (False, True):
            with pytest.raises(Refused, match="was replayed by ines"):
                await dead_letters.replay(log.settings, another, log.producer, dead_letter, operator="rui", again=again)
        with pytest.raises(Refused, match="was replayed by ines"):
            await dead_letters.discard(another, dead_letter, operator="rui", note="too late")

    assert len(await commands(log)) == 1


async def test_a_replay_that_was_cut_off_is_shown_and_may_be_sent_again(
    log: Log, ledger: Ledger, operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    await write_readable_dead_letters(log, a_stay(log))
    dead_letter = await only_dead_letter(log, ledger)

    def power_cut(name: str) -> None:
        if name == "dead_letters.after_send":
            raise ConnectionAbortedError

    monkeypatch.setattr(dead_letters, "failpoint", power_cut)
    with pytest.raises(ConnectionAbortedError):
        await dead_letters.replay(log.settings, ledger, log.producer, dead_letter, operator="ines")
    monkeypatch.undo()

    assert (await only_dead_letter(log, ledger)).state is State.BEGUN
    refused = await operator("dead-letters", "replay", dead_letter.id, "--yes")
    assert refused.exit_code == 1
    assert f"{dead_letter.id}: ines began to replay it" in refused.stderr
    assert "--again" in refused.stderr
    assert len(await commands(log)) == 1
    again = await operator("dead-letters", "replay", dead_letter.id, "--again", "--wait", "0", "--by", "rui", "--yes")
    assert again.exit_code == 0, again.stderr
    assert len(await commands(log)) == 2
    ended = await only_dead_letter(log, ledger)
    assert (ended.state, ended.end and ended.end.who) == (State.REPLAYED, "rui")


async def test_a_discarded_dead_letter_stays_to_be_seen_with_its_note_and_cannot_be_replayed(
    log: Log, ledger: Ledger, operator: Operator
) -> None:
    await write_readable_dead_letters(log, a_stay(log))
    id = (await only_dead_letter(log, ledger)).id

    would = await operator("dead-letters", "discard", id, "--note", "a load test")
    assert would.exit_code == 1
    assert "Would discard 1." in would.stderr
    assert (await only_dead_letter(log, ledger)).state is State.OPEN
    assert (await operator("dead-letters", "discard", id, "--note", "a load test", "--yes")).exit_code == 0

    (listed,) = objects(await operator("dead-letters", "list", "--json"))
    assert (listed["state"], listed["by"], listed["note"]) == ("discarded", "ines", "a load test")
    refused = await operator("dead-letters", "replay", id, "--yes")
    assert refused.exit_code == 1
    assert f"{id} was discarded by ines" in refused.stderr
    assert await commands(log) == []
    assert await rows(ledger, "select who, action, target, details ->> 'note' from operator_action") == [
        ("ines", "dead-letters discard", id, "a load test")
    ]


async def test_a_program_reads_plans_ends_and_refusals_as_json(log: Log, ledger: Ledger, operator: Operator) -> None:
    await write_readable_dead_letters(log, a_stay(log))
    id = (await only_dead_letter(log, ledger)).id
    discard = ("dead-letters", "discard", id, "--note", "a load test", "--json")

    for verb, plan in (("replay", ("dead-letters", "replay", "--all", "--json")), ("discard", discard)):
        would = await operator(*plan)
        assert would.exit_code == 1
        planned = json.loads(would.stdout)
        assert (planned["id"], planned["state"], planned["would"]) == (id, "open", verb)
    assert objects(await operator(*discard, "--yes")) == [
        {"id": id, "discarded": True, "by": "ines", "note": "a load test"}
    ]
    for arguments, sentence in (
        (discard, f"{id} was discarded by ines"),
        (("dead-letters", "show", "0@99", "--json"), "no"),
    ):
        refused = await operator(*arguments)
        assert refused.exit_code == 1
        assert sentence in json.loads(refused.stdout)["detail"]


async def test_the_help_names_the_exit_status_of_a_plan(operator: Operator) -> None:
    for command in (("dead-letters", "replay"), ("dead-letters", "discard"), ("replay",)):
        shown = " ".join((await operator(*command, "--help")).stdout.replace("│", " ").split())
        assert "Without it: print the plan, and end with exit status 1." in shown, command


async def test_a_dead_letter_that_was_published_twice_is_one_dead_letter(
    log: Log, ledger: Ledger, operator: Operator
) -> None:
    await write_readable_dead_letters(log, a_stay(log))
    ((record,),) = (await log.read(DEAD_LETTERS)).values()
    await log.write(Outgoing(record.topic, record.key, record.value, list(record.headers)))

    dead_letter = await only_dead_letter(log, ledger)

    assert dead_letter.doubles == [dead_letter.offset + 1]
    refused = await operator("dead-letters", "replay", f"{dead_letter.partition}@{dead_letter.offset + 1}", "--yes")
    assert f"is a copy of {dead_letter.id}" in refused.stderr


async def test_a_record_that_was_too_large_for_the_dead_letter_topic_is_not_sent(log: Log, ledger: Ledger) -> None:
    await write_readable_dead_letters(log, a_stay(log))
    dead_letter = replace(await only_dead_letter(log, ledger), left_behind_bytes=8_000_000)

    with pytest.raises(Refused, match="too large"):
        await dead_letters.replay(log.settings, ledger, log.producer, dead_letter, operator="ines")

    assert (await only_dead_letter(log, ledger)).state is State.OPEN


NO_SENSE = {
    ("replay",): "name the dead letters",
    ("replay", "0@1", "--all"): "not both",
    ("replay", "0@1", "--type", "x"): "--all",
    ("discard", "0@1", "--note", " "): "give the reason",
}


async def test_wrong_arguments_and_unknown_ids_are_refused(operator: Operator) -> None:
    for arguments, sentence in NO_SENSE.items():
        result = await operator("dead-letters", *arguments)

        assert result.exit_code == 2, arguments
        assert sentence in result.stderr
    result = await operator("dead-letters", "show", "0@99")
    assert result.exit_code == 1
    assert "There is no dead letter 0@99" in result.stderr


async def rows(ledger: Ledger, query: str) -> list[tuple[Any, ...]]:
    return await (await ledger.execute(query)).fetchall()
