"""Tells a booking's way hop by hop: what happened in plain words, below it where, and since when."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from time import monotonic
from typing import Final, NamedTuple
from uuid import UUID

from rich.console import Console
from rich.markup import escape

from topics.catalogue import BOOKING_COMMANDS, BOOKING_EVENTS, STRIPE_WEBHOOKS
from topics.kafka.log_reader import LogReader, Record, Wanted, cloud_event, partitions_of
from topics.kafka.settings import KafkaSettings

_POLL_SECONDS: Final = 0.02

#: What each record means for a guest who wants to know.
WORDS: Final[Mapping[str, str]] = {
    "booking.reserve.v1": "The request stands on the log, in the one partition of its room",
    "booking.reserved.v1": "The room's owner decided: the nights are held, and the booking is in the ledger",
    "booking.rejected.v1": "The room's owner decided: refused",
    "booking.add_guests.v1": "Who will stay stands on the log",
    "booking.guests_added.v1": "The room's owner wrote the guest into the booking",
    "booking.request_payment.v1": "The wish to pay stands on the log",
    "booking.payment_requested.v1": "The room's owner agrees; payments asks Stripe for a Checkout Session",
    "booking.record_session.v1": "Payments tells the room's owner which session Stripe has opened",
    "booking.checkout_opened.v1": "The booking can be paid",
    "checkout.session.completed": "Stripe says by signed webhook that it is paid; it is on the log as it came",
    "payment_intent.payment_failed": "Stripe says by signed webhook that the card was declined",
    "booking.confirm_payment.v1": "Payments compared amount and currency, and tells the room's owner",
    "booking.confirmed.v1": "The room's owner decided: confirmed. The room is the guest's",
}


class Hops:
    """Prints hops with the seconds since the request."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = monotonic()

    def begin(self) -> None:
        """Count the seconds from now on."""
        self._began = monotonic()

    def chapter(self, title: str) -> None:
        """Begin a new part of the story."""
        self._console.print(f"\n[bold]{escape(title)}[/]")

    def tell(self, words: str, where: str, at: float | None = None) -> None:
        """Print one hop. `at` is when it was seen, on the monotonic clock; without it, now."""
        seconds = (monotonic() if at is None else at) - self._began
        self._console.print(f"[cyan]{seconds:7.3f} s[/]  {escape(words)}", highlight=False, soft_wrap=True)
        self._console.print(f"{'':11}[dim]{escape(where)}[/]", highlight=False, soft_wrap=True)


class _Seen(NamedTuple):
    record: Record
    at: float


class LogWatch:
    """Follows the topics that a booking passes, from their ends, and tells every record about it."""

    def __init__(self, reader: LogReader, hops: Hops) -> None:
        self._reader = reader
        self._hops = hops
        self._wanted: Wanted | None = None
        self._early: list[_Seen] = []
        self._told: set[str] = set()

    def follow(self, booking_id: UUID) -> None:
        """Tell of this booking: first what arrived before its id was known, then what comes."""
        self._wanted = Wanted(booking=str(booking_id))
        early, self._early = self._early, []
        for seen in early:
            self._arrived(seen)

    async def until(self, kind: str) -> None:
        """Wait until a record of this type was told."""
        while kind not in self._told:
            await asyncio.sleep(_POLL_SECONDS)

    async def read(self) -> None:
        """Read for ever."""
        async with aclosing(self._reader.follow()) as batches:
            async for batch in batches:
                at = monotonic()
                records = [each for records in batch.values() for each in records]
                for record in sorted(records, key=lambda record: (record.timestamp, record.topic)):
                    self._arrived(_Seen(record, at))

    def _arrived(self, seen: _Seen) -> None:
        if self._wanted is None:
            self._early.append(seen)
        elif self._wanted.has(seen.record):
            record, at = seen
            kind = cloud_event(record)["type"]
            where = f"{record.topic}, partition {record.partition}, offset {record.offset}: {kind}"
            self._hops.tell(WORDS.get(kind, "The log goes on"), where, at)
            self._told.add(kind)


@asynccontextmanager
async def watching(settings: KafkaSettings, hops: Hops) -> AsyncIterator[LogWatch]:
    """Watch the log with a consumer that belongs to no group, as long as the block lasts."""
    async with LogReader(settings) as reader:
        topics = (BOOKING_COMMANDS, BOOKING_EVENTS, STRIPE_WEBHOOKS)
        partitions = [each for topic in topics for each in await partitions_of(settings, settings.topic(topic))]
        reader.assign({each: end for each, (_, end) in (await reader.ranges(partitions)).items()})
        watch = LogWatch(reader, hops)
        reading = asyncio.create_task(watch.read())
        try:
            yield watch
        finally:
            reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reading
