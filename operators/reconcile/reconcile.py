"""The reconciliation: tables first, then Stripe, and whatever differs is looked at in the tables once more.

So what moved while it looked is no difference: a booking counts as different only if it was so before Stripe was asked
and still is so after.
"""

from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from psycopg import AsyncConnection

from operators.reconcile import books
from operators.reconcile.books import Booking
from operators.reconcile.comparison import AtStripe, Difference, compare
from operators.reconcile.counter import Counter, Refund, Session, open_counter
from operators.reconcile.mending import mend
from storage import operator_log
from storage.settings import CONNECT_SECONDS, DatabaseSettings
from workers.payments.settings import PaymentSettings

_CLOCKS_DIFFER_BY: Final = timedelta(minutes=10)
#: A booking's sessions are all made within its hold.
_MAX_HOLD: Final = timedelta(days=1)

Progress = Callable[[int], None]


class NoSuchBooking(Exception):
    """The ledger does not have the booking that was named."""


@dataclass(frozen=True, kw_only=True)
class Reconciled:
    """What was compared and what differed. `mended` are those of `differences` whose rows stand right now."""

    bookings: int
    sessions: int
    refunds: int
    differences: tuple[Difference, ...]
    mended: frozenset[int]

    @property
    def left(self) -> tuple[Difference, ...]:
        """What still differs."""
        return tuple(each for number, each in enumerate(self.differences) if number not in self.mended)


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
    mending: bool = False,
    who: str = "",
    progress: Progress | None = None,
) -> Reconciled:
    """Compare the money at Stripe with the bookings.

    Args:
        database: where the bookings are.
        payments: where Stripe is, and the key to it.
        since: only bookings that were made since then (UTC).
        booking: only this one.
        mending: whether rows of ours that lack what Stripe knows are brought up to date.
        who: who does this, for the record.
        progress: called with the number of objects that Stripe has told of so far.

    Raises:
        NoSuchBooking: the booking that was named is not in the ledger.
        operators.reconcile.counter.StripeSays: Stripe does not answer.
        psycopg.Error: the database cannot be used.
    """
    async with (
        await AsyncConnection.connect(
            database.conninfo(),
            autocommit=True,
            application_name="innkeeper-reconcile",
            connect_timeout=CONNECT_SECONDS,
        ) as connection,
        open_counter(payments) as counter,
    ):
        named = None if booking is None else [booking]
        ours = await books.read(connection, since=since, ids=named)
        if booking is not None and booking not in ours:
            raise NoSuchBooking(f"The ledger does not have booking {booking}.")
        stripe = await _ask(counter, since, None if booking is None else ours[booking], progress or (lambda _: None))
        differences = await _differences(connection, ours, stripe, since, named)
        mended = await _mend(connection, differences, who) if mending else frozenset()
    return Reconciled(
        bookings=len(ours),
        sessions=stripe.sessions,
        refunds=stripe.refunds,
        differences=differences,
        mended=mended,
    )


async def _ask(counter: Counter, since: datetime | None, named: Booking | None, progress: Progress) -> _Stripe:
    """Return what Stripe has, of all bookings made since then or of one."""
    by_booking: dict[UUID, AtStripe] = defaultdict(AtStripe)
    of_payment: dict[str, UUID] = {}
    sessions = refunds = 0
    async for session in _sessions(counter, since, named):
        if named is None or session.booking_id == named.id:
            by_booking[session.booking_id].sessions.append(session)
            of_payment[session.payment] = session.booking_id
            sessions += 1
            progress(sessions)
    async for refund in _refunds(counter, since, named, list(of_payment)):
        if refund.payment in of_payment:
            by_booking[of_payment[refund.payment]].refunds.append(refund)
            refunds += 1
            progress(sessions + refunds)
    return _Stripe(by_booking=dict(by_booking), sessions=sessions, refunds=refunds)


def _sessions(counter: Counter, since: datetime | None, named: Booking | None) -> AsyncIterator[Session]:
    if named is not None:
        return counter.sessions(named.created_at - _CLOCKS_DIFFER_BY, named.created_at + _MAX_HOLD)
    return counter.sessions(None if since is None else since - _CLOCKS_DIFFER_BY)


async def _refunds(
    counter: Counter, since: datetime | None, named: Booking | None, payments: Iterable[str]
) -> AsyncIterator[Refund]:
    if named is None:
        async for refund in counter.refunds(None if since is None else since - _CLOCKS_DIFFER_BY):
            yield refund
        return
    for payment in payments:
        async for refund in counter.refunds_of(payment):
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
    now = await books.read(connection, ids=suspect)
    found: list[Difference] = []
    for id in sorted(suspect):
        booking = now.get(id)
        if since is not None and booking is not None and booking.created_at < since and named is None:
            # Of an older booking not all of the money was asked for.
            continue
        found += compare(id, booking, stripe.by_booking.get(id, nothing))
    return tuple(found)


async def _mend(connection: AsyncConnection, differences: tuple[Difference, ...], who: str) -> frozenset[int]:
    mended = set()
    for number, difference in enumerate(differences):
        async with connection.transaction():
            if await mend(connection, difference):
                mended.add(number)
    if mended:
        await operator_log.record(
            connection, who=who, action="reconcile", target="stripe", details={"rows": len(mended)}
        )
    return frozenset(mended)
