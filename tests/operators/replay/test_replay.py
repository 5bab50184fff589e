"""A range of the log is replayed: refusals, counts, and how far it came."""

import asyncio
import json
import os
import sys
from collections import Counter
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from operators import replay
from operators.replay import Refused, ReplayRange, ReplayResult, sending
from storage import pauses
from storage.settings import DatabaseSettings
from tests.operators.conftest import Ledger, Operator, at_work
from tests.operators.decided_ledger import until_all_have_left
from tests.operators.restore.test_restore import trips_and_their_legs
from tests.support.log import Log, open_processor, process_all
from topics.catalogue import BOOKING_COMMANDS, BOOKING_EVENTS, STRIPE_WEBHOOKS, Topic
from topics.envelope import Outgoing, decode_replay
from topics.kafka import admin
from topics.messages.commands import AddGuests, CancelBooking, ChangeInventory, OpenInventory, ReserveStay
from workers import coordination, projections
from workers.reservations import handler
from workers.runtime.role import Role

pytestmark = pytest.mark.system

ROOM = 7
LONG_AGO = datetime.now(UTC) - timedelta(days=1)
FIRST, END = date(2027, 5, 1), date(2027, 5, 3)


@pytest.fixture
def role(log: Log, database: DatabaseSettings) -> Role:
    return handler.build(log.settings, database)


def nights() -> OpenInventory:
    return OpenInventory(
        room_id=ROOM, hotel_id=1, first_night=FIRST, end_night=END, total_count=3, price_minor=10_000, currency="EUR"
    )


def stay(rooms_count: int = 1) -> ReserveStay:
    return ReserveStay(
        room_id=ROOM,
        booking_id=uuid4(),
        user_id=1,
        hotel_id=1,
        check_in=FIRST,
        check_out=END,
        rooms_count=rooms_count,
    )


async def process(role: Role, log: Log, database: DatabaseSettings) -> None:
    async with open_processor(role, log, database) as processor:
        await process_all(processor, role, log)
        await processor.mark_published()
    # A cursor is moved for a role that does not run.
    await until_all_have_left(database)


async def run_replay(
    log: Log, ledger: Ledger, asked: ReplayRange, *, stop: asyncio.Event | None = None, wait_seconds: float = 60
) -> ReplayResult:
    plan = await replay.plan_replay(log.settings, ledger, asked)
    return await replay.run_replay(
        log.settings,
        ledger,
        log.producer,
        plan,
        operator="ines",
        wait_seconds=wait_seconds,
        advance=lambda _: None,
        stop=stop or asyncio.Event(),
    )


def all_of(topic: Topic, **options: Any) -> ReplayRange:
    return ReplayRange(topic=topic, begin=LONG_AGO, **options)


async def test_commands_that_had_their_effect_change_nothing_and_the_log_has_them_twice_as_they_were(
    log: Log, role: Role, database: DatabaseSettings, ledger: Ledger
) -> None:
    reserved, rejected = stay(), stay(rooms_count=9)
    await log.send(nights(), reserved, rejected)
    await log.send(CancelBooking(room_id=ROOM, booking_id=reserved.booking_id))
    await process(role, log, database)
    (before,) = (await log.read(BOOKING_COMMANDS)).values()
    rows = await _ledger_rows(ledger)

    async with at_work(role, log, database):
        result = await run_replay(log, ledger, all_of(BOOKING_COMMANDS))

    assert (result.sent, result.effects.commands, result.effects.changed) == (4, 4, 0)
    assert await _ledger_rows(ledger) == rows
    (after,) = (await log.read(BOOKING_COMMANDS)).values()
    again = after[4:]
    assert [(r.key, r.value, r.headers[:-1]) for r in again] == [(r.key, r.value, r.headers) for r in before]
    named = [decode_replay(r.headers[-1:]) for r in again]
    assert [each and each.of for each in named] == [f"{r.topic}[{r.partition}]@{r.offset}" for r in before]
    actions = await ledger.execute("select action, who, at, details ->> 'replay_id' from operator_action order by id")
    (begun, _) = await actions.fetchall()
    assert {(each.action, each.by, each.at, each.id) for each in named if each is not None} == {begun}


async def test_a_record_that_is_replayed_twice_names_the_last_replay_alone(
    log: Log, role: Role, database: DatabaseSettings, ledger: Ledger
) -> None:
    await log.send(nights(), stay())
    await process(role, log, database)
    for only in (None, 2):
        async with at_work(role, log, database):
            begin = LONG_AGO if only is None else only
            (partition,) = await log.read(BOOKING_COMMANDS)
            asked = ReplayRange(topic=BOOKING_COMMANDS, begin=begin, partition=partition.partition)
            await run_replay(log, ledger, asked)

    ((_, _, again, _, last, _),) = (await log.read(BOOKING_COMMANDS)).values()

    assert sum(name == "ce_replay" for name, _ in last.headers) == 1
    replay_of_again, replay_of_last = decode_replay(again.headers), decode_replay(last.headers)
    assert replay_of_again is not None
    assert replay_of_last is not None
    assert replay_of_last.of == f"{again.topic}[{again.partition}]@{again.offset}"
    assert replay_of_last.id != replay_of_again.id


