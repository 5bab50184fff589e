"""Temporary tables that hold the bookings and Stripe's objects of one comparison, so that memory holds a part of them.

PostgreSQL keeps them on its own disk, and they end with the session.
"""

from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

import msgspec
from psycopg import AsyncConnection

from workers.reconciliation.at_stripe import AtStripe
from workers.reconciliation.bookings import Booking
from workers.reconciliation.stripe_client import Dispute, Refund, Session

_TABLES: Final = """
create temporary table staged_booking (
    number int8 generated always as identity primary key, id uuid not null unique, body bytea not null
);
create temporary table staged_object (
    number int8 generated always as identity primary key, booking_id uuid not null, kind text not null,
    body bytea not null
);
create index on staged_object (booking_id);
create temporary table staged_payment (payment_intent text primary key, booking_id uuid);
"""
_ADD_BOOKING: Final = "insert into staged_booking (id, body) values (%s, %s)"
_ADD_OBJECT: Final = "insert into staged_object (booking_id, kind, body) values (%s, %s, %s)"
_ADD_PAYMENT: Final = """
insert into staged_payment (payment_intent, booking_id) values (%s, %s) on conflict (payment_intent) do update
set booking_id = excluded.booking_id where excluded.booking_id is not null
"""
_BOOKINGS_OF: Final = "select payment_intent, booking_id from staged_payment where payment_intent = any(%s)"
_OUR_PAYMENTS: Final = "select payment_intent from staged_payment where booking_id is not null order by 1"
_BOOKINGS: Final = "select number, id, body from staged_booking where number > %s order by number limit %s"
_OTHER_IDS: Final = """
select distinct o.booking_id from staged_object o
where o.booking_id > %s and not exists (select from staged_booking b where b.id = o.booking_id)
order by o.booking_id limit %s
"""
_OBJECTS: Final = "select booking_id, kind, body from staged_object where booking_id = any(%s) order by number"

_BEFORE_ALL: Final = UUID(int=0)
_BOOKING: Final = msgspec.json.Decoder(Booking)
_SESSION: Final = msgspec.json.Decoder(Session)
_REFUND: Final = msgspec.json.Decoder(Refund)
_DISPUTE: Final = msgspec.json.Decoder(Dispute)
_ENCODER: Final = msgspec.json.Encoder()


class Staging:
    """The tables of one comparison, which has the session for itself. Every method raises psycopg.Error."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def create(self) -> None:
        """Create the tables."""
        await self._connection.execute(_TABLES)

    async def add_bookings(self, bookings: Collection[Booking]) -> None:
        """Add bookings with the payments that their events name."""
        await self._add(_ADD_BOOKING, [(each.id, _ENCODER.encode(each)) for each in bookings])
        await self.add_payments((payment, each.id) for each in bookings for payment in each.payments)

    async def add_objects(self, objects: Iterable[tuple[UUID, Session | Refund | Dispute]]) -> None:
        """Add objects of Stripe's, each with its booking."""
        await self._add(_ADD_OBJECT, [(id, type(each).__name__, _ENCODER.encode(each)) for id, each in objects])

    async def add_payments(self, payments: Iterable[tuple[str, UUID | None]]) -> None:
        """Add payments, each with its booking; None: it is another installation's."""
        await self._add(_ADD_PAYMENT, list(payments))

    async def bookings_of(self, payments: Iterable[str]) -> Mapping[str, UUID | None]:
        """Return the booking of each payment that was added, or None."""
        found = await self._connection.execute(_BOOKINGS_OF, (list(payments),))
        return dict(await found.fetchall())

    async def our_payments(self) -> Sequence[str]:
        """Return all payments that have a booking."""
        found = await self._connection.execute(_OUR_PAYMENTS)
        return [payment for (payment,) in await found.fetchall()]

    async def ranges(self, size: int) -> AsyncIterator[Mapping[UUID, tuple[Booking | None, AtStripe]]]:
        """Yield at most so many bookings at a time, as they were added, each with its objects.

        The bookings that only objects name come last, as None.
        """
        await self._connection.execute("analyze staged_booking, staged_object")
        number = 0
        while found := await self._fetch(_BOOKINGS, number, size):
            number = found[-1][0]
            objects = await self._objects([id for _, id, _ in found])
            yield {id: (_BOOKING.decode(body), objects[id]) for _, id, body in found}
        after = _BEFORE_ALL
        while found := await self._fetch(_OTHER_IDS, after, size):
            after = found[-1][0]
            objects = await self._objects([id for (id,) in found])
            yield {id: (None, each) for id, each in objects.items()}

    async def _objects(self, ids: Sequence[UUID]) -> Mapping[UUID, AtStripe]:
        objects = {id: AtStripe() for id in ids}
        for id, kind, body in await self._fetch(_OBJECTS, ids):
            match kind:
                case Session.__name__:
                    objects[id].sessions.append(_SESSION.decode(body))
                case Refund.__name__:
                    objects[id].refunds.append(_REFUND.decode(body))
                case _:
                    objects[id].disputes.append(_DISPUTE.decode(body))
        return objects

    async def _add(self, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
        async with self._connection.cursor() as cursor:
            await cursor.executemany(statement, rows)

    async def _fetch(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        return await (await self._connection.execute(query, parameters)).fetchall()
