"""Plays a stretch of the log again: to its topic (commands, webhooks), or to one consumer of ours (events).

Commands and webhooks are sent once more as they stand, so that whoever carries them out meets the same ids: what has
had its effect has none again. Each id of the stretch is sent once, however often it stands there, or a stretch that was
played again would double with each time. Events are never sent twice; a consumer's cursor goes back instead.
"""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any, Final
from uuid import UUID

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from psycopg import AsyncConnection

from operators.dead_letters import booking_of
from storage import operator_log, pauses
from storage.consumer_positions import applied_offsets, wait_for_consumer
from topics.catalogue import BOOKING_COMMANDS, BOOKING_EVENTS, DEAD_LETTERS, STRIPE_WEBHOOKS, Topic
from topics.consumers import CONSUMERS, PROCESSED_BY
from topics.envelope import Outgoing, header
from topics.kafka import admin
from topics.kafka.log_reader import NoSuchTopic, Record, cloud_event, end_offsets, open_reader, partitions_of
from topics.kafka.producer import Producer
from topics.kafka.settings import KafkaSettings
from topics.messages.commands import ChangeInventory
from topics.messages.events import CommandRefused, CommandRepeated, InventoryUnchanged

#: How many records may be on their way before the consumer has to have come to them: guests' own are behind these.
CHUNK: Final = 500
_FETCH_MS: Final = 500
_LOCK_TIMEOUT: Final = "10s"

Ranges = dict[int, tuple[int, int]]
"""For each partition the first offset and the one after the last."""


