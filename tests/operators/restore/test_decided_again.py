"""A failover loses decisions that were published; two commands about a booking are decided again the other way round.

One Idempotency-Key with two bodies leads to it (ADR 0042): it makes one id, and the rooms are in two partitions.
The log has two events of one sequence then, and the ledger goes on behind the later one.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from uuid import UUID

import msgspec
import pytest
from aiokafka import TopicPartition
from pydantic import SecretStr

from operators.audit import audit
from operators.explain import BookingHistory, explain
from operators.explain.history import Kind
from operators.rebuild import PROJECTIONS, rebuild
from operators.restore import NotRestored, restore
from storage.settings import DatabaseSettings
from tests.operators.decided_ledger import until_all_have_left
from tests.operators.decided_log import FIRST, LAST, stay
from tests.operators.restore.test_lost_log import Export, export, folder, from_files, from_ledger, lose, on_the_log
from tests.operators.restore.test_restore import PAYMENTS, new_database, nights_on_sale, rows
from tests.support.log import Log, open_processor
from tests.support.stack import Server, fresh_database
from topics.catalogue import BOOKING_COMMANDS, BOOKING_EVENTS
from topics.envelope import Outgoing
from topics.kafka.partitions import partition_of
from topics.messages.commands import AddGuests, ChangeInventory, Command
from topics.messages.values import BookingStatus
from workers import projections
from workers.reservations import handler

__all__ = ["export", "folder", "new_database"]

pytestmark = pytest.mark.system

BOOKING = UUID("0fffffff-ffff-8fff-8fff-ffffffffffff")
#: Two rooms whose partitions differ, and which one gets the booking before and after the failover.
BEFORE, AFTER = 1, 2
MENTIONED = re.compile(r"sequence (\d) is there twice, as different events")
COMMANDS: Sequence[Command] = (
    nights_on_sale(BEFORE),
    nights_on_sale(AFTER),
    ChangeInventory(room_id=AFTER, first_night=FIRST, end_night=LAST, total_count=9),
    msgspec.structs.replace(stay(BOOKING, room_id=BEFORE), request_hash="1" * 32),
    msgspec.structs.replace(stay(BOOKING, room_id=AFTER), request_hash="2" * 32),
)


async def decide(log: Log, database: DatabaseSettings, rooms: Sequence[int]) -> None:
    """Let a worker decide the commands of these rooms' partitions, one partition after the other."""
    role = handler.build(log.settings, database)
    found = await log.read(BOOKING_COMMANDS)
    async with open_processor(role, log, database) as processor:
        for room in rooms:
            number = partition_of(b"%d" % room, log.settings.topic_partitions)
            await processor.process([found[TopicPartition(log.settings.topic(BOOKING_COMMANDS), number)]])


async def project(log: Log, database: DatabaseSettings) -> None:
    role = projections.build(log.settings, database)
    events = await log.read(BOOKING_EVENTS)
    async with open_processor(role, log, database) as processor:
        await processor.process(list(events.values()))


@pytest.fixture
def lost(postgres: Server, migrated: str) -> Iterator[DatabaseSettings]:
    """The database whose decisions are lost."""
    with fresh_database(postgres.url, migrated) as url:
        yield DatabaseSettings(_env_file=None, database_url=SecretStr(url))


@pytest.fixture(autouse=True)
async def _decided_again(log: Log, lost: DatabaseSettings, database: DatabaseSettings) -> None:
    """Write a log that has both decisions, and the ledger of the later one."""
    await log.send(*COMMANDS)
    await decide(log, lost, (BEFORE, AFTER))
    await decide(log, database, (AFTER, BEFORE))
    await log.send(AddGuests(room_id=AFTER, booking_id=BOOKING, user_id=7, guest_ids=(1,)))
    await decide(log, database, (AFTER,))


async def test_the_audit_names_each_partition_and_nothing_else(log: Log, database: DatabaseSettings) -> None:
    report = await audit(log.settings, database)

    assert sorted(number for line in report.problems() for number in MENTIONED.findall(line)) == ["2", "3"]
    assert len(report.problems()) == 2
    assert all(line.startswith("log matches ledger: partition ") for line in report.problems())
    assert all(line.endswith("innkeeper rebuild all") for line in report.problems())