async def test_a_range_that_is_replayed_again_and_again_does_not_grow(  # noqa: PLR0917 - fixtures
    log: Log,
    role: Role,
    database: DatabaseSettings,
    ledger: Ledger,
    operator: Operator,
    environment: dict[str, str],
) -> None:
    await log.send(nights(), stay(), stay())
    await process(role, log, database)

    for time in (1, 2, 3):
        plan = await replay.plan_replay(log.settings, ledger, all_of(BOOKING_COMMANDS))
        assert (plan.records, plan.repeats) == (3, 3 * (time - 1))
        async with at_work(role, log, database):
            result = await run_replay(log, ledger, all_of(BOOKING_COMMANDS))
        assert (result.sent, result.effects.commands) == (3, 3)
        assert sum(map(len, (await log.read(BOOKING_COMMANDS)).values())) == 3 * (time + 1)
    would = await operator("replay", "booking.commands", "--from", "1d")
    assert "Left out: 9 records with the id of one before, as each id is sent once." in would.stderr
    assert "leaves one event of its repetition or refusal, kept for ever." in would.stderr
    async with at_work(role, log, database):
        reported = await in_words(environment, "replay", "booking.commands", "--from", "1d", "--yes")
    assert "3 of 3 records sent again." in reported
    assert "These were 3 records of 3 commands: 0 changed something. 3 changed nothing" in reported


async def in_words(environment: dict[str, str], *arguments: str) -> str:
    """Run a command that handles Ctrl-C, and so must be a process; return what it writes to stderr."""
    running = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "operators",
        *arguments,
        env={**os.environ, **environment},
        stderr=asyncio.subprocess.PIPE,
    )
    _, reported = await running.communicate()
    return reported.decode()


async def test_a_webhook_that_the_log_has_twice_is_sent_once(
    log: Log, ledger: Ledger, database: DatabaseSettings, operator: Operator
) -> None:
    topic = log.settings.topic(STRIPE_WEBHOOKS)
    first, second = (
        b'{"id": "evt_%d", "type": "charge.updated", "data": {"object": {}}}' % number for number in (1, 2)
    )
    await log.write(*(Outgoing(topic, b"7", value, []) for value in (first, second, first)))
    await read_by_payments(log, ledger, topic, applied=2)

    would = await operator("replay", "stripe.webhooks", "--from", "1d")

    assert "2 webhooks of" in would.stderr
    assert "Left out: 1 record with the id of one before, as each id is sent once." in would.stderr
    assert "Each command that a webhook leads to leaves one event" in would.stderr


async def read_by_payments(log: Log, ledger: Ledger, topic: str, applied: int) -> None:
    """Let the payments worker have read so far in every partition."""
    generation = await ledger.execute(
        "insert into topic_generation (topic, broker_id) values (%s, %s) returning id",
        (topic, (await admin.topic_ids(log.settings, [topic]))[topic]),
    )
    (number,) = await generation.fetchone() or (0,)
    await ledger.execute(
        "insert into log_cursor (consumer, topic, partition, generation, applied, published)"
        " select 'payments', %s, partition, %s, %s, %s from generate_series(0, 3) partition",
        (topic, number, applied, applied),
    )


async def test_a_type_that_is_not_there_is_refused_with_those_that_are(
    log: Log, role: Role, database: DatabaseSettings, operator: Operator
) -> None:
    await log.send(nights(), stay())
    await process(role, log, database)

    result = await operator("replay", "booking.commands", "--from", "1d", "--type", "booking.reserved.*", "--json")

    assert result.exit_code == 1
    detail = json.loads(result.stdout)["detail"]
    assert "Nothing there is of the type booking.reserved.*. There are booking.reserve.v1, inventory.open.v1" in detail


async def test_a_command_that_was_refused_then_and_is_accepted_now_is_counted(
    log: Log, role: Role, database: DatabaseSettings, ledger: Ledger
) -> None:
    reserved = stay()
    guests = AddGuests(room_id=ROOM, booking_id=reserved.booking_id, user_id=1, guest_ids=(1,))
    await log.send(guests, nights(), reserved)
    await process(role, log, database)

    async with at_work(role, log, database):
        result = await run_replay(log, ledger, all_of(BOOKING_COMMANDS))

    assert (result.effects.changed, result.effects.events) == (1, {"booking.guests_added.v1": 1})


