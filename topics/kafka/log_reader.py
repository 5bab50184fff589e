"""Reads a topic for a person: where to begin, what to show, and how a record looks in words and as a CloudEvent."""

import asyncio
import base64
import json
import logging
import re
from collections import defaultdict, deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from heapq import merge
from typing import Any, Final, TypeAlias

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from topics.envelope import Envelope, Undecodable, decode_envelope, format_time
from topics.kafka import admin
from topics.kafka.settings import KafkaSettings
from topics.kafka.starting import started

Record: TypeAlias = ConsumerRecord
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_FETCH_MS: Final = 500
_FIRST_RECORDS_SECONDS: Final = 30
_AGAIN_SECONDS: Final = 1.0

log = logging.getLogger(__name__)


class NoSuchTopic(Exception):
    """The broker does not have the topic."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """Which records a reader wants to see; None means any. `type` may have wildcards (`booking.re*`)."""

    booking: str | None = None
    room: int | None = None
    type: str | None = None

    @property
    def anything(self) -> bool:
        """Whether every record is wanted."""
        return self == Wanted()

    def has(self, record: Record) -> bool:
        """Tell whether the record is wanted. Foreign bytes are about a booking when its id stands in them."""
        return (
            (self.booking is None or self.booking.encode() in (record.value or b""))
            and (self.room is None or record.key == b"%d" % self.room)
            and (self.type is None or fnmatchcase(cloud_event(record)["type"], self.type))
        )


async def read(
    settings: KafkaSettings, name: str, wanted: Wanted, *, since: datetime | None, last: int | None, follow: bool
) -> AsyncGenerator[Record, None]:
    """Yield the wanted records of a topic since a time, or from the first on; with `last` the youngest so many of them.

    Those of one partition come in order. Ends at what is the end of the log now, unless it follows: then never, also
    when the broker goes away for a while.

    Raises:
        NoSuchTopic: there is no topic of this name on the broker.
        aiokafka.errors.KafkaError: the broker cannot be reached.
    """
    partitions = await partitions_of(settings, name)
    if not partitions:
        raise NoSuchTopic(f"The topic {name} does not exist. Create it: innkeeper topics create.")
    async with open_reader(settings) as consumer:
        # Where every record is wanted, the last of each partition are all that need be read.
        await _begin(consumer, partitions, since, last if wanted.anything else None)
        ends = await consumer.end_offsets(partitions)
        written = _wanted(_until(consumer, ends), wanted)
        async for record in written if last is None else _last(written, last):
            yield record
    if follow:
        async with aclosing(_following(settings, ends)) as coming:
            async for record in _wanted(coming, wanted):
                yield record


@asynccontextmanager
async def open_reader(
    settings: KafkaSettings, fetch_bytes: int = admin.MAX_MESSAGE_BYTES, fetch_wait_ms: int = 500
) -> AsyncIterator[AIOKafkaConsumer]:
    """Open a consumer that belongs to no group and so disturbs nobody.

    It asks for so much of a partition at once. Where nothing new is, the broker answers after so long: who goes to
    and fro in the log is held up by that.

    Raises:
        aiokafka.errors.KafkaError: the broker cannot be reached.
    """
    consumer = AIOKafkaConsumer(
        **settings.client_options(),
        client_id="innkeeper-reader",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=fetch_bytes,
        fetch_max_wait_ms=fetch_wait_ms,
    )
    try:
        await started(consumer.start())
        yield consumer
    finally:
        await consumer.stop()


async def partitions_of(settings: KafkaSettings, name: str) -> list[TopicPartition]:
    """Return the partitions of a topic by its name on the broker; none when it does not exist."""
    counts = await admin.partition_counts(settings, [name])
    return [TopicPartition(name, number) for number in range(counts.get(name, 0))]


async def _begin(
    consumer: AIOKafkaConsumer, partitions: list[TopicPartition], since: datetime | None, last: int | None
) -> None:
    consumer.assign(partitions)
    if since is not None:
        milliseconds = int(since.timestamp() * 1000)
        found = await consumer.offsets_for_times(dict.fromkeys(partitions, milliseconds))
        ends = await consumer.end_offsets(partitions)
        starts = {each: ends[each] if at is None else at.offset for each, at in found.items()}
    else:
        starts = await consumer.beginning_offsets(partitions)
        if last is not None:
            ends = await consumer.end_offsets(partitions)
            starts = {each: max(starts[each], ends[each] - last) for each in partitions}
    for partition, offset in starts.items():
        consumer.seek(partition, offset)


async def end_offsets(settings: KafkaSettings, names: list[str]) -> dict[TopicPartition, tuple[int, int]]:
    """Return for each partition of the topics its first offset and the one that the next record will get."""
    counts = await admin.partition_counts(settings, names)
    async with open_reader(settings) as consumer:
        return await bounds(consumer, counts)


async def bounds(consumer: AIOKafkaConsumer, counts: Mapping[str, int]) -> dict[TopicPartition, tuple[int, int]]:
    """As `end_offsets`, with a reader that is open; `counts` are the partitions of each topic."""
    partitions = [TopicPartition(name, number) for name, count in counts.items() for number in range(count)]
    if not partitions:
        return {}
    starts, ends = await asyncio.gather(consumer.beginning_offsets(partitions), consumer.end_offsets(partitions))
    return {each: (starts[each], ends[each]) for each in partitions}


async def first_records(
    consumer: AIOKafkaConsumer, wanted: Iterable[tuple[TopicPartition, int]]
) -> dict[tuple[TopicPartition, int], Record]:
    """Return for each place the first record that stands there or after it. It must not be the end of the log.

    Raises:
        TimeoutError: the broker does not give them.
    """
    found: dict[tuple[TopicPartition, int], Record] = {}
    left = sorted(set(wanted))
    async with asyncio.timeout(_FIRST_RECORDS_SECONDS):
        while left:
            # A reader stands at one place of a partition at a time.
            now = dict(left)
            left = [(partition, offset) for partition, offset in left if now[partition] != offset]
            consumer.assign(list(now))
            for partition, offset in now.items():
                consumer.seek(partition, offset)
            while now:
                for partition, records in (await consumer.getmany(timeout_ms=_FETCH_MS)).items():
                    if partition in now:
                        found[partition, now.pop(partition)] = records[0]
                        consumer.pause(partition)
    return found


def cloud_event(record: Record) -> dict[str, Any]:
    """Return the record as a CloudEvent in structured mode.

    Where it stands on the log is in extensions of ours. A record without our envelope has `unreadable` as its type, or,
    where it is a foreign event that names one (a webhook), that.
    """
    stands = {
        "kafkatopic": record.topic,
        "kafkapartition": record.partition,
        "kafkaoffset": record.offset,
        "kafkatime": _log_time(record).decode(),
    }
    if record.key is not None:
        stands["partitionkey"] = record.key.decode(errors="replace")
    try:
        return {**_attributes(decode_envelope(record.headers)), **stands, **_content(record.value)}
    except Undecodable:
        return {**_foreign(record), **stands, **_content(record.value)}


def line(record: Record, dress: Callable[[str, str], str] = lambda text, _: text) -> str:
    """Return the record in words, on one line.

    `dress` is given each part's text and what it is: `time`, `place`, `type`, `subject` or `field`.
    """
    event = cloud_event(record)
    data = event.get("data")
    fields = data if isinstance(data, Mapping) else {"data": data if data is not None else event.get("data_base64")}
    parts = [
        dress(_log_time(record).decode(), "time"),
        dress(f"{record.partition}@{record.offset}", "place"),
        dress(event["type"], "type"),
        dress(event.get("subject", event.get("partitionkey", "-")), "subject"),
        *(dress(f"{name}={_short(value)}", "field") for name, value in fields.items() if name != "booking_id"),
    ]
    if "sequence" in event:
        parts.append(dress(f"#{event['sequence']}", "place"))
    return "  ".join(parts)


def headers(record: Record) -> list[str]:
    """Return the record's headers in words, one a line; bytes that are no text are escaped."""
    return [f"{name}: {(value or b'').decode(errors='backslashreplace')}" for name, value in record.headers]