class Refused(Exception):
    """This may not be played again; says why, in a sentence."""


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """Which records an operator means.

    `begin` and `end` are offsets of `partition` (`end` is meant too) or times (`end` is not); None: the log's end.
    """

    topic: Topic
    begin: int | datetime
    end: int | datetime | None = None
    partition: int | None = None
    type: str | None = None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What would be played again. Times are the log's (UTC).

    `not_yet`: records that were not carried out for the first time yet, and are left out. `repeats`: records whose id
    stands before them in the stretch, which are left out too. `buried`: offsets, by partition, of dead letters, and so
    are they.
    """

    topic: Topic
    name: str
    topic_id: str
    ranges: Ranges
    type: str | None
    types: Mapping[str, int]
    first_time: datetime
    last_time: datetime
    not_yet: int
    repeats: int
    buried: Mapping[int, frozenset[int]]

    @property
    def records(self) -> int:
        """Return how many records it is."""
        return sum(self.types.values())


@dataclass(frozen=True, kw_only=True)
class Effects:
    """What followed. `known` False: it was not carried out in time, and what follows was not waited for.

    `commands`: how many different ones there were; `changed`: how many of them changed something. `events` counts what
    changed something by its type.
    """

    known: bool
    commands: int = 0
    changed: int = 0
    events: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Played:
    """How far a replay came: `reached` is the last offset, of each partition, that was sent again; `why` it ended."""

    sent: int
    reached: Mapping[int, int]
    why: str | None
    effects: Effects


@dataclass(frozen=True, kw_only=True)
class Reader:
    """What reading events again does to a consumer. `harm`: why it must not."""

    says: str
    harm: str | None = None


READERS: Final[Mapping[str, Reader]] = {
    "booking_timeline": Reader(
        says="rows of booking_timeline that stand stay as they are; those that are missing are written again",
    ),
    "room_nights": Reader(
        says="",
        harm="it adds up what is taken, so that each stay would be taken once more. Rebuild it instead:"
        " innkeeper rebuild room_nights",
    ),
    "daily_report": Reader(
        says="a booking that is counted is not counted twice; until the end is reached again, one that was cancelled"
        " since counts",
    ),
    "payments": Reader(
        says="sessions and refunds that are noted stay as they are, and nothing is charged or sent back twice; those"
        " that are missing are owed again, and Stripe is called for them",
    ),
}


@dataclass(frozen=True, kw_only=True)
class Move:
    """A cursor that would go back: `first` are the offsets it would read next, `sequences` those before them."""

    consumer: str
    reader: Reader
    name: str
    topic_id: str
    first: Mapping[int, int]
    stands: Mapping[int, int]
    sequences: Mapping[int, int]
    types: Mapping[str, int]

    @property
    def records(self) -> int:
        """Return how many records it would read again."""
        return sum(self.types.values())

    @property
    def role(self) -> str:
        """Return whose processes the consumer is part of."""
        return next(each.role for each in CONSUMERS if each.name == self.consumer)


# Commands and webhooks.


async def planned(kafka: KafkaSettings, connection: AsyncConnection[Any], stretch: Stretch) -> Plan:
    """Return what would be sent again.

    Raises:
        Refused: the topic is not played again, nothing is there, or it would do harm.
        NoSuchTopic: the topic is not there. aiokafka.errors.KafkaError, psycopg.Error: somebody is away.
    """
    consumer = _carried_out_by(stretch.topic)
    name = kafka.topic(stretch.topic)
    topic_id = await _topic_id(kafka, name)
    asked = await _ranges(kafka, name, stretch)
    stands = await applied_offsets(connection, consumer, name, topic_id)
    ranges = {part: (first, min(end, stands.get(part, -1) + 1)) for part, (first, end) in asked.items()}
    ranges = {part: (first, end) for part, (first, end) in ranges.items() if first < end}
    if not ranges:
        raise Refused(f"{consumer} has not carried out any of it yet: it is still to come, and need not be sent again.")
    buried = await _buried(connection, consumer, name, topic_id)
    seen = await _look(kafka, name, ranges, stretch.type, buried)
    if not seen.times:
        raise Refused(_nothing(name, stretch.type, seen.others))
    _refuse_old_prices(stretch, seen.types)
    first_time, last_time = (datetime.fromtimestamp(each / 1000, UTC) for each in seen.times)
    return Plan(
        topic=stretch.topic,
        name=name,
        topic_id=topic_id,
        ranges=ranges,
        type=stretch.type,
        types=seen.types,
        first_time=first_time,
        last_time=last_time,
        not_yet=_count(asked) - _count(ranges),
        repeats=seen.repeats,
        buried=buried,
    )


async def play(
    kafka: KafkaSettings,
    connection: AsyncConnection[Any],
    producer: Producer,
    plan: Plan,
    *,
    who: str,
    wait_seconds: float,
    advance: Callable[[int], None],
    stop: asyncio.Event,
) -> Played:
    """Send the plan's records again, no faster than they are carried out, and follow what they change.

    `advance` is told how many more were sent; `stop` ends it after what is on its way. Both begin and end are recorded.
    """
    target = {"topic": plan.name, "ranges": plan.ranges, "type": plan.type, "records": plan.records}
    await operator_log.record(connection, who=who, action="replay", target=plan.name, details=target)
    events, commands = kafka.topic(BOOKING_EVENTS), kafka.topic(BOOKING_COMMANDS)
    before = await end_offsets(kafka, [events, commands])
    sending = _Sending(kafka, connection, producer, plan, wait_seconds)
    why = await sending.all(advance, stop)
    effects = await sending.effects(before)
    done = {"sent": sending.sent, "reached": sending.reached, "why": why, "changed": effects.changed}
    await operator_log.record(connection, who=who, action="replay ended", target=plan.name, details=done)
    return Played(sent=sending.sent, reached=sending.reached, why=why, effects=effects)


class _Sending:
    """What was sent again so far, and where it stands now."""

    def __init__(
        self,
        kafka: KafkaSettings,
        connection: AsyncConnection[Any],
        producer: Producer,
        plan: Plan,
        wait_seconds: float,
    ) -> None:
        self._kafka = kafka
        self._connection = connection
        self._producer = producer
        self._plan = plan
        self._wait_seconds = wait_seconds
        self.sent = 0
        self.reached: dict[int, int] = {}
        self._stands: dict[int, int] = {}
        self._ids: set[str] = set()
        self._bookings: set[UUID] = set()
        self._stuck = False

    async def all(self, advance: Callable[[int], None], stop: asyncio.Event) -> str | None:
        """Send chunk by chunk; return why that ended before the end."""
        plan = self._plan
        chunk: list[Record] = []
        first = _Firsts()
        async with aclosing(_between(self._kafka, plan.name, plan.ranges)) as found:
            async for record in found:
                if _is_meant(record, plan.type, plan.buried) and first.is_new(record):
                    chunk.append(record)
                if len(chunk) == CHUNK:
                    if (why := await self._send(chunk, advance, stop)) is not None:
                        return why
                    chunk = []
        return await self._send(chunk, advance, stop) if chunk else None

    async def _send(self, chunk: list[Record], advance: Callable[[int], None], stop: asyncio.Event) -> str | None:
        if stop.is_set():
            return "interrupted"
        try:
            placed = await self._producer.send_all(_as_it_was(record) for record in chunk)
        except KafkaError as error:
            self._stuck = True
            return f"the broker did not say that it has what came next ({error!r}); some of it may stand there"
        for record, place in zip(chunk, placed, strict=True):
            self.reached[record.partition] = record.offset
            self._stands[place.partition] = max(place.offset, self._stands.get(place.partition, -1))
            self._note(record)
        self.sent += len(chunk)
        advance(len(chunk))
        if await self._carried_out(published=False):
            return None
        self._stuck = True
        return f"{_carried_out_by(self._plan.topic)} has not carried it out within {self._wait_seconds:g} s"

    async def effects(self, before: Mapping[TopicPartition, tuple[int, int]]) -> Effects:
        """Wait until everything that was sent has been carried out, and count what its commands changed."""
        if self._stuck or not await self._carried_out(published=True):
            return Effects(known=False)
        ids = self._ids
        if self._plan.topic is STRIPE_WEBHOOKS:
            ids, places = await _commands_of_webhooks(self._kafka, self._bookings, before)
            if not await self._decided(places):
                return Effects(known=False, commands=len(ids))
        changed: set[str] = set()
        events: Counter[str] = Counter()
        async with aclosing(_since(self._kafka, BOOKING_EVENTS, before)) as found:
            async for record in found:
                cause = (header(record.headers, "ce_causationid") or b"").decode(errors="replace")
                if cause in ids and _changes_something(record):
                    changed.add(cause)
                    events[_type_of(record)] += 1
        return Effects(known=True, commands=len(ids), changed=len(changed), events=events)

    async def _decided(self, places: Mapping[int, int]) -> bool:
        name = self._kafka.topic(BOOKING_COMMANDS)
        return await wait_for_consumer(
            self._connection,
            _carried_out_by(BOOKING_COMMANDS),
            name,
            await _topic_id(self._kafka, name),
            places,
            within_seconds=self._wait_seconds,
        )

    async def _carried_out(self, *, published: bool) -> bool:
        plan = self._plan
        return await wait_for_consumer(
            self._connection,
            _carried_out_by(plan.topic),
            plan.name,
            plan.topic_id,
            self._stands,
            within_seconds=self._wait_seconds,
            published=published,
        )

    def _note(self, record: Record) -> None:
        id = header(record.headers, "ce_id")
        if id is not None:
            self._ids.add(id.decode(errors="replace"))
        if self._plan.topic is STRIPE_WEBHOOKS and (booking := booking_of((), record.value)) is not None:
            self._bookings.add(booking)


async def _commands_of_webhooks(
    kafka: KafkaSettings, bookings: set[UUID], before: Mapping[TopicPartition, tuple[int, int]]
) -> tuple[set[str], dict[int, int]]:
    """Return the ids, and the last offset of each partition, of the commands that webhooks about the bookings led to.

    A command that follows from a webhook has no causation: no message of ours caused it.
    """
    ids: set[str] = set()
    places: dict[int, int] = {}
    async with aclosing(_since(kafka, BOOKING_COMMANDS, before)) as found:
        async for record in found:
            headers = dict(record.headers)
            told = headers.get("ce_source") == b"innkeeper/payments" and "ce_causationid" not in headers
            if told and booking_of(record.headers, None) in bookings:
                ids.add(headers["ce_id"].decode(errors="replace"))
                places[record.partition] = record.offset
    return ids, places


_NOTHING: Final = frozenset(kind.message_type for kind in (CommandRepeated, CommandRefused, InventoryUnchanged))


def _changes_something(event: Record) -> bool:
    """Tell whether an event says that something is different now; a manager's change may leave every night as it is."""
    kind = _type_of(event)
    if kind in _NOTHING:
        return False
    if kind.startswith("inventory.changed."):
        told = json.loads(event.value or b"{}")
        return bool(told.get("nights") or told.get("ranges"))
    return True