async def test_records_that_were_not_processed_yet_are_left_out(
    log: Log, role: Role, database: DatabaseSettings, ledger: Ledger, operator: Operator
) -> None:
    await log.send(nights())
    with pytest.raises(Refused, match="reservations has not processed any of it yet"):
        await replay.plan_replay(log.settings, ledger, all_of(BOOKING_COMMANDS))
    await process(role, log, database)
    await log.send(stay())

    plan = await replay.plan_replay(log.settings, ledger, all_of(BOOKING_COMMANDS))
    would = await operator("replay", "booking.commands", "--from", "1d")

    assert (plan.records, plan.not_yet) == (1, 1)
    assert "Left out: 1 record that no worker has processed for the first time yet." in would.stderr


async def test_dead_letters_are_left_out_as_too_many_would_stop_the_worker(
    log: Log, role: Role, database: DatabaseSettings, ledger: Ledger
) -> None:
    (partition,) = await log.send(nights())
    (good,) = (await log.read(BOOKING_COMMANDS)).values()
    await log.write(Outgoing(good[0].topic, good[0].key, b"{", list(good[0].headers), good[0].partition))
    await process(role, log, database)

    plan = await replay.plan_replay(log.settings, ledger, all_of(BOOKING_COMMANDS))

    assert plan.records == 1
    assert plan.dead_letters == {partition.partition: frozenset({1})}


async def test_a_replay_that_is_stopped_returns_how_far_it_came(
    log: Log, role: Role, database: DatabaseSettings, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "CHUNK", 2)
    partitions = await log.send(nights(), stay(), stay(), stay())
    await process(role, log, database)
    plan = await replay.plan_replay(log.settings, ledger, all_of(BOOKING_COMMANDS))
    stop = asyncio.Event()

    async with at_work(role, log, database):
        result = await replay.run_replay(
            log.settings,
            ledger,
            log.producer,
            plan,
            operator="ines",
            wait_seconds=60,
            advance=lambda _: stop.set(),
            stop=stop,
        )

    assert (result.sent, result.reason, result.reached) == (2, "interrupted", {partitions[0].partition: 1})
    assert (result.effects.known, result.effects.changed) == (True, 0)
    reported = await ledger.execute("select action, details -> 'sent' from operator_action order by id")
    assert await reported.fetchall() == [("replay", None), ("replay ended", 2)]


async def test_a_worker_that_is_down_is_not_sent_more_than_it_can_take(
    log: Log, role: Role, database: DatabaseSettings, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "CHUNK", 2)
    await log.send(nights(), stay(), stay(), stay())
    await process(role, log, database)

    result = await run_replay(log, ledger, all_of(BOOKING_COMMANDS), wait_seconds=0.1)

    assert result.sent == 2
    assert result.reason == "reservations has not processed it within 0.1 s"
    assert not result.effects.known


NO_GOOD = {
    ("booking.events", "--from", "1d"): "Events are never sent again",
    ("dead.letters", "--from", "1d"): "dead-letters replay",
    ("booking.commands", "--from", "1d"): "has no records in that range",
    ("booking.commands", "--from", "0", "--partition", "9"): "has no partition 9",
    ("booking.events", "--from", "1d", "--consumer", "room_nights"): "innkeeper rebuild room_nights",
    ("booking.events", "--from", "1d", "--consumer", "analytics"): "There is no consumer analytics",
    ("booking.events", "--from", "1d", "--consumer", "payments", "--to", "1h"): "have no meaning here",
    ("booking.commands", "--from", "1d", "--consumer", "payments"): "is sent again to its one consumer",
}


async def test_a_replay_that_would_do_harm_or_nothing_is_refused(operator: Operator) -> None:
    for arguments, sentence in NO_GOOD.items():
        result = await operator("replay", *arguments)

        assert result.exit_code == 1, arguments
        assert sentence in result.stderr
        for yes in ((), ("--yes",)):
            reported = await operator("replay", *arguments, *yes, "--json")
            assert reported.exit_code == 1
            assert sentence in json.loads(reported.stdout)["detail"]
    result = await operator("replay", "booking.commands", "--from", "0")
    assert result.exit_code == 2
    assert "--partition" in result.stderr


async def test_old_prices_come_back_only_where_somebody_means_it(
    log: Log, role: Role, database: DatabaseSettings, ledger: Ledger
) -> None:
    await log.send(nights(), ChangeInventory(room_id=ROOM, first_night=FIRST, end_night=END, price_minor=1))
    await process(role, log, database)

    with pytest.raises(Refused, match=r"1 of them are inventory\.change\.v1"):
        await replay.plan_replay(log.settings, ledger, all_of(BOOKING_COMMANDS))
    plan = await replay.plan_replay(log.settings, ledger, all_of(BOOKING_COMMANDS, type="*"))
    assert plan.records == 2