def moment(text: str, now: datetime) -> datetime:
    """Return the time that a person means by `30s`, `10m`, `2h`, `1d` (ago) or an ISO time (UTC unless it says).

    Raises:
        ValueError: it is neither.
    """
    ago = re.fullmatch(r"(\d+)([smhd])", text)
    if ago:
        return now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is neither like 30s, 10m, 2h or 1d nor an ISO time") from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _timestamp(record: Record) -> int:
    milliseconds: int = record.timestamp
    return milliseconds


async def _until(consumer: AIOKafkaConsumer, ends: Mapping[TopicPartition, int]) -> AsyncIterator[Record]:
    while any([await consumer.position(partition) < end for partition, end in ends.items()]):
        for record in await _fetch(consumer):
            if record.offset < ends[TopicPartition(record.topic, record.partition)]:
                yield record


async def _following(settings: KafkaSettings, starts: Mapping[TopicPartition, int]) -> AsyncGenerator[Record, None]:
    """Yield what comes, each record once, for ever; a broker that goes away is waited for."""
    positions = dict(starts)
    while True:
        try:
            async with open_reader(settings) as consumer:
                consumer.assign(list(positions))
                for partition, offset in positions.items():
                    consumer.seek(partition, offset)
                while True:
                    for record in await _fetch(consumer):
                        positions[TopicPartition(record.topic, record.partition)] = record.offset + 1
                        yield record
        except (KafkaError, OSError) as error:
            log.warning("The broker does not answer (%s); waiting for it.", type(error).__name__)
            await asyncio.sleep(_AGAIN_SECONDS)


