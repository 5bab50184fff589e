"""Processes one row with a pending call to Stripe, from its claim to its end.

Reads and writes `checkout_session`, `refund` and `payment_refund`; writes commands to `booking.commands`. No
transaction is open during a call. A crash between any two of these steps repeats safely, because the row stays due
until the last:

    claim (lease) -> call -> record -> produce, acknowledged -> settle

A failed step is retried with backoff, and a refund that Stripe refuses with growing pauses. A row whose call is not
made because the circuit to Stripe is open is given back as it was. How much of a payment goes back is decided by the
core (`workers.decisions`).
"""

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Final

import msgspec
import psycopg
import stripe
from aiokafka.errors import KafkaError

from storage.failures import reason_of
from storage.payment_statements import PaymentStatements
from storage.payments import LEASE_SECONDS, DueRefund, DueSession
from storage.pool import WorkerPool
from telemetry import traces
from telemetry.ids import about
from topics.envelope import command_record
from topics.failpoints import failpoint
from topics.messages.commands import DeclinePayment, RecordSession
from topics.messages.releases import Release
from workers.payments.breaker import CircuitOpen
from workers.payments.consumer import PAYMENTS_SOURCE
from workers.payments.gateway import Gateway, IdempotencyKeyExhausted, Refused
from workers.payments.pending_calls import renewed_session
from workers.payments.refund_steps import LeaseLost, RefundAnswer, RefundSteps
from workers.payments.settling import record
from workers.payments.webhooks import NotUnderstood, effect_of_session
from workers.runtime.publisher import Publisher
from workers.runtime.withholding import Commands, readable
from workers.stripe.marks import Marks
from workers.stripe.objects import BookingRef, Session, command_id

WORK_SECONDS: Final = 25.0
MAX_RETRY_DELAY_SECONDS: Final = 60.0

Due = DueSession | DueRefund
SESSION_REFUSED: Final = "session_refused"
"""The failure of a payment whose page Stripe refuses to open; Stripe's word follows a colon where it has one."""

_FORESEEN: Final = (
    stripe.StripeError,
    NotUnderstood,
    msgspec.ValidationError,
    psycopg.Error,
    KafkaError,
    LeaseLost,
    OSError,  # Timeouts too.
)
_OUR_KEY_IS_WRONG: Final = (stripe.AuthenticationError, stripe.PermissionError)

log = logging.getLogger(__name__)


