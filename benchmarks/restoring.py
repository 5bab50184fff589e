"""`python -m benchmarks.restoring`: how long restores and rebuilds take for a large log, and how much memory.

It writes the events of paid bookings onto a log of its own (five a booking), exports them, and measures each of the
operators' commands as a whole: by the clock, with the largest memory of its process. One JSON object a line.
"""

import asyncio
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any, Final, NamedTuple
from uuid import UUID

import msgspec
import typer

from benchmarks.stage import BenchmarkFailed, folder_of_its_own, kafka_of, progress
from operators.rebuild import PROJECTIONS
from sandbox.system import Plan, System
from topics.catalogue import BOOKING_EVENTS
from topics.envelope import Envelope, Outgoing, encode_headers, encode_value
from topics.kafka import admin
from topics.kafka.partitions import partition_of
from topics.kafka.producer import open_producer
from topics.kafka.settings import KafkaSettings
from topics.messages.commands import AddGuests, Command, ConfirmPayment, OpenInventory, RecordSession, RequestPayment
from topics.messages.commands import ReserveStay as ReserveStayCommand
from topics.messages.events import Event
from workers.decisions import State, decide, evolve

_PARTITIONS: Final = 12
_NIGHTS: Final = 360
_STAY_NIGHTS: Final = 2
_USERS: Final = 100_000
_EVENTS_IN_CHUNK: Final = 5_000
_FIRST: Final = date(2027, 1, 1)
_NOW: Final = datetime(2026, 11, 30, 12, tzinfo=UTC)


class Measured(NamedTuple):
    """One command: its seconds by the clock and of CPU, the largest memory of its process in MB, and its output."""

    seconds: float
    cpu_seconds: float
    memory_mb: float
    answer: Any


def main(
    bookings: Annotated[int, typer.Option(min=1, help="How many bookings; each has five events.")] = 100_000,
    rooms: Annotated[int, typer.Option(min=1, help="In how many rooms, each with 360 nights on sale.")] = 2_000,
    *,
    only_log: Annotated[bool, typer.Option("--only-log", help="Leave out the restores from files.")] = False,
) -> None:
    """Measure restores and rebuilds of a log of so many bookings."""
    asyncio.run(_measure(bookings, rooms, only_log=only_log))


async def _measure(bookings: int, rooms: int, *, only_log: bool) -> None:
    with folder_of_its_own() as folder:
        plan = Plan(
            folder=folder, ingress=0, stripe=False, workers={}, own_servers=True, quiet=True, partitions=_PARTITIONS
        )
        async with System(plan) as system:
            kafka = kafka_of(system).model_copy(update={"topic_partitions": _PARTITIONS})
            began = perf_counter()
            events = await _fill(kafka, bookings, rooms)
            progress(f"{events:,} events written in {perf_counter() - began:.0f} s")
            await _commands(system, kafka, folder / "export", events, bookings, only_log=only_log)


async def _commands(
    system: System, kafka: KafkaSettings, export: Path, events: int, bookings: int, *, only_log: bool
) -> None:
    report = _Report(bookings, events)
    there = await _new_database(system, "from_log")
    report(await _run(there, "restore", "--from-log", "--yes", "--without-backup"), "restore --from-log")
    for name in PROJECTIONS:
        report(await _run(there, "rebuild", name, "--compare-only"), f"rebuild {name}")
    if only_log:
        return
    files = ("--out", str(export), "--format", "jsonl", "--until", "now")
    report(await _run(there, "export", BOOKING_EVENTS.name, *files), "export --format jsonl")
    size = _size(export)
    progress(f"the files have {size / 1e6:,.0f} MB, {size / events:.0f} bytes an event")
    from_files = ("restore", "--from-export", str(export))
    await _lose_log(kafka)
    there = await _new_database(system, "from_export")
    report(await _run(there, *from_files, "--without-backup", may_refuse=True), "check of the files")
    report(await _run(there, *from_files, "--yes", "--without-backup"), "restore --from-export")
    await _lose_log(kafka)
    report(await _run(there, *from_files, "--from-ledger", "--yes"), "restore --from-ledger --from-export")


def _size(folder: Path) -> int:
    """Return the bytes of all files of a folder."""
    return sum(path.stat().st_size for path in folder.iterdir())


class _Report:
    """Prints what was measured."""

    def __init__(self, bookings: int, events: int) -> None:
        self._bookings, self._events = bookings, events

    def __call__(self, measured: Measured, command: str) -> None:
        line = {
            "command": command,
            "bookings": self._bookings,
            "events": self._events,
            "seconds": round(measured.seconds, 1),
            "cpu_seconds": round(measured.cpu_seconds, 1),
            "events_per_s": round(self._events / measured.seconds),
            "memory_mb": round(measured.memory_mb),
        }
        print(json.dumps(line), flush=True)


async def _new_database(system: System, name: str) -> Mapping[str, str]:
    assert system.postgres is not None
    url = await system.postgres.create_database(name)
    there = {**system.environment(), "DATABASE_URL": url, "TOPIC_PARTITIONS": str(_PARTITIONS)}
    await _run(there, "migrate", as_json=False)
    return there


async def _lose_log(kafka: KafkaSettings) -> None:
    await admin.delete(kafka)
    await admin.create(kafka)


