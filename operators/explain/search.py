"""Finds a booking's records on the log: positions and cursors lead to all of them.

- The timeline has the position of each event and of its command.
- Events that the timeline does not have yet are behind its cursor; each names the position of its command.
- Commands that are not decided yet are behind the cursor of `reservations`, and webhooks that are not read yet behind
  the cursor of `payments`.
- A command that followed from a webhook names the webhook's position.
- `dead_letter` has the positions of records that could not be read.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from aiokafka import TopicPartition

from operators.explain.awaiting import unread
from operators.explain.records import BookingRecords, causation_position_of, envelope_of
from operators.explain.snapshot import CursorRow, DeadLetterRow, Snapshot
from topics.catalogue import BOOKING_COMMANDS, BOOKING_EVENTS, STRIPE_WEBHOOKS
from topics.kafka.partitions import partition_of
from topics.kafka.positions import LogPosition
from topics.kafka.settings import KafkaSettings

#: How many records behind a cursor are looked through at most.
_MAX_UNREAD: Final = 20_000
_MAX_DEAD_LETTERS: Final = 20
#: Stripe sends several webhooks about one payment at about the same time. Those that led to no command of ours have no
#: position in any table; they are looked for among so many records before and after one that did.
_WEBHOOKS_AROUND: Final = 50
#: How far the clocks of the ingress, which dates a booking's id, and of the broker may be apart.
MAX_CLOCK_SKEW: Final = timedelta(seconds=5)


class Topics(NamedTuple):
    """The topics by their names on the broker."""

    commands: str
    events: str
    webhooks: str

    @classmethod
    def of(cls, kafka: KafkaSettings) -> "Topics":
        """Return the topics' names with the prefix of these settings."""
        return cls(kafka.topic(BOOKING_COMMANDS), kafka.topic(BOOKING_EVENTS), kafka.topic(STRIPE_WEBHOOKS))


class Search:
    """Reads a booking's records; afterwards `records` has them.

    `notes` name the sources that were not read, `behind` counts the records that each consumer has not read yet, and
    `dead_letters` are those of the booking.
    """

    def __init__(self, topics: Topics, records: BookingRecords, snapshot: Snapshot) -> None:
        self.topics = topics
        self.records = records
        self.snapshot = snapshot
        self.notes: list[str] = []
        self.behind: dict[str, int] = {}
        self.dead_letters: list[DeadLetterRow] = []

    async def find(self, made_at: datetime | None) -> None:
        """Find everything; `made_at` is the time in the booking's id (UTC), if it has one."""
        room_id = self.snapshot.room_id
        if room_id is None:
            await self._find_undecided(made_at)
            await self._find_dead_letters(self.snapshot.dead_letters)
            return
        number = partition_of(b"%d" % room_id, self.records.partitions)
        await self._find_events(number)
        await self._find_unread("reservations", TopicPartition(self.topics.commands, number))
        await self._find_unread("payments", TopicPartition(self.topics.webhooks, number))
        await self.records.read_at(self._positions())
        await self._find_webhooks(number)
        await self._find_dead_letters(each for each in self.snapshot.dead_letters if each.partition == number)

    async def _find_events(self, number: int) -> None:
        """Read the events that the timeline does not have, up to the last one that the ledger's rows know."""
        where = TopicPartition(self.topics.events, number)
        timeline = self.snapshot.cursor("booking_timeline", *where)
        decided = self.snapshot.cursor("reservations", self.topics.commands, number)
        start = _next_offset(timeline)
        whole = await self.records.read_range(
            where,
            start,
            await self.records.end_now(where),
            most=_MAX_UNREAD,
            last_sequence=None if decided is None else decided.sequence,
        )
        self._count("payments", where)
        if not whole:
            count = self.records.end(where) - start
            self.notes.append(f"the timeline is {count} events behind; of those the first {_MAX_UNREAD} were read")

    async def _find_unread(self, consumer: str, where: TopicPartition) -> None:
        count, end = self._count(consumer, where), self.records.end(where)
        if not await self.records.read_range(where, end - count, end, most=_MAX_UNREAD):
            place = f"{where.topic}[{where.partition}]"
            self.notes.append(f"not all records of {place} that the {consumer} worker has not read were looked at")

    def _positions(self) -> set[LogPosition]:
        """Return the positions of events and of commands that are known by now."""
        positions = {each for row in self.snapshot.timeline for each in (row.position, row.causation_position)}
        envelopes = (envelope_of(record) for record in self.records.of(self.topics.events))
        positions |= {causation_position_of(each) for each in envelopes if each is not None}
        return {each for each in positions if each is not None}

    async def _find_webhooks(self, number: int) -> None:
        envelopes = (envelope_of(record) for record in self.records.of(self.topics.commands))
        positions = {causation_position_of(each) for each in envelopes if each is not None}
        offsets = sorted(each.offset for each in positions if each is not None and each.topic == self.topics.webhooks)
        where, done = TopicPartition(self.topics.webhooks, number), 0
        for offset in offsets:
            start, stop = max(done, offset - _WEBHOOKS_AROUND), offset + _WEBHOOKS_AROUND + 1
            if start < stop:
                await self.records.read_range(where, start, min(stop, self.records.end(where)), most=_MAX_UNREAD)
                done = stop

    async def _find_dead_letters(self, rows: Iterable[DeadLetterRow]) -> None:
        rows = list(rows)[:_MAX_DEAD_LETTERS]
        await self.records.read_at(row.position for row in rows)
        self.dead_letters = [row for row in rows if self.records.at(row.position) is not None]

    async def _find_undecided(self, made_at: datetime | None) -> None:
        """Find the command of a booking that no table has: no worker has decided it, and its room is not known."""
        places = [TopicPartition(self.topics.commands, number) for number in range(self.records.partitions)]
        made = {} if made_at is None else await self.records.offsets_at(places, made_at - MAX_CLOCK_SKEW)
        for where in places:
            cursor = self.snapshot.cursor("reservations", *where)
            start, end = max(_next_offset(cursor), made.get(where, 0)), self.records.end(where)
            if not await self.records.read_range(where, start, end, most=_MAX_UNREAD):
                self.notes.append(f"not all records of {where.topic}[{where.partition}] were looked at")
            if self.records.of(self.topics.commands):
                self._count("reservations", where)
                return

    def _count(self, consumer: str, where: TopicPartition) -> int:
        """Note how many records the consumer has not read yet, as the log was measured; return it."""
        next_offset = max(_next_offset(self.snapshot.cursor(consumer, *where)), self.records.begin(where))
        count = self.behind[unread(consumer, where.topic)] = max(0, self.records.end(where) - next_offset)
        return count


def _next_offset(cursor: CursorRow | None) -> int:
    return 0 if cursor is None else cursor.applied + 1