class Steps:
    """Processes claimed rows. `live`: our key moves real money."""

    def __init__(
        self,
        gateway: Gateway,
        database: WorkerPool,
        publisher: Publisher,
        *,
        marks: Marks,
        commands_topic: str,
        readable_by: Release,
        live: bool,
        statements: PaymentStatements,
        now: Callable[[], datetime],
    ) -> None:
        """`readable_by`: the oldest release that must be able to decide the commands. `now` returns the time (UTC)."""
        self._gateway = gateway
        self._refunds = RefundSteps(gateway, database, marks, statements)
        self._readable_by = readable_by
        self._database = database
        self._publisher = publisher
        self._publishing = asyncio.Lock()
        self._commands_topic = commands_topic
        self._live = live
        self._statements = statements
        self._now = now

    async def process(self, due: Due) -> None:
        """Make the row's call, or record why it failed and when it is due again. Raises only when cancelled."""
        about(booking_id=str(due.booking_id), correlation_id=due.correlation)
        try:
            async with asyncio.timeout(WORK_SECONDS):
                with traces.span(f"payments {due.status}", parent=_trace(due)):
                    await self._call_and_record(due)
        except CircuitOpen:
            await self._give_back(due)
        except Exception as error:  # noqa: BLE001 - a bug in one row must not stop the others; it is logged.
            _log_failure(due, error)
            await self._postpone(due, error)

    async def _call_and_record(self, due: Due) -> None:
        failpoint("payments.before_call")
        answer = await self._call(due)
        failpoint("payments.after_call")
        commands = await self._record(due, answer)
        failpoint("payments.after_record")
        await self._produce(due, commands)
        failpoint("payments.after_produce")
        if isinstance(due, DueRefund) and isinstance(answer, RefundAnswer):
            await self._refunds.finish(due, answer)
            return
        async with self._database.connection() as connection:
            await self._statements.mark_done(connection, due)

    async def _call(self, due: Due) -> Session | RefundAnswer | Refused | None:
        """Return Stripe's answer; None when it was recorded before and only the commands are left to send."""
        try:
            match due:
                case DueSession(status="creating"):
                    return await self._open(due)
                case DueSession(status="closing"):
                    return await self._close(due)
                case DueSession(status="complete", session_id=str() as session_id):
                    return await self._gateway.retrieve_session(session_id)
                case DueRefund():
                    return await self._refunds.call(due)
                case _:
                    return None
        except Refused as refused:
            return refused

    async def _open(self, due: DueSession) -> Session:
        return await self._gateway.open_session(
            _booking_ref(due), due.params, key=due.idempotency_key, since=due.created_at
        )

    async def _close(self, due: DueSession) -> Session:
        """Expire the session. One whose id was never recorded is requested under its key first, which may open it."""
        session_id = due.session_id
        if session_id is None:
            try:
                session_id = (await self._open(due)).id
            except IdempotencyKeyExhausted as error:
                raise Refused(f"never opened: {error}") from error
        session = await self._gateway.expire_session(session_id)
        if session.status == "open":
            raise NotUnderstood(f"{session.id} can neither be expired nor has it ended")
        return session

    async def _record(self, due: Due, answer: Session | RefundAnswer | Refused | None) -> Commands:
        """Write the answer into the row if the row still waits for it; return the commands to the room."""
        async with self._database.connection() as connection:
            match due, answer:
                case DueSession(), Session(status="open") as session:
                    return await self._record_opened(connection, due, session)
                case DueSession(), Session() as session:
                    return await self._record_ended(connection, due, session)
                case DueSession(), Refused() as refused:
                    return await self._record_refused(connection, due, refused)
                case DueRefund(), RefundAnswer():
                    return await self._refunds.record(connection, due, answer)
        return remaining_commands(due)

    async def _record_ended(self, connection: psycopg.AsyncConnection, due: DueSession, session: Session) -> Commands:
        effect = effect_of_session(session, _booking_ref(due), live=self._live)
        if not effect.updates:
            raise NotUnderstood(effect.summary)
        log.log(effect.level, "%s", effect.summary)
        for update in effect.updates:
            await record(self._statements, connection, update, is_done=False)
        # The room needs no command for a session that expired: it closed the session itself.
        return effect.commands if session.status == "complete" else ()

    async def _record_opened(self, connection: psycopg.AsyncConnection, due: DueSession, session: Session) -> Commands:
        status = await self._statements.record_opened(connection, due, session_id=session.id, url=session.url)
        if status is None:
            log.error("%s was opened for %s, which has another session by now", session.id, _name(due))
            return ()
        # The room gets no session that must be closed meanwhile, or was paid already.
        return remaining_commands(replace(due, status=status, session_id=session.id)) if status == "open" else ()

    async def _record_refused(self, connection: psycopg.AsyncConnection, due: DueSession, refused: Refused) -> Commands:
        log.error("%s: Stripe refuses: %s", _name(due), refused)
        failure = SESSION_REFUSED if refused.code is None else f"{SESSION_REFUSED}:{refused.code}"
        reason = f"{failure} {refused}"
        status = await self._statements.record_refused_session(connection, due, reason)
        return () if status is None else remaining_commands(replace(due, status=status, last_error=reason))

    async def send(self, commands: Commands, time: datetime) -> None:
        """Publish commands that follow from no row, but from an object of Stripe's; `time` in UTC."""
        records = [
            command_record(self._commands_topic, command, id=name, source=PAYMENTS_SOURCE, time=time)
            for name, command in readable(self._readable_by, commands)
        ]
        async with self._publishing:
            await self._publisher.publish(records)

    async def _produce(self, due: Due, commands: Commands) -> None:
        records = [
            command_record(
                self._commands_topic,
                command,
                id=name,
                source=PAYMENTS_SOURCE,
                time=self._now(),
                causation=due.causation,
                correlation=due.correlation,
                traceparent=traces.current() or _trace(due),
                actor=due.actor,
            )
            for name, command in readable(self._readable_by, commands)
        ]
        async with self._publishing:
            await self._publisher.publish(records)

    async def _give_back(self, due: Due) -> None:
        """Leave the row as it was before its claim; the circuit's opening is logged once, not for each row."""
        try:
            async with asyncio.timeout(LEASE_SECONDS - WORK_SECONDS), self._database.connection() as connection:
                await self._statements.give_back(connection, due)
        except (psycopg.Error, TimeoutError) as trouble:
            log.warning("%s: not given back (%r); due again when the lease ends", _name(due), trouble)

    async def _postpone(self, due: Due, error: Exception) -> None:
        """Record the failure and the time of the next attempt; an exhausted key is replaced first."""
        reason = f"{type(error).__name__}: {error}"
        try:
            async with asyncio.timeout(LEASE_SECONDS - WORK_SECONDS), self._database.connection() as connection:
                if isinstance(error, IdempotencyKeyExhausted) and isinstance(due, DueSession):
                    await self._statements.renew_session(connection, due, renewed_session(due, self._now()))
                await self._statements.try_again(
                    connection, due, error=reason, delay_seconds=retry_delay_seconds(due.failures)
                )
        except (psycopg.Error, TimeoutError) as trouble:
            log.warning("%s: the failure is not recorded (%r); due again when the lease ends", _name(due), trouble)