async def _run(
    environment: Mapping[str, str], *arguments: str, as_json: bool = True, may_refuse: bool = False
) -> Measured:
    return await asyncio.to_thread(_run_now, environment, arguments, as_json=as_json, may_refuse=may_refuse)


def _run_now(environment: Mapping[str, str], arguments: Sequence[str], *, as_json: bool, may_refuse: bool) -> Measured:
    began = perf_counter()
    words = (sys.executable, "-m", "operators", *arguments, *(["--json"] if as_json else []))
    process = subprocess.Popen(
        words, env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout is not None
    out = process.stdout.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in ({0, 1} if may_refuse else {0}):
        raise BenchmarkFailed(f"{' '.join(arguments)} ended with {process.returncode}: {out}")
    cpu_seconds = usage.ru_utime + usage.ru_stime
    return Measured(perf_counter() - began, cpu_seconds, usage.ru_maxrss / 1024, out)


# The log.


async def _fill(kafka: KafkaSettings, bookings: int, rooms: int) -> int:
    """Write the events of rooms on sale, and of so many paid bookings; return how many there are."""
    count = 0
    async with open_producer(kafka, client_id="innkeeper-benchmarks") as producer:
        chunk: list[Outgoing] = []
        for outgoing in _records(kafka, bookings, rooms):
            chunk.append(outgoing)
            count += 1
            if len(chunk) == _EVENTS_IN_CHUNK:
                await producer.send_all(chunk)
                chunk = []
        await producer.send_all(chunk)
    return count


def _records(kafka: KafkaSettings, bookings: int, rooms: int) -> Iterator[Outgoing]:
    sequences: Counter[int] = Counter()
    topic = kafka.topic(BOOKING_EVENTS)
    for number, event in enumerate(_events(bookings, rooms)):
        key = b"%d" % event.key
        partition = partition_of(key, _PARTITIONS)
        sequences[partition] += 1
        envelope = Envelope(
            id=f"{number:032x}:0",
            type=event.message_type,
            source="innkeeper/reservations",
            subject=event.subject,
            time=_NOW,
            causation=f"{number:032x}",
            correlation=f"{number:032x}",
            sequence=sequences[partition],
        )
        yield Outgoing(topic, key, encode_value(event), encode_headers(envelope), partition)


def _events(bookings: int, rooms: int) -> Iterator[Event]:
    """Yield the events: those of one booking are decided by the core, all others are copies with ids of their own."""
    opened, *paid = _decided()
    for room_id in range(1, rooms + 1):
        yield msgspec.structs.replace(opened, room_id=room_id, hotel_id=1 + room_id // 4)
    copies = [_copier(event) for event in paid]
    for number in range(bookings):
        room_id = 1 + number % rooms
        check_in = _FIRST + timedelta(days=(number // rooms * _STAY_NIGHTS) % (_NIGHTS - _STAY_NIGHTS))
        values = {
            "room_id": room_id,
            "hotel_id": 1 + room_id // 4,
            "booking_id": UUID(int=(8 << 76) | (1 << 100) | number),
            "user_id": 1 + number % _USERS,
            "check_in": check_in,
            "check_out": check_in + timedelta(days=_STAY_NIGHTS),
            "guest_ids": (1 + number % _USERS,),
            "guest_list_id": UUID(int=(8 << 76) | (2 << 100) | number),
            "session_id": f"cs_{number}",
            "payment_intent": f"pi_{number}",
        }
        for copy in copies:
            yield copy(values)


def _copier(event: Event) -> Callable[[Mapping[str, Any]], Event]:
    names = [field for field in event.__struct_fields__ if field != "key"]

    def copy(values: Mapping[str, Any]) -> Event:
        return msgspec.structs.replace(event, **{name: values[name] for name in names if name in values})

    return copy


def _decided() -> list[Event]:
    """Return the events of one room and one paid booking, as the core decides them."""
    booking_id, state, events = UUID(int=1), State(None, {}), []
    about: dict[str, Any] = {"room_id": 1, "booking_id": booking_id}
    end = _FIRST + timedelta(days=_NIGHTS)
    commands: tuple[Command, ...] = (
        OpenInventory(
            room_id=1,
            hotel_id=1,
            first_night=_FIRST,
            end_night=end,
            total_count=10_000,
            price_minor=10_000,
            currency="EUR",
        ),
        ReserveStayCommand(
            **about,
            user_id=1,
            hotel_id=1,
            check_in=_FIRST,
            check_out=_FIRST + timedelta(days=_STAY_NIGHTS),
            hold_seconds=900,
        ),
        AddGuests(**about, user_id=1, guest_ids=(1,), guest_list_id=UUID(int=2)),
        RequestPayment(**about, user_id=1),
        RecordSession(**about, attempt=1, session_id="cs_1"),
        ConfirmPayment(
            **about,
            session_id="cs_1",
            payment_intent="pi_1",
            amount_minor=10_000 * _STAY_NIGHTS,
            currency="EUR",
        ),
    )
    for command in commands:
        for event in decide(state, command, _NOW):
            changed = evolve(state, event)
            state = State(changed.booking, {**state.nights, **changed.nights})
            events.append(event)
    return events


if __name__ == "__main__":
    typer.run(main)
