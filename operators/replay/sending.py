"""Sends commands and webhooks to their topic again, no faster than their consumer processes them."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any, Final
from uuid import uuid4

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from psycopg import AsyncConnection

from operators.replay.ranges import (
    Ranges,
    Refused,
    ReplayRange,
    count,
    id_of,
    offsets_of,
    records_of,
    records_since,
    topic_id_of,
    type_of,
)
from operators.replay.rewinding import REWIND_EFFECTS
from storage import dead_letters, operator_log
from storage.consumer_positions import applied_offsets, wait_for_consumer
from topics.catalogue import BOOKING_COMMANDS, BOOKING_EVENTS, DEAD_LETTERS, STRIPE_WEBHOOKS, Topic
from topics.consumers import PROCESSED_BY
from topics.envelope import Outgoing, Replay, header, with_replay
from topics.kafka.log_reader import Record, RecordsMissing, end_offsets
from topics.kafka.positions import LogPosition
from topics.kafka.producer import Producer
from topics.kafka.settings import KafkaSettings
from topics.messages.commands import ChangeInventory
from topics.messages.events import (
    ChangeRejected,
    CodeUnchanged,
    CommandRefused,
    CommandRepeated,
    DocumentNotIssued,
    InventoryUnchanged,
)

#: How many records are sent before the consumer must have processed them: clients' own records wait behind these.
CHUNK: Final = 500
#: The name of this operators' command, in `operator_action` and in the header of a replayed record.
_REPLAY: Final = "replay"
#: The answers to commands that changed nothing.
_NO_CHANGE: Final = frozenset(
    kind.message_type
    for kind in (CommandRepeated, CommandRefused, ChangeRejected, InventoryUnchanged, CodeUnchanged, DocumentNotIssued)
)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The records that would be sent again. Times are the log's (UTC).

    `not_yet`: records that were not processed for the first time yet, and are left out. `repeats`: records whose id the
    range has before them, which are left out too. `dead_letters`: offsets of dead letters, by partition; so are they.
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
    dead_letters: Mapping[int, frozenset[int]]

    @property
    def records(self) -> int:
        """Return how many records would be sent."""
        return sum(self.types.values())

    def has(self, record: Record) -> bool:
        """Return whether the record is of the wanted type and no dead letter."""
        return _is_wanted(record, self.type, self.dead_letters)


@dataclass(frozen=True, kw_only=True)
class Effects:
    """The effects of a replay. `known` False: it was not processed in time, and its effects were not waited for.

    `commands`: how many different ones there were; `changed`: how many of them changed something. `events` counts the
    events of those changes by type.
    """

    known: bool
    commands: int = 0
    changed: int = 0
    events: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ReplayResult:
    """How far a replay came: `reached` is the last offset of each partition that was sent again.

    `reason`: why it ended early; None where everything was sent.
    """

    sent: int
    reached: Mapping[int, int]
    reason: str | None
    effects: Effects


async def plan_replay(kafka: KafkaSettings, connection: AsyncConnection[Any], asked: ReplayRange) -> Plan:
    """Return the records that would be sent again.

    Raises:
        Refused: the topic is never replayed, the range has no records, or a replay would do harm.
        NoSuchTopic: the broker has no such topic.
        aiokafka.errors.KafkaError, psycopg.Error: the broker or the database is away.
    """
    consumer = _consumer_of(asked.topic)
    name = kafka.topic(asked.topic)
    topic_id = await topic_id_of(kafka, name)
    offsets = await offsets_of(kafka, name, asked)
    applied = await applied_offsets(connection, consumer, name, topic_id)
    ranges = {number: (first, min(end, applied.get(number, -1) + 1)) for number, (first, end) in offsets.items()}
    ranges = {number: (first, end) for number, (first, end) in ranges.items() if first < end}
    if not ranges:
        raise Refused(f"{consumer} has not processed any of it yet, so it need not be sent again.")
    excluded = await dead_letters.offsets_of(connection, consumer=consumer, topic=name, topic_id=topic_id)
    contents = await _contents(kafka, name, ranges, asked.type, excluded)
    if not contents.times:
        raise Refused(_nothing(name, asked.type, contents.others))
    _refuse_old_prices(asked, contents.types)
    first_time, last_time = (datetime.fromtimestamp(each / 1000, UTC) for each in contents.times)
    return Plan(
        topic=asked.topic,
        name=name,
        topic_id=topic_id,
        ranges=ranges,
        type=asked.type,
        types=contents.types,
        first_time=first_time,
        last_time=last_time,
        not_yet=count(offsets) - count(ranges),
        repeats=contents.repeats,
        dead_letters=excluded,
    )


async def run_replay(
    kafka: KafkaSettings,
    connection: AsyncConnection[Any],
    producer: Producer,
    plan: Plan,
    *,
    operator: str,
    wait_seconds: float,
    advance: Callable[[int], None],
    stop: asyncio.Event,
) -> ReplayResult:
    """Send the plan's records again, no faster than they are processed, and count the changes.

    `advance` is called with how many more were sent; `stop` ends the replay after the records that are on their way.
    The begin and the end are recorded as actions of the operator.
    """
    replay_id = uuid4().hex
    details = {
        "topic": plan.name,
        "ranges": plan.ranges,
        "type": plan.type,
        "records": plan.records,
        "replay_id": replay_id,
    }
    action = await operator_log.record(connection, who=operator, action=_REPLAY, target=plan.name, details=details)
    events, commands = kafka.topic(BOOKING_EVENTS), kafka.topic(BOOKING_COMMANDS)
    before = await end_offsets(kafka, [events, commands])
    replay = Replay(id=replay_id, action=_REPLAY, by=operator, at=action.at, of="")
    sending = _Sending(kafka, connection, producer, plan, replay, wait_seconds)
    reason = await sending.all(advance, stop)
    effects = await sending.effects(before)
    done = {
        "sent": sending.sent,
        "reached": sending.reached,
        "reason": reason,
        "changed": effects.changed,
        "replay_id": replay_id,
    }
    await operator_log.record(connection, who=operator, action="replay ended", target=plan.name, details=done)
    return ReplayResult(sent=sending.sent, reached=sending.reached, reason=reason, effects=effects)


class _Sending:
    """The records that were sent again so far, and their new positions."""

    def __init__(  # noqa: PLR0917 - made in one place
        self,
        kafka: KafkaSettings,
        connection: AsyncConnection[Any],
        producer: Producer,
        plan: Plan,
        replay: Replay,
        wait_seconds: float,
    ) -> None:
        self._kafka = kafka
        self._connection = connection
        self._producer = producer
        self._plan = plan
        self._replay = replay
        self._wait_seconds = wait_seconds
        self.sent = 0
        self.reached: dict[int, int] = {}
        self._last: dict[int, int] = {}
        self._ids: set[str] = set()
        self._positions: set[str] = set()
        self._stuck = False

    async def all(self, advance: Callable[[int], None], stop: asyncio.Event) -> str | None:
        """Send chunk by chunk; return why that ended early, or None."""
        try:
            return await self._all(advance, stop)
        except RecordsMissing as error:
            return f"the log has deleted some of the records: {error}"

    async def _all(self, advance: Callable[[int], None], stop: asyncio.Event) -> str | None:
        plan = self._plan
        chunk: list[Record] = []
        first = _FirstOfId()
        async with aclosing(records_of(self._kafka, plan.name, plan.ranges)) as found:
            async for record in found:
                if plan.has(record) and first.is_new(record):
                    chunk.append(record)
                if len(chunk) == CHUNK:
                    if (reason := await self._send(chunk, advance, stop)) is not None:
                        return reason
                    chunk = []
        return await self._send(chunk, advance, stop) if chunk else None

    async def _send(self, chunk: list[Record], advance: Callable[[int], None], stop: asyncio.Event) -> str | None:
        if stop.is_set():
            return "interrupted"
        try:
            positions = await self._producer.send_all(_sent_again(record, self._replay) for record in chunk)
        except KafkaError as error:
            self._stuck = True
            return f"the broker did not acknowledge the next records ({error!r}); it may have some of them"
        for record, position in zip(chunk, positions, strict=True):
            self.reached[record.partition] = record.offset
            self._last[position.partition] = max(position.offset, self._last.get(position.partition, -1))
            self._positions.add(str(position))
            self._ids.add(id_of(record))
        self.sent += len(chunk)
        advance(len(chunk))
        if await self._processed(published=False):
            return None
        self._stuck = True
        return f"{_consumer_of(self._plan.topic)} has not processed it within {self._wait_seconds:g} s"

    async def effects(self, before: Mapping[TopicPartition, tuple[int, int]]) -> Effects:
        """Wait until everything that was sent has been processed, and count the changes of its commands."""
        if self._stuck or not await self._processed(published=True):
            return Effects(known=False)
        ids, positions = self._ids, self._positions
        if self._plan.topic is STRIPE_WEBHOOKS:
            commands = await self._commands_of_webhooks(before)
            ids, positions = set(commands.values()), {str(position) for position in commands}
            if not await self._decided(commands):
                return Effects(known=False, commands=len(ids))
        changed: set[str] = set()
        events: Counter[str] = Counter()
        async with aclosing(records_since(self._kafka, BOOKING_EVENTS, before)) as found:
            async for record in found:
                if _cause_of(record) in positions and _changes_something(record):
                    changed.add(_text(record, "ce_causationid"))
                    events[type_of(record)] += 1
        return Effects(known=True, commands=len(ids), changed=len(changed), events=events)

    async def _commands_of_webhooks(self, before: Mapping[TopicPartition, tuple[int, int]]) -> dict[LogPosition, str]:
        """Return the ids, by position, of the commands that followed from the webhooks that were sent again."""
        async with aclosing(records_since(self._kafka, BOOKING_COMMANDS, before)) as found:
            return {
                LogPosition.of(record): _text(record, "ce_id")
                async for record in found
                if _cause_of(record) in self._positions
            }

    async def _decided(self, commands: Iterable[LogPosition]) -> bool:
        name = self._kafka.topic(BOOKING_COMMANDS)
        last: dict[int, int] = {}
        for position in commands:
            last[position.partition] = max(position.offset, last.get(position.partition, -1))
        return await wait_for_consumer(
            self._connection,
            _consumer_of(BOOKING_COMMANDS),
            name,
            await topic_id_of(self._kafka, name),
            last,
            within_seconds=self._wait_seconds,
        )

    async def _processed(self, *, published: bool) -> bool:
        plan = self._plan
        return await wait_for_consumer(
            self._connection,
            _consumer_of(plan.topic),
            plan.name,
            plan.topic_id,
            self._last,
            within_seconds=self._wait_seconds,
            published=published,
        )


def _sent_again(record: Record, replay: Replay) -> Outgoing:
    """Return the record once more, for the partition that has it, with the header that names the replay."""
    of = LogPosition.of(record)
    named = Replay(id=replay.id, action=replay.action, by=replay.by, at=replay.at, of=str(of))
    # A topic of a replayed trace keeps the record's time; one that has the broker's time ignores it.
    return Outgoing(
        record.topic, record.key, record.value, with_replay(record.headers, named), record.partition, record.timestamp
    )


def _consumer_of(topic: Topic) -> str:
    consumer = PROCESSED_BY.get(topic.name)
    if consumer is not None:
        return consumer
    if topic is BOOKING_EVENTS:
        raise Refused(
            "Events are never sent again. To let one consumer of ours read them again: --consumer, with one of"
            f" {', '.join(REWIND_EFFECTS)}."
        )
    if topic is DEAD_LETTERS:
        raise Refused("Dead letters are replayed to the topics that they came from: innkeeper dead-letters replay.")
    raise Refused(f"No consumer of ours processes the records of {topic.name}.")


def _refuse_old_prices(asked: ReplayRange, types: Mapping[str, int]) -> None:
    if asked.type is None and (changes := types.get(ChangeInventory.message_type)):
        raise Refused(
            f"{changes} of them are {ChangeInventory.message_type}: they set prices, closings and totals as they were"
            " then, also where other ones were set since."
            " Leave them out (--type 'booking.*'), or include them (--type '*')."
        )


def _changes_something(event: Record) -> bool:
    """Return whether an event changed something; a manager's change may leave every night as it is."""
    kind = type_of(event)
    if kind in _NO_CHANGE:
        return False
    if kind.startswith("inventory.changed."):
        data = json.loads(event.value or b"{}")
        return bool(data.get("nights") or data.get("ranges"))
    return True