async def test_a_restore_applies_the_later_decisions_and_notes_it(
    log: Log, database: DatabaseSettings, new_database: DatabaseSettings
) -> None:
    await until_all_have_left(new_database)

    outcome = await restore(log.settings, new_database, PAYMENTS, operator="a test", without_backup=True)

    for query in ("select id, room_id, status from booking", "select * from inventory order by room_id, date"):
        assert await rows(new_database, query) == await rows(database, query)
    assert sorted(number for note in outcome.notes for number in MENTIONED.findall(note)) == ["2", "3"]
    assert (await audit(log.settings, new_database)).problems() == (await audit(log.settings, database)).problems()


@pytest.mark.parametrize("also_the_database", [False, True], ids=["log", "both"])
async def test_a_lost_log_comes_back_from_files_by_the_later_decisions(
    log: Log,
    database: DatabaseSettings,
    new_database: DatabaseSettings,
    export: Export,
    folder: Path,
    *,
    also_the_database: bool,
) -> None:
    tables = "select id, room_id, status from booking", "select * from inventory order by room_id, date"
    ledger = [await rows(database, query) for query in tables]
    decided_later = await event_ids(log)
    await export()
    await lose(log)

    if also_the_database:
        await from_files(log, new_database, folder)
    else:
        await from_ledger(log, database, folder)

    left = new_database if also_the_database else database
    assert [await rows(left, query) for query in tables] == ledger
    assert await event_ids(log) == decided_later
    assert len(await on_the_log(log)) == len(decided_later)
    assert (await audit(log.settings, left)).problems() == []


async def event_ids(log: Log) -> dict[tuple[int, bytes], bytes]:
    """Return the id of each event by partition and sequence; of two of one sequence, that of the later one."""
    found = {}
    for at, records in (await log.read(BOOKING_EVENTS)).items():
        for record in records:
            headers = dict(record.headers)
            found[at.partition, headers["ce_sequence"]] = headers["ce_id"]
    return found


async def test_a_read_model_that_applied_the_earlier_decision_is_named_and_rebuilt(
    log: Log, database: DatabaseSettings, caplog: pytest.LogCaptureFixture
) -> None:
    await project(log, database)
    named = (await audit(log.settings, database)).problems()
    assert any(line.startswith("read models match events") for line in named), named

    for name in PROJECTIONS:
        await rebuild(log.settings, database, name, operator="a test", swap=True)

    left = (await audit(log.settings, database)).problems()
    assert all("is there twice" in line for line in left), left
    assert "as different events" in caplog.text


async def test_an_event_that_others_do_not_follow_replaces_nothing(
    log: Log, new_database: DatabaseSettings, database: DatabaseSettings
) -> None:
    # When an old event comes last, as from a worker that was frozen
    number = partition_of(b"%d" % AFTER, log.settings.topic_partitions)
    records = (await log.read(BOOKING_EVENTS))[TopicPartition(log.settings.topic(BOOKING_EVENTS), number)]
    first = records[2]
    await log.write(Outgoing(first.topic, first.key, first.value, [*first.headers], number))
    await until_all_have_left(new_database)

    with pytest.raises(NotRestored, match="lacks the events after sequence 3"):
        await restore(log.settings, new_database, PAYMENTS, operator="a test", without_backup=True)
    assert any("is there twice" in line for line in (await audit(log.settings, database)).problems())


async def test_explain_shows_both_decisions_of_a_read_model_that_was_rebuilt_as_they_count(
    log: Log, database: DatabaseSettings
) -> None:
    await project(log, database)
    before = await explain(log.settings, database, BOOKING)
    await rebuild(log.settings, database, "booking_timeline", operator="a test", swap=True)
    after = await explain(log.settings, database, BOOKING)

    # The booking itself is always the ledger's.
    assert {history.status for history in (before, after)} == {BookingStatus.GUESTS_ADDED}
    assert [decided(history, room) for history in (before, after) for room in (BEFORE, AFTER)] == [
        "booking.reserved.v1",
        "booking.command_refused.v1",
        "booking.command_refused.v1",
        "booking.reserved.v1",
    ]


def decided(history: BookingHistory, room: int) -> str:
    """Return the type of the first event in a room's partition."""
    number = partition_of(b"%d" % room, 4)
    return next(
        step.what
        for step in history.steps
        if step.kind is Kind.EVENT and step.place is not None and step.place.partition == number
    )
