"""The expiry timer on a real database and broker: every hold is ended, by whichever timer is there."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from typing import cast
from uuid import UUID

import psycopg
import pytest

from storage import pauses
from storage.database import connect_worker
from storage.holds import _DUE_HOLDS, FIRST, due_holds
from storage.leads import take_lead
from storage.settings import DatabaseSettings
from tests.support.log import Log
from tests.support.stack import Server, name_of
from tests.support.waiting import wait_until
from tests.workers.expiry.timers import Connection, timer
from topics.catalogue import BOOKING_COMMANDS
from topics.envelope import Outgoing, decode_envelope, decode_value
from topics.kafka.log_reader import LogReader, partitions_of
from topics.kafka.positions import LogPosition
from topics.kafka.producer import Producer
from topics.messages.commands import ExpireHold
from workers.expiry import holds

DUE = "now() - interval '1 minute'"
"""A deadline that is over."""


async def hold(connection: Connection, first: int, last: int, deadline: str = DUE, status: str = "RESERVED") -> None:
    """Give the bookings `first` to `last` a hold with this deadline."""
    await connection.execute(
        "insert into booking (id, hotel_id, room_id, check_in, check_out, rooms_count, status, terms, amount_minor,"
        " currency, hold_expires_at, version, created_at, updated_at)"
        " select lpad(to_hex(n), 32, '0')::uuid, 1, n %% 50, '2027-05-01', '2027-05-02', 1, %s, 'prepaid', 1, 'EUR',"
        f" {deadline}, 1, now(), now() from generate_series(%s::integer, %s) n",
        (status, first, last),
    )


async def asked(log: Log) -> list[tuple[str, ExpireHold]]:
    """Return every ExpireHold on the log, with its id."""
    found = []
    for records in (await log.read(BOOKING_COMMANDS)).values():
        for record in records:
            envelope = decode_envelope(record.headers)
            command = decode_value(envelope.type, record.value)
            assert isinstance(command, ExpireHold)
            found.append((envelope.id, command))
    return found


def bookings(commands: list[tuple[str, ExpireHold]]) -> Counter[int]:
    return Counter(command.booking_id.int for _, command in commands)


async def test_every_unpaid_hold_that_is_over_is_ended_and_nothing_else(
    log: Log, database: DatabaseSettings, connection: Connection
) -> None:
    # A confirmed booking with a deadline has a change that is not paid.
    for number, status in enumerate(
        ["RESERVED", "GUESTS_ADDED", "PAYMENTS_PENDING", "RESERVING", "CONFIRMED"], start=1
    ):
        await hold(connection, number, number, status=status)
    for number, status in enumerate(["CHECKED_IN", "CANCELLED", "EXPIRED"], start=11):
        await hold(connection, number, number, status=status)
    await hold(connection, 21, 21, deadline="now() + interval '1 hour'")
    await hold(connection, 22, 22, deadline="null")

    async with timer(log, database):
        await wait_until(lambda: _asked_for(log, 5))

    commands = await asked(log)
    assert bookings(commands) == dict.fromkeys(range(1, 6), 1)
    assert {command.room_id for _, command in commands} == set(range(1, 6))


async def test_a_hold_is_ended_soon_after_its_time_is_over(
    log: Log, database: DatabaseSettings, connection: Connection
) -> None:
    await hold(connection, 1, 1, deadline="now() + interval '1 second'")

    async with timer(log, database):
        await wait_until(lambda: asked(log))

    found = await connection.execute("select now() - hold_expires_at > interval '0' from booking")
    assert await found.fetchone() == (True,)


async def test_two_timers_ask_for_each_hold_once(log: Log, database: DatabaseSettings, connection: Connection) -> None:
    await hold(connection, 1, 2_500)

    async with timer(log, database), timer(log, database, "two"):
        await wait_until(lambda: _asked_for(log, 2_500))

    assert set(bookings(await asked(log)).values()) == {1}


async def _asked_for(log: Log, count: int) -> bool:
    return len(bookings(await asked(log))) == count


async def test_the_timer_that_waits_becomes_the_leader(
    log: Log, database: DatabaseSettings, connection: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with timer(log, database):
        await wait_until(lambda: "expiry one leads" in caplog.text)
        async with timer(log, database, "two"):
            await wait_until(lambda: "worker ready: expiry two" in caplog.text)
            assert "expiry two leads" not in caplog.text
            # As if the first were killed: its session ends without a word.
            await connection.execute(
                "select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' and granted"
            )
            await hold(connection, 1, 1)

            await wait_until(lambda: asked(log))


async def test_a_leader_that_is_frozen_loses_the_lead(database: DatabaseSettings) -> None:
    async with await connect_worker(database, "frozen") as frozen, await connect_worker(database, "awake") as awake:
        assert await take_lead(frozen, "expiry", silent_seconds=600)
        assert not await take_lead(awake, "expiry", silent_seconds=600)
        # The lead lasts this long after its last statement; where the machine pauses, it ends within this statement.
        with suppress(psycopg.OperationalError):
            assert await take_lead(frozen, "expiry", silent_seconds=0.5)

        await wait_until(lambda: take_lead(awake, "expiry", silent_seconds=600))


async def test_a_hold_is_asked_for_again_while_it_is_not_ended_and_ever_more_rarely(
    log: Log, database: DatabaseSettings, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holds, "FIRST_HOLD_PAUSE_SECONDS", 0.1)
    monkeypatch.setattr(holds, "MAX_HOLD_PAUSE_SECONDS", 0.4)
    await hold(connection, 1, 1)

    async with timer(log, database):
        await wait_until(lambda: _asked_times(log, 3))

    # It is the same command every time.
    assert len({id for id, _ in await asked(log)}) == 1


async def _asked_times(log: Log, times: int) -> bool:
    return len(await asked(log)) >= times


async def test_ten_thousand_holds_that_ended_during_an_outage_are_ended_in_bounded_time(
    log: Log, database: DatabaseSettings, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holds, "MAX_AWAITED", 3_000)
    await hold(connection, 1, 10_000, deadline="now() - n * interval '0.3 second'")

    async with worker_of_all_rooms(log, connection) as counts, timer(log, database):
        await wait_until(lambda: len(counts) == 10_000)

    assert set(counts.values()) == {1}


@asynccontextmanager
async def worker_of_all_rooms(log: Log, connection: Connection) -> AsyncIterator[Counter[UUID]]:
    """End each hold as its command comes; yield how many commands each booking had."""
    counts: Counter[UUID] = Counter()

    async def work(reader: LogReader) -> None:
        async with aclosing(reader.follow()) as batches:
            async for batch in batches:
                ended = [
                    UUID(decode_envelope(record.headers).subject) for records in batch.values() for record in records
                ]
                counts.update(ended)
                await connection.execute(
                    "update booking set status = 'EXPIRED', hold_expires_at = null where id = any(%s)", (ended,)
                )

    async with LogReader(log.settings) as reader:
        partitions = await partitions_of(log.settings, log.settings.topic(BOOKING_COMMANDS))
        reader.assign(dict.fromkeys(partitions, 0))
        task = asyncio.create_task(work(reader))
        yield counts
        task.cancel()
        await asyncio.wait([task])


async def test_holds_of_a_room_whose_worker_is_away_do_not_keep_others_waiting(
    log: Log, database: DatabaseSettings, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holds, "MAX_AWAITED", 10)
    monkeypatch.setattr(holds, "FIRST_HOLD_PAUSE_SECONDS", 0.1)
    await hold(connection, 1, 10, deadline="now() - interval '1 hour'")
    await hold(connection, 11, 15)

    async with timer(log, database):
        await wait_until(lambda: _asked_for(log, 15))


async def test_a_timer_outlives_its_database(
    log: Log, database: DatabaseSettings, postgres: Server, connection: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    await hold(connection, 1, 1)
    name = name_of(database.conninfo())
    async with (
        await psycopg.AsyncConnection.connect(postgres.url, autocommit=True) as server,
        timer(log, database) as task,
    ):
        await wait_until(lambda: _asked_for(log, 1))
        await hold(connection, 2, 2)
        await server.execute(f"alter database {name} allow_connections false")
        await server.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", (name,))
        await wait_until(lambda: "waits for the database and the broker" in caplog.text)
        await server.execute(f"alter database {name} allow_connections true")

        await wait_until(lambda: _asked_for(log, 2))
        assert not task.done()


async def test_due_holds_are_found_by_their_index(connection: Connection) -> None:
    # None of these is due by the time that a slow machine looks.
    await hold(connection, 1, 5_000, deadline="now() + interval '1 hour' + n * interval '1 second'")
    await hold(connection, 5_001, 20_000, deadline="null", status="CONFIRMED")
    await hold(connection, 20_001, 20_010)
    await connection.execute("analyze booking")

    found = await connection.execute(
        f"explain {_DUE_HOLDS}", (FIRST.deadline, 0.5, FIRST.deadline, FIRST.booking_id, 1000)
    )
    plan = "\n".join(row[0] for row in await found.fetchall())

    assert "booking_hold" in plan, plan
    assert "Seq Scan" not in plan, plan
    assert len(await due_holds(connection, FIRST, margin_seconds=0.5)) == 10


async def test_a_paused_timer_ends_nothing_keeps_the_lead_and_goes_on_when_it_may(
    log: Log, database: DatabaseSettings, connection: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    await pauses.begin(connection, holds.ROLE, who="anna", reason="the clocks change")
    await hold(connection, 1, 5)

    async with timer(log, database):
        await wait_until(lambda: "expiry is paused since" in caplog.text)
        assert "by anna: the clocks change" in caplog.text
        assert await asked(log) == []
        await pauses.end(connection, holds.ROLE, who="anna")
        await wait_until(lambda: _asked_for(log, 5))

    assert set(bookings(await asked(log))) == {1, 2, 3, 4, 5}


class _PausedAfterItsFirst:
    """A producer during whose first batch an operator pauses the timer."""

    def __init__(self, producer: Producer, connection: Connection) -> None:
        self._producer = producer
        self._connection = connection

    async def send_all(self, records: Iterable[Outgoing]) -> Sequence[LogPosition]:
        await pauses.begin(self._connection, holds.ROLE, who="anna", reason=None)
        return await self._producer.send_all(records)


async def test_a_pause_does_not_wait_until_all_that_is_over_was_gone_through(log: Log, connection: Connection) -> None:
    await hold(connection, 1, 2_500)
    producer = cast("Producer", _PausedAfterItsFirst(log.producer, connection))
    sweeper = holds.Timer(connection, producer, log.settings.topic(BOOKING_COMMANDS))

    await sweeper.sweep()
    assert len(await asked(log)) == 1_000

    await sweeper.sweep()
    assert len(await asked(log)) == 1_000

    await pauses.end(connection, holds.ROLE, who="anna")
    sweeper._producer = log.producer
    await sweeper.sweep()
    assert bookings(await asked(log)) == dict.fromkeys(range(1, 2_501), 1)
