"""Finds a booking's records on the log, by positions and cursors.

- The timeline has the position of each event and of its command.
- Events that the timeline does not have yet are behind its cursor; each names the position of its command.
- Commands that are not decided yet are behind the cursor of `reservations`, and webhooks that are not read yet behind
  the cursor of `payments`.
- A command that followed from a webhook names the webhook's position. One that coordination sent names that of the
  event about the promo code, which names that of its command; both are in the partition of the code.
- `dead_letter` has the positions of records that could not be read.

Two kinds of records have no position in any table or record, and are looked for in a range:

- Webhooks that payments has read and that led to no command, for instance of a session that was opened: among
  `_WEBHOOKS_AROUND` records before and after each webhook that led to one. Those of a booking of which no webhook led
  to a command are not found.
- The undecided command of a booking that no table has, whose room and partition are unknown, and the event about its
  promo code: in every partition, behind the cursors of `reservations` and of `coordination`, and from the time in the
  booking's id (less `MAX_CLOCK_SKEW`) on if the id has one.

`MAX_CLOCK_SKEW` also bounds the rows of `dead_letter` that are read; their positions are exact.
"""

from collections.abc import Iterable, Iterator
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
_MAX_DEAD_LETTERS_SHOWN: Final = 20
#: Stripe sends several webhooks about one payment at about the same time. Those that led to no command are looked for
#: among so many records before and after one that did.
_WEBHOOKS_AROUND: Final = 50
#: How far the clock of the ingress, whose time a booking's id has, may be ahead of the broker's and the database's.
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
            await self._follow_causes()
            await self._find_dead_letters(self.snapshot.dead_letters)
            return
        number = partition_of(b"%d" % room_id, self.records.partitions)
        await self._find_events(number)
        await self._find_unread("reservations", TopicPartition(self.topics.commands, number))
        await self._find_unread("payments", TopicPartition(self.topics.webhooks, number))
        await self._follow_causes()
        await self._find_webhooks(number)
        await self._find_dead_letters(each for each in self.snapshot.dead_letters if each.partition == number)

    async def _find_events(self, number: int) -> None:
        """Read the events that the timeline does not have, up to the last one that the ledger's rows know."""
        partition = TopicPartition(self.topics.events, number)
        timeline = self.snapshot.cursor("booking_timeline", *partition)
        decided = self.snapshot.cursor("reservations", self.topics.commands, number)
        self._count("payments", partition)
        self._count("coordination", partition)
        if timeline is not None and decided is not None and decided.sequence <= timeline.sequence:
            # The timeline has every event that the ledger's rows know.
            return
        start = _next_offset(timeline)
        whole = await self.records.read_range(
            partition,
            start,
            await self.records.end_now(partition),
            max_records=_MAX_UNREAD,
            last_sequence=None if decided is None else decided.sequence,
        )
        if not whole:
            count = self.records.end(partition) - start
            self.notes.append(f"the timeline is {count} events behind; of those the first {_MAX_UNREAD} were read")

    async def _find_unread(self, consumer: str, partition: TopicPartition) -> None:
        count, end = self._count(consumer, partition), self.records.end(partition)
        if not await self.records.read_range(partition, end - count, end, max_records=_MAX_UNREAD):
            name = f"{partition.topic}[{partition.partition}]"
            self.notes.append(f"not all records of {name} that the {consumer} worker has not read were looked at")

    async def _follow_causes(self) -> None:
        """Read the events and the commands that rows and records name, until none names another one."""
        asked: set[LogPosition] = set()
        while wanted := self._positions() - asked:
            await self.records.read_at(wanted)
            asked |= wanted

    def _positions(self) -> set[LogPosition]:
        """Return the positions of events and of commands that are known by now."""
        positions = {each for row in self.snapshot.timeline for each in (row.position, row.causation_position)}
        positions |= {each for topic in (self.topics.events, self.topics.commands) for each in self._causes(topic)}
        return {each for each in positions if each is not None and each.topic != self.topics.webhooks}

    def _causes(self, topic: str) -> Iterator[LogPosition | None]:
        """Yield the positions of the records that the records of a topic follow from, where they name them."""
        envelopes = (envelope_of(record) for record in self.records.of(topic))
        return (causation_position_of(each) for each in envelopes if each is not None)

    async def _find_webhooks(self, number: int) -> None:
        positions = set(self._causes(self.topics.commands))
        offsets = sorted(each.offset for each in positions if each is not None and each.topic == self.topics.webhooks)
        partition, done = TopicPartition(self.topics.webhooks, number), 0
        for offset in offsets:
            start, stop = max(done, offset - _WEBHOOKS_AROUND), offset + _WEBHOOKS_AROUND + 1
            if start < stop:
                await self.records.read_range(
                    partition, start, min(stop, self.records.end(partition)), max_records=_MAX_UNREAD
                )
                done = stop

    async def _find_dead_letters(self, rows: Iterable[DeadLetterRow]) -> None:
        rows = list(rows)[:_MAX_DEAD_LETTERS_SHOWN]
        await self.records.read_at(row.position for row in rows)
        self.dead_letters = [row for row in rows if self.records.at(row.position) is not None]

    async def _find_undecided(self, made_at: datetime | None) -> None:
        """Find the command of a booking that no table has: its room is not known, and no worker has decided it.

        With a promo code it may be sent only after an event about the code, which coordination has not read.
        """
        unread_by = {"reservations": self.topics.commands, "coordination": self.topics.events}
        for consumer, topic in unread_by.items():
            partitions = [TopicPartition(topic, number) for number in range(self.records.partitions)]
            made = {} if made_at is None else await self.records.offsets_at(partitions, made_at - MAX_CLOCK_SKEW)
            for partition in partitions:
                cursor = self.snapshot.cursor(consumer, *partition)
                if cursor is None and made_at is None and topic == self.topics.events:
                    # The whole log would have to be read.
                    continue
                start, end = max(_next_offset(cursor), made.get(partition, 0)), self.records.end(partition)
                if not await self.records.read_range(partition, start, end, max_records=_MAX_UNREAD):
                    self.notes.append(f"not all records of {partition.topic}[{partition.partition}] were looked at")
                if self.records.of(topic):
                    self._count(consumer, partition)
                    return

    def _count(self, consumer: str, partition: TopicPartition) -> int:
        """Note how many records the consumer has not read yet, as the log was measured; return it."""
        next_offset = max(_next_offset(self.snapshot.cursor(consumer, *partition)), self.records.begin(partition))
        count = self.behind[unread(consumer, partition.topic)] = max(0, self.records.end(partition) - next_offset)
        return count


def _next_offset(cursor: CursorRow | None) -> int:
    return 0 if cursor is None else cursor.applied + 1