def remaining_commands(due: Due) -> Commands:
    """Return the commands to the room that follow from a row whose answer is recorded; pure."""
    match due:
        case DueSession(status="open", session_id=str() as session_id):
            opened = RecordSession(
                room_id=due.room_id, booking_id=due.booking_id, attempt=due.attempt, session_id=session_id
            )
            return ((command_id(session_id, "opened"), opened),)
        case DueSession(status="failed"):
            declined = DeclinePayment(room_id=due.room_id, booking_id=due.booking_id, failure=_failure(due))
            return ((command_id(f"{due.booking_id}:{due.attempt}", SESSION_REFUSED), declined),)
        case _:
            return ()


def _failure(due: DueSession) -> str:
    """Return the failure with which the row's `last_error` begins."""
    first = (due.last_error or "").split(" ")[0]
    return first if first.startswith(SESSION_REFUSED) else SESSION_REFUSED


def retry_delay_seconds(failures: int) -> float:
    """Return the delay after one more failure than `failures`: doubled each time, with jitter."""
    return min(MAX_RETRY_DELAY_SECONDS, 2.0 ** min(failures, 10)) * random.uniform(0.5, 1.0)  # noqa: S311 - no secret.


def _log_failure(due: Due, error: Exception) -> None:
    if isinstance(error, _OUR_KEY_IS_WRONG):
        log.error("%s: Stripe does not take our key: %s", _name(due), error)
    elif isinstance(error, IdempotencyKeyExhausted):
        log.warning("%s: its call gets another key: %s", _name(due), error)
    elif isinstance(error, _FORESEEN):
        reason = f"the database {found.in_words}: " if (found := reason_of(error)) else ""
        log.warning("%s: tried again later, after %d failures: %s%r", _name(due), due.failures, reason, error)
    else:
        log.critical("%s: unforeseen, a bug", _name(due), exc_info=error)


def _trace(due: Due) -> str | None:
    """Return the trace of the event that led to this call."""
    return traces.well_formed(due.params.get("metadata", {}).get(traces.TRACEPARENT))


def _booking_ref(due: Due) -> BookingRef:
    attempt = due.attempt if isinstance(due, DueSession) else 0
    return BookingRef(due.booking_id, due.room_id, attempt)


def _name(due: Due) -> str:
    if isinstance(due, DueSession):
        return f"session of booking {due.booking_id}, attempt {due.attempt} ({due.status})"
    return f"refund of {due.payment_intent}, booking {due.booking_id} ({due.status})"