@dataclass
class _Contents:
    """The contents of a range: wanted records by type, their first and last time, and the rest."""

    types: Counter[str] = field(default_factory=Counter)
    times: list[int] = field(default_factory=list)
    repeats: int = 0
    others: set[str] = field(default_factory=set)


async def _contents(
    kafka: KafkaSettings, name: str, ranges: Ranges, kind: str | None, excluded: Mapping[int, frozenset[int]]
) -> _Contents:
    contents, first = _Contents(), _FirstOfId()
    async with aclosing(records_of(kafka, name, ranges)) as found:
        async for record in found:
            if not _is_wanted(record, kind, excluded):
                if not _is_dead_letter(record, excluded):
                    contents.others.add(type_of(record))
            elif first.is_new(record):
                contents.types[type_of(record)] += 1
                contents.times = [min([record.timestamp, *contents.times]), max([record.timestamp, *contents.times])]
            else:
                contents.repeats += 1
    return contents


class _FirstOfId:
    """Distinguishes the first record of an id from its repeats; all records of an id are in one partition."""

    def __init__(self) -> None:
        self._seen: set[tuple[int, str]] = set()

    def is_new(self, record: Record) -> bool:
        """Return whether this is the first record of its id, and remember it."""
        key = record.partition, id_of(record)
        is_new = key not in self._seen
        self._seen.add(key)
        return is_new


def _nothing(name: str, kind: str | None, others: Iterable[str]) -> str:
    """Return a sentence with the reason why there is nothing to send again."""
    if kind is None:
        reason = "Only dead letters are there"
    elif types := ", ".join(sorted(others)):
        reason = f"Nothing there is of the type {kind}. There are {types}"
    else:
        reason = f"Nothing there is of the type {kind}"
    return f"{reason} (on {name}). Dead letters have a command of their own: innkeeper dead-letters list."


def _is_wanted(record: Record, kind: str | None, excluded: Mapping[int, frozenset[int]]) -> bool:
    return not _is_dead_letter(record, excluded) and (kind is None or fnmatchcase(type_of(record), kind))


def _is_dead_letter(record: Record, excluded: Mapping[int, frozenset[int]]) -> bool:
    return record.offset in excluded.get(record.partition, frozenset())


def _cause_of(record: Record) -> str:
    """Return the position of the record that this one follows from, in writing; empty where it names none."""
    return _text(record, "ce_causationposition")


def _text(record: Record, name: str) -> str:
    return (header(record.headers, name) or b"").decode(errors="replace")
