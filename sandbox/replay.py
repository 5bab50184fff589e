"""Replays the real booking trace through a system of its own, and counts the bookings in the database by their end.

It starts only the parts that decide: Kafka, PostgreSQL and reservations workers. The sender of the trace is a trusted
writer: its stays carry an agreed rate and are paid at the hotel.
"""

import asyncio
import json
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any, Final

import psycopg
from pydantic import SecretStr
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from operators.audit import audit
from sandbox import kafka, postgres
from sandbox.kills import Killer
from sandbox.system import Plan, System, report
from sandbox.trace import TraceStep, command_id, read_trace
from sandbox.trace_totals import totals
from sandbox.up import INTERRUPTED, give_up_for, in_foreground
from storage.database import connect
from storage.settings import DatabaseSettings
from topics.catalogue import BOOKING_COMMANDS
from topics.envelope import Outgoing, command_record
from topics.kafka.producer import open_producer
from topics.kafka.settings import KafkaSettings

SOURCE: Final = "innkeeper/trace"
_SENT_TOGETHER: Final = 4000
_LINGER_MS: Final = 5
_PROGRESS_POLL_SECONDS: Final = 0.05
_MAX_STALL_SECONDS: Final = 180.0


def replay(file: Path, *, rooms: int, workers: int, kill_every: float | None, keep: bool) -> int:
    """Send the trace in `file` through the log of a fresh system, and print the totals; return the exit status.

    `rooms` of each type are on sale. With `kill_every`, a reservations worker is killed so many seconds after the last
    replacement committed. `keep`: the folder with all data and logs stays. Raises typer.Exit when this machine can run
    no Kafka, or no PostgreSQL.
    """
    give_up_for(kafka.available())
    give_up_for(postgres.available())
    steps = read_trace(file, rooms=rooms)
    folder = Path(tempfile.mkdtemp(prefix="innkeeper-replay-"))
    plan = Plan(
        folder=folder,
        workers={"reservations": workers},
        ingress=0,
        stripe=False,
        own_servers=True,
        environment={"TOPIC_CREATE_TIME": "true"},
    )
    work = partial(_replay_and_print, steps=steps, rooms=rooms, kill_every=kill_every)
    try:
        status = asyncio.run(in_foreground(System(plan), work, interrupted=INTERRUPTED))
    finally:
        if keep:
            report(f"kept: {folder}")
        else:
            shutil.rmtree(folder)
    return status


async def _replay_and_print(system: System, *, steps: Sequence[TraceStep], rooms: int, kill_every: float | None) -> int:
    log = KafkaSettings(kafka_url=system.kafka_url, topic_create_time=True)
    database = DatabaseSettings(database_url=SecretStr(system.database_url))
    async with open_course(log, database) as course:
        killer = Killer(system, log, course.ask, course.written)
        try:
            seconds = await _decide_all(course, steps, killer, kill_every)
        except Stalled as stalled:
            report(f"given up: {stalled}")
            return 1
        counted = await totals(course.connection)
    found = await audit(log, database)
    for problem in found.problems():
        report(problem)
    result = {
        "rooms": rooms,
        "workers": system.plan.workers["reservations"],
        "kills": killer.kills,
        **counted,
        "seconds": round(seconds, 2),
        "audit": found.as_json()["audit"],
    }
    print(json.dumps(result), flush=True)
    return 0 if found.ok else 1


async def _decide_all(course: "Course", steps: Sequence[TraceStep], killer: Killer, kill_every: float | None) -> float:
    """Send all commands and wait for all decisions; the seconds from the first command to the last decision.

    Raises:
        Stalled: nothing moves any more.
    """
    began = monotonic()
    try:
        with _bars(course, len(steps)) as show:
            async with asyncio.TaskGroup() as together:
                together.create_task(course.send(steps))
                killing = together.create_task(killer.kill_forever(kill_every)) if kill_every else None
                await course.until_decided(len(steps), show)
                seconds = monotonic() - began
                if killing is not None:
                    killing.cancel()
            await course.until_published()
    except* Stalled as stalled:
        raise stalled.exceptions[0] from None
    return seconds


class Stalled(RuntimeError):
    """Nothing was decided or published for a long time."""


class Course:
    """How far the trace has come: `written` and `decided` are the number of commands, by partition."""

    def __init__(self, kafka: KafkaSettings, connection: psycopg.AsyncConnection[Any]) -> None:
        self.connection = connection
        self.written: dict[int, int] = {}
        self.decided: Mapping[int, int] = {}
        self._kafka = kafka
        self._topic = kafka.topic(BOOKING_COMMANDS)

    async def send(self, steps: Sequence[TraceStep]) -> None:
        """Write the commands in their order: one producer keeps it within a partition, and so for each room."""
        async with open_producer(self._kafka, client_id="innkeeper-trace", linger_ms=_LINGER_MS) as producer:
            for start in range(0, len(steps), _SENT_TOGETHER):
                records = [_record(self._topic, step) for step in steps[start : start + _SENT_TOGETHER]]
                for metadata in await producer.send_all(records):
                    self.written[metadata.partition] = metadata.offset + 1

    async def until_decided(self, count: int, show: Callable[[], None]) -> None:
        """Wait until every one of `count` commands is written and its decision committed; raises Stalled."""
        moved_at = monotonic()
        while sum(self.decided.values()) < count:
            before, self.decided = self.decided, await self.ask()
            show()
            if self.decided != before:
                moved_at = monotonic()
            elif monotonic() - moved_at > _MAX_STALL_SECONDS:
                raise Stalled(f"no decision for {_MAX_STALL_SECONDS:.0f} s")
            await asyncio.sleep(_PROGRESS_POLL_SECONDS)

    async def until_published(self) -> None:
        """Wait until the broker has every event; raises Stalled."""
        try:
            async with asyncio.timeout(_MAX_STALL_SECONDS):
                while await self._unpublished():
                    await asyncio.sleep(_PROGRESS_POLL_SECONDS)
        except TimeoutError:
            raise Stalled(f"events are not published after {_MAX_STALL_SECONDS:.0f} s") from None

    async def ask(self) -> dict[int, int]:
        """Return how many commands of each partition are decided: the ledger's cursors, as offsets begin at 0."""
        found = await self.connection.execute(
            "select partition, applied + 1 from log_cursor where consumer = 'reservations' and topic = %s",
            (self._topic,),
        )
        return dict(await found.fetchall())

    async def _unpublished(self) -> bool:
        found = await self.connection.execute("select 1 from log_cursor where published < applied limit 1")
        return await found.fetchone() is not None


@asynccontextmanager
async def open_course(kafka: KafkaSettings, database: DatabaseSettings) -> AsyncIterator[Course]:
    """Open the course of a trace through the topics and into the ledger."""
    async with await connect(database, "sandbox replay") as connection:
        yield Course(kafka, connection)


@contextmanager
def _bars(course: Course, total: int) -> Iterator[Callable[[], None]]:
    """Show on stderr how much is sent and decided, as long as the block lasts; yield what brings it up to date."""
    columns = (TextColumn("{task.description:<14} |"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        sent, decided = (bars.add_task(what, total=total) for what in ("sent", "decided"))

        def show() -> None:
            bars.update(sent, completed=sum(course.written.values()))
            bars.update(decided, completed=sum(course.decided.values()))

        yield show


def _record(topic: str, step: TraceStep) -> Outgoing:
    record = command_record(topic, step.command, id=command_id(step.command), source=SOURCE, time=step.time)
    return record._replace(timestamp_ms=round(step.time.timestamp() * 1000))
