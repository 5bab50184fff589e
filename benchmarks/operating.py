"""`explain`, `trace`, `pause`: how long operators wait for a booking's history, a restored ledger, a pause.

Each benchmark runs the operators' command, or calls the function behind it, and checks that its result is right.
"""

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, Final
from uuid import UUID, uuid4

import psycopg
from pydantic import SecretStr

from benchmarks.extent import Extent
from benchmarks.filling import filling
from benchmarks.flow import Flow, flow
from benchmarks.lines import Figure, Line
from benchmarks.stage import (
    SOURCE,
    USER,
    WORKER,
    BenchmarkFailed,
    Rooms,
    folder_of_its_own,
    kafka_of,
    number,
    progress,
    stage,
)
from operators.rebuild import PROJECTIONS
from sandbox.replay import Stalled, open_course
from sandbox.system import Plan, System
from sandbox.trace import read_trace
from sandbox.trace_totals import totals
from storage import pauses
from storage.settings import DatabaseSettings
from topics.catalogue import BOOKING_COMMANDS
from topics.envelope import command_record
from topics.kafka.producer import open_producer
from topics.kafka.settings import KafkaSettings
from topics.messages.commands import AddGuests, Command, OpenInventory, RequestPayment, ReserveStay

MAX_SECONDS_TO_EXPLAIN: Final = 1.0
MAX_SECONDS_TO_RESTORE: Final = 60.0
MIN_EVENTS_PER_S: Final = 20_000.0
MAX_SECONDS_TO_PAUSE: Final = 1.0

TRACE: Final = Path(__file__).parents[1] / "tests" / "system" / "trace" / "hotel_bookings.csv.gz"
_ROOM_ID: Final = 1
_HOTEL_ID: Final = 1
_MAX_COMMAND_WAIT_SECONDS: Final = 120.0
_READ_MODEL_POLL_SECONDS: Final = 0.05
_ROLE: Final = "reservations"
_PAUSED_PER_S: Final = 100
#: Long enough that a booking would be decided in it, if any still were.
_OBSERVED_SECONDS: Final = 3.0


# One booking among many.


async def explain(extent: Extent) -> AsyncIterator[Line]:
    """Yield how long `innkeeper explain` takes, by the clock, for a booking in the middle of a log."""
    plan = {"workers": {"reservations": 1, "projections": 1}, "partitions": 1}
    booking_id = uuid4()
    async with _system(**plan) as system:
        await _in_the_middle(system, booking_id, extent.records)
        seconds = []
        for _ in range(extent.runs):
            took, history = await _command(system.environment(), "explain", str(booking_id))
            if len([step for step in history["steps"] if step["place"] is not None]) != 2 * len(_commands(booking_id)):
                raise BenchmarkFailed(f"the history lacks some of the booking's records: {history}")
            seconds.append(took)
            progress(f"explain: {took:.2f} s")
    value = round(median(seconds), 2)
    yield Figure(benchmark="explain", value=value, unit="s", target=MAX_SECONDS_TO_EXPLAIN)


