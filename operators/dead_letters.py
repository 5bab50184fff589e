"""Dead letters: records that a worker could not read, with the reason, their origin, and how each was resolved.

A dead letter is resolved once. A replay sends the same bytes, key and headers to the topic that the record came from,
with one header more, which names the replay; a discard sends nothing. A replay inserts its row in `dead_letter_end`
before it sends and completes that row last. So neither two operators at once nor one whose command is cut off send a
dead letter twice without a warning.
"""

import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, NoReturn
from uuid import UUID, uuid4

from psycopg import AsyncConnection

from storage import dead_letters as stored
from storage import operator_log
from storage.consumer_positions import wait_for_consumer
from storage.dead_letters import DeadLetterKey, Resolution
from topics.catalogue import DEAD_LETTERS
from topics.consumers import PROCESSED_BY
from topics.envelope import Headers, Outgoing, Replay, header, with_replay
from topics.failpoints import failpoint
from topics.kafka import admin
from topics.kafka.log_reader import NoSuchTopic, Record, RecordFilter, end_offsets, read
from topics.kafka.positions import LogPosition
from topics.kafka.producer import Producer
from topics.kafka.records import time_of
from topics.kafka.settings import KafkaSettings
from topics.times import to_the_second

#: The name of this operators' command, in `operator_action` and in the header of a replayed record.
_ACTION_REPLAY: Final = "dead-letters replay"
#: How the names of the headers begin that a worker adds to those of the record itself.
_ADDED_PREFIX: Final = "dl_"


class Refused(Exception):
    """The dead letter may not be resolved like this; the text is a sentence with the reason."""


class State(StrEnum):
    """How a dead letter was resolved. `begun`: its replay began, and is not known to be done (yet)."""

    OPEN = "open"
    BEGUN = "begun"
    REPLAYED = "replayed"
    DISCARDED = "discarded"


@dataclass(frozen=True, kw_only=True, slots=True)
class DeadLetter:
    """One record of the dead-letter topic: `key`, `value` and `headers` of the record itself; a worker adds the rest.

    `origin` is the position of the record that could not be read. `at` is the log's time (UTC) at which a worker sent
    the dead letter. `left_behind_bytes`: the record was too large to be sent, and is only at `origin`. `doubles` are
    the offsets, in the same partition, of dead letters of the same record, which were published twice.
    """

    topic_id: str
    partition: int
    offset: int
    at: datetime
    origin: LogPosition | None
    consumer: str | None
    reason: str
    key: bytes | None
    value: bytes | None
    headers: Headers
    left_behind_bytes: int | None
    end: Resolution | None
    doubles: list[int] = field(default_factory=list)

    @property
    def id(self) -> str:
        """Return the name that operators' commands take."""
        return f"{self.partition}@{self.offset}"

    # These are decoded only when they are read: of a hundred thousand dead letters a person looks at few.
    @property
    def type(self) -> str | None:
        """Return the type of the message, as far as it can be read."""
        return _text(header(self.headers, "ce_type")) or _named(_object(self.value), "type")

    @property
    def booking(self) -> UUID | None:
        """Return the booking that the record names, if it names one."""
        return booking_of(self.headers, self.value)

    @property
    def state(self) -> State:
        """Return how the dead letter was resolved."""
        if self.end is None:
            return State.OPEN
        return State.BEGUN if self.end.done_at is None else State(self.end.ended)

    @property
    def stored_key(self) -> DeadLetterKey:
        """Return the key of its row in `dead_letter_end`."""
        return DeadLetterKey(self.topic_id, self.partition, self.offset)


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """The result of a replay. `reason`: the record could not be read again, and is another dead letter.

    `known` False: the consumer had not read the record in time.
    """

    known: bool
    reason: str | None = None


async def find_dead_letters(
    kafka: KafkaSettings,
    connection: AsyncConnection[Any],
    *,
    topic: str | None = None,
    since: datetime | None = None,
    open_only: bool = False,
) -> list[DeadLetter]:
    """Return the dead letters, the oldest first, one for each record.

    `topic` is the origin's name in the catalogue; `open_only` leaves out dead letters that an operator has resolved,
    and keeps replays that were cut off.

    Raises:
        NoSuchTopic: there is no topic of dead letters.
        aiokafka.errors.KafkaError: the broker cannot be reached.
        psycopg.Error: the database cannot be reached or is not migrated.
    """
    found = await _all(kafka, connection)
    return [
        each
        for each in found
        if (topic is None or (each.origin is not None and each.origin.topic == kafka.topic_prefix + topic))
        and (since is None or each.at >= since)
        and (not open_only or each.state in {State.OPEN, State.BEGUN})
    ]