def _carried_out_by(topic: Topic) -> str:
    consumer = PROCESSED_BY.get(topic.name)
    if consumer is not None:
        return consumer
    if topic is BOOKING_EVENTS:
        raise Refused(
            "Events are told once. To let one consumer of ours read them again: --consumer, with one of"
            f" {', '.join(READERS)}."
        )
    if topic is DEAD_LETTERS:
        raise Refused("Dead letters are replayed to where they came from: innkeeper dead-letters replay.")
    raise Refused(f"Nobody carries out what stands on {topic.name}.")


def _refuse_old_prices(stretch: Stretch, types: Mapping[str, int]) -> None:
    if stretch.type is None and (count := types.get(ChangeInventory.message_type)):
        raise Refused(
            f"{count} of them are {ChangeInventory.message_type}: they set prices, closings and totals as they were"
            " then, whatever was set since."
            " Leave them out (--type 'booking.*'), or say that you mean them (--type '*')."
        )


def _as_it_was(record: Record) -> Outgoing:
    """Return the record once more, for the partition that it stands in."""
    headers = [(name, value) for name, value in record.headers]
    # The time is what a topic of a replayed trace keeps; one that has the broker's time ignores it.
    return Outgoing(record.topic, record.key, record.value, headers, record.partition, record.timestamp)


