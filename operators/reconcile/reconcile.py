"""The reconciliation: reads the tables, then Stripe, and then the tables of every booking that differs once more.

So a booking that changed meanwhile is no difference: it must differ both before and after Stripe was read.
"""

from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from psycopg import AsyncConnection

from operators.reconcile import bookings
from operators.reconcile.bookings import Booking
from operators.reconcile.comparison import AtStripe, Difference, compare
from operators.reconcile.corrections import correct
from operators.reconcile.stripe_client import Refund, Session, StripeClient, open_stripe
from storage import operator_log
from storage.database import connect
from storage.settings import DatabaseSettings
from workers.payments.settings import MAX_STRIPE_CLOCK_SKEW, PaymentSettings

#: A booking's sessions are all made within its hold.
_MAX_HOLD: Final = timedelta(days=1)

Progress = Callable[[int], None]


class NoSuchBooking(Exception):
    """The ledger does not have the named booking."""


@dataclass(frozen=True, kw_only=True)
class Reconciled:
    """The outcome: numbers of compared objects, and the differences; `corrected` has the indexes of corrected ones."""

    bookings: int
    sessions: int
    refunds: int
    differences: tuple[Difference, ...]
    corrected: frozenset[int]

    @property
    def left(self) -> tuple[Difference, ...]:
        """The differences that were not corrected."""
        return tuple(each for number, each in enumerate(self.differences) if number not in self.corrected)


@dataclass(frozen=True, kw_only=True)
class _Stripe:
    by_booking: dict[UUID, AtStripe]
    sessions: int
    refunds: int


async def reconcile(
    database: DatabaseSettings,
    payments: PaymentSettings,
    *,
    since: datetime | None = None,
    booking: UUID | None = None,
    correcting: bool = False,
    operator: str = "",
    progress: Progress | None = None,
) -> Reconciled:
    """Compare the money at Stripe with the bookings.

    Args:
        database: where the bookings are.
        payments: where Stripe is, and the key to it.
        since: only bookings that were made since then (UTC).
        booking: only this one.
        correcting: whether rows that lack Stripe's state are updated.
        operator: the operator's name, for the operator log.
        progress: called with the number of objects that Stripe has listed so far.

    Raises:
        NoSuchBooking: the named booking is not in the ledger.
        operators.reconcile.stripe_client.StripeUnavailable: Stripe does not answer.
        psycopg.Error: the database cannot be used.
    """
    async with (
        await connect(database, "innkeeper-reconcile") as connection,
        open_stripe(payments) as client,
    ):
        named = None if booking is None else [booking]
        ours = await bookings.read(connection, since=since, ids=named)
        if booking is not None and booking not in ours:
            raise NoSuchBooking(f"The ledger does not have booking {booking}.")
        stripe = await _ask(client, since, None if booking is None else ours[booking], progress or (lambda _: None))
        differences = await _differences(connection, ours, stripe, since, named)
        corrected = await _correct(connection, differences, operator) if correcting else frozenset()
    return Reconciled(
        bookings=len(ours),
        sessions=stripe.sessions,
        refunds=stripe.refunds,
        differences=differences,
        corrected=corrected,
    )


async def _ask(client: StripeClient, since: datetime | None, named: Booking | None, progress: Progress) -> _Stripe:
    """Return Stripe's objects for all bookings made since then, or for one."""
    by_booking: dict[UUID, AtStripe] = defaultdict(AtStripe)
    of_payment: dict[str, UUID] = {}
    sessions = refunds = 0
    async for session in _sessions(client, since, named):
        if named is None or session.booking_id == named.id:
            by_booking[session.booking_id].sessions.append(session)
            of_payment[session.payment] = session.booking_id
            sessions += 1
            progress(sessions)
    async for refund in _refunds(client, since, named, list(of_payment)):
        if refund.payment in of_payment:
            by_booking[of_payment[refund.payment]].refunds.append(refund)
            refunds += 1
            progress(sessions + refunds)
    return _Stripe(by_booking=dict(by_booking), sessions=sessions, refunds=refunds)


def _sessions(client: StripeClient, since: datetime | None, named: Booking | None) -> AsyncIterator[Session]:
    if named is not None:
        return client.sessions(named.created_at - MAX_STRIPE_CLOCK_SKEW, named.created_at + _MAX_HOLD)
    return client.sessions(None if since is None else since - MAX_STRIPE_CLOCK_SKEW)


async def _refunds(
    client: StripeClient, since: datetime | None, named: Booking | None, payments: Iterable[str]
) -> AsyncIterator[Refund]:
    if named is None:
        async for refund in client.refunds(None if since is None else since - MAX_STRIPE_CLOCK_SKEW):
            yield refund
        return
    for payment in payments:
        async for refund in client.refunds_of(payment):
            yield refund


async def _differences(
    connection: AsyncConnection,
    ours: dict[UUID, Booking],
    stripe: _Stripe,
    since: datetime | None,
    named: list[UUID] | None,
) -> tuple[Difference, ...]:
    nothing = AtStripe()
    every = ours.keys() | stripe.by_booking.keys()
    suspect = [id for id in every if compare(id, ours.get(id), stripe.by_booking.get(id, nothing))]
    if not suspect:
        return ()
    now = await bookings.read(connection, ids=suspect)
    found: list[Difference] = []
    for id in sorted(suspect):
        booking = now.get(id)
        if since is not None and booking is not None and booking.created_at < since and named is None:
            # Not all payments of an older booking were read.
            continue
        found += compare(id, booking, stripe.by_booking.get(id, nothing))
    return tuple(found)


async def _correct(connection: AsyncConnection, differences: tuple[Difference, ...], operator: str) -> frozenset[int]:
    """Write the rows that correct the differences; return the indexes of those that were written.

    The action is recorded first: each command that follows from a corrected row names it as its actor.
    """
    correctable = {number: each for number, each in enumerate(differences) if each.row is not None}
    if not correctable:
        return frozenset()
    action = await operator_log.record(
        connection, who=operator, action="reconcile", target="stripe", details={"differences": len(correctable)}
    )
    corrected = set()
    for number, difference in correctable.items():
        async with connection.transaction():
            if await correct(connection, difference, actor=action.actor):
                corrected.add(number)
    return frozenset(corrected)
