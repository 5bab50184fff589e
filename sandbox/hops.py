"""Shows a booking's way hop by hop: the step in plain words, and below it the place and the time."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from time import monotonic
from typing import Final, NamedTuple
from uuid import UUID

from aiokafka import AIOKafkaConsumer
from rich.console import Console
from rich.markup import escape

from topics.catalogue import BOOKING_COMMANDS, BOOKING_EVENTS, STRIPE_WEBHOOKS
from topics.kafka.log_reader import Record, Wanted, cloud_event, open_reader, partitions_of
from topics.kafka.settings import KafkaSettings

_FETCH_MS: Final = 200
_POLL_SECONDS: Final = 0.02

#: The meaning of each record for a guest who wants to know.
WORDS: Final[Mapping[str, str]] = {
    "booking.reserve.v1": "The request is on the log, in the one partition of its room",
    "booking.reserved.v1": "The room's worker decided: the nights are held, and the booking is in the ledger",
    "booking.rejected.v1": "The room's worker decided: refused",
    "booking.add_guests.v1": "The guests' names are on the log",
    "booking.guests_added.v1": "The room's worker wrote the guest into the booking",
    "booking.request_payment.v1": "The wish to pay is on the log",
    "booking.payment_requested.v1": "The room's worker agrees; payments asks Stripe for a Checkout Session",
    "booking.record_session.v1": "Payments sends the room's worker the session that Stripe has opened",
    "booking.checkout_opened.v1": "The booking can be paid",
    "checkout.session.completed": "Stripe says by signed webhook that it is paid; it is on the log as it came",
    "payment_intent.payment_failed": "Stripe says by signed webhook that the card was declined",
    "booking.confirm_payment.v1": "Payments compared amount and currency, and asks the room's worker to confirm",
    "booking.confirmed.v1": "The room's worker decided: confirmed. The room is the guest's",
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
        """Begin a new part."""
        self._console.print(f"\n[bold]{escape(title)}[/]")

    def show(self, words: str, where: str, at: float | None = None) -> None:
        """Print one hop. `at` is when it was seen, on the monotonic clock; without it, now."""
        seconds = (monotonic() if at is None else at) - self._began
        self._console.print(f"[cyan]{seconds:7.3f} s[/]  {escape(words)}", highlight=False, soft_wrap=True)
        self._console.print(f"{'':11}[dim]{escape(where)}[/]", highlight=False, soft_wrap=True)


class _Seen(NamedTuple):
    record: Record
    at: float


class LogWatch:
    """Follows the topics that a booking passes, from their ends, and shows every record about it."""

    def __init__(self, consumer: AIOKafkaConsumer, hops: Hops) -> None:
        self._consumer = consumer
        self._hops = hops
        self._wanted: Wanted | None = None
        self._early: list[_Seen] = []
        self._shown: set[str] = set()

    def follow(self, booking_id: UUID) -> None:
        """Show this booking's records: first those that arrived before its id was known, then new ones."""
        self._wanted = Wanted(booking=str(booking_id))
        early, self._early = self._early, []
        for seen in early:
            self._arrived(seen)

    async def until(self, kind: str) -> None:
        """Wait until a record of this type was shown."""
        while kind not in self._shown:
            await asyncio.sleep(_POLL_SECONDS)

    async def read(self) -> None:
        """Read for ever."""
        while True:
            fetched = await self._consumer.getmany(timeout_ms=_FETCH_MS)
            at = monotonic()
            records = [record for run in fetched.values() for record in run]
            for record in sorted(records, key=lambda record: (record.timestamp, record.topic)):
                self._arrived(_Seen(record, at))

    def _arrived(self, seen: _Seen) -> None:
        if self._wanted is None:
            self._early.append(seen)
        elif self._wanted.has(seen.record):
            record, at = seen
            kind = cloud_event(record)["type"]
            where = f"{record.topic}, partition {record.partition}, offset {record.offset}: {kind}"
            self._hops.show(WORDS.get(kind, "The log goes on"), where, at)
            self._shown.add(kind)


@asynccontextmanager
async def watching(settings: KafkaSettings, hops: Hops) -> AsyncIterator[LogWatch]:
    """Watch the log with a consumer that belongs to no group, as long as the block lasts."""
    async with open_reader(settings) as consumer:
        topics = (BOOKING_COMMANDS, BOOKING_EVENTS, STRIPE_WEBHOOKS)
        partitions = [each for topic in topics for each in await partitions_of(settings, settings.topic(topic))]
        consumer.assign(partitions)
        for partition, end in (await consumer.end_offsets(partitions)).items():
            consumer.seek(partition, end)
        watch = LogWatch(consumer, hops)
        reading = asyncio.create_task(watch.read())
        try:
            yield watch
        finally:
            reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reading
