"""Dead letters: what could not be understood, why, where it came from, and what became of it.

A letter ends once: it is replayed (the same bytes, key and headers go to the topic it came from) or discarded. Who ends
it claims it in `dead_letter_end` first and notes there that it is done last, so that neither two operators at once nor
one who is cut off in between end a letter twice without being told.
"""

import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from psycopg import AsyncConnection

from storage import operator_log
from storage.consumer_positions import wait_for_consumer
from topics.catalogue import DEAD_LETTERS
from topics.consumers import PROCESSED_BY
from topics.envelope import Headers, Outgoing, header
from topics.failpoints import failpoint
from topics.kafka import admin
from topics.kafka.log_reader import NoSuchTopic, Record, Wanted, end_offsets, read
from topics.kafka.producer import Producer
from topics.kafka.settings import KafkaSettings
from topics.times import to_the_second

#: Headers that burying adds to those of the record itself.
_OURS: Final = "dl_"


class Refused(Exception):
    """This may not be done to the letter; says why, in a sentence."""


class State(StrEnum):
    """What became of a letter. `begun`: its replay began, and whether it was sent is not known (yet)."""

    OPEN = "open"
    BEGUN = "begun"
    REPLAYED = "replayed"
    DISCARDED = "discarded"


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """Where a letter stood on the log. `topic` is the broker's name of it."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}[{self.partition}]@{self.offset}"


@dataclass(frozen=True, kw_only=True, slots=True)
class End:
    """What an operator did to a letter, and when (UTC). `done_at` None: not known to be done."""

    ended: str
    who: str
    began_at: datetime
    done_at: datetime | None
    note: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class DeadLetter:
    """One record of `dead.letters`: `key`, `value` and `headers` as the origin had them, and what burying added.

    `at` is the log's time (UTC) at which it was buried. `left_behind_bytes`: it was too large to travel, and only its
    origin has it. `doubles` are the offsets, in the same partition, of letters that say the same of the same record (a
    burial that was published twice).
    """

    topic_id: str
    partition: int
    offset: int
    at: datetime
    origin: Origin | None
    consumer: str | None
    reason: str
    key: bytes | None
    value: bytes | None
    headers: Headers
    left_behind_bytes: int | None
    end: End | None
    doubles: list[int] = field(default_factory=list)

    @property
    def id(self) -> str:
        """Return what operators call it."""
        return f"{self.partition}@{self.offset}"

    # Read when somebody asks: of a hundred thousand letters few are looked at.
    @property
    def type(self) -> str | None:
        """Return what kind of message it is, as far as that can be read."""
        return _text(header(self.headers, "ce_type")) or _named(_object(self.value), "type")

    @property
    def booking(self) -> UUID | None:
        """Return the booking that it is about, if it says."""
        return booking_of(self.headers, self.value)

    @property
    def state(self) -> State:
        """Return what became of it."""
        if self.end is None:
            return State.OPEN
        return State.BEGUN if self.end.done_at is None else State(self.end.ended)


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What a replayed letter led to. `reason`: it could not be read again, and is another dead letter.

    `known` False: its consumer had not come to it in time.
    """

    known: bool
    reason: str | None = None


async def listed(
    kafka: KafkaSettings,
    connection: AsyncConnection[Any],
    *,
    topic: str | None = None,
    since: datetime | None = None,
    open_only: bool = False,
) -> list[DeadLetter]:
    """Return the dead letters, the oldest first, each record's once.

    `topic` is the origin's name in the catalogue; `open_only` leaves out what an operator has ended, and keeps
    replays that were cut off.

    Raises:
        NoSuchTopic: there is no topic of dead letters.
        aiokafka.errors.KafkaError: the broker cannot be reached.
        psycopg.Error: the database cannot be reached or is not migrated.
    """
    letters = await _letters(kafka, connection)
    return [
        letter
        for letter in letters
        if (topic is None or (letter.origin is not None and letter.origin.topic == kafka.topic_prefix + topic))
        and (since is None or letter.at >= since)
        and (not open_only or letter.state in {State.OPEN, State.BEGUN})
    ]


async def neighbours(kafka: KafkaSettings, origin: Origin) -> tuple[Origin | None, Origin | None]:
    """Return the places before and after the origin, as far as the log still has records there."""
    ends = await end_offsets(kafka, [origin.topic])
    start, end = next((bounds for place, bounds in ends.items() if place.partition == origin.partition), (0, 0))
    before, after = (
        Origin(topic=origin.topic, partition=origin.partition, offset=origin.offset + step) for step in (-1, 1)
    )
    return (before if start <= before.offset < end else None, after if start <= after.offset < end else None)


# Ending a letter. The connection is in autocommit.


