"""The log is lost, alone or with the database: the system goes on from what is left, with the ids that it had."""

import json
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from operators.restore import NotRestored, Restored, exported, from_export, plan, refill, restore, target
from operators.restore import from_ledger as of_ledger
from operators.restore.exported import LoggedEvent
from operators.restore.from_export import Steps, restore_from_export
from operators.restore.from_ledger import LedgerPlan, continue_log
from storage.database import connect
from storage.settings import DatabaseSettings
from tests.operators.changed_stays import changes
from tests.operators.decided_ledger import until_all_have_left
from tests.operators.decided_log import HELD, PAID, PRICE, stay
from tests.operators.restore.test_restore import (
    TABLES,
    coordinate,
    everything,
    holds,
    nights_on_sale,
    rows,
    tables,
    trips_and_their_legs,
    work,
)
from tests.storage.test_tool import run
from tests.support.log import Log, open_processor, process_all
from tests.support.stack import Server, fresh_database
from topics.catalogue import BOOKING_COMMANDS, BOOKING_EVENTS
from topics.kafka import admin
from topics.messages.commands import AddGuests, CancelBooking, ClaimCode
from workers import coordination
from workers.payments.settings import PaymentSettings
from workers.reservations import handler

pytestmark = pytest.mark.system

PAYMENTS = PaymentSettings(_env_file=None, stripe_api_key=SecretStr("sk_test_nobody"))


def nothing(_: int, __: int) -> None:
    """No progress is shown."""


STEPS = Steps(check=nothing, refill=nothing, restore=nothing)


@pytest.fixture
def new_database(postgres: Server, migrated: str) -> Iterator[DatabaseSettings]:
    with fresh_database(postgres.url, migrated) as url:
        yield DatabaseSettings(_env_file=None, database_url=SecretStr(url))


@pytest.fixture
def keeping(database: DatabaseSettings) -> DatabaseSettings:
    """The database, whose workers keep what they have published."""
    return database.model_copy(update={"outbox_kept_hours": 48.0})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "export"


Export = Callable[[], Awaitable[None]]


@pytest.fixture
def export(environment: dict[str, str], folder: Path) -> Export:
    """Writes the files of the log, as a nightly job does."""

    async def write() -> None:
        ended = await run(
            environment, "export", "booking.events", "--out", str(folder), "--until", "now", "--format", "jsonl"
        )
        assert ended.status == 0, ended.err

    return write


Exporting = tuple[Export, dict[str, str], Path]


@pytest.fixture
def exporting(export: Export, environment: dict[str, str], folder: Path) -> Exporting:
    """The export, the variables of a command, and the folder of the files."""
    return export, environment, folder


async def lose(log: Log) -> None:
    """Delete the topics with all that they have, and create empty ones of the same names."""
    await admin.delete(log.settings)
    await admin.create(log.settings)


async def on_the_log(log: Log) -> list[tuple[int, int, str, bytes, int]]:
    """Return partition, sequence, id, data and time of each event."""
    found = []
    for partition, records in (await log.read(BOOKING_EVENTS)).items():
        for record in records:
            headers = dict(record.headers)
            sequence, id = int(headers["ce_sequence"]), headers["ce_id"].decode()
            found.append((partition.partition, sequence, id, record.value, record.timestamp))
    return sorted(found)


async def from_files(log: Log, database: DatabaseSettings, folder: Path) -> Restored:
    await until_all_have_left(database)
    return await restore_from_export(
        log.settings, database, PAYMENTS, folder, operator="a test", without_backup=True, steps=STEPS
    )


async def from_ledger(
    log: Log, database: DatabaseSettings, folder: Path | None = None, *, despite_gaps: bool = False
) -> LedgerPlan:
    await until_all_have_left(database)
    return await continue_log(log.settings, database, folder, operator="a test", despite_gaps=despite_gaps, steps=STEPS)


async def mismatches(log: Log) -> Sequence[str]:
    return [str(found) for found in await admin.check(log.settings)]


# Both are lost.


