"""The system that a benchmark runs on: broker, database and workers of its own, with rooms on sale.

Each benchmark has a fresh one, in a folder on the disk of the checkout: a commit must cost what it costs.
"""

import asyncio
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Any, Final
from uuid import uuid4

import psycopg
from aiokafka import AIOKafkaConsumer, TopicPartition
from pydantic import SecretStr

from ingress.settings import IngressSettings
from ingress.stays import today_at
from ingress.tokens import Tokens
from sandbox.system import Plan, System
from topics.catalogue import BOOKING_COMMANDS
from topics.envelope import command_record
from topics.kafka.producer import open_producer
from topics.kafka.settings import KafkaSettings
from topics.messages.commands import OpenInventory, SetSaleTerms
from topics.messages.sale import (
    CancellationPolicy,
    Collected,
    Kept,
    PolicyStep,
    RatePlan,
    SaleTerms,
    Tax,
)
from topics.messages.values import MAX_ROOMS

WORKER: Final = "reservations-1"
SOURCE: Final = "innkeeper/benchmarks"
HOTEL: Final = 1
USER: Final = 1
#: More than a run asks for, so that every request sells; the most that a room can have.
STOCK: Final = MAX_ROOMS
#: Each room is sold by a rate plan that is not the nights' price alone, with two taxes and a policy, as a real one is.
SALE_TERMS: Final = SaleTerms(
    version=1,
    capacity=2,
    plans=(
        RatePlan(
            id="standard",
            name="Breakfast included",
            times_milli=950,
            plus_minor=1_200,
            policy=CancellationPolicy(
                id="flexible",
                steps=(
                    PolicyStep(hours_before=72, kept=Kept(percent=50)),
                    PolicyStep(hours_before=24, kept=Kept(nights=1)),
                ),
            ),
        ),
    ),
    taxes=(
        Tax(id="vat", name="VAT", percent_milli=7_000, included=True),
        Tax(
            id="city",
            name="City tax",
            amount_minor=250,
            per_night=True,
            per_person=True,
            collected=Collected.AT_HOTEL,
        ),
    ),
)
#: Features that are off in benchmarks, because one user makes all their load, with the setting that switches each off.
SWITCHED_OFF: Final = {
    "rate limits": ("RATE_LIMITS", "false"),
    "the cap on unpaid bookings": ("MAX_UNPAID_BOOKINGS", "0"),
    "the share of an account": ("MAX_ACCOUNT_SHARE_PERCENT", "100"),
}
_FOLDER: Final = Path(".sandbox")
_MAX_DECISION_STALL_SECONDS: Final = 120.0
_DECIDED_POLL_SECONDS: Final = 0.005


class BenchmarkFailed(Exception):
    """The measured system did not do what the benchmark measures."""


@dataclass(frozen=True, kw_only=True)
class Rooms:
    """The rooms on sale, all of one hotel, numbered from 1, and their nights from `first_night` on."""

    count: int
    nights: int
    first_night: date

    @classmethod
    def on_sale(cls, count: int, nights: int) -> "Rooms":
        """Return rooms on sale from a day on that is good for booking."""
        return cls(count=count, nights=nights, first_night=today_at("UTC") + timedelta(days=30))