async def replay(
    kafka: KafkaSettings,
    connection: AsyncConnection[Any],
    producer: Producer,
    letter: DeadLetter,
    *,
    who: str,
    again: bool = False,
) -> Origin:
    """Send the letter to the topic it came from, once; return where it stands there now.

    `again`: also when a replay of it was cut off. It may then stand there twice, which its command's id makes harmless.

    Raises:
        Refused: it was ended already, somebody else is at it, or there is nothing that could be sent.
        aiokafka.errors.KafkaError: the broker did not acknowledge it: it may stand there or not.
    """
    outgoing = _outgoing(kafka, letter)
    async with _alone_at(connection, letter):
        await _claim(connection, letter, who, again=again)
        failpoint("dead_letters.after_claim")
        sent = await producer.send(outgoing)
        failpoint("dead_letters.after_send")
        place = Origin(topic=sent.topic, partition=sent.partition, offset=sent.offset)
        async with connection.transaction():
            await connection.execute(
                'update dead_letter_end set done_at = now() where topic_id = %s and partition = %s and "offset" = %s',
                (letter.topic_id, letter.partition, letter.offset),
            )
            details = {"origin": str(letter.origin), "stands_at": str(place), "again": again}
            await operator_log.record(
                connection, who=who, action="dead-letters replay", target=letter.id, details=details
            )
    return place


async def discard(connection: AsyncConnection[Any], letter: DeadLetter, *, who: str, note: str) -> None:
    """Note that nothing shall become of the letter, and why.

    Raises:
        Refused: it was ended already, or somebody else is at it.
    """
    async with _alone_at(connection, letter), connection.transaction():
        made = await connection.execute(
            'insert into dead_letter_end (topic_id, partition, "offset", ended, who, done_at, note)'
            " values (%s, %s, %s, 'discarded', %s, now(), %s) on conflict do nothing",
            (letter.topic_id, letter.partition, letter.offset, who, note),
        )
        if made.rowcount == 0:
            await _refuse_ended(connection, letter)
        await operator_log.record(
            connection,
            who=who,
            action="dead-letters discard",
            target=letter.id,
            details={"origin": str(letter.origin), "note": note},
        )


def refusal(kafka: KafkaSettings, letter: DeadLetter, *, again: bool = False) -> str | None:
    """Return why the letter would not be replayed as things stand; None: it would."""
    if letter.end is not None and not (again and letter.state is State.BEGUN):
        return _ended_in_words(letter, letter.end)
    try:
        _outgoing(kafka, letter)
    except Refused as refused:
        return str(refused)
    return None


async def outcome(
    kafka: KafkaSettings,
    connection: AsyncConnection[Any],
    letter: DeadLetter,
    place: Origin,
    *,
    within_seconds: float,
) -> Outcome:
    """Wait for what the letter's consumer made of the record at `place`."""
    consumer = letter.consumer or PROCESSED_BY[place.topic.removeprefix(kafka.topic_prefix)]
    topic_id = (await admin.topic_ids(kafka, [place.topic]))[place.topic]
    known = await wait_for_consumer(
        connection, consumer, place.topic, topic_id, {place.partition: place.offset}, within_seconds=within_seconds
    )
    found = await connection.execute(
        "select d.reason from dead_letter d join topic_generation i on i.id = d.generation and i.broker_id = %s"
        ' where d.consumer = %s and d.topic = %s and d.partition = %s and d."offset" = %s',
        (topic_id, consumer, place.topic, place.partition, place.offset),
    )
    row = await found.fetchone()
    return Outcome(known=known, reason=None if row is None else str(row[0]))


async def _claim(connection: AsyncConnection[Any], letter: DeadLetter, who: str, *, again: bool) -> None:
    key = (letter.topic_id, letter.partition, letter.offset)
    made = await connection.execute(
        'insert into dead_letter_end (topic_id, partition, "offset", ended, who)'
        " values (%s, %s, %s, 'replayed', %s) on conflict do nothing",
        (*key, who),
    )
    if made.rowcount == 0 and again:
        made = await connection.execute(
            "update dead_letter_end set who = %s, began_at = now()"
            ' where topic_id = %s and partition = %s and "offset" = %s and done_at is null',
            (who, *key),
        )
    if made.rowcount == 0:
        await _refuse_ended(connection, letter)


async def _refuse_ended(connection: AsyncConnection[Any], letter: DeadLetter) -> None:
    end = (await _ends(connection, letter.topic_id))[letter.partition, letter.offset]
    raise Refused(_ended_in_words(letter, end))


def _ended_in_words(letter: DeadLetter, end: End) -> str:
    if end.done_at is not None:
        return f"{letter.id} was {end.ended} by {end.who} at {to_the_second(end.done_at)}."
    return (
        f"{letter.id}: {end.who} began to replay it at {to_the_second(end.began_at)} and was cut off; it may have been"
        " sent or not. --again sends it: the command's id makes a second time harmless."
    )