# The interrupted restore below compares the same tables, of fewer bookings.
@pytest.mark.long
async def test_a_lost_system_comes_back_from_its_files_and_goes_on(
    log: Log,
    database: DatabaseSettings,
    new_database: DatabaseSettings,
    export: Export,
    folder: Path,
) -> None:
    for command in everything():
        await log.send(command)
    first = date.today() + timedelta(days=2)  # noqa: DTZ011 - any day to come
    for command, _ in changes(first, PRICE, 86_400):
        await log.send(command)
        if isinstance(command, ClaimCode):
            await coordinate(log, database)
    await trips_and_their_legs(log, database, first)
    await work(log, database)
    before, events = await tables(database), await on_the_log(log)
    await export()
    await lose(log)

    outcome = await from_files(log, new_database, folder)

    after = await tables(new_database)
    for table in TABLES:
        assert after[table] == before[table], table
    assert await on_the_log(log) == events
    assert (outcome.events, outcome.undecided, outcome.unpublished) == (len(events), 0, 0)
    assert await mismatches(log) == []

    await log.send(AddGuests(room_id=2, booking_id=HELD, user_id=7, guest_ids=(72,)))
    await log.send(CancelBooking(room_id=1, booking_id=PAID, user_id=7))
    await log.send(*everything()[:1], id="again")
    await work(log, new_database)
    assert await rows(new_database, f"select status from booking where id in ('{HELD}', '{PAID}') order by id") == [
        ("CANCELLED",),
        ("GUESTS_ADDED",),
    ]
    ids = [id for _, _, id, _, _ in await on_the_log(log)]
    assert len(ids) == len(set(ids)) > len(events)
    await holds(log, new_database)


Lost = tuple[dict[str, list[tuple[Any, ...]]], list[tuple[int, int, str, bytes, int]]]


@pytest.fixture
async def lost(log: Log, database: DatabaseSettings, export: Export) -> Lost:
    """A system that was exported and is lost; returns the rows and the events that it had."""
    for command in everything():
        await log.send(command)
    await work(log, database)
    found = await tables(database), await on_the_log(log)
    await export()
    await lose(log)
    return found


class Crash(Exception):
    """The restore ends here."""


