"""Compares the money at Stripe with the bookings: the tables are read, then Stripe, then the tables of what differs.

So a booking that changed meanwhile is no difference: it must differ both before and after Stripe was read. Objects of
other installations, which share the Stripe account, are counted and left alone. The role and `innkeeper reconcile` call
the same function.
"""

from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from psycopg import AsyncConnection

from storage import installation
from topics.messages.releases import Release, can_decide
from workers.reconciliation import bookings
from workers.reconciliation.at_stripe import AtStripe
from workers.reconciliation.bookings import Booking
from workers.reconciliation.comparison import compare
from workers.reconciliation.differences import Difference
from workers.reconciliation.ownership import has_our_mark, is_ours, with_maker
from workers.reconciliation.stripe_client import Dispute, Refund, Session, StripeClient
from workers.stripe.marks import Marks
from workers.stripe.settings import MAX_STRIPE_CLOCK_SKEW, StripeSettings

#: A booking's sessions are all made within its hold.
_MAX_HOLD: Final = timedelta(days=1)
_MAX_LOOKED_UP: Final = 10_000

Progress = Callable[[int], None]


class NoSuchBooking(Exception):
    """The ledger does not have the named booking."""


@dataclass(frozen=True, kw_only=True)
class Compared:
    """The numbers of compared objects, and the differences.

    `foreign` counts the sessions and refunds of other installations, which were left alone.
    """

    bookings: int
    sessions: int
    refunds: int
    disputes: int
    foreign: int
    differences: tuple[Difference, ...]


@dataclass(kw_only=True)
class _Stripe:
    """The objects of Stripe's that are about our bookings; `booking_of` has the booking of each payment."""

    by_booking: dict[UUID, AtStripe] = field(default_factory=lambda: defaultdict(AtStripe))
    booking_of: dict[str, UUID] = field(default_factory=dict)
    sessions: int = 0
    refunds: int = 0
    disputes: int = 0
    foreign: int = 0
    foreign_payments: set[str] = field(default_factory=set)

    @property
    def read(self) -> int:
        """The number of objects."""
        return self.sessions + self.refunds + self.disputes + self.foreign


async def compare_money(
    connection: AsyncConnection,
    client: StripeClient,
    settings: StripeSettings,
    *,
    readable_by: Release,
    since: datetime | None = None,
    booking: UUID | None = None,
    progress: Progress | None = None,
) -> Compared:
    """Compare the money at Stripe with the bookings; change nothing.

    Args:
        connection: to the database, outside any transaction.
        client: reads Stripe.
        settings: the key of the mark on our objects.
        readable_by: the oldest release that must be able to decide the commands of a difference.
        since: only bookings that were made since then (UTC).
        booking: only this one.
        progress: called with the number of objects that Stripe has listed so far.

    Raises:
        NoSuchBooking: the named booking is not in the ledger.
        workers.reconciliation.stripe_client.StripeUnavailable: Stripe does not answer.
        storage.installation.NoInstallation: the database has lost the installation's id.
        psycopg.Error: the database cannot be used.
    """
    named = None if booking is None else [booking]
    ours = await bookings.read(connection, since=since, ids=named)
    if booking is not None and booking not in ours:
        raise NoSuchBooking(f"The ledger does not have booking {booking}.")
    marks = Marks(settings.payment_mark_key.get_secret_value(), await installation.read(connection))
    reading = _Reading(connection, client, marks, since, None if booking is None else ours[booking])
    stripe = await reading.all(ours, progress or (lambda _: None))
    found = await _differences(connection, ours, stripe, since, named)
    return Compared(
        bookings=len(ours),
        sessions=stripe.sessions,
        refunds=stripe.refunds,
        disputes=stripe.disputes,
        foreign=stripe.foreign,
        differences=tuple(_decidable(readable_by, each) for each in found),
    )


