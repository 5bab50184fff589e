"""Lets one consumer of ours read events again: its cursor is set back to the beginning of the range."""

from collections import Counter
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final

from psycopg import AsyncConnection

from operators.replay.ranges import Ranges, Refused, ReplayRange, offsets_of, records_of, topic_id_of, type_of
from storage import cursors, operator_log, pauses
from storage.consumer_positions import applied_offsets
from topics.catalogue import BOOKING_EVENTS
from topics.consumers import CONSUMERS
from topics.kafka.records import sequence_of
from topics.kafka.settings import KafkaSettings

_LOCK_TIMEOUT: Final = "10s"


@dataclass(frozen=True, kw_only=True)
class RewindEffect:
    """The effect of reading events again, as the end of a sentence, or the reason for which a consumer must not."""

    description: str = ""
    blocked_reason: str | None = None


#: The names of the consumers of events, which a cursor may have.
EVENT_CONSUMERS: Final = tuple(each.name for each in CONSUMERS if BOOKING_EVENTS in each.topics)
#: A test compares the keys with `EVENT_CONSUMERS`: a new consumer needs an entry here.
REWIND_EFFECTS: Final[Mapping[str, RewindEffect]] = {
    "booking_timeline": RewindEffect(
        description="rows of booking_timeline that exist are not changed; missing rows are written again",
    ),
    "room_nights": RewindEffect(
        blocked_reason="it adds up the rooms that are taken, so each stay would be counted once more. Rebuild it"
        " instead: innkeeper rebuild room_nights",
    ),
    "daily_report": RewindEffect(
        description="a booking that is counted is not counted twice; until the end is reached again, one that was"
        " cancelled or ended early since counts in full",
    ),
    "money_movements": RewindEffect(
        description="rows of money_movement that exist are not changed; missing rows are written again",
    ),
    "coordination": RewindEffect(
        description="commands about trips, promo codes and documents are sent again; each is answered as repeated,"
        " and changes nothing",
    ),
    "payments": RewindEffect(
        description="sessions and refunds that are recorded are not changed, and nothing is charged or refunded twice;"
        " missing ones are due again, and Stripe is called for them",
    ),
}


@dataclass(frozen=True, kw_only=True)
class CursorRewind:
    """A cursor that would be set back, by partition.

    `first` is the offset that the consumer would read next, `applied` the one that it has applied last now, and
    `sequences` the sequence before the first event that it would read.
    """

    consumer: str
    effect: RewindEffect
    name: str
    topic_id: str
    first: Mapping[int, int]
    applied: Mapping[int, int]
    sequences: Mapping[int, int]
    types: Mapping[str, int]

    @property
    def records(self) -> int:
        """Return how many records it would read again."""
        return sum(self.types.values())

    @property
    def role(self) -> str:
        """Return the role whose processes the consumer is part of."""
        return next(each.role for each in CONSUMERS if each.name == self.consumer)


async def plan_rewind(
    kafka: KafkaSettings, connection: AsyncConnection[Any], asked: ReplayRange, consumer: str
) -> CursorRewind:
    """Return how a consumer's cursor would be set back.

    Raises:
        Refused: the topic or the consumer is the wrong one, or the consumer has not read any of the range yet.
        NoSuchTopic: the broker has no such topic.
        aiokafka.errors.KafkaError, psycopg.Error: the broker or the database is away.
    """
    if asked.topic is not BOOKING_EVENTS:
        raise Refused(f"--consumer is for {BOOKING_EVENTS.name}; {asked.topic.name} is sent again to its one consumer.")
    if consumer not in EVENT_CONSUMERS:
        raise Refused(f"There is no consumer {consumer} of events; there are {', '.join(EVENT_CONSUMERS)}.")
    effect = REWIND_EFFECTS[consumer]
    if effect.blocked_reason is not None:
        raise Refused(f"{consumer} cannot read events again: {effect.blocked_reason}.")
    if asked.end is not None or asked.type is not None:
        raise Refused("A cursor goes back and reads everything from there on: --to and --type have no meaning here.")
    name = kafka.topic(BOOKING_EVENTS)
    topic_id = await topic_id_of(kafka, name)
    applied = await applied_offsets(connection, consumer, name, topic_id, published=False)
    offsets = await offsets_of(kafka, name, asked)
    ranges = {number: (first, applied.get(number, -1) + 1) for number, (first, _) in offsets.items()}
    ranges = {number: (first, end) for number, (first, end) in ranges.items() if first < end}
    if not ranges:
        raise Refused(f"{consumer} has not come that far: it has yet to read these records.")
    types, sequences = await _sequences(kafka, name, ranges)
    return CursorRewind(
        consumer=consumer,
        effect=effect,
        name=name,
        topic_id=topic_id,
        first={number: first for number, (first, _) in ranges.items()},
        applied={number: end - 1 for number, (_, end) in ranges.items()},
        sequences=sequences,
        types=types,
    )


async def rewind(connection: AsyncConnection[Any], planned: CursorRewind, *, operator: str) -> None:
    """Set the cursor back, in one transaction. Its role reads from there when it resumes or is started.

    Raises:
        Refused: the role runs, or the cursor has moved since it was looked at.
    """
    async with connection.transaction():
        await connection.execute(f"set local lock_timeout = '{_LOCK_TIMEOUT}'")
        await _refuse_running(connection, planned.role)
        for number, first in sorted(planned.first.items()):
            is_back = await cursors.rewind(
                connection,
                consumer=planned.consumer,
                topic=planned.name,
                topic_id=planned.topic_id,
                partition=number,
                was=planned.applied[number],
                applied=first - 1,
                sequence=planned.sequences[number],
            )
            if not is_back:
                partition = f"{planned.name}[{number}]"
                raise Refused(f"The cursor of {planned.consumer} in {partition} has moved meanwhile. Nothing was done.")
        details = {"consumer": planned.consumer, "from": planned.first, "was_applied": planned.applied}
        await operator_log.record(connection, who=operator, action="replay", target=planned.name, details=details)


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

    Events that were published again after a failure may be behind events of a higher sequence.
    """
    types: Counter[str] = Counter()
    lowest: dict[int, int] = {}
    async with aclosing(records_of(kafka, name, ranges)) as found:
        async for record in found:
            types[type_of(record)] += 1
            sequence = sequence_of(record) or 0
            lowest[record.partition] = min(sequence, lowest.get(record.partition, sequence))
    return types, {number: sequence - 1 for number, sequence in lowest.items()}