# Events.


async def planned_move(kafka: KafkaSettings, connection: AsyncConnection[Any], stretch: Stretch, consumer: str) -> Move:
    """Return how a consumer's cursor would go back. Raises as `planned`."""
    if stretch.topic is not BOOKING_EVENTS:
        raise Refused(f"--consumer is for {BOOKING_EVENTS.name}; {stretch.topic.name} is sent again to everybody.")
    reader = READERS.get(consumer)
    if reader is None:
        raise Refused(f"There is no consumer {consumer} of events; there are {', '.join(READERS)}.")
    if reader.harm is not None:
        raise Refused(f"{consumer} cannot read events again: {reader.harm}.")
    if stretch.end is not None or stretch.type is not None:
        raise Refused("A cursor goes back and reads everything from there on: --to and --type have no meaning here.")
    name = kafka.topic(BOOKING_EVENTS)
    topic_id = await _topic_id(kafka, name)
    stands = await applied_offsets(connection, consumer, name, topic_id, published=False)
    asked = await _ranges(kafka, name, stretch)
    ranges = {part: (first, stands.get(part, -1) + 1) for part, (first, _) in asked.items()}
    ranges = {part: (first, end) for part, (first, end) in ranges.items() if first < end}
    if not ranges:
        raise Refused(f"{consumer} has not come that far: what you mean is still to come.")
    types, sequences = await _sequences(kafka, name, ranges)
    return Move(
        consumer=consumer,
        reader=reader,
        name=name,
        topic_id=topic_id,
        first={part: first for part, (first, _) in ranges.items()},
        stands={part: end - 1 for part, (_, end) in ranges.items()},
        sequences=sequences,
        types=types,
    )


async def move(connection: AsyncConnection[Any], planned: Move, *, who: str) -> None:
    """Put the cursor back, in one transaction. Its role begins there when it goes on or is started.

    Raises:
        Refused: the role runs, or the cursor does not stand where it stood.
    """
    async with connection.transaction():
        await connection.execute(f"set local lock_timeout = '{_LOCK_TIMEOUT}'")
        await _refuse_running(connection, planned.role)
        for partition, first in sorted(planned.first.items()):
            await _put_back(connection, planned, partition, first)
        details = {"consumer": planned.consumer, "from": planned.first, "stood_at": planned.stands}
        await operator_log.record(connection, who=who, action="replay", target=planned.name, details=details)


_PUT_BACK: Final = """
update log_cursor c
   set applied = %(before)s, published = %(before)s, sequence = %(sequence)s, last_hash = null, last_time = null
  from topic_generation i
 where i.id = c.generation and i.broker_id = %(topic_id)s
   and c.consumer = %(consumer)s and c.topic = %(topic)s and c.partition = %(partition)s and c.applied = %(stands)s
"""


