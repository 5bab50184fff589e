"""The expiry timer: finds holds whose time is over and sends the commands that end them.

Reads `booking`; writes `ExpireHold` to `booking.commands`, and nothing else. The reservations workers decide by the
log's time whether a hold is over, so an extra command does no harm, and one that is too early is sent again. Any
number of timers may run: one leads, by an advisory lock of its session, and the others wait. The leader also opens new
nights (`horizon`) and deletes old rows (`old_rows`). When the database or the broker fails, it gives up the lead, waits
and starts over.
"""

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, NoReturn, Self
from uuid import UUID, uuid5

import psycopg
from aiokafka.errors import KafkaError
from psycopg import AsyncConnection

from storage import pauses
from storage.database import connect_worker
from storage.failures import reason_of
from storage.holds import FIRST, DueHold, count_holds
from storage.ledger import HOLDS, HoldStatements
from storage.settings import DatabaseSettings
from telemetry import metrics
from topics.backoff import Backoff
from topics.catalogue import BOOKING_COMMANDS
from topics.envelope import Outgoing, command_record
from topics.kafka.producer import open_producer
from topics.kafka.settings import KafkaSettings
from topics.messages.commands import ExpireHold
from workers.expiry.horizon import Horizon
from workers.expiry.old_rows import OldRows
from workers.expiry.retry_schedule import RetrySchedule
from workers.runtime.leading import wait_for_lead
from workers.runtime.log import Sender

ROLE: Final = "expiry"
POLL_SECONDS: Final = 1.0
COUNT_SECONDS: Final = 10.0
"""The leader counts all holds so often, for the metrics."""
SILENT_SECONDS: Final = 30
MARGIN_SECONDS: Final = 0.5
"""The log's clock may be behind the database's by this much before a command comes too early."""
FIRST_HOLD_PAUSE_SECONDS: Final = 5.0
MAX_HOLD_PAUSE_SECONDS: Final = 60.0
MAX_AWAITED: Final = 10_000
"""Commands sent once whose holds are not ended yet; guests' own commands wait behind them in the log."""
EXPIRY_SOURCE: Final = "innkeeper/expiry"
EXPIRE_COMMAND_IDS: Final = UUID("0e0b9a4e-1a52-5f0e-8a49-3c1f6d1b52c7")
"""The name space of the commands' ids: a booking and its deadline always give the same one."""

log = logging.getLogger(__name__)


async def run(kafka: KafkaSettings, database: DatabaseSettings, *, name: str) -> None:
    """End holds whose time is over until cancelled; `name` distinguishes this timer in logs and sessions."""
    backoff = Backoff("the expiry timer waits for the database and the broker")
    while True:
        try:
            await _serve(kafka, database, name, backoff)
        except (psycopg.Error, KafkaError, OSError) as error:
            await backoff.wait(error, reason_of(error))


async def _serve(kafka: KafkaSettings, database: DatabaseSettings, name: str, backoff: Backoff) -> None:
    """Wait for the lead, then keep it until something breaks."""
    client = f"innkeeper-expiry-{name}"
    async with await connect_worker(database, client) as connection, open_producer(kafka, client_id=client) as producer:
        backoff.reset()
        await wait_for_lead(connection, ROLE, name, silent_seconds=SILENT_SECONDS, poll_seconds=POLL_SECONDS)
        timer = Timer(connection, producer, kafka.topic(BOOKING_COMMANDS))
        horizon = Horizon(connection, producer, kafka.topic(BOOKING_COMMANDS), role=ROLE)
        old_rows = OldRows(connection, kept_days=database.dead_letters_kept_days)
        with HoldMetrics(connection) as hold_metrics:
            await _lead(connection, timer, horizon, old_rows, hold_metrics)


