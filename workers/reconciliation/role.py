"""The role's process: one of several leads, reads Stripe's events and compares, until an operator pauses it.

The list is read and the money compared in two tasks: however long a comparison takes, no lost webhook waits for it.

The leader keeps an advisory lock of its session. Its work can end at any point: events on the topic are read
back, a command that was sent twice has the same id, and a row is changed only if it is as it was when it was compared.
So the end of the process cancels the work at once, and a pause between two statements of the leader's session: a
connection whose statement is cancelled is closed, and the lead with it.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Final, NoReturn

import psycopg
from aiokafka.errors import KafkaError
from psycopg import AsyncConnection

from storage import pauses
from storage.database import connect_worker
from storage.failures import reason_of
from storage.installation import NoInstallation
from storage.settings import DatabaseSettings
from telemetry import metrics
from topics.backoff import Backoff
from topics.catalogue import STRIPE_WEBHOOKS
from topics.kafka.log_reader import LogReader, RecordsMissing
from topics.kafka.producer import open_producer
from topics.kafka.settings import KafkaSettings
from workers.reconciliation.lost_webhooks import LISTED_DAYS, LostWebhooks
from workers.reconciliation.periodic import PeriodicComparison
from workers.reconciliation.settings import ReconciliationSettings
from workers.reconciliation.stripe_client import StripeUnavailable, open_stripe
from workers.runtime.leading import wait_for_lead
from workers.stripe.event_types import EVENT_TYPES

ROLE: Final = "reconciliation"
POLL_SECONDS: Final = 1.0
SILENT_SECONDS: Final = 30
_COMPARED_WITH: Final = ("payments", "reservations")
"""While one of these roles is paused, webhooks or commands wait on the log, and no comparison is made."""
_CALLS_PER_SECOND: Final = 10
"""Pages a second that the role asks Stripe for, so that payments keeps most of what Stripe allows."""

log = logging.getLogger(__name__)


async def run(
    kafka: KafkaSettings, database: DatabaseSettings, settings: ReconciliationSettings, *, name: str
) -> NoReturn:
    """Reconcile until cancelled; `name` distinguishes this process in logs and sessions."""
    backoff = Backoff("reconciliation waits for the database and the broker", first_seconds=POLL_SECONDS)
    while True:
        try:
            await _serve(kafka, database, settings, name, backoff)
        except (psycopg.Error, KafkaError, RecordsMissing, OSError) as error:
            await backoff.wait(error, reason_of(error))


async def _serve(
    kafka: KafkaSettings, database: DatabaseSettings, settings: ReconciliationSettings, name: str, backoff: Backoff
) -> NoReturn:
    """Wait for the lead, then keep it until something breaks."""
    client_id = f"innkeeper-reconciliation-{name}"
    async with AsyncExitStack() as opened:
        connection = await opened.enter_async_context(await connect_worker(database, client_id))
        producer = await opened.enter_async_context(open_producer(kafka, client_id=client_id))
        reader = await opened.enter_async_context(LogReader(kafka, client_id=client_id))
        stripe = await opened.enter_async_context(open_stripe(settings, _CALLS_PER_SECOND))
        backoff.reset()
        await wait_for_lead(connection, ROLE, name, silent_seconds=SILENT_SECONDS, poll_seconds=POLL_SECONDS)
        webhooks = LostWebhooks(
            connection,
            stripe,
            reader,
            producer,
            topic=kafka.topic(STRIPE_WEBHOOKS),
            arrival_seconds=settings.reconciliation_events_seconds,
        )
        comparison = PeriodicComparison(kafka, database, settings, stripe, producer, name=name)
        leader = Leader(connection, webhooks, comparison, turn_seconds=settings.reconciliation_events_seconds)
        with leader:
            await _lead(connection, leader)


async def _lead(connection: AsyncConnection, leader: "Leader") -> NoReturn:
    """Let the leader work while the role is not paused."""
    is_logged = False
    while True:
        if pause := await pauses.of(connection, ROLE):
            if not is_logged:
                log.warning("%s", pause)
                is_logged = True
            await asyncio.sleep(POLL_SECONDS / 2)
            continue
        if is_logged:
            log.warning("%s is resumed", ROLE)
            is_logged = False
        work = asyncio.create_task(leader.work())
        try:
            while not work.done() and await pauses.of(connection, ROLE) is None:
                await asyncio.wait([work], timeout=POLL_SECONDS)
            # No statement runs while this has the connection's lock: a cancelled one would cost the lead.
            async with connection.lock:
                work.cancel()
                await asyncio.wait([work], timeout=POLL_SECONDS)
        finally:
            work.cancel()
            await asyncio.wait([work])
        if not work.cancelled():
            work.result()


class Leader:
    """The work of the process that leads, and its metrics, inside the block."""

    def __init__(
        self,
        connection: AsyncConnection,
        webhooks: LostWebhooks,
        comparison: PeriodicComparison,
        *,
        turn_seconds: float,
    ) -> None:
        """`turn_seconds` is the pause between two readings of Stripe's list."""
        self._connection = connection
        self._webhooks = webhooks
        self._comparison = comparison
        self._reading = _Repeated("reconciliation", turn_seconds)
        self._comparing = _Repeated("the comparison of the money", turn_seconds)

    def __enter__(self) -> None:
        metrics.RECONCILIATION_LEADS.set(1)
        metrics.UNRECONCILED_SECONDS.set_function(lambda: [((), self._unreconciled_seconds())])
        for type in EVENT_TYPES:
            metrics.LOST_WEBHOOKS.add(0, type)

    def __exit__(self, *_: object) -> None:
        metrics.RECONCILIATION_LEADS.set(0)
        metrics.UNRECONCILED_SECONDS.set_function(lambda: [((), 0.0)])
        metrics.MONEY_DIFFERENCES.clear()

    async def work(self) -> NoReturn:
        """Read the list, and beside it compare, again and again.

        Raises as the turns do; while Stripe is away, it waits.
        """
        if not await self._webhooks.start():
            self._comparison.in_full = True
            log.warning(
                "Stripe lists events for %d days, and those after the saved position are older: all bookings are"
                " compared once",
                LISTED_DAYS,
            )
        tasks = [
            asyncio.create_task(self._reading.run(self._read)),
            asyncio.create_task(self._comparing.run(self._compare)),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
        for end in ends:
            if not isinstance(end, asyncio.CancelledError):
                raise end
        raise asyncio.CancelledError

    async def _read(self) -> None:
        # All before a saved position is known. Behind a gap that is not so until all bookings were compared.
        await self._webhooks.turn(saving=not self._comparison.in_full)

    async def _compare(self) -> None:
        if not any([await pauses.of(self._connection, role) for role in _COMPARED_WITH]):
            await self._comparison.turn()

    def _unreconciled_seconds(self) -> float:
        """Return the time since the list was read, or since the comparison waits for Stripe, if that is longer."""
        waiting = self._comparing.seconds if self._comparing.is_waiting else 0.0
        return max(self._reading.seconds, waiting)


class _Repeated:
    """Work that is repeated, and that waits while Stripe is away."""

    def __init__(self, name: str, turn_seconds: float) -> None:
        """`name` begins its log lines; `turn_seconds` is the pause between two turns."""
        self._name = name
        self._turn_seconds = turn_seconds
        self._worked_at = time.monotonic()
        self.is_waiting = False

    @property
    def seconds(self) -> float:
        """The time since a turn ended well."""
        return time.monotonic() - self._worked_at

    async def run(self, turn: Callable[[], Awaitable[None]]) -> NoReturn:
        """Take turns until one raises anything else than that Stripe is away."""
        while True:
            try:
                await turn()
            except (StripeUnavailable, NoInstallation) as error:
                if not self.is_waiting:
                    log.warning("%s waits, and tries every %g s: %s", self._name, self._turn_seconds, error)
                self.is_waiting = True
            else:
                if self.is_waiting:
                    log.warning("%s works again", self._name)
                self.is_waiting = False
                self._worked_at = time.monotonic()
            await asyncio.sleep(self._turn_seconds)
