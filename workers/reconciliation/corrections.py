"""Mends differences: sends the commands that are missing, and updates rows about payments to Stripe's state.

Writes commands to `booking.commands`, from the role itself or with an operator's action as their actor. A command goes
before the rows of its difference: a row that is due may lead payments to a refund, whose command must be decided after
it.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

from psycopg import AsyncConnection

from storage import payment_rows
from storage.payment_rows import DisputeObject, ReconciledRefund, ReconciledSession, RefundObject, RowBefore
from topics.catalogue import BOOKING_COMMANDS
from topics.envelope import command_record
from topics.kafka.producer import Producer
from topics.kafka.settings import KafkaSettings
from workers.reconciliation.differences import (
    Difference,
    DisputeObjectCorrection,
    RefundCorrection,
    RefundObjectCorrection,
    RowCorrection,
    SessionCorrection,
)


@dataclass(frozen=True, kw_only=True)
class Sender:
    """The source of the commands, and the operator's action that they follow from; None: the role mends by itself."""

    source: str
    actor: str | None = None


async def correct(
    kafka: KafkaSettings,
    connection: AsyncConnection,
    producer: Producer | None,
    difference: Difference,
    sender: Sender,
) -> bool:
    """Send the commands and write the rows that mend a difference; return whether it is mended.

    A row that payments has changed since the comparison is left alone. `producer` is needed for a difference with
    commands.

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
                    source=sender.source,
                    time=datetime.now(UTC),
                    actor=sender.actor,
                )
                for id, command in difference.commands
            ]
        )
    async with connection.transaction():
        written = [await _correct_row(connection, row, sender.actor) for row in difference.rows]
    return bool(difference.commands) or (bool(written) and all(written))


async def _correct_row(connection: AsyncConnection, row: RowCorrection, actor: str | None) -> bool:
    match row:
        case SessionCorrection():
            return await _correct_session(connection, row, actor)
        case RefundCorrection():
            return await _correct_refund(connection, row, actor)
        case RefundObjectCorrection():
            return await payment_rows.save_refund_object(connection, _refund_object(row))
        case DisputeObjectCorrection():
            return await payment_rows.save_dispute_object(connection, _dispute_object(row))


async def _correct_session(connection: AsyncConnection, row: SessionCorrection, actor: str | None) -> bool:
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


async def _correct_refund(connection: AsyncConnection, row: RefundCorrection, actor: str | None) -> bool:
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
        status=refund.state,
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
