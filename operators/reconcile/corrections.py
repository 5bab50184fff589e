"""Mends differences: sends the commands that are missing, and updates rows about payments to Stripe's state.

Writes commands to `booking.commands` with the operator's action as their actor. A command goes before the rows of its
difference: a row that is due may lead payments to a refund, whose command must be decided after it.
"""

from datetime import UTC, datetime

from psycopg import AsyncConnection

from operators.reconcile.differences import (
    Difference,
    DisputeObjectCorrection,
    RefundCorrection,
    RefundObjectCorrection,
    RowCorrection,
    SessionCorrection,
)
from storage import operator_log, payment_rows
from storage.payment_rows import DisputeObject, ReconciledRefund, ReconciledSession, RefundObject, RowBefore
from topics.catalogue import BOOKING_COMMANDS
from topics.envelope import command_record
from topics.kafka.producer import Producer
from topics.kafka.settings import KafkaSettings


async def correct(
    kafka: KafkaSettings, connection: AsyncConnection, producer: Producer | None, difference: Difference, *, actor: str
) -> bool:
    """Send the commands and write the rows that mend a difference; return whether it is mended.

    A row that payments has changed since the comparison is left alone. `actor` is the operator, as the commands name
    them. `producer` is needed for a difference with commands.

    Raises:
        aiokafka.errors.KafkaError: the broker did not acknowledge a command, and may have it or not.
    """
    if difference.commands:
        assert producer is not None
        await producer.send_all(
            [
                command_record(
                    kafka.topic(BOOKING_COMMANDS),
                    command,
                    id=id,
                    source=operator_log.SOURCE,
                    time=datetime.now(UTC),
                    actor=actor,
                )
                for id, command in difference.commands
            ]
        )
    async with connection.transaction():
        written = [await _correct_row(connection, row, actor) for row in difference.rows]
    return bool(difference.commands) or (bool(written) and all(written))


async def _correct_row(connection: AsyncConnection, row: RowCorrection, actor: str) -> bool:
    match row:
        case SessionCorrection():
            return await _correct_session(connection, row, actor)
        case RefundCorrection():
            return await _correct_refund(connection, row, actor)
        case RefundObjectCorrection():
            return await payment_rows.save_refund_object(connection, _refund_object(row))
        case DisputeObjectCorrection():
            return await payment_rows.save_dispute_object(connection, _dispute_object(row))


async def _correct_session(connection: AsyncConnection, row: SessionCorrection, actor: str) -> bool:
    session, before = row.session, row.was
    return await payment_rows.save_session(
        connection,
        ReconciledSession(
            booking_id=session.booking_id,
            room_id=session.room_id,
            attempt=session.attempt,
            status=row.status,
            session_id=session.id,
            url=session.url,
            payment_intent=session.payment if session.paid else None,
            expires_at=session.expires_at,
            is_due=row.is_due,
        ),
        None if before is None else RowBefore(status=before.status, stripe_id=before.session_id),
        actor=actor,
    )


async def _correct_refund(connection: AsyncConnection, row: RefundCorrection, actor: str) -> bool:
    booking, before = row.booking, row.was
    return await payment_rows.save_refund(
        connection,
        ReconciledRefund(
            booking_id=booking.id,
            room_id=booking.room_id,
            payment_intent=row.payment.payment_intent,
            status=row.status,
            refund_id=row.refund_id,
            amount_minor=row.amount_minor,
            currency=row.payment.currency or booking.currency,
            is_due=row.is_due,
        ),
        None if before is None else RowBefore(status=before.status, stripe_id=before.refund_id),
        actor=actor,
    )


def _refund_object(row: RefundObjectCorrection) -> RefundObject:
    refund = row.refund
    return RefundObject(
        refund_id=refund.id,
        payment_intent=refund.payment,
        booking_id=row.booking.id,
        amount_minor=refund.amount_minor,
        currency=row.payment.currency or row.booking.currency,
        status=refund.outcome,
        by_hand=row.by_hand,
        failure=refund.failure,
    )


def _dispute_object(row: DisputeObjectCorrection) -> DisputeObject:
    dispute = row.dispute
    return DisputeObject(
        dispute_id=dispute.id,
        payment_intent=dispute.payment,
        booking_id=row.booking.id,
        amount_minor=dispute.amount_minor,
        currency=dispute.currency,
        status=dispute.state,
        reason=dispute.reason,
    )