async def test_a_restore_from_files_that_was_interrupted_is_begun_again(
    log: Log, lost: Lost, new_database: DatabaseSettings, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, events = lost

    def half(files: Any, partitions: int, replaced: Any) -> Iterator[LoggedEvent]:
        for number, event in enumerate(whole(files, partitions, replaced)):
            if number == len(events) // 2:
                raise Crash
            yield event

    whole = exported.events
    monkeypatch.setattr(refill, "_EVENTS_IN_CHUNK", 3)
    with monkeypatch.context() as interrupted:
        interrupted.setattr(exported, "events", half)
        with pytest.raises(Crash):
            await from_files(log, new_database, folder)
    there = await on_the_log(log)
    assert 0 < len(there) < len(events)
    assert all(event in events for event in there)
    # No worker and no ingress starts with such a topic.
    [mismatch] = await mismatches(log)
    assert "message.timestamp.type=CreateTime" in mismatch
    assert "Call that one again" in mismatch
    assert "kafka-configs" not in mismatch
    await until_all_have_left(new_database)
    with pytest.raises(NotRestored, match="is not whole"):
        await restore(log.settings, new_database, PAYMENTS, operator="a test", without_backup=True)
    with pytest.raises(NotRestored, match="is not whole"):
        await plan(log.settings, new_database, without_backup=True)
    assert await rows(new_database, "select count(*) from booking") == [(0,)]

    await from_files(log, new_database, folder)

    assert await on_the_log(log) == events
    assert await mismatches(log) == []
    after = await tables(new_database)
    for table in TABLES:
        assert after[table] == before[table], table
    with pytest.raises(NotRestored, match="is not empty"):
        await from_files(log, new_database, folder)


# The functions that the command calls are covered by the tests beside it.
@pytest.mark.long
async def test_an_operator_sees_the_plan_of_a_restore_from_files_and_carries_it_out(
    log: Log, lost: Lost, new_database: DatabaseSettings, exporting: Exporting
) -> None:
    _, events = lost
    _, environment, folder = exporting
    there = environment | {"DATABASE_URL": new_database.conninfo()}
    typed = ("restore", "--from-export", str(folder), "--without-backup")
    await until_all_have_left(new_database)

    asked, planned, done = [
        await run(there, *typed, *options) for options in ((), ("--json",), ("--yes", "--by", "Ana", "--json"))
    ]
    wrong = [await run(there, "restore", *options) for options in ((), ("--from-log", "--from-ledger"))]

    assert (asked.status, planned.status, done.status) == (1, 1, 0), asked.err + planned.err + done.err
    topic = log.settings.topic(BOOKING_EVENTS)
    assert f"would first delete {topic}" in asked.err
    assert f"{len(events)} events of 1 file" in asked.err
    assert "The files are whole" in asked.err
    would = json.loads(planned.out)
    assert (would["done"], would["events"], would["without_checksum"]) == (False, len(events), [])
    assert json.loads(done.out)["events"] == len(events)
    assert [ended.status for ended in wrong] == [2, 2]
    assert await rows(new_database, "select who, details ->> 'commands_lost' from operator_action") == [("Ana", "true")]


async def test_an_ingress_or_its_commands_are_refused_where_the_log_was_lost(
    log: Log, lost: Lost, new_database: DatabaseSettings, folder: Path
) -> None:
    async with await connect(new_database, "innkeeper-ingress"):
        with pytest.raises(NotRestored, match="An ingress is connected"):
            await restore_from_export(
                log.settings, new_database, PAYMENTS, folder, operator="a test", without_backup=True, steps=STEPS
            )
    assert await on_the_log(log) == []
    await log.send(stay(HELD))

    with pytest.raises(NotRestored, match="has 1 commands, and none of them led to the last events"):
        await from_files(log, new_database, folder)

    assert await rows(new_database, "select count(*) from booking") == [(0,)]
    await admin.delete(log.settings, [BOOKING_COMMANDS])
    await admin.create(log.settings)
    assert (await from_files(log, new_database, folder)).undecided == 0


async def test_no_two_restores_from_the_log_work_at_once(log: Log, lost: Lost, new_database: DatabaseSettings) -> None:
    async with await connect(new_database, "innkeeper restore") as connection, target.alone(connection):
        with pytest.raises(NotRestored, match="Another restore of this database is at work"):
            await restore(log.settings, new_database, PAYMENTS, operator="a test", without_backup=True)


async def test_a_lost_log_is_not_continued_while_an_ingress_is_connected(log: Log, keeping: DatabaseSettings) -> None:
    async with await connect(keeping, "innkeeper-ingress"):
        with pytest.raises(NotRestored, match="An ingress is connected"):
            await continue_log(log.settings, keeping, None, operator="a test", despite_gaps=False, steps=STEPS)


async def test_a_log_that_has_other_events_is_not_filled(
    log: Log,
    database: DatabaseSettings,
    new_database: DatabaseSettings,
    export: Export,
    folder: Path,
) -> None:
    await log.send(nights_on_sale(1), stay(PAID))
    await work(log, database)
    await export()
    await log.send(stay(HELD))
    await work(log, database)

    await until_all_have_left(new_database)
    with pytest.raises(NotRestored, match="Create the topics anew"):
        await from_export.plan(log.settings, new_database, folder, without_backup=True, progress=nothing)
    with pytest.raises(NotRestored, match="Create the topics anew"):
        await from_files(log, new_database, folder)

    assert await rows(new_database, "select count(*) from booking") == [(0,)]


# The log is lost, and the database lives.


async def decide_alone(log: Log, database: DatabaseSettings) -> None:
    """Let commands be decided, and their events be read by nobody."""
    role = handler.build(log.settings, database)
    async with open_processor(role, log, database) as processor:
        await process_all(processor, role, log)
        await processor.mark_published()


@pytest.fixture
async def whole(log: Log, keeping: DatabaseSettings, export: Export) -> Any:
    """A log that is exported up to its middle, and whose end no consumer of events has read; returns its events."""
    *earlier, held = everything()
    for command in earlier:
        await log.send(command)
    await work(log, keeping)
    await export()
    await log.send(held, CancelBooking(room_id=1, booking_id=PAID, user_id=7))
    await decide_alone(log, keeping)
    return await on_the_log(log)


async def test_a_lost_log_is_continued_from_files_and_the_outbox_and_nobody_misses_an_event(
    log: Log, keeping: DatabaseSettings, whole: Any, exporting: Exporting
) -> None:
    export, environment, folder = exporting
    await log.send(stay(HELD, room_id=1))
    await lose(log)
    await rows(keeping, "update outbox set created_at = created_at - interval '1 minute' returning 1")
    await until_all_have_left(keeping)
    typed = ("restore", "--from-ledger", "--from-export", str(folder))
    asked, planned = [await run(environment, *typed, *options) for options in ((), ("--json",))]

    done = await from_ledger(log, keeping, folder)

    assert (asked.status, planned.status) == (1, 1), asked.err + planned.err
    assert f"would first delete {log.settings.topic(BOOKING_EVENTS)}" in asked.err
    assert f"{len(whole)} events would be put on the new log" in asked.err
    assert "those of the outbox with the time of their decision" in asked.err
    assert "Nothing was done: add --yes" in asked.err
    would = json.loads(planned.out)
    assert (would["done"], would["events"], would["gaps"]) == (False, len(whole), [])

    there = await on_the_log(log)
    assert [each[:4] for each in there] == [each[:4] for each in whole]
    assert all(before[4] <= event[4] for before, event in pairwise(there) if before[0] == event[0])
    assert done.gaps == ()
    assert sorted(done.lost) == sorted(log.settings.topic(topic) for topic in (BOOKING_COMMANDS, BOOKING_EVENTS)) + [
        name for name in done.lost if "webhooks" in name
    ]
    assert await mismatches(log) == []
    with pytest.raises(NotRestored, match="no log is lost"):
        await from_ledger(log, keeping, folder)

    await log.send(AddGuests(room_id=2, booking_id=HELD, user_id=7, guest_ids=(72,)))
    await work(log, keeping)
    events = await on_the_log(log)
    assert [each[:4] for each in events][: len(whole)] != []
    assert len({id for _, _, id, _, _ in events}) == len(events) == len(whole) + 1
    # The refund of what was cancelled behind the last event that payments had read.
    assert (PAID,) in await rows(keeping, "select booking_id from refund")
    await holds(log, keeping)
    await export()
    exported_ids = [event.id for event in exported.events(exported.find(folder, log.settings.topic(BOOKING_EVENTS)), 4)]
    assert sorted(exported_ids) == sorted(id for _, _, id, _, _ in events)


async def test_events_that_are_nowhere_are_named_and_only_then_left_out(
    log: Log, database: DatabaseSettings, environment: dict[str, str]
) -> None:
    await log.send(nights_on_sale(1), stay(PAID))
    await work(log, database)
    await log.send(stay(HELD))
    await decide_alone(log, database)
    await lose(log)

    with pytest.raises(NotRestored, match=r"events on the new log, .* booking_timeline.* would miss some") as refused:
        await from_ledger(log, database)
    assert "--despite-gaps" in str(refused.value)
    assert "would begin at 4: 1 to 3 would not be on it" in str(refused.value)
    asked = await run(environment, "restore", "--from-ledger")
    assert "The log will begin at 4; 1 to 3 are not on it." in asked.err
    assert "add --despite-gaps --yes" in asked.err
    assert await on_the_log(log) == []

    done = await from_ledger(log, database, despite_gaps=True)

    [gap] = done.gaps
    assert (gap.first, gap.last) == (1, 3)
    assert {"booking_timeline", "payments"} <= {*gap.missed_by}
    await log.send(CancelBooking(room_id=1, booking_id=HELD, user_id=7))
    await work(log, database)
    assert await rows(database, f"select status from booking where id = '{HELD}'") == [("CANCELLED",)]
    assert [each[1] for each in await on_the_log(log)] == [4]
    timeline = f"select type from booking_timeline where booking_id = '{HELD}'"
    assert await rows(database, timeline) == [("booking.cancelled.v1",)]


async def test_a_log_that_is_there_is_not_continued(log: Log, database: DatabaseSettings) -> None:
    with pytest.raises(NotRestored, match="has decided nothing yet"):
        await from_ledger(log, database)
    await log.send(nights_on_sale(1))
    await work(log, database)

    with pytest.raises(NotRestored, match="no log is lost"):
        await from_ledger(log, database)


@pytest.mark.parametrize("older", ["update log_cursor set sequence = 1", "delete from log_cursor"])
async def test_a_database_that_is_older_than_the_files_is_refused(
    log: Log, database: DatabaseSettings, export: Export, folder: Path, older: str
) -> None:
    await log.send(nights_on_sale(1), stay(PAID))
    await work(log, database)
    await export()
    await lose(log)
    await rows(database, f"{older} where consumer = 'reservations' returning 1")

    with pytest.raises(NotRestored, match="it is older than the files"):
        await from_ledger(log, database, folder)


async def test_the_log_is_closed_until_every_cursor_is_set_and_the_same_call_ends_an_interrupted_one(
    log: Log, keeping: DatabaseSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    await log.send(nights_on_sale(1))
    await work(log, keeping)
    await log.send(stay(PAID))
    await decide_alone(log, keeping)
    events = await on_the_log(log)
    await lose(log)

    async def crash(*_: Any) -> None:
        raise Crash

    for where, name, marks in ((of_ledger, "_record", 0), (refill, "finish", 1)):
        with monkeypatch.context() as interrupted:
            interrupted.setattr(where, name, crash)
            with pytest.raises(Crash):
                await from_ledger(log, keeping)
        assert any("message.timestamp.type=CreateTime" in each for each in await mismatches(log))
        assert await rows(keeping, "select count(*) from operator_action") == [(marks,)]

    assert (await from_ledger(log, keeping)).lost == ()

    assert await mismatches(log) == []
    assert [each[:4] for each in await on_the_log(log)] == [each[:4] for each in events]
    await work(log, keeping)
    await holds(log, keeping)


async def test_commands_of_coordination_that_were_lost_with_their_topic_follow_once_more(
    log: Log, keeping: DatabaseSettings
) -> None:
    await log.send(nights_on_sale(1), ClaimCode(code_id=1, reserve=stay(PAID)))
    await decide_alone(log, keeping)
    follows = coordination.build(log.settings, keeping)
    async with open_processor(follows, log, keeping) as processor:
        await process_all(processor, follows, log)
    events = await on_the_log(log)
    await admin.delete(log.settings, [BOOKING_COMMANDS])
    await admin.create(log.settings)

    done = await from_ledger(log, keeping)

    assert done.lost == (log.settings.topic(BOOKING_COMMANDS),)
    assert await on_the_log(log) == events
    await coordinate(log, keeping)
    assert await rows(keeping, f"select count(*) from booking where id = '{PAID}'") == [(1,)]


async def test_commands_that_wait_are_decided_although_the_events_were_lost(
    log: Log, keeping: DatabaseSettings
) -> None:
    await log.send(nights_on_sale(1))
    await work(log, keeping)
    await log.send(stay(PAID))
    await decide_alone(log, keeping)
    events = await on_the_log(log)
    await log.send(stay(HELD))
    await admin.delete(log.settings, [BOOKING_EVENTS])
    await admin.create(log.settings)

    done = await from_ledger(log, keeping)

    assert (done.lost, done.requests) == ((log.settings.topic(BOOKING_EVENTS),), ())
    await work(log, keeping)
    assert await rows(keeping, f"select count(*) from booking where id in ('{HELD}', '{PAID}')") == [(2,)]
    there = await on_the_log(log)
    assert [each[:4] for each in there][: len(events)] == [each[:4] for each in events]
    assert len({id for _, _, id, _, _ in there}) == len(there) == len(events) + 1
    await holds(log, keeping)


async def test_lost_events_that_no_consumer_had_read_are_put_back(log: Log, keeping: DatabaseSettings) -> None:
    await log.send(nights_on_sale(1), stay(PAID))
    await decide_alone(log, keeping)
    events = await on_the_log(log)
    await admin.delete(log.settings, [BOOKING_EVENTS])
    await admin.create(log.settings)

    done = await from_ledger(log, keeping)

    assert (done.lost, done.gaps) == ((log.settings.topic(BOOKING_EVENTS),), ())
    assert [each[:4] for each in await on_the_log(log)] == [each[:4] for each in events]
    await work(log, keeping)
    await holds(log, keeping)


@pytest.mark.long
async def test_events_between_the_files_and_the_outbox_are_named(
    log: Log, database: DatabaseSettings, keeping: DatabaseSettings, export: Export, folder: Path
) -> None:
    await log.send(nights_on_sale(1))
    await work(log, database)
    await export()
    await log.send(stay(PAID))
    await decide_alone(log, database)
    await log.send(stay(HELD))
    await decide_alone(log, keeping)
    await lose(log)

    with pytest.raises(NotRestored, match="for instance 2 to 2 of partition"):
        await from_ledger(log, keeping, folder)

    [gap] = (await from_ledger(log, keeping, folder, despite_gaps=True)).gaps
    assert (gap.first, gap.last) == (2, 2)
    assert [each[1] for each in await on_the_log(log)] == [3]


async def test_a_restore_after_a_start_on_new_topics_names_the_way_out(log: Log, keeping: DatabaseSettings) -> None:
    await log.send(nights_on_sale(1), stay(PAID))
    await decide_alone(log, keeping)
    await lose(log)
    await log.send(stay(HELD, room_id=1))
    await work(log, keeping)

    with pytest.raises(NotRestored, match="was started on new topics") as refused:
        await from_ledger(log, keeping)

    assert "new-generation" not in str(refused.value)
    await lose(log)
    await log.send(stay(PAID))
    with pytest.raises(NotRestored, match="has 1 commands: an ingress has sent them since"):
        await from_ledger(log, keeping)
    await lose(log)
    assert (await from_ledger(log, keeping)).gaps == ()
    assert [each[1] for each in await on_the_log(log)] == [1, 2, 3]


async def test_a_log_that_has_an_event_twice_is_not_used(
    log: Log, keeping: DatabaseSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    await log.send(nights_on_sale(1))
    await work(log, keeping)
    await log.send(stay(PAID))
    await decide_alone(log, keeping)
    await lose(log)

    async def twice(producer: Any, chunk: Any) -> None:
        await send(producer, chunk)
        await send(producer, chunk)

    send = refill._send
    monkeypatch.setattr(refill, "_send", twice)

    with pytest.raises(NotRestored, match="another process wrote to it"):
        await from_ledger(log, keeping)

    assert any("message.timestamp.type=CreateTime" in each for each in await mismatches(log))


@pytest.mark.parametrize(
    ("read_until", "set_to"),
    [
        ("3 days", "3 days 1 hour"),
        pytest.param("60 days", "29 days 23 hours", marks=pytest.mark.long),
        pytest.param(None, "0", marks=pytest.mark.long),
    ],
)
async def test_webhooks_that_payments_had_not_read_are_listed_again(
    log: Log, keeping: DatabaseSettings, read_until: str | None, set_to: str
) -> None:
    await log.send(nights_on_sale(1))
    await work(log, keeping)
    await rows(keeping, "insert into stripe_position (events_until) values (now()) returning 1")
    if read_until is not None:
        for partition, until in ((0, read_until), (1, "1 second")):
            await rows(
                keeping,
                f"update log_cursor set last_time = now() - interval '{until}'"
                f" where topic like '%webhooks' and partition = {partition} returning 1",
            )
    await lose(log)

    await from_ledger(log, keeping)

    difference = f"events_until - (now() - interval '{set_to}')"
    assert await rows(
        keeping, f"select {difference} between interval '-1 minute' and interval '1 minute' from stripe_position"
    ) == [(True,)]


async def test_kept_records_go_once_they_are_old_enough(log: Log, keeping: DatabaseSettings) -> None:
    await log.send(nights_on_sale(1))
    await decide_alone(log, keeping)
    kept = "select count(*) from outbox"
    assert await rows(keeping, kept) == [(1,)]
    await rows(keeping, "update outbox set created_at = now() - interval '49 hours' returning 1")
    await log.send(stay(PAID))

    await decide_alone(log, keeping)

    assert await rows(keeping, kept) == [(1,)]
    role = handler.build(log.settings, keeping)
    async with open_processor(role, log, keeping):
        pass
    # Kept records are published, and are not published again.
    assert len(await on_the_log(log)) == 2