async def _put_back(connection: AsyncConnection[Any], planned: Move, partition: int, first: int) -> None:
    """Move one row, whose lock is the fence: a worker that still runs finds it moved, and takes it from there."""
    moved = await connection.execute(
        _PUT_BACK,
        {
            "before": first - 1,
            "sequence": planned.sequences[partition],
            "topic_id": planned.topic_id,
            "consumer": planned.consumer,
            "topic": planned.name,
            "partition": partition,
            "stands": planned.stands[partition],
        },
    )
    if moved.rowcount != 1:
        raise Refused(
            f"The cursor of {planned.consumer} in {planned.name}[{partition}] has moved meanwhile. Nothing was done."
        )


async def _refuse_running(connection: AsyncConnection[Any], role: str) -> None:
    if await pauses.of(connection, role) is not None:
        return
    found = await connection.execute(
        "select count(*) from pg_stat_activity where datname = current_database() and application_name = %s",
        (f"innkeeper {role}",),
    )
    row = await found.fetchone()
    if row is not None and row[0]:
        raise Refused(f"{role} runs. Pause it first (innkeeper pause {role}), or stop its processes.")


async def _sequences(kafka: KafkaSettings, name: str, ranges: Ranges) -> tuple[dict[str, int], dict[int, int]]:
    """Count the events by type, and return for each partition the sequence before the lowest of them.

    What was published again after trouble may stand behind what comes later in the sequence.
    """
    types: Counter[str] = Counter()
    lowest: dict[int, int] = {}
    async with aclosing(_between(kafka, name, ranges)) as found:
        async for record in found:
            types[_type_of(record)] += 1
            sequence = int(header(record.headers, "ce_sequence") or 0)
            lowest[record.partition] = min(sequence, lowest.get(record.partition, sequence))
    return types, {partition: sequence - 1 for partition, sequence in lowest.items()}


# Reading a stretch.


async def _ranges(kafka: KafkaSettings, name: str, stretch: Stretch) -> Ranges:
    """Return which offsets are meant, of the partitions in which there are any."""
    numbers = [place.partition for place in await partitions_of(kafka, name)]
    if stretch.partition is not None:
        if stretch.partition not in numbers:
            raise Refused(f"{name} has no partition {stretch.partition}; it has {len(numbers)}, from 0 on.")
        numbers = [stretch.partition]
    bounds = {place.partition: bound for place, bound in (await end_offsets(kafka, [name])).items()}
    begins = await _offsets(kafka, name, numbers, bounds, stretch.begin)
    ends = await _offsets(kafka, name, numbers, bounds, stretch.end)
    if isinstance(stretch.end, int):
        ends = {number: min(end + 1, bounds[number][1]) for number, end in ends.items()}
    if isinstance(stretch.begin, int) and begins[numbers[0]] < bounds[numbers[0]][0]:
        raise Refused(f"{name}[{numbers[0]}] begins at {bounds[numbers[0]][0]}: what was before is deleted.")
    ranges = {number: (begins[number], ends[number]) for number in numbers if begins[number] < ends[number]}
    if not ranges:
        raise Refused(f"Nothing stands on {name} in that range.")
    return ranges


async def _offsets(
    kafka: KafkaSettings,
    name: str,
    numbers: list[int],
    bounds: Mapping[int, tuple[int, int]],
    at: int | datetime | None,
) -> dict[int, int]:
    if at is None:
        return {number: bounds[number][1] for number in numbers}
    if isinstance(at, int):
        return dict.fromkeys(numbers, at)
    places = [TopicPartition(name, number) for number in numbers]
    async with open_reader(kafka) as consumer:
        consumer.assign(places)
        found = await consumer.offsets_for_times(dict.fromkeys(places, int(at.timestamp() * 1000)))
    return {
        place.partition: bounds[place.partition][1] if first is None else first.offset for place, first in found.items()
    }


@dataclass
class _Seen:
    """What stands in a stretch: what is meant by type, the first and last time of it, and how much is left out."""

    types: Counter[str] = field(default_factory=Counter)
    times: list[int] = field(default_factory=list)
    repeats: int = 0
    others: set[str] = field(default_factory=set)


