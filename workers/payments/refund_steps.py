"""The steps of a refund: the refunds that a payment has at Stripe already, the call for the rest, and their effects.

A refund is made in three steps, each of which repeats safely: list all refunds that the payment has, those by hand too;
fix the exact call for the rest in the row; make the call. A call whose answer was lost is found in the next list, or
answered by Stripe as before, under its key.
"""

import logging
from dataclasses import dataclass
from typing import Final

import psycopg

from storage.payment_statements import PaymentStatements
from storage.payments import DueRefund, RefundRow
from storage.pool import WorkerPool
from telemetry import metrics
from topics.messages.commands import FailRefund, RecordRefund
from workers.booking_rows import payment_of
from workers.decisions import Payment
from workers.payments.gateway import Gateway, IdempotencyKeyExhausted, Refused
from workers.payments.refunding import (
    RefundCall,
    call_for_rest,
    failed_count,
    refused_delay_seconds,
    renewed_key,
    sums_of,
)
from workers.payments.settling import record, settle
from workers.payments.webhooks import WebhookEffect, effect_of_refund
from workers.runtime.withholding import Commands
from workers.stripe.marks import Marks
from workers.stripe.objects import Attribution, BookingRef, Refund

#: The delay before a refund whose payment changed meanwhile is looked at again.
_SOON_SECONDS: Final = 2.0

log = logging.getLogger(__name__)


class LeaseLost(Exception):
    """The row is another worker's by now: this worker must not make the call."""


@dataclass(frozen=True, kw_only=True)
class RefundAnswer:
    """All refunds of the payment at Stripe after the call, and Stripe's refusal of it, if it refused."""

    refunds: tuple[Refund, ...]
    refused: Refused | None = None


