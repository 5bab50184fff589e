"""Compares the money at Stripe with the bookings: the tables are read, then Stripe, then the tables of what differs.

So a booking that changed meanwhile is no difference: it must differ both before and after Stripe was read. Objects of
other installations, which share the Stripe account, are counted and left alone. The role and `innkeeper reconcile` call
the same function.

A refund or a dispute may come long after its booking, and Stripe lists each kind by its own time. So all that is read
is put into temporary tables first, and compared in ranges of bookings by the time at which they were made: memory
holds one range of bookings with their objects, or one batch of Stripe's objects, however many there are.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, TypeVar
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
from workers.reconciliation.staging import Staging
from workers.reconciliation.stripe_client import Dispute, Refund, Session, StripeClient
from workers.stripe.marks import Marks
from workers.stripe.settings import MAX_STRIPE_CLOCK_SKEW, StripeSettings

#: A booking's sessions are all made within its hold, but for those of changes.
_MAX_HOLD: Final = timedelta(days=1)
MAX_TOGETHER: Final = 1_000
"""So many bookings are compared, and so many of Stripe's objects are put into tables, at a time."""

Progress = Callable[[int], None]
Found = Callable[[Sequence[Difference]], Awaitable[None]]
T = TypeVar("T")


class NoSuchBooking(Exception):
    """The ledger does not have the named booking."""


@dataclass(kw_only=True)
class Compared:
    """The numbers of compared objects.

    `foreign` counts the sessions and refunds of other installations, which were left alone.
    """

    bookings: int = 0
    sessions: int = 0
    refunds: int = 0
    disputes: int = 0
    foreign: int = 0

    @property
    def read(self) -> int:
        """The number of Stripe's objects."""
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
    found: Found,
) -> Compared:
    """Compare the money at Stripe with the bookings; change nothing but temporary tables.

    Args:
        connection: to the database, outside any transaction, and used for this comparison alone.
        client: reads Stripe.
        settings: the key of the mark on our objects.
        readable_by: the oldest release that must be able to decide the commands of a difference.
        since: only bookings that were made since then (UTC).
        booking: only this one.
        progress: called with the number of objects that Stripe has listed so far.
        found: called with the differences of each range of bookings that has some, the oldest range first.

    Raises:
        NoSuchBooking: the named booking is not in the ledger.
        workers.reconciliation.stripe_client.StripeUnavailable: Stripe does not answer.
        storage.installation.NoInstallation: the database has lost the installation's id.
        psycopg.Error: the database cannot be used.
    """
    staging, compared, named = Staging(connection), Compared(), None
    await staging.create()
    async with aclosing(bookings.ranges(connection, MAX_TOGETHER, since=since, named=booking)) as ranges:
        async for some in ranges:
            await staging.add_bookings(some.values())
            compared.bookings += len(some)
            named = some[booking] if booking is not None else None
    if booking is not None and named is None:
        raise NoSuchBooking(f"The ledger does not have booking {booking}.")
    marks = Marks(settings.payment_mark_key.get_secret_value(), await installation.read(connection))
    reading = _Reading(connection, client, marks, since=since, named=named, staging=staging, compared=compared)
    await reading.all(progress or (lambda _: None))
    async for before in staging.ranges(MAX_TOGETHER):
        if differences := await _differences(connection, before, None if named else since):
            await found([_decidable(readable_by, each) for each in differences])
    return compared


