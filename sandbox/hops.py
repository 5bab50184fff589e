"""Shows a booking's way hop by hop: an event in plain words, its place below it, and the seconds since the request."""

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
from topics.kafka.log_reader import LogReader, Record, RecordFilter, cloud_event, partitions_of
from topics.kafka.settings import KafkaSettings

_LOG_POLL_SECONDS: Final = 0.02

#: The meaning of each record in a guest's words.
WORDS: Final[Mapping[str, str]] = {
    "booking.reserve.v1": "The request is on the log, in the one partition of its room",
    "booking.reserved.v1": "The reservations worker holds the nights, and the booking is in the ledger",
    "booking.rejected.v1": "The reservations worker decided: refused",
    "booking.add_guests.v1": "The guest's name is on the log",
    "booking.guests_added.v1": "The reservations worker wrote the guest into the booking",
    "booking.request_payment.v1": "The wish to pay is on the log",
    "booking.payment_requested.v1": "The reservations worker agrees; the payments worker asks Stripe for a session",
    "booking.record_session.v1": "The payments worker reports the session that Stripe has opened",
    "booking.checkout_opened.v1": "The booking can be paid",
    "checkout.session.completed": "A signed webhook of Stripe confirms the payment; its bytes are on the log unchanged",
    "payment_intent.payment_failed": "A signed webhook of Stripe reports that the card was declined",
    "booking.confirm_payment.v1": "The payments worker compared amount and currency, and confirms the payment",
    "booking.confirmed.v1": "The reservations worker decided: confirmed. The room is the guest's",
    "booking.change_guests.v1": "The names of other guests are on the log",
    "booking.guests_changed.v1": "The reservations worker wrote the other guests into the booking",
    "booking.cancel.v1": "The cancellation is on the log",
    "booking.cancelled.v1": "The reservations worker decided: cancelled. The nights are on sale again",
    "booking.refund_requested.v1": "Money is due to the guest; the payments worker asks Stripe to send it back",
    "booking.refund_requested.v2": "Money is due to the guest, but for what the policy keeps; payments asks Stripe",
    "booking.record_refund.v1": "The payments worker reports a refund that Stripe carried out",
    "booking.refunded.v1": "The reservations worker recorded the refund with its amount",
    "booking.fail_refund.v1": "The payments worker reports a refund that failed at Stripe",
    "booking.refund_failed.v1": "The reservations worker recorded it: the money is due to the guest again",
    "booking.close_refund.v1": "An operator ends a refund that cannot be made through Stripe",
    "booking.refund_closed.v1": "The reservations worker recorded it: nothing is due any more",
    "booking.record_dispute.v1": "The payments worker reports a dispute of the payment, or its end",
    "booking.dispute_opened.v1": "The reservations worker recorded that the cardholder disputes the payment",
    "booking.dispute_closed.v1": "The reservations worker recorded how the bank decided",
    "booking.check_in.v1": "The arrival of the guests is on the log",
    "booking.checked_in.v1": "The reservations worker recorded that the guests are there",
    "booking.check_out.v1": "The departure of the guests is on the log",
    "booking.checked_out.v1": "The reservations worker recorded it: nights that are left unused are on sale again",
    "booking.mark_no_show.v1": "It is on the log that nobody arrived",
    "booking.no_show.v1": "The reservations worker recorded it: the nights to come are on sale again",
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

    def show(self, words: str, where: str, at: float | None = None) -> None:
        """Print one hop. `at` is when it was seen, on the monotonic clock; without it, now."""
        seconds = (monotonic() if at is None else at) - self._began
        self._console.print(f"[cyan]{seconds:7.3f} s[/]  {escape(words)}", highlight=False, soft_wrap=True)
        self._console.print(f"{'':11}[dim]{escape(where)}[/]", highlight=False, soft_wrap=True)


class _Seen(NamedTuple):
    record: Record
    at: float


class LogFollower:
    """Follows the topics that a booking passes, from their ends, and shows every record about it."""

    def __init__(self, reader: LogReader, hops: Hops) -> None:
        self._reader = reader
        self._hops = hops
        self._wanted: RecordFilter | None = None
        self._early: list[_Seen] = []
        self._shown: set[str] = set()

    def follow(self, booking_id: UUID) -> None:
        """Show this booking's records: first those that arrived before its id was known, then later ones."""
        self._wanted = RecordFilter(booking=str(booking_id))
        early, self._early = self._early, []
        for seen in early:
            self._arrived(seen)

    async def until(self, kind: str) -> None:
        """Wait until a record of this type was shown."""
        while kind not in self._shown:
            await asyncio.sleep(_LOG_POLL_SECONDS)

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
        elif self._wanted.matches(seen.record):
            record, at = seen
            kind = cloud_event(record)["type"]
            where = f"{record.topic}, partition {record.partition}, offset {record.offset}: {kind}"
            self._hops.show(WORDS.get(kind, "Another record of this booking"), where, at)
            self._shown.add(kind)


@asynccontextmanager
async def following(settings: KafkaSettings, hops: Hops) -> AsyncIterator[LogFollower]:
    """Follow the log with a consumer that belongs to no group, as long as the block lasts."""
    async with LogReader(settings) as reader:
        topics = (BOOKING_COMMANDS, BOOKING_EVENTS, STRIPE_WEBHOOKS)
        partitions = [each for topic in topics for each in await partitions_of(settings, settings.topic(topic))]
        reader.assign({each: end for each, (_, end) in (await reader.ranges(partitions)).items()})
        follower = LogFollower(reader, hops)
        reading = asyncio.create_task(follower.read())
        try:
            yield follower
        finally:
            reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reading
