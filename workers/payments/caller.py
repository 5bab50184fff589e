"""Payments' second step: finds the rows with a call to Stripe that is due, and works on many of them at once.

Reads and writes `checkout_session`, `refund` and `payment_refund`; writes `stripe_circuit`, and commands to
`booking.commands`. `steps` processes one row; this module chooses the rows and their order, and measures how much is
due. Any number of callers may run: a claim skips the rows of others. A row that fails is due again later and delays no
other. The role `reconciliation` finds webhooks that Stripe lost.

While the circuit to Stripe is open (`breaker`), rows that need a call are not claimed, so that they stay as they are.
While it is half open, one of them is claimed, as the probe. After it has closed, no session is opened before all
refunds and closings that are due have begun; the pace and the number of calls at once are the usual ones.
"""

import asyncio
import logging
import os
import socket
import time
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import psycopg
from aiokafka.errors import KafkaError

from storage.failures import reason_of
from storage.payment_statements import PAYMENTS, PaymentStatements
from storage.payments import (
    ANSWERED,
    ENDING,
    LEASE_SECONDS,
    OPENING,
    REOPENED_AFTER,
    TO_CLOSE,
    TO_OPEN,
    DueSession,
    RefundFigures,
)
from storage.pool import WorkerPool
from storage.settings import DatabaseSettings
from storage.stripe_circuits import REPORT_SECONDS, CircuitState
from telemetry import metrics
from topics.backoff import OTHER, Backoff
from topics.catalogue import BOOKING_COMMANDS
from topics.kafka.settings import KafkaSettings
from topics.messages.releases import Release
from workers.payments.attributions import Attributions
from workers.payments.breaker import CircuitBreaker
from workers.payments.gateway import Gateway, new_breaker, open_gateway
from workers.payments.settings import PaymentSettings
from workers.payments.steps import Due, Steps
from workers.payments.unattributed import LateObjects
from workers.runtime.log import KafkaLog, Log
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
CIRCUIT_POLL_SECONDS: Final = 1.0
"""The time after which a change of the circuit is written, at most."""

log = logging.getLogger(__name__)


async def _wait_for(woken: asyncio.Event, seconds: float) -> None:
    """Wait until woken, at most `seconds`."""
    try:
        async with asyncio.timeout(seconds):
            await woken.wait()
    except TimeoutError:
        return


def _open_pool(settings: DatabaseSettings) -> WorkerPool:
    return WorkerPool(settings, "innkeeper payments caller", max_size=CONNECTIONS)


def _open_log(kafka: KafkaSettings) -> Log:
    return KafkaLog(kafka, "innkeeper-payments-caller")


@dataclass(frozen=True, kw_only=True, slots=True)
class CallerDependencies:
    """All that a caller has of the world around it: database, log, Stripe and time (ADR 0044).

    `wait_for` waits for the next poll, and ends sooner if the event is set. `sleep` passes the time between two
    measurements, and between two looks at the circuit. `now` returns the time (UTC).
    """

    statements: PaymentStatements = PAYMENTS
    open_pool: Callable[[DatabaseSettings], WorkerPool] = _open_pool
    open_log: Callable[[KafkaSettings], Log] = _open_log
    open_gateway: Callable[[PaymentSettings, CircuitBreaker], AbstractAsyncContextManager[Gateway]] = open_gateway
    wait_for: Callable[[asyncio.Event, float], Awaitable[None]] = _wait_for
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    now: Callable[[], datetime] = lambda: datetime.now(UTC)


IN_PRODUCTION: Final = CallerDependencies()