async def _lead(
    connection: AsyncConnection, timer: "Timer", horizon: Horizon, old_rows: OldRows, hold_metrics: "HoldMetrics"
) -> NoReturn:
    while True:
        await _wait_until_resumed(connection, hold_metrics)
        await hold_metrics.update()
        seconds = await timer.sweep()
        await horizon.keep()
        await old_rows.forget()
        # After an outage a sweep may be long; the reservations workers get some time to work off its commands.
        await asyncio.sleep(min(max(POLL_SECONDS, seconds), SILENT_SECONDS / 3))


async def _wait_until_resumed(connection: AsyncConnection, hold_metrics: "HoldMetrics") -> None:
    """Keep the lead, and wait while an operator has paused the role."""
    is_logged = False
    while pause := await pauses.of(connection, ROLE):
        if not is_logged:
            log.warning("%s", pause)
            is_logged = True
        await hold_metrics.update()
        await asyncio.sleep(POLL_SECONDS / 2)
    if is_logged:
        log.warning("%s is resumed", ROLE)


class HoldMetrics:
    """Counts all holds now and then, inside the block: only the leader exports these metrics.

    It runs in turn with the sweep, not beside it: a leader that hangs must be silent, and lose the lead.
    """

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
        self._next_at = 0.0

    async def update(self) -> None:
        """Count, if it is time."""
        now = asyncio.get_running_loop().time()
        if now < self._next_at:
            return
        self._next_at = now + COUNT_SECONDS
        live, overdue, oldest_seconds = await count_holds(self._connection, margin_seconds=MARGIN_SECONDS)
        metrics.HOLDS.set(live, "live")
        metrics.HOLDS.set(overdue, "overdue")
        metrics.OLDEST_OVERDUE_SECONDS.set(oldest_seconds)

    def __enter__(self) -> Self:
        metrics.LEADS.set(1)
        return self

    def __exit__(self, *_: object) -> None:
        metrics.LEADS.set(0)
        metrics.HOLDS.clear()
        metrics.OLDEST_OVERDUE_SECONDS.set(0)


class Timer:
    """Sends the command that ends each due hold, and again, ever more rarely, until the hold is ended."""

    def __init__(
        self,
        connection: AsyncConnection,
        producer: Sender,
        commands_topic: str,
        holds: HoldStatements = HOLDS,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`clock` returns the time (UTC) at which a command is sent, for its envelope."""
        self._connection = connection
        self._producer = producer
        self._commands_topic = commands_topic
        self._holds = holds
        self._clock = clock
        self._schedule: RetrySchedule[UUID] = RetrySchedule(
            first_pause_seconds=FIRST_HOLD_PAUSE_SECONDS,
            max_pause_seconds=MAX_HOLD_PAUSE_SECONDS,
            max_awaited=MAX_AWAITED,
        )

    async def sweep(self) -> float:
        """Go through all holds whose time is over; return the seconds that this took."""
        clock = asyncio.get_running_loop().time
        began = clock()
        last, sent = FIRST, 0
        with self._schedule.sweep():
            while page := await self._holds.due_holds(self._connection, last, MARGIN_SECONDS):
                if await self._holds.pause_of(self._connection, ROLE):
                    # After an outage there may be very many, and a pause must not wait for them.
                    self._schedule.cut_short()
                    break
                chosen = [hold for hold in page if self._schedule.is_sent_now(hold.booking_id, clock())]
                await self._producer.send_all([self._command(hold) for hold in chosen])
                last, sent = page[-1], sent + len(chosen)
        metrics.HOLD_COMMANDS.add(sent)
        if sent:
            log.info("sent commands to end %d holds, of %d whose time is over", sent, len(self._schedule))
        return clock() - began

    def _command(self, hold: DueHold) -> Outgoing:
        name = uuid5(EXPIRE_COMMAND_IDS, f"{hold.booking_id}:{hold.deadline.astimezone(UTC).isoformat()}")
        expire = ExpireHold(room_id=hold.room_id, booking_id=hold.booking_id)
        return command_record(self._commands_topic, expire, id=str(name), source=EXPIRY_SOURCE, time=self._clock())
