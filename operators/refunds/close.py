"""Plans and closes a refund: sends the room `CloseRefund` and waits for its answer."""

from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import uuid4

from psycopg import AsyncConnection

from operators.refunds.listing import OpenRefund, State, find, lost
from operators.refunds.refusal import Refused
from operators.replay.ranges import records_since, topic_id_of
from storage import operator_log, payment_rows
from storage.consumer_positions import wait_for_consumer
from topics.catalogue import BOOKING_COMMANDS, BOOKING_EVENTS
from topics.consumers import PROCESSED_BY
from topics.envelope import command_record, decode_value, header
from topics.kafka.log_reader import Record, end_offsets
from topics.kafka.positions import LogPosition
from topics.kafka.producer import open_producer
from topics.kafka.settings import KafkaSettings
from topics.messages.commands import CloseRefund
from topics.messages.events import CommandRefused, RefundClosed
from topics.messages.releases import can_decide
from topics.messages.values import RefundClosing

_CLIENT: Final = "innkeeper-refunds"


@dataclass(frozen=True, kw_only=True, slots=True)
class Closed:
    """The outcome of a close. `event` is None if there is none; `position` is the command's.

    `is_decided` False: the room has not answered in time, and will. `changes`: the refund was not closed before.
    """

    refund: OpenRefund
    is_decided: bool
    changes: bool = False
    event: RefundClosed | None = None
    position: LogPosition | None = None


async def plan(
    kafka: KafkaSettings, connection: AsyncConnection[Any], payment: str, *, reason: RefundClosing
) -> OpenRefund:
    """Return the refund that `close` would end; one that was closed before stays as it is. Nothing is changed.

    Raises:
        Refused: nothing is due, the refund is on its way, a dispute took it, or a release that still runs cannot
            decide it.
        psycopg.Error: the database cannot be used.
    """
    refund = await find(connection, payment)
    if refund.state is State.LOST:
        raise Refused(lost(refund))
    if refund.state is State.PENDING:
        raise Refused(f"The refund of {payment} is on its way at Stripe: {refund.amount} may still reach the guest.")
    release = kafka.log_readable_by
    is_sent = refund.has_booking and refund.state is not State.CLOSED
    if is_sent and not can_decide(release, _command(refund, reason)):
        raise Refused(
            f"Workers of release {release} may still run (LOG_READABLE_BY={release}), and cannot decide CloseRefund."
            f" {refund.amount} stay due: end the rollout, set LOG_READABLE_BY to the new release or remove it, and then"
            " close the refund."
        )
    return refund


async def close(
    kafka: KafkaSettings,
    connection: AsyncConnection[Any],
    payment: str,
    *,
    reason: RefundClosing,
    note: str | None,
    operator: str,
    wait_seconds: float,
) -> Closed:
    """End what is due of a payment: it is not sent back through Stripe. The connection is in autocommit.

    The action is recorded with the note before the command is sent, which names it as its actor. A refund that was
    closed before stays as it is. The room would refuse the command for a booking that the ledger does not have: then
    the row is closed, without a command.

    Raises:
        Refused: as `plan`, or the room refused.
        aiokafka.errors.KafkaError, psycopg.Error: the broker or the database cannot be used.
    """
    refund = await plan(kafka, connection, payment, reason=reason)
    if refund.state is State.CLOSED:
        return Closed(refund=refund, is_decided=True)
    if not refund.has_booking:
        return await _close_row(connection, refund, reason, note=note, operator=operator)
    command = _command(refund, reason)
    return await _send(kafka, connection, refund, command, note=note, operator=operator, wait_seconds=wait_seconds)


def _command(refund: OpenRefund, reason: RefundClosing) -> CloseRefund:
    return CloseRefund(room_id=refund.room, booking_id=refund.booking, payment_intent=refund.payment, reason=reason)


async def _close_row(
    connection: AsyncConnection[Any], refund: OpenRefund, reason: RefundClosing, *, note: str | None, operator: str
) -> Closed:
    async with connection.transaction():
        if not await payment_rows.close_refund_without_booking(connection, refund.payment):
            raise Refused(f"The refund of {refund.payment} has changed meanwhile; look at it again.")
        await operator_log.record(
            connection,
            who=operator,
            action="refunds close",
            target=refund.payment,
            details=_details(refund, reason, note),
        )
    return Closed(refund=refund, is_decided=True, changes=True)


def _details(refund: OpenRefund, reason: RefundClosing, note: str | None) -> dict[str, str | None]:
    return {"booking": str(refund.booking), "amount": refund.amount, "reason": reason.value, "note": note}


async def _send(
    kafka: KafkaSettings,
    connection: AsyncConnection[Any],
    refund: OpenRefund,
    command: CloseRefund,
    *,
    note: str | None,
    operator: str,
    wait_seconds: float,
) -> Closed:
    name = kafka.topic(BOOKING_COMMANDS)
    topic_id = await topic_id_of(kafka, name)
    before = await end_offsets(kafka, [kafka.topic(BOOKING_EVENTS)])
    action = await operator_log.record(
        connection,
        who=operator,
        action="refunds close",
        target=refund.payment,
        details=_details(refund, command.reason, note),
    )
    record = command_record(
        name, command, id=str(uuid4()), source=operator_log.SOURCE, time=datetime.now(UTC), actor=action.actor
    )
    async with open_producer(kafka, client_id=_CLIENT) as producer:
        position = await producer.send(record)
    offsets = {position.partition: position.offset}
    consumer = PROCESSED_BY[BOOKING_COMMANDS.name]
    if not await wait_for_consumer(connection, consumer, name, topic_id, offsets, within_seconds=wait_seconds):
        return Closed(refund=refund, is_decided=False, position=position)
    async with aclosing(records_since(kafka, BOOKING_EVENTS, before)) as found:
        async for answer in found:
            if (header(answer.headers, "ce_causationposition") or b"").decode() == str(position):
                event = _closed(refund, answer)
                changes = event is not None
                return Closed(refund=refund, is_decided=True, changes=changes, event=event, position=position)
    return Closed(refund=refund, is_decided=False, position=position)


def _closed(refund: OpenRefund, answer: Record) -> RefundClosed | None:
    """Return the room's event; None if it has closed the refund before. Raises Refused."""
    kind = (header(answer.headers, "ce_type") or b"").decode()
    if kind == CommandRefused.message_type:
        refused = decode_value(CommandRefused.message_type, answer.value or b"")
        assert isinstance(refused, CommandRefused)
        raise Refused(f"The room refuses to close the refund of {refund.payment}: {refused.reason.value}.")
    if kind != RefundClosed.message_type:
        return None
    closed = decode_value(RefundClosed.message_type, answer.value or b"")
    assert isinstance(closed, RefundClosed)
    return closed