@asynccontextmanager
async def _alone_at(connection: AsyncConnection[Any], letter: DeadLetter) -> AsyncIterator[None]:
    """Keep every other operator from the letter, for as long as this process lives and no longer."""
    name = f"innkeeper.dead_letter {letter.topic_id} {letter.id}"
    got = await (await connection.execute("select pg_try_advisory_lock(hashtextextended(%s, 0))", (name,))).fetchone()
    if got is None or not got[0]:
        raise Refused(f"{letter.id}: somebody else is ending it at this moment.")
    try:
        yield
    finally:
        if not connection.broken:
            await connection.execute("select pg_advisory_unlock(hashtextextended(%s, 0))", (name,))


def _outgoing(kafka: KafkaSettings, letter: DeadLetter) -> Outgoing:
    """Return the record as its origin had it; its key chooses the partition, as it did there."""
    if letter.origin is None:
        raise Refused(f"{letter.id} does not say where it came from. Look at it, and discard it.")
    if letter.origin.topic.removeprefix(kafka.topic_prefix) not in PROCESSED_BY:
        raise Refused(f"{letter.id} comes from {letter.origin.topic}, where nothing is played again.")
    if letter.left_behind_bytes is not None:
        raise Refused(
            f"{letter.id} was too large to be kept ({letter.left_behind_bytes} bytes stand at {letter.origin}) and"
            " is too large to be sent again. Discard it."
        )
    return Outgoing(letter.origin.topic, letter.key or b"", letter.value or b"", letter.headers)


# Reading them.


async def _letters(kafka: KafkaSettings, connection: AsyncConnection[Any]) -> list[DeadLetter]:
    name = kafka.topic(DEAD_LETTERS)
    ids = await admin.topic_ids(kafka, [name])
    if name not in ids:
        raise NoSuchTopic(f"The topic {name} does not exist. Create it: innkeeper topics create.")
    # All of them: only who has met every letter knows which of them say the same of the same record.
    records = [record async for record in read(kafka, name, Wanted(), since=None, last=None, follow=False)]
    # Their ends come last: a letter that came back as another one is never shown beside that as if it were still open.
    ends = await _ends(connection, ids[name])
    letters: dict[object, DeadLetter] = {}
    for record in records:
        letter = _letter(record, ids[name], ends.get((record.partition, record.offset)))
        same = (letter.consumer, letter.origin, letter.key, letter.value) if letter.origin else record
        first = letters.setdefault(same, letter)
        if first is not letter:
            first.doubles.append(letter.offset)
    return sorted(letters.values(), key=lambda letter: (letter.at, letter.partition, letter.offset))


def _letter(record: Record, topic_id: str, end: End | None) -> DeadLetter:
    added: dict[str, bytes] = {}
    headers: list[tuple[str, bytes]] = []
    for name, value in record.headers:
        if name.startswith(_OURS):
            added[name] = value
        else:
            headers.append((name, value))
    return DeadLetter(
        topic_id=topic_id,
        partition=record.partition,
        offset=record.offset,
        at=datetime.fromtimestamp(record.timestamp / 1000, UTC),
        origin=_origin(added),
        consumer=_text(added.get("dl_consumer")),
        reason=_text(added.get("dl_reason")) or "no reason is given: this was not buried by a worker of ours",
        key=record.key,
        value=record.value,
        headers=headers,
        left_behind_bytes=_number(added.get("dl_left_behind")),
        end=end,
    )


def _origin(added: Mapping[str, bytes]) -> Origin | None:
    topic, partition, offset = (
        _text(added.get("dl_topic")),
        _number(added.get("dl_partition")),
        _number(added.get("dl_offset")),
    )
    if topic is None or partition is None or offset is None:
        return None
    return Origin(topic=topic, partition=partition, offset=offset)


def booking_of(headers: Sequence[tuple[str, bytes]], value: bytes | None) -> UUID | None:
    """Return the booking that a record is about, if it says: by its subject, its data, or its webhook's metadata."""
    for text in _booking_ids(headers, value):
        try:
            return UUID(text)
        except (TypeError, ValueError):
            continue
    return None


def _booking_ids(headers: Sequence[tuple[str, bytes]], value: bytes | None) -> Iterator[str | None]:
    yield _text(header(headers, "ce_subject"))
    told: Any = _object(value)
    yield _named(told, "booking_id")
    for name in ("data", "object", "metadata"):
        told = told.get(name) if isinstance(told, Mapping) else None
    if isinstance(told, Mapping):
        yield _named(told, "booking_id")


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


async def _ends(connection: AsyncConnection[Any], topic_id: str) -> dict[tuple[int, int], End]:
    rows = await connection.execute(
        'select partition, "offset", ended, who, began_at, done_at, note from dead_letter_end where topic_id = %s',
        (topic_id,),
    )
    return {
        (partition, offset): End(ended=ended, who=who, began_at=began_at, done_at=done_at, note=note)
        async for partition, offset, ended, who, began_at, done_at, note in rows
    }
