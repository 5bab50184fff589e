"""The way from what the tables say to the records on the log.

booking, timeline -> its events' sequences -> events on the log
an event's time, causation -> the command; a payment's command's time -> the webhook
the cursors -> what stands behind them and is not read yet
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Final

from aiokafka import TopicPartition

from operators.explain.awaiting import unread
from operators.explain.log import BookingLog, milliseconds
from operators.explain.told import Row, Told
from topics.catalogue import BOOKING_COMMANDS, BOOKING_EVENTS, STRIPE_WEBHOOKS
from topics.envelope import Envelope, Undecodable, decode_envelope
from topics.kafka.settings import KafkaSettings
from topics.messages.values import BookingStatus
from topics.times import to_the_second

#: How many records of one moment, and how many unread ones, are looked through at most.
_MAX_OF_A_MOMENT: Final = 20_000
_MAX_UNREAD: Final = 20_000
_MAX_NEAR: Final = 2_000
#: Webhooks about one thing come together; those that mean nothing to us are found beside the one that did.
_NEAR_SECONDS: Final = 2.0
#: How far the clocks of the ingress and the broker may be apart, and how long a request waits for its acknowledgement.
_CLOCKS: Final = timedelta(seconds=5)
_ACCEPTANCE_SECONDS: Final = 60.0
_PAYMENTS: Final = "innkeeper/payments"
_ENDED: Final = frozenset(
    {BookingStatus.REJECTED, BookingStatus.CONFIRMED, BookingStatus.CANCELLED, BookingStatus.EXPIRED}
)


class Search:
    """The way from what the tables say to the records on the log; those are left in `log`.

    `notes` say what was not looked at, `behind` what waits for its reader, `letters` are rows with their records.
    """

    def __init__(self, kafka: KafkaSettings, log: BookingLog, told: Told, made_at: datetime | None) -> None:
        self.log = log
        self.notes: list[str] = []
        self.behind: dict[str, int] = {}
        self.letters: list[tuple[Row, Any]] = []
        self._told = told
        self._made_at = made_at
        self.commands = kafka.topic(BOOKING_COMMANDS)
        self.events = kafka.topic(BOOKING_EVENTS)
        self.webhooks = kafka.topic(STRIPE_WEBHOOKS)

    async def begin(self) -> None:
        """Let the log end where the tables do: what they tell of stands there, and what came later would be too much.

        Without that, a booking that goes on meanwhile would be told with an event of which its state knows nothing.
        """
        reached = self._told.reached
        decided = {
            place[2]: at.sequence for place, at in reached.items() if place[:2] == ("reservations", self.commands)
        }
        read = {
            TopicPartition(topic, number): at.applied
            for (consumer, topic, number), at in reached.items()
            if (consumer, topic) in {("reservations", self.commands), ("payments", self.webhooks)}
        }
        await self.log.end_with(read, {TopicPartition(self.events, number): last for number, last in decided.items()})

    async def whole_life(self, partition: int) -> None:
        """Find all of a booking whose room is known."""
        await self._find_events(TopicPartition(self.events, partition))
        commands = TopicPartition(self.commands, partition)
        await self._find_unread("reservations", commands)
        await self._find_causes(commands)
        await self._find_expiry(commands)
        webhooks = TopicPartition(self.webhooks, partition)
        await self._find_unread("payments", webhooks)
        await self._find_webhooks(webhooks)
        await self._find_letters()

    async def undecided(self, partitions: Iterable[int]) -> None:
        """Find the command of a booking that no table knows: it stands where its id's time is, or unread."""
        commands = [TopicPartition(self.commands, number) for number in partitions]
        since = self._made_at
        if since is None:
            for where in commands:
                await self._find_unread("reservations", where)
        else:
            starts = await self.log.offsets_at(dict.fromkeys(commands, since - _CLOCKS))
            for where in commands:
                self._count("reservations", where)
                if starts[where] < self.log.end(where):
                    seconds = _CLOCKS.total_seconds() + _ACCEPTANCE_SECONDS
                    whole = await self.log.at_time(where, since - _CLOCKS, seconds=seconds, most=_MAX_OF_A_MOMENT)
                    self._note_unless(whole, where, "of the time of the booking's id")
                if self.log.found(self.commands):
                    break
        await self._find_letters()
        self.behind = {
            unread("reservations", record.topic): self._unread(
                "reservations", TopicPartition(record.topic, record.partition)
            )
            for record in self.log.found(self.commands)
        }

    async def _find_events(self, where: TopicPartition) -> None:
        reached = self._told.reached.get(("booking_timeline", self.events, where.partition))
        if reached is not None and reached.applied >= 0:
            known = (reached.applied, reached.sequence)
            for row in self._told.timeline:
                if await self.log.at_sequence(where, row["sequence"], known):
                    known = self._place_of(row["sequence"]) or known
        start = self.log.begin(where) if reached is None else reached.applied + 1
        whole = await self.log.through(where, start, most=_MAX_UNREAD)
        self._count("payments", where)
        if not whole:
            behind = self.log.end(where) - start
            self.notes.append(f"the timeline is {behind} events behind; of those the first {_MAX_UNREAD} were read")
            for time in self._ledger_times():
                await self.log.at_time(where, time, seconds=_NEAR_SECONDS, most=_MAX_NEAR)

    def _place_of(self, sequence: int) -> tuple[int, int] | None:
        for envelope, record in enveloped(self.log.found(self.events)):
            if envelope.sequence == sequence:
                return record.offset, sequence
        return None

    def _ledger_times(self) -> list[datetime]:
        booking = self._told.booking
        return [] if booking is None else sorted({booking["created_at"], booking["updated_at"]})

    async def _find_causes(self, where: TopicPartition) -> None:
        """Find the command of each event: it stands at just the event's time."""
        causes = {row["causation"]: row["time"] for row in self._told.timeline}
        causes |= {event.causation: event.time for event, _ in enveloped(self.log.found(self.events))}
        for time in sorted({*causes.values(), *self._ledger_times()}):
            ids = {envelope.id for envelope, _ in enveloped(self.log.found(self.commands))}
            if any(cause not in ids for cause, at in causes.items() if at == time) or time not in causes.values():
                whole = await self.log.at_time(where, time, most=_MAX_OF_A_MOMENT)
                self._note_unless(whole, where, f"of {to_the_second(time)}")

    async def _find_expiry(self, where: TopicPartition) -> None:
        """Find what the timer asked for: of a hold that is over and lives on it may have asked in vain."""
        booking = self._told.booking
        if booking is None or BookingStatus(booking["status"]) in _ENDED:
            return
        deadline = booking["hold_expires_at"]
        if deadline is not None and deadline <= self._told.now:
            await self.log.at_time(where, deadline, seconds=_ACCEPTANCE_SECONDS, most=_MAX_NEAR)

    async def _find_webhooks(self, where: TopicPartition) -> None:
        """Find the webhooks that commands of payments follow from: such a command carries its webhook's time."""
        times = {
            envelope.time for envelope, _ in enveloped(self.log.found(self.commands)) if envelope.source == _PAYMENTS
        }
        for time in sorted(times):
            whole = await self.log.at_time(where, time, most=_MAX_OF_A_MOMENT)
            self._note_unless(whole, where, f"of {to_the_second(time)}")
            if any(milliseconds(time) == record.timestamp for record in self.log.found(self.webhooks)):
                before = time - timedelta(seconds=_NEAR_SECONDS / 2)
                await self.log.at_time(where, before, seconds=_NEAR_SECONDS, most=_MAX_NEAR)

    async def _find_letters(self) -> None:
        for row in self._told.letters:
            where = TopicPartition(row["topic"], row["partition"])
            with suppress(KeyError):
                if (record := await self.log.has(where, row["offset"])) is not None:
                    self.letters.append((row, record))

    async def _find_unread(self, consumer: str, where: TopicPartition) -> None:
        count = self._count(consumer, where)
        whole = await self.log.through(where, self.log.end(where) - count, most=_MAX_UNREAD)
        self._note_unless(whole, where, f"that the {consumer} worker has not read")

    def _count(self, consumer: str, where: TopicPartition) -> int:
        count = self.behind[unread(consumer, where.topic)] = self._unread(consumer, where)
        return count

    def _unread(self, consumer: str, where: TopicPartition) -> int:
        reached = self._told.reached.get((consumer, where.topic, where.partition))
        applied = -1 if reached is None else reached.applied
        return max(0, self.log.end(where) - max(applied + 1, self.log.begin(where)))

    def _note_unless(self, whole: bool, where: TopicPartition, which: str) -> None:  # noqa: FBT001 - it is what was found
        if not whole:
            self.notes.append(f"not all records of {where.topic}[{where.partition}] {which} were looked at")


def enveloped(records: Iterable[Any]) -> Iterator[tuple[Envelope, Any]]:
    """Yield the records that have our envelope, with it; one that has none is told of as a dead letter."""
    for record in records:
        with suppress(Undecodable):
            yield decode_envelope(record.headers), record
