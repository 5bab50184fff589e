"""A worker processes its batches once, also when the broker, the database or a record fails."""

import asyncio
import dataclasses
import os
import signal
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from storage.settings import DatabaseSettings
from tests.support.log import Log, open_processor, process_all
from tests.support.waiting import wait_until
from topics.catalogue import BOOKING_COMMANDS, BOOKING_EVENTS, DEAD_LETTERS, Topic
from topics.envelope import Envelope, Outgoing, command_record, encode_headers, encode_value
from topics.messages.commands import Command, OpenInventory, ReserveStay
from topics.messages.events import BookingRejected, BookingReserved, GuestsAdded
from workers.reservations import handler
from workers.runtime import batch_processor, batch_transaction
from workers.runtime.role import PartitionBatch, Role, Stopped

ROOM = 7
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def role(log: Log, database: DatabaseSettings) -> Role:
    return handler.build(log.settings, database)


def nights_on_sale(room_id: int = ROOM, *, rooms: int = 10, currency: str = "EUR") -> OpenInventory:
    return OpenInventory(
        room_id=room_id,
        hotel_id=1,
        first_night=date(2027, 5, 1),
        end_night=date(2027, 5, 11),
        total_count=rooms,
        price_minor=10_000,
        currency=currency,
    )


def stay(room_id: int = ROOM, booking_id: UUID | None = None) -> ReserveStay:
    return ReserveStay(
        room_id=room_id,
        booking_id=booking_id or uuid4(),
        user_id=1,
        hotel_id=1,
        check_in=date(2027, 5, 1),
        check_out=date(2027, 5, 3),
    )


async def rows(connection: psycopg.AsyncConnection[Any], query: str) -> list[tuple[Any, ...]]:
    return await (await connection.execute(query)).fetchall()


def decide_slowly_if_many(
    role: Role, monkeypatch: pytest.MonkeyPatch, be_slow: Callable[[psycopg.AsyncConnection[Any]], Awaitable[None]]
) -> None:
    """Let the role call `be_slow` before it decides more than two records."""
    (consumer,) = role.consumers
    decide = consumer.handle

    async def decide_slowly(connection: psycopg.AsyncConnection[Any], batches: Sequence[PartitionBatch]) -> Any:
        if sum(len(batch.received) for batch in batches) > 2:
            await be_slow(connection)
        return await decide(connection, batches)

    monkeypatch.setattr(consumer, "handle", decide_slowly)


async def test_the_last_room_goes_to_the_first_who_asked(
    log: Log, role: Role, database: DatabaseSettings, connection: psycopg.AsyncConnection[Any]
) -> None:
    first, second = stay(), stay()
    await log.send(nights_on_sale(rooms=1), first, second)

    async with open_processor(role, log, database) as processor:
        await process_all(processor, role, log)

    events = {event.booking_id: event for _, event in await log.events() if hasattr(event, "booking_id")}
    assert isinstance(events[first.booking_id], BookingReserved)
    assert isinstance(events[second.booking_id], BookingRejected)
    assert await rows(connection, "select sum(reserved_count) from inventory") == [(2,)]
    assert [envelope.sequence for envelope, _ in await log.events()] == [1, 2, 3]


async def test_records_that_come_again_have_no_further_effect(
    log: Log, role: Role, database: DatabaseSettings, connection: psycopg.AsyncConnection[Any]
) -> None:
    await log.send(nights_on_sale(), stay())

    async with open_processor(role, log, database) as processor:
        await process_all(processor, role, log)
        await process_all(processor, role, log)

    assert len(await log.events()) == 2
    assert await rows(connection, "select count(*) from booking") == [(1,)]