async def _look(
    kafka: KafkaSettings, name: str, ranges: Ranges, kind: str | None, buried: Mapping[int, frozenset[int]]
) -> _Seen:
    seen, first = _Seen(), _Firsts()
    async with aclosing(_between(kafka, name, ranges)) as found:
        async for record in found:
            if not _is_meant(record, kind, buried):
                if not _is_buried(record, buried):
                    seen.others.add(_type_of(record))
            elif first.is_new(record):
                seen.types[_type_of(record)] += 1
                seen.times = [min([record.timestamp, *seen.times]), max([record.timestamp, *seen.times])]
            else:
                seen.repeats += 1
    return seen


class _Firsts:
    """Tells the first record of an id from those that say it again; all of an id stand in one partition."""

    def __init__(self) -> None:
        self._seen: set[tuple[int, str]] = set()

    def is_new(self, record: Record) -> bool:
        """Tell whether no record of this id was asked about before, and remember it."""
        id = record.partition, _id_of(record)
        new = id not in self._seen
        self._seen.add(id)
        return new


def _nothing(name: str, kind: str | None, others: Iterable[str]) -> str:
    """Say why there is nothing to play again."""
    if kind is None:
        why = "Only dead letters stand there"
    elif there := ", ".join(sorted(others)):
        why = f"Nothing there is of the type {kind}. There are {there}"
    else:
        why = f"Nothing there is of the type {kind}"
    return f"{why} (on {name}). Dead letters have a command of their own: innkeeper dead-letters list."


async def _between(kafka: KafkaSettings, name: str, ranges: Ranges) -> AsyncGenerator[Record, None]:
    """Yield the records of the ranges, those of one partition in order."""
    ends = {TopicPartition(name, number): end for number, (_, end) in ranges.items()}
    if not ends:
        return
    async with open_reader(kafka) as consumer:
        consumer.assign(list(ends))
        for number, (first, _) in ranges.items():
            consumer.seek(TopicPartition(name, number), first)
        while left := [place for place, end in ends.items() if await consumer.position(place) < end]:
            for place, records in (await consumer.getmany(*left, timeout_ms=_FETCH_MS)).items():
                for record in records:
                    if record.offset < ends[place]:
                        yield record


async def _since(
    kafka: KafkaSettings, topic: Topic, before: Mapping[TopicPartition, tuple[int, int]]
) -> AsyncGenerator[Record, None]:
    """Yield what was written to the topic since its ends were asked for."""
    name = kafka.topic(topic)
    now = await end_offsets(kafka, [name])
    ranges = {place.partition: (before[place][1], end) for place, (_, end) in now.items() if before[place][1] < end}
    async with aclosing(_between(kafka, name, ranges)) as found:
        async for record in found:
            yield record


async def _buried(
    connection: AsyncConnection[Any], consumer: str, name: str, topic_id: str
) -> dict[int, frozenset[int]]:
    rows = await connection.execute(
        'select d.partition, array_agg(d."offset") from dead_letter d'
        " join topic_generation i on i.id = d.generation and i.broker_id = %s"
        " where d.consumer = %s and d.topic = %s group by d.partition",
        (topic_id, consumer, name),
    )
    return {partition: frozenset(offsets) async for partition, offsets in rows}


async def _topic_id(kafka: KafkaSettings, name: str) -> str:
    ids = await admin.topic_ids(kafka, [name])
    if name not in ids:
        raise NoSuchTopic(f"The topic {name} does not exist. Create it: innkeeper topics create.")
    return ids[name]


def _is_meant(record: Record, kind: str | None, buried: Mapping[int, frozenset[int]]) -> bool:
    return not _is_buried(record, buried) and (kind is None or fnmatchcase(_type_of(record), kind))


def _is_buried(record: Record, buried: Mapping[int, frozenset[int]]) -> bool:
    return record.offset in buried.get(record.partition, frozenset())


def _id_of(record: Record) -> str:
    """Return the id by which whoever carries it out knows the record: a command's own, a webhook's from Stripe."""
    named = header(record.headers, "ce_id")
    return str(cloud_event(record)["id"]) if named is None else named.decode(errors="replace")


def _type_of(record: Record) -> str:
    """Return the type by the header, which is all that a record of ours need be asked for."""
    named = header(record.headers, "ce_type")
    return str(cloud_event(record)["type"]) if named is None else named.decode(errors="replace")


def _count(ranges: Ranges) -> int:
    return sum(end - first for first, end in ranges.values())