class _Reading:
    """Puts Stripe's objects for all bookings made since a time, or for one, into the temporary tables."""

    def __init__(
        self,
        connection: AsyncConnection,
        client: StripeClient,
        marks: Marks,
        *,
        since: datetime | None,
        named: Booking | None,
        staging: Staging,
        compared: Compared,
    ) -> None:
        self._connection = connection
        self._client = client
        self._marks = marks
        self._since = None if since is None else since - MAX_STRIPE_CLOCK_SKEW
        self._named = named
        self._staging = staging
        self._compared = compared

    async def all(self, progress: Progress) -> None:
        """Read the sessions, by which refunds and disputes find their bookings, then those."""
        async for sessions in _batches(self._sessions()):
            await self._add_sessions(sessions)
            progress(self._compared.read)
        async for refunds in _batches(self._refunds()):
            await self._add_refunds(refunds)
            progress(self._compared.read)
        async for disputes in _batches(self._disputes()):
            await self._add_disputes(disputes)
            progress(self._compared.read)

    async def _add_sessions(self, sessions: Iterable[Session]) -> None:
        """Add the sessions that are ours. Those without a mark of ours are looked up in our rows, many at once."""
        if self._named is not None:
            sessions = [each for each in sessions if each.booking_id == self._named.id]
        unmarked = [each.booking_id for each in sessions if not has_our_mark(each, self._marks)]
        named_in_rows = await bookings.named_in_rows(self._connection, unmarked) if unmarked else frozenset()
        ours = {each.id: each for each in sessions if is_ours(each, self._marks, named_in_rows)}
        await self._staging.add_objects((each.booking_id, each) for each in ours.values())
        await self._staging.add_payments(
            (each.payment, each.booking_id if each.id in ours else None) for each in sessions
        )
        self._compared.sessions += len(ours)
        self._compared.foreign += sum(1 for each in sessions if each.id not in ours)

    async def _add_refunds(self, refunds: Sequence[Refund]) -> None:
        found = await self._staging.bookings_of(refund.payment for refund in refunds)
        ours: list[tuple[UUID, Refund]] = []
        for refund in refunds:
            booking_id = found.get(refund.payment)
            if booking_id is not None:
                ours.append((booking_id, with_maker(refund, booking_id, self._marks)))
            elif refund.payment in found or self._has_mark_of_others(refund):
                self._compared.foreign += 1
        await self._staging.add_objects(ours)
        self._compared.refunds += len(ours)

    async def _add_disputes(self, disputes: Sequence[Dispute]) -> None:
        found = await self._staging.bookings_of(dispute.payment for dispute in disputes)
        found_for = [(found.get(each.payment), each) for each in disputes]
        ours = [(booking_id, each) for booking_id, each in found_for if booking_id is not None]
        await self._staging.add_objects(ours)
        self._compared.disputes += len(ours)

    def _has_mark_of_others(self, refund: Refund) -> bool:
        named = refund.named
        if named is None or named.mark is None:
            return False
        return not self._marks.is_ours(named.mark, named.booking_id, named.room_id)

    def _sessions(self) -> AsyncIterator[Session]:
        if self._named is not None:
            made_at = self._named.created_at
            is_first = self._named.attempt <= 1
            return self._client.sessions(made_at - MAX_STRIPE_CLOCK_SKEW, made_at + _MAX_HOLD if is_first else None)
        return self._client.sessions(self._since)

    async def _refunds(self) -> AsyncIterator[Refund]:
        if self._named is None:
            async for refund in self._client.refunds(self._since):
                yield refund
            return
        for payment in await self._staging.our_payments():
            async for refund in self._client.refunds_of(payment):
                yield refund

    async def _disputes(self) -> AsyncIterator[Dispute]:
        if self._named is None:
            async for dispute in self._client.disputes(self._since):
                yield dispute
            return
        for payment in await self._staging.our_payments():
            async for dispute in self._client.disputes_of(payment):
                yield dispute


async def _batches(objects: AsyncIterator[T]) -> AsyncIterator[list[T]]:
    batch: list[T] = []
    async for each in objects:
        batch.append(each)
        if len(batch) == MAX_TOGETHER:
            yield batch
            batch = []
    if batch:
        yield batch


async def _differences(
    connection: AsyncConnection, before: Mapping[UUID, tuple[Booking | None, AtStripe]], since: datetime | None
) -> Sequence[Difference]:
    unknown = [id for id, (booking, _) in before.items() if booking is None]
    closed = await bookings.closed_without_booking(connection, unknown) if unknown else frozenset()

    def differences(id: UUID, booking: Booking | None) -> Sequence[Difference]:
        at_stripe = before[id][1]
        return compare(id, booking, at_stripe.without(closed) if booking is None else at_stripe)

    suspect = [id for id, (booking, _) in before.items() if differences(id, booking)]
    if not suspect:
        return ()
    now = await bookings.read(connection, suspect)
    found: list[Difference] = []
    for id in suspect:
        booking = now.get(id)
        if since is not None and booking is not None and booking.created_at < since:
            # Not all payments of an older booking were read.
            continue
        found += differences(id, booking)
    return found


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