# Events, to one consumer.


async def reported(log: Log, database: DatabaseSettings) -> Role:
    """Let the projections read some events; return the role."""
    await log.send(nights(), stay(), stay())
    await process(handler.build(log.settings, database), log, database)
    role = projections.build(log.settings, database)
    await process(role, log, database)
    return role


async def test_a_projection_reads_events_again_and_its_missing_rows_are_back(
    log: Log, database: DatabaseSettings, ledger: Ledger
) -> None:
    role = await reported(log, database)
    await ledger.execute("delete from booking_timeline")
    (partition,) = await log.read(BOOKING_EVENTS)
    first = ReplayRange(topic=BOOKING_EVENTS, begin=1, partition=partition.partition)
    planned = await replay.plan_rewind(log.settings, ledger, first, "booking_timeline")
    assert planned.types == {"booking.reserved.v1": 2}
    await replay.rewind(ledger, planned, operator="ines")
    taken = "select sum(taken_count) from room_night"
    before = await (await ledger.execute(taken)).fetchall()

    await process(role, log, database)

    found = await ledger.execute("select sequence from booking_timeline order by sequence")
    assert await found.fetchall() == [(2,), (3,)]
    # The other consumers of the role read none of it twice.
    assert await (await ledger.execute(taken)).fetchall() == before
    looked_too_early = replace(
        planned, applied={partition: offset - 1 for partition, offset in planned.applied.items()}
    )
    with pytest.raises(Refused, match="has moved meanwhile"):
        await replay.rewind(ledger, looked_too_early, operator="ines")


async def test_coordination_reads_events_again_although_the_outbox_keeps_the_commands_that_followed(
    log: Log, database: DatabaseSettings, ledger: Ledger
) -> None:
    keeping = database.model_copy(update={"outbox_kept_hours": 48.0})
    await trips_and_their_legs(log, keeping, FIRST)
    role = coordination.build(log.settings, keeping)
    await process(role, log, keeping)
    assert await commands_kept(ledger) > 0
    sent = await ids_of_commands(log)
    planned = await replay.plan_rewind(log.settings, ledger, all_of(BOOKING_EVENTS), "coordination")
    await replay.rewind(ledger, planned, operator="ines")
    assert await commands_kept(ledger) == 0

    await process(role, log, keeping)

    again = await ids_of_commands(log) - sent
    # Each command follows once more; none is published from what was kept.
    assert set(again.values()) == {1}
    assert set(again) <= set(sent)
    assert await commands_kept(ledger) > 0


async def commands_kept(ledger: Ledger) -> int:
    """Return how many rows the outbox has of coordination."""
    found = await ledger.execute("select count(*) from outbox where consumer = 'coordination'")
    [(count,)] = await found.fetchall()
    return int(count)


async def ids_of_commands(log: Log) -> Counter[str]:
    """Return how often the log has each command."""
    records = [record for found in (await log.read(BOOKING_COMMANDS)).values() for record in found]
    return Counter(dict(record.headers)["ce_id"].decode() for record in records)


async def test_a_cursor_is_not_moved_under_a_role_that_runs_unless_it_is_paused(
    log: Log, database: DatabaseSettings, ledger: Ledger
) -> None:
    role = await reported(log, database)
    planned = await replay.plan_rewind(log.settings, ledger, all_of(BOOKING_EVENTS), "daily_report")
    async with open_processor(role, log, database):
        with pytest.raises(Refused, match="projections runs"):
            await replay.rewind(ledger, planned, operator="ines")
        await pauses.begin(ledger, "projections", who="ines", reason=None)
        await replay.rewind(ledger, planned, operator="ines")

    cursor = await ledger.execute("select max(applied), max(sequence) from log_cursor where consumer = 'daily_report'")
    assert await cursor.fetchall() == [(-1, 0)]


async def test_events_that_a_consumer_has_not_read_yet_are_still_to_come(log: Log, ledger: Ledger) -> None:
    await log.write(Outgoing(log.settings.topic(BOOKING_EVENTS), b"7", b"{}", []))

    with pytest.raises(Refused, match="has not come that far"):
        await replay.plan_rewind(log.settings, ledger, all_of(BOOKING_EVENTS), "booking_timeline")


async def _ledger_rows(ledger: Ledger) -> list[tuple[Any, ...]]:
    bookings = await (await ledger.execute("select * from booking order by id")).fetchall()
    return bookings + await (await ledger.execute("select * from inventory order by room_id, date")).fetchall()