class RefundSteps:
    """The steps of claimed rows of `refund`."""

    def __init__(self, gateway: Gateway, database: WorkerPool, marks: Marks, statements: PaymentStatements) -> None:
        self._gateway = gateway
        self._database = database
        self._marks = marks
        self._statements = statements

    async def call(self, due: DueRefund) -> RefundAnswer:
        """Make a refund of the rest, if there is a rest.

        Raises:
            Refused: Stripe does not know the payment.
            IdempotencyKeyExhausted: the call has another key now, and may be repeated.
        """
        try:
            found = await self._gateway.refunds_of(due.payment_intent)
        except Refused as refused:
            return RefundAnswer(refunds=(), refused=refused)
        try:
            call = await self._fixed_call(due, found)
        except Refused as refused:
            return RefundAnswer(refunds=found, refused=refused)
        if call is None:
            return RefundAnswer(refunds=found)
        try:
            made = await self._gateway.refund(call.params, key=call.idempotency_key)
        except Refused as refused:
            await self._renew_key(due, call)
            return RefundAnswer(refunds=found, refused=refused)
        except IdempotencyKeyExhausted:
            # A refund that was made all the same is in the next list, and leads to another call.
            await self._renew_key(due, call)
            raise
        return RefundAnswer(refunds=(made, *(refund for refund in found if refund.id != made.id)))

    async def record(self, connection: psycopg.AsyncConnection, due: DueRefund, answer: RefundAnswer) -> Commands:
        """Record the payment's refunds; return the commands about those that the ledger does not know yet."""
        async with connection.transaction():
            effects = await self._record_refunds(connection, due, answer.refunds)
            ledger = await self._statements.ledger_payment(connection, due.booking_id, due.payment_intent)
        paid = None if ledger is None else payment_of(ledger)
        commands: Commands = ()
        for effect in effects:
            unknown = [named for named in effect.commands if not _is_known(named[1], paid)]
            if unknown or not effect.commands:
                log.log(effect.level, "%s", effect.summary)
            commands = (*commands, *unknown)
        return commands

    async def finish(self, due: DueRefund, answer: RefundAnswer) -> None:
        """Mark the row's call as done, or set the time of the next one while a rest is due."""
        async with self._database.connection() as connection:
            row = await self._statements.lock_refund(connection, due.payment_intent)
            if row is None or not (rest_minor := sums_of(row).rest_minor):
                await self._statements.mark_done(connection, due)
                return
            await self._postpone(connection, due, row, rest_minor, answer.refused)

    async def _fixed_call(self, due: DueRefund, found: tuple[Refund, ...]) -> RefundCall | None:
        """Record the refunds that were found, and fix the call for the rest; None if there is no rest.

        Raises:
            Refused: the rest is no amount that Stripe can send.
        """
        async with self._database.connection() as connection, connection.transaction():
            await self._record_refunds(connection, due, found)
            row = await self._statements.lock_refund(connection, due.payment_intent)
            if row is None or not (sums := sums_of(row)).rest_minor:
                return None
            try:
                call = call_for_rest(due, sums, len(found), self._marks)
            except ValueError as error:
                raise Refused(str(error), "amount_not_sendable") from error
            await self._fix(connection, due, call)
            return call

    async def _renew_key(self, due: DueRefund, call: RefundCall) -> None:
        """Give the call another key: this one refunded nothing, and Stripe would repeat its answer to it."""
        another = call._replace(idempotency_key=renewed_key(call.idempotency_key))
        async with self._database.connection() as connection:
            await self._fix(connection, due, another)

    async def _fix(self, connection: psycopg.AsyncConnection, due: DueRefund, call: RefundCall) -> None:
        is_fixed = await self._statements.fix_refund_call(
            connection, due, params=call.params, idempotency_key=call.idempotency_key
        )
        if not is_fixed:
            raise LeaseLost(f"the refund of {due.payment_intent} is another worker's")

    async def _record_refunds(
        self, connection: psycopg.AsyncConnection, due: DueRefund, refunds: tuple[Refund, ...]
    ) -> list[WebhookEffect]:
        """Record refunds and bring the row up to them; return their effects, the oldest refund's first."""
        effects = []
        for refund in reversed(refunds):
            effect = effect_of_refund(refund, await self._attribution_of(connection, due, refund))
            for update in effect.updates:
                await record(self._statements, connection, update, is_done=False)
            effects.append(effect)
        await settle(self._statements, connection, due.payment_intent, is_done=False)
        return effects

    async def _attribution_of(self, connection: psycopg.AsyncConnection, due: DueRefund, refund: Refund) -> Attribution:
        ref = BookingRef(due.booking_id, due.room_id)
        known = await self._statements.is_by_hand(connection, refund.id)
        by_hand = not refund.is_made_by_us(ref, self._marks) if known is None else known
        cancel_if_full = by_hand and await self._statements.cancels_if_full(connection, due.room_id)
        return Attribution(ref, by_hand=by_hand, cancel_if_full=cancel_if_full)

    async def _postpone(
        self,
        connection: psycopg.AsyncConnection,
        due: DueRefund,
        row: RefundRow,
        rest_minor: int,
        refused: Refused | None,
    ) -> None:
        if refused is None and not row.refusals:
            await self._statements.try_again(
                connection, due, error="the payment changed meanwhile", delay_seconds=_SOON_SECONDS
            )
            return
        code = "refund_failed" if refused is None else refused.code or "refused"
        reason = f"a refund failed {failed_count(row)} times" if refused is None else str(refused)
        # A refund that failed is counted by now, a refused call is not.
        refusals = row.refusals - 1 if refused is None else row.refusals
        metrics.REFUND_REFUSALS.add(1, code)
        log.error(
            "%d of payment %s are NOT refunded, tried again later, after %d refusals: %s (%s)",
            rest_minor,
            due.payment_intent,
            refusals,
            reason,
            code,
        )
        await self._statements.try_again(
            connection,
            due,
            error=f"{code} {reason}",
            delay_seconds=refused_delay_seconds(refusals),
            is_refused=refused is not None,
        )


def _is_known(command: object, paid: Payment | None) -> bool:
    """Return whether the ledger knows what the command would record."""
    match command, paid:
        case RecordRefund(refund_id=refund_id), Payment():
            return paid.refund(refund_id) is not None or refund_id in paid.failed_refund_ids
        case FailRefund(refund_id=refund_id), Payment():
            return refund_id in paid.failed_refund_ids
        case _:
            return False
