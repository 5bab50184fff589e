"""Processes one row with a pending call to Stripe, from its claim to its end.

Reads and writes `checkout_session` and `refund`; writes commands to `booking.commands`. No transaction is open during
a call. A crash between any two of these steps repeats safely, because the row stays due until the last:

    claim (lease) -> call -> record -> produce, acknowledged -> settle

A failed step is retried with backoff. Refund policies and a circuit breaker do not exist yet; they belong here.
"""

import asyncio
import logging
import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

import msgspec
import psycopg
import stripe
from aiokafka.errors import KafkaError
from psycopg_pool import AsyncConnectionPool

from storage import payments
from storage.payments import DueRefund, DueSession
from telemetry import traces
from telemetry.ids import about
from topics.envelope import command_record
from topics.failpoints import failpoint
from topics.messages.commands import BookingCommand, DeclinePayment, RecordRefund, RecordSession
from workers.payments.consumer import PAYMENTS_SOURCE
from workers.payments.gateway import Gateway, IdempotencyKeyExhausted, Refused
from workers.payments.objects import BookingRef, Refund, Session, command_id
from workers.payments.pending_calls import renewed_refund_key, renewed_session
from workers.payments.webhooks import NotUnderstood, effect_of_refund, effect_of_session
from workers.runtime.publisher import Publisher

WORK_SECONDS: Final = 25.0
LEASE_SECONDS: Final = 30.0
"""Longer than the work, so that a worker gives a row up before another claims it."""
MAX_RETRY_DELAY_SECONDS: Final = 60.0

Due = DueSession | DueRefund
Commands = Sequence[tuple[str, BookingCommand]]

_FORESEEN: Final = (
    stripe.StripeError,
    NotUnderstood,
    msgspec.ValidationError,
    psycopg.Error,
    KafkaError,
    OSError,  # Timeouts too.
)
_OUR_KEY_IS_WRONG: Final = (stripe.AuthenticationError, stripe.PermissionError)

log = logging.getLogger(__name__)


class Steps:
    """Processes claimed rows. `live`: our key moves real money."""

    def __init__(
        self,
        gateway: Gateway,
        database: AsyncConnectionPool[psycopg.AsyncConnection],
        publisher: Publisher,
        *,
        commands_topic: str,
        live: bool,
    ) -> None:
        self._gateway = gateway
        self._database = database
        self._publisher = publisher
        self._publishing = asyncio.Lock()
        self._commands_topic = commands_topic
        self._live = live

    async def process(self, due: Due) -> None:
        """Make the row's call, or record why it failed and when it is due again. Raises only when cancelled."""
        about(booking_id=str(due.booking_id), correlation_id=due.correlation)
        try:
            async with asyncio.timeout(WORK_SECONDS):
                with traces.span(f"payments {due.status}", parent=_trace(due)):
                    await self._call_and_record(due)
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
        async with self._database.connection() as connection:
            await payments.mark_done(connection, due)

    async def _call(self, due: Due) -> Session | Refund | Refused | None:
        """Return Stripe's answer; None when it was recorded before and only the commands are left to send."""
        try:
            match due:
                case DueSession(status="creating"):
                    return await self._open(due)
                case DueSession(status="closing"):
                    return await self._close(due)
                case DueSession(status="complete", session_id=str() as session_id):
                    return await self._gateway.retrieve_session(session_id)
                case DueRefund(status="creating"):
                    return await self._gateway.refund(_booking_ref(due), due.params, key=due.idempotency_key)
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

    async def _record(self, due: Due, answer: Session | Refund | Refused | None) -> Commands:
        """Write the answer into the row if the row still waits for it; return the commands to the room."""
        async with self._database.connection() as connection:
            match due, answer:
                case _, None:
                    return remaining_commands(due)
                case DueSession(), Session(status="open") as session:
                    return await _record_opened(connection, due, session)
                case DueSession(), Session() as session:
                    return await self._record_ended(connection, session)
                case DueSession(), Refused() as refused:
                    return await _record_refused(connection, due, refused)
                case DueRefund(), Refund() as refund:
                    return await _record_refund(connection, due, refund)
                case DueRefund(), Refused() as refused:
                    log.error("payment %s is NOT refunded: %s", due.payment_intent, refused)
                    await payments.record_refused_refund(connection, due, str(refused))
        return ()

    async def _record_ended(self, connection: psycopg.AsyncConnection, session: Session) -> Commands:
        effect = effect_of_session(session, live=self._live)
        if not effect.updates:
            raise NotUnderstood(effect.summary)
        log.log(effect.level, "%s", effect.summary)
        for update in effect.updates:
            await payments.record(connection, update, is_done=False)
        # The room needs no command for a session that expired: it closed the session itself.
        return effect.commands if session.status == "complete" else ()

    async def _produce(self, due: Due, commands: Commands) -> None:
        records = [
            command_record(
                self._commands_topic,
                command,
                id=name,
                source=PAYMENTS_SOURCE,
                time=datetime.now(UTC),
                causation=due.causation,
                correlation=due.correlation,
                traceparent=traces.current() or _trace(due),
                actor=due.actor,
            )
            for name, command in commands
        ]
        async with self._publishing:
            await self._publisher.publish(records)

    async def _postpone(self, due: Due, error: Exception) -> None:
        """Record the failure and the time of the next attempt; an exhausted key is replaced first."""
        reason = f"{type(error).__name__}: {error}"
        try:
            async with asyncio.timeout(LEASE_SECONDS - WORK_SECONDS), self._database.connection() as connection:
                if isinstance(error, IdempotencyKeyExhausted):
                    await _renew(connection, due)
                await payments.try_again(connection, due, error=reason, delay_seconds=retry_delay_seconds(due.failures))
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
            declined = DeclinePayment(room_id=due.room_id, booking_id=due.booking_id, failure="session_refused")
            return ((command_id(f"{due.booking_id}:{due.attempt}", "session_refused"), declined),)
        case DueRefund(status="succeeded", refund_id=str() as refund_id):
            refunded = RecordRefund(
                room_id=due.room_id,
                booking_id=due.booking_id,
                payment_intent=due.payment_intent,
                refund_id=refund_id,
                amount_minor=due.amount_minor,
            )
            return ((command_id(refund_id, "succeeded"), refunded),)
        case _:
            return ()