async def neighbours(kafka: KafkaSettings, position: LogPosition) -> tuple[LogPosition | None, LogPosition | None]:
    """Return the positions before and after a position, as far as the log still has records there."""
    ends = await end_offsets(kafka, [position.topic])
    start, end = next((bounds for found, bounds in ends.items() if found.partition == position.partition), (0, 0))
    before, after = (position._replace(offset=position.offset + step) for step in (-1, 1))
    return (before if start <= before.offset < end else None, after if start <= after.offset < end else None)


# Resolving a dead letter. The connection is in autocommit.


async def replay(
    kafka: KafkaSettings,
    connection: AsyncConnection[Any],
    producer: Producer,
    dead_letter: DeadLetter,
    *,
    operator: str,
    again: bool = False,
) -> LogPosition:
    """Send the dead letter to the topic that it came from, once; return the new record's position.

    `again`: also when a replay of it was cut off. The topic may then have the record twice; the id of its command makes
    that harmless.

    Raises:
        Refused: it was resolved already, another operator is resolving it, or there is nothing that could be sent.
        aiokafka.errors.KafkaError: the broker did not acknowledge the record, and may have it or not.
    """
    outgoing = _outgoing(kafka, dead_letter)
    async with _locked(connection, dead_letter):
        began_at = await stored.claim_replay(connection, dead_letter.stored_key, who=operator, again=again)
        if began_at is None:
            await _refuse_resolved(connection, dead_letter)
        sent_by = Replay(id=uuid4().hex, action=_ACTION_REPLAY, by=operator, at=began_at, of=str(dead_letter.origin))
        failpoint("dead_letters.after_claim")
        position = await producer.send(outgoing._replace(headers=with_replay(outgoing.headers, sent_by)))
        failpoint("dead_letters.after_send")
        async with connection.transaction():
            await stored.mark_replayed(connection, dead_letter.stored_key)
            details = {
                "origin": str(dead_letter.origin),
                "position": str(position),
                "again": again,
                "replay_id": sent_by.id,
            }
            await operator_log.record(
                connection, who=operator, action=_ACTION_REPLAY, target=dead_letter.id, details=details
            )
    return position


async def discard(connection: AsyncConnection[Any], dead_letter: DeadLetter, *, operator: str, note: str) -> None:
    """Note that the dead letter is discarded, and why.

    Raises:
        Refused: it was resolved already, or another operator is resolving it.
    """
    async with _locked(connection, dead_letter), connection.transaction():
        if not await stored.discard(connection, dead_letter.stored_key, who=operator, note=note):
            await _refuse_resolved(connection, dead_letter)
        await operator_log.record(
            connection,
            who=operator,
            action="dead-letters discard",
            target=dead_letter.id,
            details={"origin": str(dead_letter.origin), "note": note},
        )


def refusal(kafka: KafkaSettings, dead_letter: DeadLetter, *, again: bool = False) -> str | None:
    """Return why a replay of the dead letter would be refused now; None: it would be sent."""
    if dead_letter.end is not None and not (again and dead_letter.state is State.BEGUN):
        return _resolved_in_words(dead_letter, dead_letter.end)
    try:
        _outgoing(kafka, dead_letter)
    except Refused as refused:
        return str(refused)
    return None


async def outcome(
    kafka: KafkaSettings,
    connection: AsyncConnection[Any],
    dead_letter: DeadLetter,
    position: LogPosition,
    *,
    within_seconds: float,
) -> Outcome:
    """Wait until the dead letter's consumer has read the replayed record at `position`; return the result."""
    consumer = dead_letter.consumer or PROCESSED_BY[position.topic.removeprefix(kafka.topic_prefix)]
    topic_id = (await admin.topic_ids(kafka, [position.topic]))[position.topic]
    through = {position.partition: position.offset}
    known = await wait_for_consumer(
        connection, consumer, position.topic, topic_id, through, within_seconds=within_seconds
    )
    reason = await stored.reason_at(
        connection,
        consumer=consumer,
        topic=position.topic,
        topic_id=topic_id,
        partition=position.partition,
        offset=position.offset,
    )
    return Outcome(known=known, reason=reason)


async def _refuse_resolved(connection: AsyncConnection[Any], dead_letter: DeadLetter) -> NoReturn:
    end = (await stored.resolutions(connection, dead_letter.topic_id))[dead_letter.partition, dead_letter.offset]
    raise Refused(_resolved_in_words(dead_letter, end))


def _resolved_in_words(dead_letter: DeadLetter, end: Resolution) -> str:
    if end.done_at is not None:
        return f"{dead_letter.id} was {end.ended} by {end.who} at {to_the_second(end.done_at)}."
    return (
        f"{dead_letter.id}: {end.who} began to replay it at {to_the_second(end.began_at)} and was cut off; it may have"
        " been sent or not. --again sends it: the command's id makes a second time harmless."
    )


