"""Refunds by hand and disputes that Stripe reports before we know the payment of the booking's session.

Webhooks come in any order. An object that carries nothing of ours may be one of another system in the same account, so
only its fields that we read are kept, for a week, and at most so many. The caller looks now and then whether a session
has got the payment meanwhile, and then records the object as the consumer would have.
"""

import logging
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, Final, Literal

import msgspec

from storage.payment_statements import PaymentStatements
from storage.payments import UnattributedObject
from storage.pool import WorkerPool
from workers.payments.attributions import Attributions
from workers.payments.settling import record
from workers.payments.webhooks import effect_of_payments_object
from workers.runtime.withholding import Commands
from workers.stripe.objects import Dispute, Refund, StripeObject

log = logging.getLogger(__name__)

_TYPES: Final[dict[str, type[Refund | Dispute]]] = {"refund": Refund, "dispute": Dispute}


def to_keep(about: StripeObject) -> UnattributedObject | None:
    """Return what is kept of an object that is not ours as far as we know; None if it can never be ours.

    Another installation's mark proves that the object is not ours.
    """
    if not isinstance(about, Refund | Dispute) or about.payment_intent is None or about.mark is not None:
        return None
    kind: Literal["refund", "dispute"] = "refund" if isinstance(about, Refund) else "dispute"
    fields: dict[str, Any] = msgspec.to_builtins(msgspec.structs.replace(about, metadata=_names_of(about)))
    return UnattributedObject(
        object_id=about.id,
        state=about.status or "",
        kind=kind,
        payment_intent=about.payment_intent,
        fields=fields,
    )


class LateObjects:
    """The kept objects of one database; `send` publishes commands, `now` is the time (UTC)."""

    def __init__(
        self,
        database: WorkerPool,
        attributions: Attributions,
        send: Callable[[Commands, datetime], Awaitable[None]],
        *,
        statements: PaymentStatements,
        now: Callable[[], datetime],
    ) -> None:
        self._database = database
        self._attributions = attributions
        self._send = send
        self._statements = statements
        self._now = now

    async def apply(self) -> None:
        """Record the objects whose payment is known by now, and send their commands; a repetition is harmless."""
        async with self._database.connection() as connection:
            for kept in await self._statements.attributable(connection):
                about = msgspec.convert(kept.fields, _TYPES[kept.kind])
                attribution = await self._attributions.attribution_of(connection, about)
                if attribution is None:
                    continue
                effect = effect_of_payments_object(about, attribution)
                log.log(effect.level, "%s (reported before its payment was known)", effect.summary)
                async with connection.transaction():
                    for update in effect.updates:
                        await record(self._statements, connection, update, is_done=True)
                await self._send(effect.commands, self._now())
                await self._statements.forget_unattributed(connection, kept)


def _names_of(about: StripeObject) -> dict[str, str] | None:
    """Return the metadata that 0.1.0 left; that of other systems is none of ours."""
    metadata = about.metadata or {}
    return {name: metadata[name] for name in ("booking_id", "room_id") if name in metadata} or None
