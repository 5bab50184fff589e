"""The read model of the money that moved: a row for each movement of a payment, found by hotel and time.

The projection appends its rows, `storage.reads.statements` reads them. A movement's hotel is that of its booking in the
ledger; one of a booking that the ledger does not have belongs to no hotel.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

from psycopg import AsyncConnection

from pricing.movements import EVENTS_WITH_MONEY, KnownPayment, MovementKind, Movements, may_move
from storage.projections.positioned_event import PositionedEvent
from topics.messages.events import BookingEvent

#: The events that may lead to a row; `apply` leaves out all others.
EVENTS_APPLIED: Final[tuple[type[BookingEvent], ...]] = EVENTS_WITH_MONEY


class _Row(NamedTuple):
    """A row, in the order of the table's columns, but for the hotel."""

    booking_id: UUID
    partition: int
    sequence: int
    time: datetime
    kind: str
    payment_intent: str
    object_id: str
    amount_minor: int
    change_minor: int
    currency: str
    pays_booking: bool


_KNOWN: Final = """
select payment_intent, kind, object_id, currency, case when pays_booking then booking_id end from money_movement
where booking_id = any(%b::uuid[]) and kind in ('payment', 'refund')
order by booking_id, time, partition, sequence
"""
# A row that exists is the same movement, because the log never changes; so a conflict is no update.
_APPEND: Final = """
insert into money_movement (booking_id, partition, sequence, hotel_id, time, kind, payment_intent, object_id,
                            amount_minor, change_minor, currency, pays_booking)
select moved.booking_id, partition, sequence, booking.hotel_id, time, kind, payment_intent, object_id,
       moved.amount_minor, change_minor, moved.currency, pays_booking
from unnest(%b::uuid[], %b::int[], %b::bigint[], %b::timestamptz[], %b::text[], %b::text[], %b::text[], %b::bigint[],
            %b::bigint[], %b::text[], %b::boolean[])
    as moved (booking_id, partition, sequence, time, kind, payment_intent, object_id, amount_minor, change_minor,
              currency, pays_booking)
left join booking on booking.id = moved.booking_id
on conflict do nothing
"""


async def apply(connection: AsyncConnection, events: Sequence[PositionedEvent]) -> None:
    """Append the movements of the events, in the caller's transaction; rows that exist are not changed."""
    with_money = [
        (each, each.event) for each in events if isinstance(each.event, BookingEvent) and may_move(each.event)
    ]
    if not with_money:
        return
    movements = Movements(await _known(connection, list({event.booking_id for _, event in with_money})))
    rows = [
        _Row(
            event.booking_id,
            each.partition,
            each.sequence,
            each.envelope.time,
            movement.kind.value,
            movement.payment_intent,
            movement.object_id,
            movement.amount_minor,
            movement.change_minor,
            movement.currency,
            movement.pays_booking,
        )
        for each, event in with_money
        if (movement := movements.of(event)) is not None
    ]
    if rows:
        await connection.execute(_APPEND, [list(column) for column in zip(*rows, strict=True)])


async def _known(connection: AsyncConnection, booking_ids: list[UUID]) -> dict[str, KnownPayment]:
    """Return the payments of bookings that the read model has, in their order, with the refunds that were made."""
    payments: dict[str, KnownPayment] = {}
    async for payment_intent, kind, object_id, currency, pays in await connection.execute(_KNOWN, (booking_ids,)):
        known = payments.setdefault(payment_intent, KnownPayment(currency))
        if pays is not None and known.pays is None:
            # The first payment that pays a booking is the first that did so, not the first that arrived.
            payments[payment_intent] = payments.pop(payment_intent)
            known.pays = pays
        if kind == MovementKind.REFUND:
            known.refund_ids.add(object_id)
    return payments
