"""Payments' second step: finds the rows with a call to Stripe that is due, and works on many of them at once.

Reads and writes `checkout_session`, `refund` and `payment_refund`; writes commands to `booking.commands`. `steps`
processes one row; this module chooses the rows and their order, and measures how much is due. Any number of callers may
run: a claim skips the rows of others. A row that fails is due again later and delays no other. The role
`reconciliation` finds webhooks that Stripe lost.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

import psycopg
from aiokafka.errors import KafkaError
from psycopg_pool import AsyncConnectionPool

from storage import installation, payments
from storage.database import worker_parameters
from storage.payments import ENDING, LEASE_SECONDS, OPENING, REOPENED_AFTER, RefundFigures
from storage.settings import DatabaseSettings
from telemetry import metrics
from topics.backoff import Backoff
from topics.catalogue import BOOKING_COMMANDS
from topics.kafka.settings import KafkaSettings
from topics.messages.releases import Release
from workers.payments.attributions import Attributions
from workers.payments.gateway import Gateway, open_gateway
from workers.payments.settings import PaymentSettings
from workers.payments.steps import Due, Steps
from workers.payments.unattributed import LateObjects
from workers.runtime.publisher import Publisher
from workers.stripe.marks import Marks

POLL_SECONDS: Final = 1.0
MEASURE_SECONDS: Final = 15.0
GRACE_SECONDS: Final = 5.0
SLOTS: Final = 32
"""The rows in progress at once, at most."""
ENDING_SLOTS: Final = 24
"""Slots for refunds and closings, which come first; the rest is for guests who want to pay."""
CONNECTIONS: Final = 4

Database = AsyncConnectionPool[psycopg.AsyncConnection]

log = logging.getLogger(__name__)


class Caller:
    """Makes due calls until it is cancelled."""

    def __init__(self, kafka: KafkaSettings, database: DatabaseSettings, settings: PaymentSettings) -> None:
        self._kafka = kafka
        self._database = database
        self._settings = settings
        self._woken = asyncio.Event()
        self._ending: set[asyncio.Task[None]] = set()
        self._opening: set[asyncio.Task[None]] = set()

    def wake(self) -> None:
        """Look for due rows now instead of at the next poll."""
        self._woken.set()

    async def run(self) -> None:
        """Work until cancelled; then calls in progress may end within some seconds."""
        publisher = Publisher(self._kafka, "innkeeper-payments-caller")
        async with _pool(self._database) as database:
            metrics.POOL.set_function(lambda: _pool_use(database))
            try:
                marks = await self._prepared(database)
                async with open_gateway(self._settings) as gateway:
                    await self._work_and_measure(database, self._steps(gateway, database, publisher, marks))
            finally:
                await publisher.close()

    def _steps(self, gateway: Gateway, database: Database, publisher: Publisher, marks: Marks) -> Steps:
        return Steps(
            gateway,
            database,
            publisher,
            marks=marks,
            commands_topic=self._kafka.topic(BOOKING_COMMANDS),
            readable_by=self._kafka.log_readable_by,
            live=self._settings.live,
        )

    async def _prepared(self, database: Database) -> Marks:
        """Read the installation's id, and note what a process of 0.1.0 left out."""
        backoff = Backoff("the installation's id cannot be read from the database")
        while True:
            try:
                async with database.connection() as connection:
                    id = await installation.read(connection)
                    await payments.note_payments_of_sessions(connection)
            except psycopg.Error as error:
                await backoff.wait(error)
                continue
            backoff.reset()
            return Marks(self._settings.payment_mark_key.get_secret_value(), id)

    async def _work_and_measure(self, database: Database, steps: Steps) -> None:
        attributions = Attributions(self._settings.payment_mark_key.get_secret_value())
        late = LateObjects(database, attributions, steps.send)
        metrics_task = asyncio.create_task(_measure(database, self._kafka.log_readable_by, late))
        try:
            await self._work(database, steps)
        finally:
            metrics_task.cancel()
            await _finish(self._ending | self._opening)
            await asyncio.gather(metrics_task, return_exceptions=True)

    async def _work(self, database: Database, steps: Steps) -> None:
        backoff = Backoff("the pending calls to Stripe cannot be read from the database")
        while True:
            _raise_if_cancelled()
            self._woken.clear()
            try:
                started = await self._start_due(database, steps)
            except psycopg.Error as error:
                await backoff.wait(error)
                continue
            backoff.reset()
            if not started:
                await _wait_for(self._woken, POLL_SECONDS)

    async def _start_due(self, database: Database, steps: Steps) -> int:
        """Claim due rows while slots are free, those that end something first; return how many were claimed."""
        async with database.connection() as connection:
            started = 0
            if limit := self._free(ENDING_SLOTS - len(self._ending)):
                refunds = await payments.claim_refunds(connection, limit=limit, lease_seconds=LEASE_SECONDS)
                started += self._start(steps, refunds, self._ending)
            if limit := self._free(ENDING_SLOTS - len(self._ending)):
                ending = await payments.claim_sessions(connection, ENDING, limit=limit, lease_seconds=LEASE_SECONDS)
                started += self._start(steps, ending, self._ending)
            if limit := self._free(SLOTS):
                opening = await payments.claim_sessions(connection, OPENING, limit=limit, lease_seconds=LEASE_SECONDS)
                started += self._start(steps, opening, self._opening)
            return started

    def _free(self, slots: int) -> int:
        return min(slots, SLOTS - len(self._ending) - len(self._opening))

    def _start(self, steps: Steps, rows: Sequence[Due], slots: set[asyncio.Task[None]]) -> int:
        for due in rows:
            task = asyncio.create_task(steps.process(due))
            slots.add(task)
            task.add_done_callback(lambda ended: self._free_slot(slots, ended))
        return len(rows)

    def _free_slot(self, slots: set[asyncio.Task[None]], ended: asyncio.Task[None]) -> None:
        if not self._free(ENDING_SLOTS - len(self._ending)) or not self._free(SLOTS):
            self.wake()  # Due rows may wait for this slot.
        slots.discard(ended)