class _Reading:
    """Reads Stripe's objects for all bookings made since a time, or for one."""

    def __init__(
        self,
        connection: AsyncConnection,
        client: StripeClient,
        marks: Marks,
        since: datetime | None,
        named: Booking | None,
    ) -> None:
        self._connection = connection
        self._client = client
        self._marks = marks
        self._since = None if since is None else since - MAX_STRIPE_CLOCK_SKEW
        self._named = named

    async def all(self, ours: dict[UUID, Booking], progress: Progress) -> _Stripe:
        """Return the objects of our bookings."""
        stripe = _Stripe()
        for booking in ours.values():
            stripe.booking_of.update(dict.fromkeys(booking.payments, booking.id))
        await self._read_sessions(stripe, progress)
        async for refund in self._refunds(list(stripe.booking_of)):
            booking_id = stripe.booking_of.get(refund.payment)
            if booking_id is not None:
                stripe.by_booking[booking_id].refunds.append(with_maker(refund, booking_id, self._marks))
                stripe.refunds += 1
            elif refund.payment in stripe.foreign_payments or self._has_mark_of_others(refund):
                stripe.foreign += 1
            progress(stripe.read)
        async for dispute in self._disputes(list(stripe.booking_of)):
            booking_id = stripe.booking_of.get(dispute.payment)
            if booking_id is not None:
                stripe.by_booking[booking_id].disputes.append(dispute)
                stripe.disputes += 1
            progress(stripe.read)
        return stripe

    async def _read_sessions(self, stripe: _Stripe, progress: Progress) -> None:
        """Read the sessions. Those without a mark of ours are looked up in our rows, many at once."""
        unmarked: list[Session] = []
        async for session in self._sessions():
            if self._named is not None and session.booking_id != self._named.id:
                continue
            if has_our_mark(session, self._marks):
                self._add(stripe, session, frozenset())
            else:
                unmarked.append(session)
            progress(stripe.read + len(unmarked))
        for start in range(0, len(unmarked), _MAX_LOOKED_UP):
            some = unmarked[start : start + _MAX_LOOKED_UP]
            named_in_rows = await bookings.named_in_rows(self._connection, [session.booking_id for session in some])
            for session in some:
                self._add(stripe, session, named_in_rows)

    def _add(self, stripe: _Stripe, session: Session, named_in_rows: frozenset[str]) -> None:
        if not is_ours(session, self._marks, named_in_rows):
            stripe.foreign += 1
            stripe.foreign_payments.add(session.payment)
            return
        stripe.by_booking[session.booking_id].sessions.append(session)
        stripe.booking_of[session.payment] = session.booking_id
        stripe.sessions += 1

    def _has_mark_of_others(self, refund: Refund) -> bool:
        named = refund.named
        if named is None or named.mark is None:
            return False
        return not self._marks.is_ours(named.mark, named.booking_id, named.room_id)

    def _sessions(self) -> AsyncIterator[Session]:
        if self._named is not None:
            made_at = self._named.created_at
            return self._client.sessions(made_at - MAX_STRIPE_CLOCK_SKEW, made_at + _MAX_HOLD)
        return self._client.sessions(self._since)

    async def _refunds(self, payments: Iterable[str]) -> AsyncIterator[Refund]:
        if self._named is None:
            async for refund in self._client.refunds(self._since):
                yield refund
            return
        for payment in payments:
            async for refund in self._client.refunds_of(payment):
                yield refund

    async def _disputes(self, payments: Iterable[str]) -> AsyncIterator[Dispute]:
        if self._named is None:
            async for dispute in self._client.disputes(self._since):
                yield dispute
            return
        for payment in payments:
            async for dispute in self._client.disputes_of(payment):
                yield dispute


async def _differences(
    connection: AsyncConnection,
    ours: dict[UUID, Booking],
    stripe: _Stripe,
    since: datetime | None,
    named: list[UUID] | None,
) -> tuple[Difference, ...]:
    nothing = AtStripe()
    every = ours.keys() | stripe.by_booking.keys()
    closed = await bookings.closed_without_booking(connection)

    def differences(id: UUID, booking: Booking | None) -> Sequence[Difference]:
        at_stripe = stripe.by_booking.get(id, nothing)
        return compare(id, booking, at_stripe.without(closed) if booking is None else at_stripe)

    suspect = [id for id in every if differences(id, ours.get(id))]
    if not suspect:
        return ()
    now = await bookings.read(connection, ids=suspect)
    found: list[Difference] = []
    for id in sorted(suspect):
        booking = now.get(id)
        if since is not None and booking is not None and booking.created_at < since and named is None:
            # Not all payments of an older booking were read.
            continue
        found += differences(id, booking)
    return tuple(found)


def _decidable(release: Release, difference: Difference) -> Difference:
    """Return the difference without its mend, if a release that still runs cannot decide its command."""
    if all(can_decide(release, command) for _, command in difference.commands):
        return difference
    names = ", ".join(type(command).__name__ for _, command in difference.commands)
    return replace(
        difference,
        commands=(),
        rows=(),
        correction=f"release {release} still runs (LOG_READABLE_BY) and cannot decide {names}: again after the rollout",
    )