@asynccontextmanager
async def _locked(connection: AsyncConnection[Any], dead_letter: DeadLetter) -> AsyncIterator[None]:
    """Keep every other operator from the dead letter, for as long as this process runs and no longer."""
    async with stored.locked(connection, dead_letter.stored_key) as is_ours:
        if not is_ours:
            raise Refused(f"{dead_letter.id}: another operator is resolving it at this moment.")
        yield


def _outgoing(kafka: KafkaSettings, dead_letter: DeadLetter) -> Outgoing:
    """Return the record as it was at its origin; its key chooses the partition, as it did there."""
    if dead_letter.origin is None:
        raise Refused(f"{dead_letter.id} does not name its origin. Look at it, and discard it.")
    if dead_letter.origin.topic.removeprefix(kafka.topic_prefix) not in PROCESSED_BY:
        raise Refused(f"{dead_letter.id} comes from {dead_letter.origin.topic}, from which nothing is replayed.")
    if dead_letter.left_behind_bytes is not None:
        raise Refused(
            f"{dead_letter.id} was too large to be kept ({dead_letter.left_behind_bytes} bytes are at"
            f" {dead_letter.origin}) and is too large to be sent again. Discard it."
        )
    return Outgoing(dead_letter.origin.topic, dead_letter.key or b"", dead_letter.value or b"", dead_letter.headers)


# Reading them.


async def _all(kafka: KafkaSettings, connection: AsyncConnection[Any]) -> list[DeadLetter]:
    name = kafka.topic(DEAD_LETTERS)
    ids = await admin.topic_ids(kafka, [name])
    if name not in ids:
        raise NoSuchTopic(f"The topic {name} does not exist. Create it: innkeeper topics create.")
    # All of them: which dead letters are of the same record is known only when every one was read.
    records = [record async for record in read(kafka, name, RecordFilter(), since=None, last=None, follow=False)]
    # The resolutions are read last: a replayed dead letter that came back is never shown beside itself as still open.
    ends = await stored.resolutions(connection, ids[name])
    found: dict[object, DeadLetter] = {}
    for record in records:
        dead_letter = _dead_letter(record, ids[name], ends.get((record.partition, record.offset)))
        same = (
            (dead_letter.consumer, dead_letter.origin, dead_letter.key, dead_letter.value)
            if dead_letter.origin
            else record
        )
        first = found.setdefault(same, dead_letter)
        if first is not dead_letter:
            first.doubles.append(dead_letter.offset)
    return sorted(found.values(), key=lambda dead_letter: (dead_letter.at, dead_letter.partition, dead_letter.offset))


def _dead_letter(record: Record, topic_id: str, end: Resolution | None) -> DeadLetter:
    added: dict[str, bytes] = {}
    headers: list[tuple[str, bytes]] = []
    for name, value in record.headers:
        if name.startswith(_ADDED_PREFIX):
            added[name] = value
        else:
            headers.append((name, value))
    return DeadLetter(
        topic_id=topic_id,
        partition=record.partition,
        offset=record.offset,
        at=time_of(record),
        origin=_record_position(added),
        consumer=_text(added.get("dl_consumer")),
        reason=_text(added.get("dl_reason")) or "no reason is given: no worker of ours sent it here",
        key=record.key,
        value=record.value,
        headers=headers,
        left_behind_bytes=_number(added.get("dl_left_behind")),
        end=end,
    )


def _record_position(added: Mapping[str, bytes]) -> LogPosition | None:
    topic, partition, offset = (
        _text(added.get("dl_topic")),
        _number(added.get("dl_partition")),
        _number(added.get("dl_offset")),
    )
    if topic is None or partition is None or offset is None:
        return None
    return LogPosition(topic, partition, offset)


def booking_of(headers: Sequence[tuple[str, bytes]], value: bytes | None) -> UUID | None:
    """Return the booking that a record names: in its subject, its data, or the metadata of a webhook's object."""
    for text in _booking_ids(headers, value):
        try:
            return UUID(text)
        except (TypeError, ValueError):
            continue
    return None


def _booking_ids(headers: Sequence[tuple[str, bytes]], value: bytes | None) -> Iterator[str | None]:
    yield _text(header(headers, "ce_subject"))
    data: Any = _object(value)
    yield _named(data, "booking_id")
    for name in ("data", "object", "metadata"):
        data = data.get(name) if isinstance(data, Mapping) else None
    if isinstance(data, Mapping):
        yield _named(data, "booking_id")


def _object(value: bytes | None) -> Mapping[str, Any]:
    try:
        body = json.loads(value or b"")
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, Mapping) else {}


def _named(body: Mapping[str, Any], name: str) -> str | None:
    value = body.get(name)
    return value if isinstance(value, str) else None


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode(errors="replace")


def _number(value: bytes | None) -> int | None:
    text = _text(value)
    return int(text) if text is not None and text.isdecimal() else None