async def _wanted(found: AsyncIterator[Record], wanted: Wanted) -> AsyncIterator[Record]:
    async for record in found:
        if wanted.has(record):
            yield record


async def _last(found: AsyncIterator[Record], count: int) -> AsyncIterator[Record]:
    """Yield the youngest: they are among the last of each partition."""
    kept: defaultdict[int, deque[Record]] = defaultdict(lambda: deque(maxlen=count))
    async for record in found:
        kept[record.partition].append(record)
    for record in sorted((each for records in kept.values() for each in records), key=_timestamp)[-count:]:
        yield record


async def _fetch(consumer: AIOKafkaConsumer) -> list[Record]:
    runs = await consumer.getmany(timeout_ms=_FETCH_MS)
    # They come one partition after the other; told by time they read as a story.
    return list(merge(*runs.values(), key=_timestamp))


def _log_time(record: Record) -> bytes:
    return format_time(datetime.fromtimestamp(record.timestamp / 1000, UTC))


def _attributes(envelope: Envelope) -> dict[str, Any]:
    optional = {
        "causationid": envelope.causation,
        "correlationid": envelope.correlation,
        "sequence": envelope.sequence,
        "traceparent": envelope.traceparent,
    }
    return {
        "specversion": "1.0",
        "id": envelope.id,
        "type": envelope.type,
        "source": envelope.source,
        "subject": envelope.subject,
        "time": format_time(envelope.time).decode(),
        **{name: value for name, value in optional.items() if value is not None},
    }


def _foreign(record: Record) -> dict[str, Any]:
    content = _content(record.value).get("data")
    named = content if isinstance(content, Mapping) else {}
    return {
        "specversion": "1.0",
        "id": str(named.get("id") or f"{record.topic}/{record.partition}/{record.offset}"),
        "type": str(named.get("type") or "unreadable"),
        "source": record.topic,
        "time": _log_time(record).decode(),
    }


def _content(value: bytes | None) -> dict[str, Any]:
    if value is None:
        return {}
    try:
        return {"datacontenttype": "application/json", "data": json.loads(value)}
    except ValueError:
        return {"datacontenttype": "application/octet-stream", "data_base64": base64.b64encode(value).decode()}


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 200 else f"{text[:200]}..."