class Stage:
    """A running system, with a connection to its database and a reader of its log."""

    def __init__(self, system: System, database: psycopg.AsyncConnection[Any], reader: AIOKafkaConsumer) -> None:
        self.system = system
        self.database = database
        self.kafka = kafka_of(system)
        self._reader = reader
        self._topic = self.kafka.topic(BOOKING_COMMANDS)

    async def put_on_sale(self, rooms: Rooms) -> None:
        """Describe the hotel and its rooms, and open their nights and set their sale terms by commands on the log."""
        await self.database.execute("insert into hotel (name, city, currency, active) values ('', '', 'EUR', true)")
        await self.database.execute(
            "insert into room (hotel_id, type, base_price_minor, total_count, capacity)"
            " select %s, '', 10000, %s, 2 from generate_series(1, %s)",
            (HOTEL, STOCK, rooms.count),
        )
        commands: list[OpenInventory | SetSaleTerms] = [
            OpenInventory(
                room_id=room_id,
                hotel_id=HOTEL,
                first_night=rooms.first_night,
                end_night=rooms.first_night + timedelta(days=rooms.nights),
                total_count=STOCK,
                price_minor=10_000,
                currency="EUR",
            )
            for room_id in range(1, rooms.count + 1)
        ]
        commands += [
            SetSaleTerms(room_id=room_id, hotel_id=HOTEL, terms=SALE_TERMS) for room_id in range(1, rooms.count + 1)
        ]
        async with open_producer(self.kafka, client_id="innkeeper-benchmarks") as producer:
            await producer.send_all(
                command_record(self._topic, command, id=uuid4().hex, source=SOURCE, time=datetime.now(UTC))
                for command in commands
            )
        await self.until_decided()

    async def until_decided(self) -> float:
        """Wait until every command on the log is decided; return the (monotonic) time of the last decision.

        Raises:
            BenchmarkFailed: no command was decided for a long time.
        """
        seen, seen_at = -1, monotonic()
        while True:
            decided = await self.decided()
            if decided != seen:
                seen, seen_at = decided, monotonic()
            if decided == await self.written():
                return seen_at
            if monotonic() - seen_at > _MAX_DECISION_STALL_SECONDS:
                raise BenchmarkFailed(
                    f"nothing was decided for {_MAX_DECISION_STALL_SECONDS:.0f} s; {decided} commands are"
                )
            await asyncio.sleep(_DECIDED_POLL_SECONDS)

    async def decided(self) -> int:
        """Return how many commands are decided: the sum of the reservations' cursors, as offsets begin at 0."""
        return int(
            await self.number(
                "select coalesce(sum(applied + 1), 0) from log_cursor where consumer = 'reservations' and topic = %s",
                self._topic,
            )
        )

    async def written(self) -> int:
        """Return how many commands the log has."""
        partitions = [TopicPartition(self._topic, number) for number in range(self.kafka.topic_partitions)]
        ends = await self._reader.end_offsets(partitions)
        return sum(ends.values())

    async def number(self, query: str, *parameters: object) -> int:
        """Return the one number that a query returns."""
        return await number(self.database, query, *parameters)


async def number(connection: psycopg.AsyncConnection[Any], query: str, *parameters: object) -> int:
    """Return the one number that a query returns."""
    row = await (await connection.execute(query.encode(), parameters)).fetchone()
    assert row is not None
    return int(row[0])


@asynccontextmanager
async def stage(
    rooms: Rooms,
    *,
    ingress: int,
    workers: int | Mapping[str, int] = 1,
    of_one: Mapping[str, Mapping[str, str]] | None = None,
) -> AsyncIterator[Stage]:
    """Start a system, put the rooms on sale, and stop all of it afterwards.

    `workers` is the number of workers of each role; an integer means so many of `reservations`, and no others. `of_one`
    adds to the environment of the parts that it names.
    """
    with folder_of_its_own() as folder:
        plan = Plan(
            folder=folder,
            workers={"reservations": workers} if isinstance(workers, int) else workers,
            ingress=ingress,
            stripe=False,
            own_servers=True,
            quiet=True,
            environment=dict(SWITCHED_OFF.values()),
            of_one=of_one or {},
        )
        async with System(plan) as system, _open(system) as opened:
            await opened.put_on_sale(rooms)
            yield opened


@contextmanager
def folder_of_its_own() -> Iterator[Path]:
    """Make a folder for a system; when something fails it is kept, with the logs."""
    _FOLDER.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="benchmark-", dir=_FOLDER))
    try:
        yield folder
    except BaseException:
        progress(f"the logs are kept in {folder / 'logs'}")
        raise
    shutil.rmtree(folder)


@asynccontextmanager
async def _open(system: System) -> AsyncIterator[Stage]:
    reader = AIOKafkaConsumer(**kafka_of(system).client_options(), client_id="innkeeper-benchmarks")
    async with await psycopg.AsyncConnection.connect(system.database_url, autocommit=True) as database:
        try:
            await reader.start()
            yield Stage(system, database, reader)
        finally:
            await reader.stop()


def kafka_of(system: System) -> KafkaSettings:
    """Return how the system's log is reached."""
    return KafkaSettings(_env_file=None, kafka_url=system.kafka_url)


def token_of(system: System) -> str:
    """Return an access token that the system's ingress, and the baseline with its key, believe."""
    secret = SecretStr(system.environment()["JWT_SECRET_KEY"])
    settings = IngressSettings(_env_file=None, jwt_secret_key=secret, access_token_minutes=24 * 60)
    return Tokens(settings).issue(USER, ["GUEST"])


def progress(line: str) -> None:
    """Write a line of progress to stderr."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