def retry_delay_seconds(failures: int) -> float:
    """Return the delay after one more failure than `failures`: doubled each time, with jitter."""
    return min(MAX_RETRY_DELAY_SECONDS, 2.0 ** min(failures, 10)) * random.uniform(0.5, 1.0)  # noqa: S311 - no secret.


async def _record_opened(connection: psycopg.AsyncConnection, due: DueSession, session: Session) -> Commands:
    status = await payments.record_opened(connection, due, session_id=session.id, url=session.url)
    if status is None:
        log.error("%s was opened for %s, which has another session by now", session.id, _name(due))
        return ()
    # The room gets no session that must be closed meanwhile, or was paid already.
    return remaining_commands(replace(due, status=status, session_id=session.id)) if status == "open" else ()


async def _record_refused(connection: psycopg.AsyncConnection, due: DueSession, refused: Refused) -> Commands:
    log.error("%s: Stripe refuses: %s", _name(due), refused)
    status = await payments.record_refused_session(connection, due, str(refused))
    return () if status is None else remaining_commands(replace(due, status=status))


async def _record_refund(connection: psycopg.AsyncConnection, due: DueRefund, refund: Refund) -> Commands:
    effect = effect_of_refund(msgspec.structs.replace(refund, metadata=_booking_ref(due).metadata()))
    log.log(effect.level, "%s", effect.summary)
    for update in effect.updates:
        await payments.record(connection, update, is_done=False)
    return effect.commands


async def _renew(connection: psycopg.AsyncConnection, due: Due) -> None:
    now = datetime.now(UTC)
    if isinstance(due, DueSession):
        await payments.renew_session(connection, due, renewed_session(due, now))
    else:
        await payments.renew_refund(connection, due, renewed_refund_key(due, now))


def _log_failure(due: Due, error: Exception) -> None:
    if isinstance(error, _OUR_KEY_IS_WRONG):
        log.error("%s: Stripe does not take our key: %s", _name(due), error)
    elif isinstance(error, IdempotencyKeyExhausted):
        log.warning("%s: its call gets another key: %s", _name(due), error)
    elif isinstance(error, _FORESEEN):
        log.warning("%s: tried again later, after %d failures: %r", _name(due), due.failures, error)
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