async def _measure(database: Database, readable_by: Release, late: LateObjects) -> None:
    """Export the figures of refunds and disputes, and care for those that nothing else looks at, until cancelled."""
    for by_hand in ("false", "true"):
        metrics.REFUND_FAILURES.add(0, by_hand)
    while True:
        try:
            async with database.connection() as connection:
                if readable_by is not Release.V0_1_0:
                    await _care(connection)
                _export(await payments.refund_figures(connection))
            await late.apply()
        except (psycopg.Error, KafkaError) as error:
            log.warning("refunds cannot be counted and cared for: %r", error)
        _raise_if_cancelled()
        await asyncio.sleep(MEASURE_SECONDS)


async def _care(connection: psycopg.AsyncConnection) -> None:
    """Make refunds due that 0.1.0 gave up, or that have pended for long; a worker of 0.1.0 must not claim them."""
    if reopened := await payments.reopen_failed_refunds(connection):
        log.warning(
            "%d refunds that 0.1.0 had given up are due again in %d hours: until then, close those that were paid"
            " otherwise (innkeeper refunds list, innkeeper refunds close)",
            reopened,
            REOPENED_AFTER.total_seconds() / 3600,
        )
    await payments.look_at_pending_refunds(connection)


def _export(figures: RefundFigures) -> None:
    metrics.REFUNDS.set(figures.due, "due")
    metrics.REFUNDS.set(figures.pending, "pending")
    metrics.REFUNDS_FAILING.set(figures.failing)
    metrics.OLDEST_REFUND_DUE_SECONDS.set(figures.oldest_due_seconds)
    metrics.OLDEST_REFUND_PENDING_SECONDS.set(figures.oldest_pending_seconds)
    metrics.DISPUTES_OPEN.set(figures.disputes_open)


def _pool(database: DatabaseSettings) -> Database:
    """Return a pool of a few of a worker's connections, which are replaced after the database was away."""
    return AsyncConnectionPool(
        database.conninfo(),
        kwargs=worker_parameters(database, "innkeeper payments caller"),
        min_size=1,
        max_size=CONNECTIONS,
        timeout=5,
        check=AsyncConnectionPool.check_connection,
        open=False,
    )


def _pool_use(database: Database) -> list[tuple[metrics.Labels, float]]:
    """Return how many connections are in use, and how many may be."""
    stats = database.get_stats()
    return [(("used",), stats.get("pool_size", 0) - stats.get("pool_available", 0)), (("most",), database.max_size)]


def _raise_if_cancelled() -> None:
    """Raise CancelledError if this task was cancelled, and the cancellation was lost.

    The pool waits for a connection by `asyncio.wait_for`, which before Python 3.12 returns its result to a task that is
    cancelled in the same moment.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def _wait_for(woken: asyncio.Event, seconds: float) -> None:
    """Wait until woken, at most `seconds`."""
    try:
        async with asyncio.timeout(seconds):
            await woken.wait()
    except TimeoutError:
        return


async def _finish(tasks: set[asyncio.Task[None]]) -> None:
    """Let calls in progress end; one that takes too long is cancelled, and due again when its lease ends."""
    if not tasks:
        return
    _, late = await asyncio.wait(tasks, timeout=GRACE_SECONDS)
    for task in late:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