@pytest.mark.parametrize("first_batch", [3, 2], ids=["in one batch", "from batch to batch"])
async def test_the_time_of_the_log_does_not_go_back_with_the_brokers_clock(
    log: Log, role: Role, database: DatabaseSettings, first_batch: int
) -> None:
    first, second = stay(), stay()
    await log.send(nights_on_sale(), first, second)
    ((_, records),) = (await log.read(BOOKING_COMMANDS)).items()
    hour_ms = 60 * 60 * 1000
    records[2] = dataclasses.replace(records[2], timestamp=records[1].timestamp - hour_ms)

    async with open_processor(role, log, database) as processor:
        for batch in (records[:first_batch], records[first_batch:]):
            await processor.process([batch] if batch else [])

    events = [event for _, event in await log.events()]
    deadlines = {event.booking_id: event.hold_expires_at for event in events if isinstance(event, BookingReserved)}
    assert deadlines[second.booking_id] == deadlines[first.booking_id]


async def test_a_batch_too_large_for_a_slow_machine_is_decided_in_smaller_ones(
    log: Log,
    role: Role,
    database: DatabaseSettings,
    connection: psycopg.AsyncConnection[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each try of the whole batch would take as long as the first, and the database ends such idle transactions."""
    await log.send(nights_on_sale(), *(stay() for _ in range(4)))

    async def ended() -> bool:
        return not await rows(connection, "select 1 from pg_stat_activity where state = 'idle in transaction'")

    async def be_slow(_: psycopg.AsyncConnection[Any]) -> None:
        await wait_until(ended, message="the database ends the transaction")

    decide_slowly_if_many(role, monkeypatch, be_slow)

    hasty = database.model_copy(update={"idle_in_transaction_timeout_ms": 1000})
    async with open_processor(role, log, hasty) as processor:
        await process_all(processor, role, log)

    assert [envelope.sequence for envelope, _ in await log.events()] == [1, 2, 3, 4, 5]
    assert await rows(connection, "select count(*) from booking") == [(4,)]


@pytest.mark.parametrize(
    "limit",
    [
        "set local statement_timeout = 50",
        # The limit of a transaction begins anew after it was none.
        "set local transaction_timeout = 0; set local transaction_timeout = 50",
    ],
    ids=["statement", "transaction"],
)
async def test_a_statement_too_long_for_a_slow_machine_makes_smaller_batches(
    log: Log,
    role: Role,
    database: DatabaseSettings,
    connection: psycopg.AsyncConnection[Any],
    *,
    limit: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await log.send(nights_on_sale(), *(stay() for _ in range(4)))

    async def be_slow(connection: psycopg.AsyncConnection[Any]) -> None:
        await connection.execute(f"{limit}; select pg_sleep(3600)".encode())

    decide_slowly_if_many(role, monkeypatch, be_slow)
    async with open_processor(role, log, database) as processor:
        await process_all(processor, role, log)

    assert await rows(connection, "select count(*) from booking") == [(4,)]


@pytest.mark.parametrize(
    ("trouble", "word"),
    [
        ("do $$ begin raise exception sqlstate '53100'; end $$", "full"),
        ("do $$ begin raise exception sqlstate '42501'; end $$", "no right"),
        ("do $$ begin raise exception sqlstate '25006'; end $$", "read-only"),
        ("select pg_terminate_backend(pg_backend_pid())", "away"),
    ],
)
async def test_each_state_of_the_database_is_waited_for_by_its_name_on_a_new_connection(
    log: Log,
    role: Role,
    database: DatabaseSettings,
    connection: psycopg.AsyncConnection[Any],
    *,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    trouble: str,
    word: str,
) -> None:
    await log.send(nights_on_sale(), stay())
    (consumer,) = role.consumers
    decide = consumer.handle
    used: list[psycopg.AsyncConnection[Any]] = []

    async def decide_in_trouble(connection: psycopg.AsyncConnection[Any], batches: Sequence[PartitionBatch]) -> Any:
        used.append(connection)
        if len(used) == 1:
            await connection.execute(trouble.encode())
        return await decide(connection, batches)

    monkeypatch.setattr(consumer, "handle", decide_in_trouble)
    async with open_processor(role, log, database) as processor:
        await process_all(processor, role, log)

    assert f"reservations waits for the database or the broker ({word}, " in caplog.text
    assert used[0].closed
    assert used[0] is not used[1]
    assert await rows(connection, "select count(*) from booking") == [(1,)]


async def test_a_frozen_database_is_given_up_and_the_batch_is_decided_once_when_it_is_back(
    log: Log,
    role: Role,
    database: DatabaseSettings,
    connection: psycopg.AsyncConnection[Any],
    *,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await log.send(nights_on_sale(), stay())
    (consumer,) = role.consumers
    decide = consumer.handle
    frozen: list[int] = []

    async def decide_frozen(connection: psycopg.AsyncConnection[Any], batches: Sequence[PartitionBatch]) -> Any:
        result = await decide(connection, batches)
        if not frozen:
            frozen.append(connection.info.backend_pid)
            os.kill(frozen[0], signal.SIGSTOP)
        return result

    monkeypatch.setattr(consumer, "handle", decide_frozen)
    hasty = database.model_copy(update={"database_statement_seconds": 0.5})
    async with open_processor(role, log, hasty) as processor:
        deciding = asyncio.create_task(process_all(processor, role, log))
        try:
            await wait_until(lambda: "(away, NoAnswer: " in caplog.text, message="the worker gives the server up")
        finally:
            os.kill(frozen[0], signal.SIGCONT)
        await deciding

    assert len(await log.events()) == 2
    assert await rows(connection, "select count(*) from booking") == [(1,)]


@pytest.mark.parametrize("poison", ["bad json", "no headers", "unknown type", "an event", "another room's key", "nul"])
async def test_poison_becomes_a_dead_letter_with_its_reason_and_its_neighbours_are_decided(
    log: Log,
    role: Role,
    database: DatabaseSettings,
    connection: psycopg.AsyncConnection[Any],
    poison: str,
) -> None:
    good = record(log, nights_on_sale())
    spoilt = {
        "bad json": good._replace(value=b'{"room_id": '),
        "no headers": good._replace(headers=[]),
        "unknown type": retyped(good, "booking.stroke_the_cat.v1"),
        "an event": retyped(good, "booking.expired.v1")._replace(
            value=encode_value(GuestsAdded(room_id=ROOM, booking_id=uuid4(), guest_ids=(1,)))
        ),
        "another room's key": record(log, stay(room_id=ROOM + 1))._replace(key=good.key),
        "nul": record(log, nights_on_sale(currency="\0")),
    }[poison]
    await log.write(record(log, nights_on_sale(ROOM + 100)), spoilt, good, record(log, stay()))

    async with open_processor(role, log, database) as processor:
        await process_all(processor, role, log)

    [dead_letters] = (await log.read(DEAD_LETTERS)).values()
    headers = dict(dead_letters[0].headers)
    assert len(dead_letters) == 1
    assert dead_letters[0].value == spoilt.value
    assert dead_letters[0].key == spoilt.key
    assert headers["dl_topic"].decode() == log.settings.topic(BOOKING_COMMANDS)
    assert headers["dl_reason"]
    assert await rows(connection, "select count(*) from booking where status = 'RESERVED'") == [(1,)]
    assert await rows(connection, "select consumer from dead_letter") == [("reservations",)]


async def test_a_flood_of_dead_letters_stops_the_worker(
    log: Log, role: Role, database: DatabaseSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_transaction, "MAX_DEAD_LETTERS_AN_HOUR", 2)
    spoilt = record(log, nights_on_sale())._replace(value=b"{")
    await log.write(*[spoilt] * 3)

    async with open_processor(role, log, database) as processor:
        with pytest.raises(Stopped, match="3 dead letters"):
            await process_all(processor, role, log)


async def test_a_newer_version_stops_the_worker_and_becomes_no_dead_letter(
    log: Log, role: Role, database: DatabaseSettings
) -> None:
    await log.write(retyped(record(log, stay()), "booking.reserve.v2"))

    async with open_processor(role, log, database) as processor:
        with pytest.raises(Stopped, match="upgrade"):
            await process_all(processor, role, log)

    assert await log.read(DEAD_LETTERS) == {}


async def test_a_night_that_is_written_without_the_fence_stops_the_worker(
    log: Log, role: Role, database: DatabaseSettings, connection: psycopg.AsyncConnection[Any]
) -> None:
    await log.send(nights_on_sale(rooms=2), stay())
    async with open_processor(role, log, database) as processor:
        await process_all(processor, role, log)
        await connection.execute("update inventory set total_count = 1")
        await log.send(stay())

        with pytest.raises(psycopg.errors.CheckViolation):
            await process_all(processor, role, log)

    assert await log.read(DEAD_LETTERS) == {}


async def test_a_successor_first_publishes_the_commits_of_a_dead_worker(
    log: Log, role: Role, database: DatabaseSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    await log.send(nights_on_sale(), stay())
    async with open_processor(role, log, database) as processor:
        monkeypatch.setattr(processor._publisher, "publish", never)
        with pytest.raises(PowerCut):
            await process_all(processor, role, log)
    assert await log.events() == []

    await log.send(stay())
    async with open_processor(role, log, database) as successor:
        assert len(await log.events()) == 2
        await process_all(successor, role, log)

    assert [envelope.sequence for envelope, _ in await log.events()] == [1, 2, 3]


async def test_a_publish_that_fails_after_the_commit_is_tried_again_before_anything_newer(
    log: Log, role: Role, database: DatabaseSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    await log.send(nights_on_sale(), stay())
    async with open_processor(role, log, database) as processor:
        monkeypatch.setattr(processor._publisher, "publish", never)
        with pytest.raises(PowerCut):
            await process_all(processor, role, log)
        monkeypatch.undo()
        await log.send(stay())
        await process_all(processor, role, log)

    assert [envelope.sequence for envelope, _ in await log.events()] == [1, 2, 3]


async def test_a_frozen_worker_changes_nothing_that_its_successor_decided(
    log: Log, role: Role, database: DatabaseSettings, connection: psycopg.AsyncConnection[Any]
) -> None:
    await log.send(nights_on_sale(rooms=2), stay())
    async with open_processor(role, log, database) as frozen:
        await process_all(frozen, role, log)
        await log.send(stay(), stay())
        async with open_processor(role, log, database) as successor:
            await process_all(successor, role, log)
        await process_all(frozen, role, log)
        await log.send(stay())
        await process_all(frozen, role, log)

    assert await rows(connection, "select status, count(*) from booking group by 1 order by 1") == [
        ("REJECTED", 2),
        ("RESERVED", 2),
    ]
    sequences = {envelope.sequence for envelope, _ in await log.events()}
    assert sequences == {1, 2, 3, 4, 5}


async def test_a_partition_batch_that_begins_too_late_is_read_again_from_the_cursor(
    log: Log, role: Role, database: DatabaseSettings
) -> None:
    await log.send(nights_on_sale(), stay(), stay())
    [(partition, records)] = (await log.read(BOOKING_COMMANDS)).items()

    async with open_processor(role, log, database) as processor:
        assert await processor.process([records[1:]]) == {partition: 0}
        for _ in range(batch_transaction.MAX_OFFSET_GAPS - 1):
            await processor.process([records[1:]])
        with pytest.raises(Stopped, match="offset gap"):
            await processor.process([records[1:]])


async def test_a_log_that_was_cut_under_the_cursor_is_refused(log: Log, role: Role, database: DatabaseSettings) -> None:
    [partition, *_] = await log.send(nights_on_sale(), stay())
    async with open_processor(role, log, database) as processor:
        await process_all(processor, role, log)
    await log.send(stay(), stay(), stay())
    await delete_before(log, partition, 4)

    with pytest.raises(Stopped, match="new-generation"):
        async with open_processor(role, log, database):
            pass


async def test_a_log_that_ends_before_the_cursor_is_refused(
    log: Log, role: Role, database: DatabaseSettings, connection: psycopg.AsyncConnection[Any]
) -> None:
    await log.send(nights_on_sale())
    async with open_processor(role, log, database) as processor:
        await process_all(processor, role, log)
    await connection.execute("update log_cursor set applied = applied + 1 where applied >= 0")

    with pytest.raises(Stopped, match="goes from 0 to 0"):
        async with open_processor(role, log, database):
            pass


async def test_a_log_with_other_records_under_the_cursor_is_refused(
    log: Log, role: Role, database: DatabaseSettings, connection: psycopg.AsyncConnection[Any]
) -> None:
    await log.send(nights_on_sale())
    async with open_processor(role, log, database) as processor:
        await process_all(processor, role, log)
    await connection.execute(r"update log_cursor set last_hash = '\x00' where applied >= 0")

    with pytest.raises(Stopped, match="another record"):
        async with open_processor(role, log, database):
            pass


async def test_records_that_retention_removed_do_not_matter(log: Log, role: Role, database: DatabaseSettings) -> None:
    [partition, *_] = await log.send(nights_on_sale(), stay())
    async with open_processor(role, log, database) as processor:
        await process_all(processor, role, log)
    await delete_before(log, partition, 2)

    async with open_processor(role, log, database) as processor:
        await log.send(stay())
        await process_all(processor, role, log)

    assert [envelope.sequence for envelope, _ in await log.events()] == [1, 2, 3]


async def test_a_topic_made_anew_is_read_from_its_start_and_the_sequence_goes_on(
    log: Log, role: Role, database: DatabaseSettings
) -> None:
    from topics.kafka import admin

    await log.send(nights_on_sale(), stay())
    async with open_processor(role, log, database) as processor:
        await process_all(processor, role, log)
    await admin.delete(log.settings, [BOOKING_COMMANDS])
    await admin.create(log.settings)
    await log.send(stay())

    async with open_processor(role, log, database) as processor:
        await process_all(processor, role, log)

    assert [envelope.sequence for envelope, _ in await log.events()] == [1, 2, 3]


async def test_a_topic_made_anew_under_a_running_worker_loses_nothing(
    log: Log, role: Role, database: DatabaseSettings, connection: psycopg.AsyncConnection[Any]
) -> None:
    from topics.kafka import admin

    await log.send(nights_on_sale(), stay())
    async with open_processor(role, log, database) as processor:
        await process_all(processor, role, log)
        await admin.delete(log.settings, [BOOKING_COMMANDS])
        await admin.create(log.settings)
        [partition] = await log.send(stay())

        assert await process_all(processor, role, log) == {partition: 0}
        await process_all(processor, role, log)

    assert await rows(connection, "select count(*) from booking") == [(2,)]
    assert [envelope.sequence for envelope, _ in await log.events()] == [1, 2, 3]


class Witness:
    """A consumer of events that only remembers them."""

    name = "witness"
    topics: tuple[Topic, ...] = (BOOKING_EVENTS,)

    def __init__(self) -> None:
        self.seen: list[int] = []

    async def handle(
        self, _: psycopg.AsyncConnection[Any], batches: Sequence[PartitionBatch]
    ) -> Sequence[Sequence[Outgoing]]:
        """Remember the events' sequences."""
        self.seen += [
            received.envelope.sequence or 0 for batch in batches for received in batch.received if received.envelope
        ]
        return [[] for _ in batches]

    def forget(self) -> None:
        """There is nothing to forget."""


async def test_events_published_twice_are_applied_once_and_a_gap_waits_until_it_is_closed(
    log: Log, database: DatabaseSettings, connection: psycopg.AsyncConnection[Any]
) -> None:
    witness = Witness()
    role = Role("witness", (witness,))
    await log.write(*(event(log, sequence) for sequence in (1, 2, 2, 1, 4, 5)))

    async with open_processor(role, log, database) as processor:
        await process_all(processor, role, log)
        assert witness.seen == [1, 2]
        assert await rows(connection, "select applied, sequence from log_cursor where sequence > 0") == [(3, 2)]
        await log.write(*(event(log, sequence) for sequence in (3, 4, 5, 6)))
        await process_all(processor, role, log)

    assert witness.seen == [1, 2, 3, 4, 5, 6]
    assert await rows(connection, "select applied, sequence from log_cursor where sequence > 0") == [(9, 6)]


class Follower(Witness):
    """A consumer of events that sends a record for each."""

    def __init__(self, topic: str) -> None:
        super().__init__()
        self._topic = topic

    async def handle(
        self, connection: psycopg.AsyncConnection[Any], batches: Sequence[PartitionBatch]
    ) -> Sequence[Sequence[Outgoing]]:
        """Send the sequence of each event."""
        await super().handle(connection, batches)
        return [
            [
                Outgoing(self._topic, b"7", b"%d" % (received.envelope.sequence or 0), [])
                for received in batch.received
                if received.envelope
            ]
            for batch in batches
        ]


@pytest.mark.parametrize("kept_hours", [0.0, 48.0])
async def test_a_gap_that_closes_over_several_batches_loses_no_record_in_a_crash(
    log: Log, database: DatabaseSettings, monkeypatch: pytest.MonkeyPatch, kept_hours: float
) -> None:
    keeping = database.model_copy(update={"outbox_kept_hours": kept_hours})
    role = Role("witness", (Follower(log.settings.topic(BOOKING_COMMANDS)),))
    await log.write(*(event(log, sequence) for sequence in (1, 4)))
    async with open_processor(role, log, keeping) as processor:
        await process_all(processor, role, log)
        await log.write(event(log, 2))
        monkeypatch.setattr(processor._publisher, "publish", never)
        with pytest.raises(PowerCut):
            await process_all(processor, role, log)

    async with open_processor(role, log, keeping) as processor:
        for sequence in (3, 4, 5):
            await log.write(event(log, sequence))
            await process_all(processor, role, log)
        await processor.mark_published()

    sent = [found.value for records in (await log.read(BOOKING_COMMANDS)).values() for found in records]
    assert sent == [b"1", b"2", b"3", b"4", b"5"]


async def test_a_gap_that_stays_open_stops_the_role(
    log: Log, database: DatabaseSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_processor, "MAX_GAP_SECONDS", 0)
    role = Role("witness", (Witness(),))
    await log.write(event(log, 1), event(log, 3))

    async with open_processor(role, log, database) as processor:
        await process_all(processor, role, log)
        with pytest.raises(Stopped, match="missing"):
            await processor.mark_published()


async def test_an_event_that_cannot_be_read_stops_the_role_and_becomes_no_dead_letter(
    log: Log, database: DatabaseSettings
) -> None:
    role = Role("witness", (Witness(),))
    await log.write(event(log, 1)._replace(value=b"{"))

    async with open_processor(role, log, database) as processor:
        with pytest.raises(Stopped, match="operator"):
            await process_all(processor, role, log)

    assert await log.read(DEAD_LETTERS) == {}


async def test_published_outbox_rows_are_deleted(
    log: Log, role: Role, database: DatabaseSettings, connection: psycopg.AsyncConnection[Any]
) -> None:
    await log.send(nights_on_sale(), stay())

    async with open_processor(role, log, database) as processor:
        await process_all(processor, role, log)
        assert await rows(connection, "select count(*) from outbox") == [(1,)]
        await processor.mark_published()

    assert await rows(connection, "select count(*) from outbox") == [(0,)]
    assert await rows(connection, "select applied, published from log_cursor where applied >= 0") == [(1, 1)]


class PowerCut(Exception):
    """The process ends here."""


async def never(_: object) -> None:
    raise PowerCut


def record(log: Log, command: Command) -> Outgoing:
    topic = log.settings.topic(BOOKING_COMMANDS)
    return command_record(topic, command, id=str(uuid4()), source="test", time=NOW)


def retyped(outgoing: Outgoing, message_type: str) -> Outgoing:
    headers = [(name, message_type.encode() if name == "ce_type" else value) for name, value in outgoing.headers]
    return outgoing._replace(headers=headers)


def event(log: Log, sequence: int) -> Outgoing:
    added = GuestsAdded(room_id=ROOM, booking_id=UUID(int=sequence), guest_ids=(1,))
    envelope = Envelope(
        id=f"e:{sequence}", type=added.message_type, source="test", subject="x", time=NOW, sequence=sequence
    )
    topic = log.settings.topic(BOOKING_EVENTS)
    return Outgoing(topic, b"%d" % ROOM, encode_value(added), encode_headers(envelope), partition=0)


async def delete_before(log: Log, partition: TopicPartition, offset: int) -> None:
    client = AIOKafkaAdminClient(bootstrap_servers=log.settings.kafka_url)
    await client.start()
    try:
        await client.delete_records({partition: RecordsToDelete(before_offset=offset)})
    finally:
        await client.close()
