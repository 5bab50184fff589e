"""Payments' first step: what the log and Stripe's webhooks say becomes rows that owe a call, and commands to the room.

Reads `booking.events` and `stripe.webhooks`; writes `checkout_session` and `refund`, and commands to
`booking.commands`, all in the adapter's fenced transaction. Nothing here calls Stripe: the caller does, after the
commit. A webhook that cannot be understood goes to the dead letters; any other failure leaves nothing behind, and the
run comes again.
"""

import logging
from collections.abc import AsyncIterator, Sequence
from typing import Final

from psycopg import AsyncConnection

from storage import payments
from storage.payments import RefundOwed, SessionOwed, SessionsToClose
from telemetry import traces
from telemetry.ids import ids_of
from topics.catalogue import BOOKING_COMMANDS, BOOKING_EVENTS, STRIPE_WEBHOOKS, Topic
from topics.envelope import Outgoing, command_record, header
from topics.kafka.settings import KafkaSettings
from topics.messages.commands import BookingCommand
from workers.payments.obligations import Obligation, owed
from workers.payments.settings import STRIPE_VERSION, PaymentSettings
from workers.payments.webhooks import (
    Meaning,
    NotUnderstood,
    StripeEvent,
    meaning_of,
    read_event,
)
from workers.runtime.role import PartitionBatch, Received, Unreadable

SOURCE: Final = "innkeeper/payments"

log = logging.getLogger(__name__)


class Payments:
    """The consumer `payments`."""

    name = "payments"
    topics: tuple[Topic, ...] = (BOOKING_EVENTS, STRIPE_WEBHOOKS)

    def __init__(self, kafka: KafkaSettings, settings: PaymentSettings) -> None:
        self._commands_topic = kafka.topic(BOOKING_COMMANDS)
        self._settings = settings
        self._versions_told = {STRIPE_VERSION}

    async def handle(self, connection: AsyncConnection, runs: Sequence[PartitionBatch]) -> Sequence[Sequence[Outgoing]]:
        """Note what is owed and what Stripe tells; return the commands that webhooks lead to, for each run."""
        # In a pipeline the statements of a batch travel together instead of waiting for each other.
        async with connection.pipeline():
            return [[record async for record in self._follow(connection, run)] for run in runs]

    def forget(self) -> None:
        """Nothing is kept in memory."""

    async def _follow(self, connection: AsyncConnection, run: PartitionBatch) -> AsyncIterator[Outgoing]:
        for received in run.received:
            if run.topic == STRIPE_WEBHOOKS:
                meaning = self._explain(received)
                for news in meaning.news:
                    await payments.note(connection, news, settled=True)
                for command_id, command in meaning.commands:
                    yield self._record(command_id, command, received)
            else:
                for obligation in self._owed(received):
                    await _owe(connection, obligation)

    def _owed(self, received: Received) -> tuple[Obligation, ...]:
        assert received.envelope is not None, "every event of ours has an envelope"
        return owed(received.message, received.envelope, received.time, frontend_url=self._settings.frontend_url)

    def _explain(self, received: Received) -> Meaning:
        try:
            event = read_event(received.record.value)
            self._tell_version(event)
            meaning = meaning_of(event, live=self._settings.live)
        except NotUnderstood as error:
            raise Unreadable(received.record, str(error)) from error
        log.log(meaning.level, "%s (webhook %s)", meaning.says, event.id, extra=ids_of(received.record.headers))
        return meaning

    def _tell_version(self, event: StripeEvent) -> None:
        version = event.api_version or "none"
        if version not in self._versions_told:
            self._versions_told.add(version)
            log.warning(
                "webhooks are written in version %s of Stripe's API, this code was written for %s",
                version,
                STRIPE_VERSION,
            )

    def _record(self, command_id: str, command: BookingCommand, received: Received) -> Outgoing:
        webhook = received.record
        return command_record(
            self._commands_topic,
            command,
            id=command_id,
            source=SOURCE,
            time=received.time,
            traceparent=traces.well_formed((header(webhook.headers, traces.TRACEPARENT) or b"").decode()),
            causation_position=f"{webhook.topic}[{webhook.partition}]@{webhook.offset}",
        )


async def _owe(connection: AsyncConnection, obligation: Obligation) -> None:
    match obligation:
        case SessionOwed():
            await payments.owe_session(connection, obligation)
        case SessionsToClose():
            await payments.close_sessions(connection, obligation)
        case RefundOwed():
            await payments.owe_refund(connection, obligation)