class Caller:
    """Makes due calls until it is cancelled."""

    def __init__(
        self,
        kafka: KafkaSettings,
        database: DatabaseSettings,
        settings: PaymentSettings,
        *,
        clock: Callable[[], float] = time.monotonic,
        dependencies: CallerDependencies = IN_PRODUCTION,
    ) -> None:
        """`clock` returns the seconds by which the circuit breaker waits."""
        self._dependencies = dependencies
        self._statements = dependencies.statements
        self._clock = clock
        self._kafka = kafka
        self._database = database
        self._settings = settings
        self._woken = asyncio.Event()
        # Dicts keep the order of their keys: calls in progress end in the order in which they began.
        self._ending: dict[asyncio.Task[None], None] = {}
        self._opening: dict[asyncio.Task[None], None] = {}
        self._breaker = new_breaker(settings, clock)
        self._has_stopped = False
        self._is_recovering = False
        self._probe: asyncio.Task[None] | None = None
        self._probe_claims = deque((self._claim_refund_to_make, self._claim_to_close, self._claim_to_open))

    def wake(self) -> None:
        """Look for due rows now instead of at the next poll."""
        self._woken.set()

    async def run(self) -> None:
        """Work until cancelled; then calls in progress may end within some seconds."""
        breaker = self._breaker
        metrics.STRIPE_CIRCUIT.set_function(
            lambda: [((state.value,), float(state is breaker.state)) for state in CircuitState]
        )
        publisher = Publisher(self._dependencies.open_log(self._kafka))
        async with self._dependencies.open_pool(self._database) as database:
            metrics.POOL.set_function(lambda: _pool_use(database))
            try:
                marks = await self._prepared(database)
                async with self._dependencies.open_gateway(self._settings, breaker) as gateway:
                    await self._work_and_measure(database, self._steps(gateway, database, publisher, marks))
            finally:
                await publisher.close()

    def _steps(self, gateway: Gateway, database: WorkerPool, publisher: Publisher, marks: Marks) -> Steps:
        return Steps(
            gateway,
            database,
            publisher,
            marks=marks,
            commands_topic=self._kafka.topic(BOOKING_COMMANDS),
            readable_by=self._kafka.log_readable_by,
            live=self._settings.live,
            statements=self._statements,
            now=self._dependencies.now,
        )

    async def _prepared(self, database: WorkerPool) -> Marks:
        """Read the installation's id, and note what a process of 0.1.0 left out."""
        backoff = Backoff("the installation's id cannot be read from the database")
        while True:
            try:
                async with database.connection() as connection:
                    id = await self._statements.installation_id(connection)
                    await self._statements.note_payments_of_sessions(connection)
            except psycopg.Error as error:
                await backoff.wait(error, reason_of(error))
                continue
            backoff.reset()
            return Marks(self._settings.payment_mark_key.get_secret_value(), id)

    async def _work_and_measure(self, database: WorkerPool, steps: Steps) -> None:
        attributions = Attributions(self._settings.payment_mark_key.get_secret_value(), self._statements)
        late = LateObjects(database, attributions, steps.send, statements=self._statements, now=self._dependencies.now)
        beside = (
            asyncio.create_task(self._measure(database, late)),
            asyncio.create_task(self._report(database)),
        )
        try:
            await self._work(database, steps)
        finally:
            for task in beside:
                task.cancel()
            await _finish(self._ending | self._opening)
            await asyncio.gather(*beside, return_exceptions=True)

    async def _work(self, database: WorkerPool, steps: Steps) -> None:
        backoff = Backoff("the pending calls to Stripe cannot be read from the database")
        while True:
            _raise_if_cancelled()
            self._woken.clear()
            try:
                started = await self._start_due(database, steps)
            except psycopg.Error as error:
                await backoff.wait(error, reason_of(error))
                continue
            backoff.reset()
            if not started:
                await self._dependencies.wait_for(self._woken, POLL_SECONDS)

    async def _start_due(self, database: WorkerPool, steps: Steps) -> int:
        """Claim due rows while slots are free, as far as the circuit allows; return how many were claimed."""
        state = self._breaker.state
        async with database.connection() as connection:
            if state is CircuitState.CLOSED:
                self._has_stopped = False
                return await self._start_calls(connection, steps)
            if not self._has_stopped:
                # If refunds and closings themselves opened it again, guests who want to pay do not wait for them.
                self._has_stopped, self._is_recovering = True, not self._is_recovering
            answered = await self._claim(connection, ANSWERED, self._free(SLOTS))
            started = self._start(steps, answered, self._opening)
            if state is CircuitState.HALF_OPEN:
                started += self._start_probe(steps, await self._claim_probe(connection))
            return started

    async def _start_calls(self, connection: psycopg.AsyncConnection, steps: Steps) -> int:
        """Claim rows of all kinds, those that end something first; return how many were claimed."""
        started = 0
        if limit := self._free(ENDING_SLOTS - len(self._ending)):
            refunds = await self._statements.claim_refunds(connection, limit=limit, lease_seconds=LEASE_SECONDS)
            started += self._start(steps, refunds, self._ending)
        if limit := self._free(ENDING_SLOTS - len(self._ending)):
            ending = await self._claim(connection, ENDING, limit)
            started += self._start(steps, ending, self._ending)
        if self._is_recovering and not self._free(ENDING_SLOTS - len(self._ending)):
            return started  # More of them may wait.
        self._is_recovering = False
        if limit := self._free(SLOTS):
            opening = await self._claim(connection, OPENING, limit)
            started += self._start(steps, opening, self._opening)
        return started

    async def _claim_probe(self, connection: psycopg.AsyncConnection) -> Sequence[Due]:
        """Claim one row whose next step is a call.

        The kinds take turns, so that a row whose call always fails does not keep the circuit open.
        """
        if self._probe is not None and not self._probe.done():
            return []
        for _ in range(len(self._probe_claims)):
            claim = self._probe_claims[0]
            self._probe_claims.rotate(-1)
            if rows := await claim(connection):
                return rows
        return []

    def _start_probe(self, steps: Steps, rows: Sequence[Due]) -> int:
        for due in rows:
            is_opening = isinstance(due, DueSession) and due.status in TO_OPEN
            self._probe = self._start_one(steps, due, self._opening if is_opening else self._ending)
        return len(rows)

    async def _claim_refund_to_make(self, connection: psycopg.AsyncConnection) -> Sequence[Due]:
        return await self._statements.claim_refunds(connection, limit=1, lease_seconds=LEASE_SECONDS)

    async def _claim_to_close(self, connection: psycopg.AsyncConnection) -> Sequence[Due]:
        return await self._claim(connection, TO_CLOSE, 1)

    async def _claim_to_open(self, connection: psycopg.AsyncConnection) -> Sequence[Due]:
        return await self._claim(connection, TO_OPEN, 1)

    async def _claim(
        self, connection: psycopg.AsyncConnection, statuses: Sequence[str], limit: int
    ) -> Sequence[DueSession]:
        return await self._statements.claim_sessions(connection, statuses, limit=limit, lease_seconds=LEASE_SECONDS)

    def _free(self, slots: int) -> int:
        return min(slots, SLOTS - len(self._ending) - len(self._opening))

    def _start(self, steps: Steps, rows: Sequence[Due], slots: dict[asyncio.Task[None], None]) -> int:
        for due in rows:
            self._start_one(steps, due, slots)
        return len(rows)

    def _start_one(self, steps: Steps, due: Due, slots: dict[asyncio.Task[None], None]) -> asyncio.Task[None]:
        task = asyncio.create_task(steps.process(due))
        slots[task] = None
        task.add_done_callback(lambda ended: self._free_slot(slots, ended))
        return task

    def _free_slot(self, slots: dict[asyncio.Task[None], None], ended: asyncio.Task[None]) -> None:
        if not self._free(ENDING_SLOTS - len(self._ending)) or not self._free(SLOTS):
            self.wake()  # Due rows may wait for this slot.
        slots.pop(ended, None)

    async def _measure(self, database: WorkerPool, late: LateObjects) -> None:
        """Export the figures of refunds and disputes, and care for those that nothing else does, until cancelled."""
        for by_hand in ("false", "true"):
            metrics.REFUND_FAILURES.add(0, by_hand)
        while True:
            try:
                async with database.connection() as connection:
                    if self._kafka.log_readable_by is not Release.V0_1_0:
                        await self._care(connection)
                    _export(await self._statements.refund_figures(connection))
                await late.apply()
            except (psycopg.Error, KafkaError) as error:
                log.warning("refunds cannot be counted and cared for (%s): %r", reason_of(error) or OTHER, error)
            _raise_if_cancelled()
            await self._dependencies.sleep(MEASURE_SECONDS)

    async def _care(self, connection: psycopg.AsyncConnection) -> None:
        """Make refunds due that 0.1.0 gave up, or that have pended for long; a worker of 0.1.0 must not claim them."""
        if reopened := await self._statements.reopen_failed_refunds(connection):
            log.warning(
                "%d refunds that 0.1.0 had given up are due again in %d hours: until then, close those that were paid"
                " otherwise (innkeeper refunds list, innkeeper refunds close)",
                reopened,
                REOPENED_AFTER.total_seconds() / 3600,
            )
        await self._statements.look_at_pending_refunds(connection)

    async def _report(self, database: WorkerPool) -> None:
        """Write the state of the circuit when it changes and from time to time, until cancelled; then delete it."""
        worker = f"{socket.gethostname()}:{os.getpid()}"
        backoff = Backoff("the state of the circuit to Stripe cannot be written")
        written, written_at = None, 0.0
        try:
            while True:
                status = self._breaker.status
                if status != written or self._clock() - written_at >= REPORT_SECONDS:
                    try:
                        async with database.connection() as connection:
                            await self._statements.report_circuit(
                                connection, worker, status.state, since=status.since, reason=status.reason
                            )
                    except psycopg.Error as error:
                        await backoff.wait(error, reason_of(error))
                        continue
                    backoff.reset()
                    written, written_at = status, self._clock()
                _raise_if_cancelled()
                await self._dependencies.sleep(CIRCUIT_POLL_SECONDS)
        finally:
            with suppress(psycopg.Error, TimeoutError):
                async with asyncio.timeout(GRACE_SECONDS), database.connection() as connection:
                    await self._statements.forget_circuit(connection, worker)


def _export(figures: RefundFigures) -> None:
    metrics.REFUNDS.set(figures.due, "due")
    metrics.REFUNDS.set(figures.pending, "pending")
    metrics.REFUNDS_FAILING.set(figures.failing)
    metrics.OLDEST_REFUND_DUE_SECONDS.set(figures.oldest_due_seconds)
    metrics.OLDEST_REFUND_PENDING_SECONDS.set(figures.oldest_pending_seconds)
    metrics.DISPUTES_OPEN.set(figures.disputes_open)


def _pool_use(database: WorkerPool) -> list[tuple[metrics.Labels, float]]:
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


async def _finish(tasks: Collection[asyncio.Task[None]]) -> None:
    """Let calls in progress end; one that takes too long is cancelled, and due again when its lease ends."""
    if not tasks:
        return
    await asyncio.wait(tasks, timeout=GRACE_SECONDS)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
