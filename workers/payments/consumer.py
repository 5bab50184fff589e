"""Payments' first step: events become rows with pending calls, and Stripe's webhooks become commands to the room.

Reads `booking.events` and `stripe.webhooks`; writes `checkout_session`, `refund`, `payment_refund` and
`payment_dispute`, and commands to `booking.commands`, all in the batch's fenced transaction. The caller calls Stripe
after the commit; nothing here does. A webhook that cannot be understood goes to the dead-letter topic; any other
failure leaves nothing behind, and the batch is read again.
"""

import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Final
from uuid import UUID

from psycopg import AsyncConnection

from storage.payment_statements import PAYMENTS, PaymentStatements
from storage.payments import PaymentOfSession, RefundToMake, RefundToSettle, SessionsToClose, SessionToOpen, Stay
from telemetry import metrics, traces
from telemetry.ids import ids_of
from topics.catalogue import BOOKING_COMMANDS, BOOKING_EVENTS, STRIPE_WEBHOOKS, Topic
from topics.envelope import Outgoing, command_record, header
from topics.kafka.positions import position_text
from topics.kafka.settings import KafkaSettings
from topics.messages.commands import BookingCommand
from topics.messages.events import PaymentRequested
from workers.payments.attributions import KINDS, Attributions
from workers.payments.pending_calls import CallContext, PendingCall, calls_for
from workers.payments.settings import PaymentSettings
from workers.payments.settling import record, settle
from workers.payments.unattributed import to_keep
from workers.payments.webhooks import (
    NotUnderstood,
    StripeEvent,
    WebhookEffect,
    effect_of,
    effect_without_objects,
    objects_of,
    read_event,
)
from workers.runtime.role import PartitionBatch, Received, Unreadable
from workers.runtime.withholding import readable
from workers.stripe.objects import StripeObject
from workers.stripe.settings import STRIPE_VERSION

PAYMENTS_SOURCE: Final = "innkeeper/payments"

log = logging.getLogger(__name__)


class Payments:
    """The consumer `payments`."""

    name = "payments"
    topics: tuple[Topic, ...] = (BOOKING_EVENTS, STRIPE_WEBHOOKS)

    def __init__(
        self, kafka: KafkaSettings, settings: PaymentSettings, statements: PaymentStatements = PAYMENTS
    ) -> None:
        self._commands_topic = kafka.topic(BOOKING_COMMANDS)
        self._readable_by = kafka.log_readable_by
        self._settings = settings
        self._statements = statements
        self._attributions = Attributions(settings.payment_mark_key.get_secret_value(), statements)
        self._versions_logged = {STRIPE_VERSION}
        self._foreign_logged: set[str] = set()

    async def handle(
        self, connection: AsyncConnection, batches: Sequence[PartitionBatch]
    ) -> Sequence[Sequence[Outgoing]]:
        """Record pending calls and the changes that webhooks report; return the commands to publish, for each batch."""
        # In a pipeline the statements of a batch travel together instead of waiting for each other.
        async with connection.pipeline():
            stays = await self._stays(connection, batches)
            return [[record async for record in self._follow(connection, batch, stays)] for batch in batches]

    def forget(self) -> None:
        """Do nothing: this consumer keeps nothing in memory."""

    async def _follow(
        self, connection: AsyncConnection, batch: PartitionBatch, stays: Mapping[UUID, Stay]
    ) -> AsyncIterator[Outgoing]:
        for received in batch.received:
            if batch.topic == STRIPE_WEBHOOKS:
                for effect in await self._effects_of(connection, received):
                    for update in effect.updates:
                        await record(self._statements, connection, update, is_done=True)
                    for command_id, command in readable(self._readable_by, effect.commands):
                        yield self._record(command_id, command, received)
            else:
                for call in await self._pending_calls(connection, received, stays):
                    await self._add(connection, call)

    async def _pending_calls(
        self, connection: AsyncConnection, received: Received, stays: Mapping[UUID, Stay]
    ) -> tuple[PendingCall, ...]:
        event = received.message
        assert received.envelope is not None, "every event of ours has an envelope"
        context = CallContext(
            marks=await self._attributions.marks(connection),
            frontend_url=self._settings.frontend_url,
            locale=self._settings.checkout_locale,
        )
        stay = stays.get(event.booking_id) if isinstance(event, PaymentRequested) else None
        return calls_for(event, received.envelope, received.time, context=context, stay=stay)

    async def _effects_of(self, connection: AsyncConnection, received: Received) -> list[WebhookEffect]:
        try:
            event = read_event(received.record.value)
            self._warn_of_version(event)
            ignored = effect_without_objects(event, live=self._settings.live)
            if ignored is not None:
                effects = [ignored]
            else:
                effects = [await self._effect_of(connection, event, about) for about in objects_of(event)]
        except NotUnderstood as error:
            raise Unreadable(received.record, str(error)) from error
        for effect in effects:
            log.log(effect.level, "%s (webhook %s)", effect.summary, event.id, extra=ids_of(received.record.headers))
        return effects

    async def _effect_of(self, connection: AsyncConnection, event: StripeEvent, about: StripeObject) -> WebhookEffect:
        effect = effect_of(event, about, await self._attributions.attribution_of(connection, about))
        if effect.is_foreign:
            self._count_foreign(KINDS[type(about)], about)
            if (kept := to_keep(about)) is not None:
                await self._statements.keep_unattributed(connection, kept)
        if effect.is_inquiry:
            metrics.INQUIRIES.add(1)
        return effect

    def _count_foreign(self, kind: str, about: StripeObject) -> None:
        """Count an object of another system, and log the first of its kind: the account is shared."""
        metrics.FOREIGN_OBJECTS.add(1, kind)
        if kind not in self._foreign_logged:
            self._foreign_logged.add(kind)
            log.warning(
                "%s %s at Stripe is not of this installation, and is left alone; further ones are only counted",
                kind,
                about.id,
            )

    def _warn_of_version(self, event: StripeEvent) -> None:
        version = event.api_version or "none"
        if version not in self._versions_logged:
            self._versions_logged.add(version)
            log.warning(
                "webhooks are written in version %s of Stripe's API, this code was written for %s",
                version,
                STRIPE_VERSION,
            )

    def _record(self, command_id: str, command: BookingCommand, received: Received) -> Outgoing:
        webhook = received.record
        traceparent = header(webhook.headers, traces.TRACEPARENT) or b""
        return command_record(
            self._commands_topic,
            command,
            id=command_id,
            source=PAYMENTS_SOURCE,
            time=received.time,
            traceparent=traces.well_formed(traceparent.decode(errors="replace")),
            causation_position=position_text(webhook),
        )

    async def _stays(self, connection: AsyncConnection, batches: Sequence[PartitionBatch]) -> Mapping[UUID, Stay]:
        """Return the words about all bookings of the batches that are to be paid, by one statement."""
        requested = [
            received.message.booking_id
            for batch in batches
            for received in batch.received
            if isinstance(received.message, PaymentRequested)
        ]
        return await self._statements.stays(connection, requested) if requested else {}

    async def _add(self, connection: AsyncConnection, call: PendingCall) -> None:
        match call:
            case SessionToOpen():
                await self._statements.add_session(connection, call)
            case SessionsToClose():
                await self._statements.close_sessions(connection, call)
            case RefundToMake():
                await self._statements.add_refund(connection, call)
            case RefundToSettle():
                # The ledger has the new sums already, also if the event is read again.
                await settle(self._statements, connection, call.payment_intent, is_done=True)
            case PaymentOfSession():
                await self._statements.note_payment(connection, call)