async def _in_the_middle(system: System, booking_id: UUID, records: int) -> None:
    """Have a booking decided, with half of the records before its own and half behind them."""
    kafka, database = kafka_of(system).model_copy(update={"topic_partitions": 1}), _database(system.database_url)
    async with filling(kafka, database, _stay(uuid4())) as others:
        await _decide(system, kafka, [_PUT_ON_SALE])
        for commands in (_commands(booking_id), ()):
            for name in system.worker_names:
                await system.stop_part(name)
            await others.write(records // 4)
            if commands:
                for name in system.worker_names:
                    await system.start_part(name)
                await _decide(system, kafka, commands)


async def _decide(system: System, kafka: KafkaSettings, commands: Sequence[Command]) -> None:
    """Send commands, and wait until they are decided and every read model has their events."""
    async with open_producer(kafka, client_id="innkeeper-benchmarks") as producer:
        topic = kafka.topic(BOOKING_COMMANDS)
        *_, last = await producer.send_all(
            command_record(topic, command, id=uuid4().hex, source=SOURCE, time=datetime.now(UTC))
            for command in commands
        )
    async with await psycopg.AsyncConnection.connect(system.database_url, autocommit=True) as connection:
        try:
            async with asyncio.timeout(_MAX_COMMAND_WAIT_SECONDS):
                while await number(connection, _FOLLOWED, last.offset) < len(PROJECTIONS):
                    await asyncio.sleep(_READ_MODEL_POLL_SECONDS)
        except TimeoutError:
            raise BenchmarkFailed(f"a few commands are not decided after {_MAX_COMMAND_WAIT_SECONDS:.0f} s") from None


#: The number of read models that have the events of all commands, once the ledger is decided up to an offset.
_FOLLOWED: Final = """
select count(*) from log_cursor as model join log_cursor as ledger using (partition, sequence)
where ledger.consumer = 'reservations' and ledger.applied >= %s and model.consumer <> ledger.consumer
"""

_FIRST_NIGHT: Final = Rooms.on_sale(count=1, nights=30).first_night
_PUT_ON_SALE: Final = OpenInventory(
    room_id=_ROOM_ID,
    hotel_id=_HOTEL_ID,
    first_night=_FIRST_NIGHT,
    end_night=_FIRST_NIGHT + timedelta(days=30),
    total_count=1000,
    price_minor=10_000,
    currency="EUR",
)


def _commands(booking_id: UUID) -> Sequence[Command]:
    """Return the commands of a guest up to the payment; each has one event."""
    return (
        _stay(booking_id),
        AddGuests(room_id=_ROOM_ID, booking_id=booking_id, user_id=USER, guest_ids=(1,)),
        RequestPayment(room_id=_ROOM_ID, booking_id=booking_id, user_id=USER),
    )


def _stay(booking_id: UUID) -> ReserveStay:
    return ReserveStay(
        room_id=_ROOM_ID,
        booking_id=booking_id,
        user_id=USER,
        hotel_id=_HOTEL_ID,
        check_in=_FIRST_NIGHT,
        check_out=_FIRST_NIGHT + timedelta(days=2),
    )


# A restored ledger.


async def trace(extent: Extent) -> AsyncIterator[Line]:
    """Yield how long the real trace takes to be restored, and how many events a second make each read model anew."""
    async with _system(workers={"reservations": 1}, environment={"TOPIC_CREATE_TIME": "true"}) as system:
        await _replay(system, extent.commands)
        await system.stop_part(WORKER)
        assert system.postgres is not None
        there = {**system.environment(), "DATABASE_URL": await system.postgres.create_database("restored")}
        await _command(there, "migrate")
        seconds, restored = await _command(there, "restore", "--from-log", "--yes", "--without-backup")
        if await _totals(there["DATABASE_URL"]) != await _totals(system.database_url):
            raise BenchmarkFailed("the restored database differs from the lost one")
        progress(f"trace: {restored['events']:,} events restored in {seconds:.1f} s")
        yield Figure(benchmark="trace.restore", value=round(seconds, 1), unit="s", target=MAX_SECONDS_TO_RESTORE)
        yield Figure(benchmark="trace.restore.events", value=round(restored["events"] / seconds), unit="events/s")
        for name in PROJECTIONS:
            yield await _rebuild(there, name)


async def _replay(system: System, count: int | None) -> None:
    """Have the trace decided, or its first `count` commands."""
    steps = read_trace(TRACE, rooms=1000)[:count]
    progress(f"trace: {len(steps):,} commands are replayed")
    async with open_course(kafka_of(system), _database(system.database_url)) as course:
        try:
            await course.send(steps)
            await course.until_decided(len(steps), lambda: None)
            await course.until_published()
        except Stalled as stalled:
            raise BenchmarkFailed(str(stalled)) from None


async def _rebuild(environment: Mapping[str, str], name: str) -> Line:
    """Make a read model anew beside the restored one, which must be the same."""
    _, rebuilt = await _command(environment, "rebuild", name, "--compare-only")
    return Figure(
        benchmark=f"trace.rebuild.{name}",
        value=round(rebuilt["events"] / rebuilt["seconds"]),
        unit="events/s",
        target=MIN_EVENTS_PER_S,
        kind="least",
    )


async def _totals(database_url: str) -> Mapping[str, int]:
    async with await psycopg.AsyncConnection.connect(database_url) as connection:
        return await totals(connection)


# A role that is paused.


async def pause(extent: Extent) -> AsyncIterator[Line]:
    """Yield the seconds from a pause to the last booking decided after it, and from a resume to the next one.

    A role is paused once the database has the pause's row, and writing that row is all that `innkeeper pause` does.
    """
    rooms = Rooms.on_sale(count=200, nights=30)
    pauses_s, resumes_s = [], []
    async with (
        stage(rooms, ingress=0) as ours,
        flow(ours.kafka, rooms) as commands,
        await psycopg.AsyncConnection.connect(ours.system.database_url, autocommit=True) as connection,
    ):
        sending = asyncio.create_task(commands.send_steadily(_PAUSED_PER_S))
        for turn in range(1, extent.pauses + 1):
            await _next_event(commands, after=perf_counter())
            await pauses.begin(connection, _ROLE, who=SOURCE, reason=None)
            paused_at = perf_counter()
            await asyncio.sleep(_OBSERVED_SECONDS)
            pauses_s.append(max(0.0, commands.seen_at - paused_at))
            await pauses.end(connection, _ROLE, who=SOURCE)
            resumed_at = perf_counter()
            resumes_s.append(await _next_event(commands, after=resumed_at) - resumed_at)
            measured = f"paused after {pauses_s[-1]:.2f} s, resumed after {resumes_s[-1]:.2f} s"
            progress(f"pause: {turn} of {extent.pauses}; {measured}")
        sending.cancel()
        await asyncio.wait([sending])
        await commands.until_all_are_seen()
    for name, seconds in (("paused_after", pauses_s), ("resumed_after", resumes_s)):
        value = round(max(seconds), 2)
        yield Figure(benchmark=f"pause.{name}", value=value, unit="s", target=MAX_SECONDS_TO_PAUSE)


async def _next_event(commands: Flow, *, after: float) -> float:
    """Return when the next event was seen, by the clock of `perf_counter`."""
    async with asyncio.timeout(_MAX_COMMAND_WAIT_SECONDS):
        while commands.seen_at <= after:
            await asyncio.sleep(_READ_MODEL_POLL_SECONDS / 10)
    return commands.seen_at


# All of them.


@asynccontextmanager
async def _system(**parts: Any) -> AsyncIterator[System]:
    """Start a system of our own without an ingress; `parts` are a plan's."""
    with folder_of_its_own() as folder:
        plan = Plan(folder=folder, ingress=0, stripe=False, own_servers=True, quiet=True, **parts)
        async with System(plan) as system:
            yield system


def _database(url: str) -> DatabaseSettings:
    return DatabaseSettings(_env_file=None, database_url=SecretStr(url))


async def _command(environment: Mapping[str, str], *arguments: str) -> tuple[float, dict[str, Any]]:
    """Run an operator's command; return the seconds that it took by the clock, and its JSON.

    Raises:
        BenchmarkFailed: it did not succeed.
    """
    began = perf_counter()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "operators", *arguments, "--json"),
        env={**os.environ, **environment},
        stdout=PIPE,
        stderr=PIPE,
    )
    out, err = await process.communicate()
    seconds = perf_counter() - began
    if process.returncode != 0:
        raise BenchmarkFailed(f"{' '.join(arguments)} ended with {process.returncode}: {err.decode()}")
    answer: dict[str, Any] = json.loads(out)
    return seconds, answer
