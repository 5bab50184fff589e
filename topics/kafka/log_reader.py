"""Reads topics from one offset to another (`LogReader`), and shows a record in words and as a CloudEvent."""

import asyncio
import base64
import json
import re
from collections import defaultdict, deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from heapq import merge
from typing import Any, Final, NamedTuple, Self, TypeAlias

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError, KafkaTimeoutError, OffsetOutOfRangeError

from topics.backoff import Backoff
from topics.envelope import Envelope, Undecodable, decode_envelope, format_time, header
from topics.kafka import admin
from topics.kafka.records import time_of
from topics.kafka.settings import KafkaSettings
from topics.kafka.silent_brokers import give_up_silent_brokers
from topics.kafka.starting import start_client, stop_consumer
from topics.messages.commands import COMMANDS, RoomCommand
from topics.messages.events import EVENTS, RoomEvent

Record: TypeAlias = ConsumerRecord
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_FETCH_TIMEOUT_MS: Final = 500
#: `LogReader` gives up when the broker sends nothing for so long although the log has more.
MAX_SILENCE_SECONDS: Final = 30.0
_TURNS_TO_DROP_FETCHES: Final = 20
#: After so long without a record `LogReader` asks the broker whether the log has the records that are missing.
MISSING_AFTER_SECONDS: Final = 10.0
#: A batch of `LogReader` has at most so many records of all partitions together.
MAX_BATCH_RECORDS: Final = 10_000


class NoSuchTopic(Exception):
    """The broker does not have the topic."""


class RecordsMissing(Exception):
    """The log does not have all records of a range: they were deleted, or the topic was created anew."""


class OffsetRange(NamedTuple):
    """Offsets of one partition, from `first` on and before `end`."""

    first: int
    end: int


class OffsetAndTime(NamedTuple):
    """A record's offset, and its time in milliseconds since 1970."""

    offset: int
    time_ms: int


class LogReader:
    """Reads partitions from one offset to another: each record once, those of a partition in the order of offsets.

    It belongs to no consumer group and commits nothing. Of each assigned partition it fetches at most `fetch_bytes`
    ahead, so the memory it needs does not grow with the log. It is used as an asynchronous context manager:

        async with LogReader(settings) as reader:
            ranges = await reader.ranges(await partitions_of(settings, topic))
            async for record in reader.records(ranges):
                ...
    """

    def __init__(
        self,
        settings: KafkaSettings,
        *,
        client_id: str = "innkeeper-reader",
        fetch_bytes: int = admin.MAX_MESSAGE_BYTES,
        fetch_wait_ms: int = 500,
        max_silence_seconds: float = MAX_SILENCE_SECONDS,
        retry_ms: int = 100,
    ) -> None:
        """Prepare a reader.

        Args:
            settings: the broker, and our credentials there.
            client_id: the name under which the broker knows the reader.
            fetch_bytes: how many bytes of a partition one fetch may return.
            fetch_wait_ms: how long the broker may keep a fetch that finds nothing new. A seek waits for such a fetch.
            max_silence_seconds: reading fails when no record arrives for so long before the end of the range.
            retry_ms: how long aiokafka sleeps between its requests for metadata. It sleeps once for each topic that it
                does not know yet, so a short command needs a short time.
        """
        self._max_silence_seconds = max_silence_seconds
        self._next: dict[TopicPartition, int] = {}
        self._consumer = AIOKafkaConsumer(
            **settings.client_options(),
            client_id=client_id,
            enable_auto_commit=False,
            auto_offset_reset="none",
            max_partition_fetch_bytes=fetch_bytes,
            fetch_max_wait_ms=fetch_wait_ms,
            retry_backoff_ms=retry_ms,
        )
        give_up_silent_brokers(self._consumer._client)  # noqa: SLF001 - aiokafka makes it itself

    async def __aenter__(self) -> Self:
        """Connect to the broker.

        Raises:
            aiokafka.errors.KafkaError: the broker cannot be reached.
        """
        try:
            await start_client(self._consumer.start())
        except BaseException:
            await stop_consumer(self._consumer)
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Disconnect."""
        # aiokafka's fetching task ignores its cancellation, and `stop` then waits for ever, while that task is still
        # dropping the fetches of an assignment that was replaced. This takes it a few turns of the loop.
        for _turn in range(_TURNS_TO_DROP_FETCHES):
            await asyncio.sleep(0)
        await stop_consumer(self._consumer)

    async def partition_counts(self, names: Iterable[str]) -> dict[str, int]:
        """Return the number of partitions of each topic that the broker has and shows us.

        It is called before anything else: aiokafka then asks for all topics in one request, which creates none, and
        knows every leader afterwards. Otherwise it asks again, after a sleep, for each topic that it does not know.
        """
        # aiokafka has no public call that keeps the answer; `AIOKafkaConsumer.topics` asks and forgets it.
        client = self._consumer._client  # noqa: SLF001 - as above
        await client.force_metadata_update()
        counts = {name: client.cluster.partitions_for_topic(name) for name in names}
        return {name: len(numbers) for name, numbers in counts.items() if numbers}

    async def ranges(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, OffsetRange]:
        """Return the offsets that the broker has now: `first` is the oldest record, `end` gets the next one."""
        partitions = list(partitions)
        if not partitions:
            return {}
        starts, ends = await asyncio.gather(
            self._consumer.beginning_offsets(partitions), self._consumer.end_offsets(partitions)
        )
        return {partition: OffsetRange(starts[partition], ends[partition]) for partition in partitions}

    async def offsets_at(self, times_ms: Mapping[TopicPartition, int]) -> dict[TopicPartition, int | None]:
        """Return for each partition the offset of the first record of this time (ms since 1970) or a later one.

        None: there is no such record.
        """
        found = await self.offsets_and_times_at(times_ms)
        return {partition: None if at is None else at.offset for partition, at in found.items()}

    async def offsets_and_times_at(
        self, times_ms: Mapping[TopicPartition, int]
    ) -> dict[TopicPartition, OffsetAndTime | None]:
        """Return as `offsets_at`, with the time of each record found."""
        if not times_ms:
            return {}
        found = await self._consumer.offsets_for_times(dict(times_ms))
        return {
            partition: None if at is None else OffsetAndTime(at.offset, at.timestamp) for partition, at in found.items()
        }

    def assign(self, starts: Mapping[TopicPartition, int]) -> None:
        """Read these partitions and no others, from these offsets on; all of them are fetched ahead."""
        if self._next.keys() != starts.keys():
            self._next.clear()
            self._consumer.assign(list(starts))
        for partition, offset in starts.items():
            self.seek(partition, offset)

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Read an assigned partition from another offset on."""
        self._consumer.seek(partition, offset)
        self._next[partition] = offset

    def position(self, partition: TopicPartition) -> int:
        """Return the offset that is read next of an assigned partition."""
        return self._next[partition]

    async def batches(
        self, ends: Mapping[TopicPartition, int], *, max_records: int = MAX_BATCH_RECORDS
    ) -> AsyncGenerator[dict[TopicPartition, list[Record]], None]:
        """Yield the records of assigned partitions from their positions up to these ends (exclusive), as they arrive.

        Partitions that are assigned and have no end here keep their positions. When the caller stops early, the
        positions are behind the last batch.

        Raises:
            RecordsMissing: the broker no longer has some of these records.
            aiokafka.errors.KafkaError: the broker cannot be reached, or has sent nothing for `max_silence_seconds`.
        """
        clock = asyncio.get_running_loop().time
        silent_since = clock()
        while left := [partition for partition, end in ends.items() if self._next[partition] < end]:
            batch = await self._fetch(left, ends, max_records)
            if batch:
                yield batch
                silent_since = clock()
            elif (silence := clock() - silent_since) > min(self._max_silence_seconds, MISSING_AFTER_SECONDS):
                if (missing := await self._missing(left, ends)) is not None:
                    raise missing
                if silence > self._max_silence_seconds:
                    names = ", ".join(map(_name, left))
                    raise KafkaTimeoutError(f"the broker sent no record of {names} for {silence:.1f} s")

    async def records(self, ranges: Mapping[TopicPartition, OffsetRange]) -> AsyncGenerator[Record, None]:
        """Yield every record of the ranges; assigns their partitions. Raises as `batches`."""
        self.assign({partition: first for partition, (first, _) in ranges.items()})
        async with aclosing(self.batches({partition: end for partition, (_, end) in ranges.items()})) as batches:
            async for batch in batches:
                for records in batch.values():
                    for record in records:
                        yield record

    async def first_records(
        self, positions: Iterable[tuple[TopicPartition, int]]
    ) -> dict[tuple[TopicPartition, int], Record]:
        """Return for each position the first record at or behind it, which must exist; assigns the partitions anew.

        Raises:
            aiokafka.errors.KafkaError: the broker does not send them.
        """
        found: dict[tuple[TopicPartition, int], Record] = {}
        left = sorted(set(positions))
        while left:
            # A consumer has one position in a partition at a time.
            now = dict(left)
            left = [(partition, offset) for partition, offset in left if now[partition] != offset]
            ranges = await self.ranges(now)
            self.assign({partition: max(offset, ranges[partition].first) for partition, offset in now.items()})
            while now:
                async with aclosing(self.batches({partition: ranges[partition].end for partition in now})) as batches:
                    batch = await anext(batches, None)
                if batch is None:
                    raise RecordsMissing(f"{', '.join(map(_name, now))}: there is no record at the requested offset")
                for partition, records in batch.items():
                    found[partition, now.pop(partition)] = records[0]
        return found

    async def follow(self) -> AsyncGenerator[dict[TopicPartition, list[Record]], None]:
        """Yield the records that the assigned partitions have, then those that are written to them, without an end.

        Raises:
            RecordsMissing: the broker no longer has some of these records.
            aiokafka.errors.KafkaError: the broker refuses.
        """
        while True:
            if batch := await self._fetch(list(self._next), {}, MAX_BATCH_RECORDS):
                yield batch

    async def _fetch(
        self, partitions: list[TopicPartition], ends: Mapping[TopicPartition, int], max_records: int
    ) -> dict[TopicPartition, list[Record]]:
        try:
            fetched = await self._consumer.getmany(*partitions, timeout_ms=_FETCH_TIMEOUT_MS, max_records=max_records)
        except OffsetOutOfRangeError as error:
            raise await self._missing(partitions, ends) or error from error
        batch: dict[TopicPartition, list[Record]] = {}
        for partition, records in fetched.items():
            self._next[partition] = records[-1].offset + 1
            end = ends.get(partition)
            if end is not None and self._next[partition] > end:
                records = [record for record in records if record.offset < end]  # noqa: PLW2901 - cut at the end
                self.seek(partition, end)
            if records:
                batch[partition] = records
        if not fetched:
            # Offsets of a transaction's markers belong to no record: only the consumer moves across them.
            for partition in partitions:
                self._next[partition] = await self._consumer.position(partition)
        return batch

    async def _missing(
        self, partitions: Iterable[TopicPartition], ends: Mapping[TopicPartition, int]
    ) -> RecordsMissing | None:
        """Return the error that names the records which the broker does not have; None: it has them all."""
        sentences = []
        for partition, (first, end) in (await self.ranges(partitions)).items():
            next_offset = self._next[partition]
            if not first <= next_offset <= end or end < ends.get(partition, next_offset):
                until = f" up to {ends[partition] - 1}" if partition in ends else ""
                sentences.append(
                    f"{_name(partition)} has offsets from {first} up to {end - 1}, and those from"
                    f" {next_offset}{until} are wanted"
                )
        return RecordsMissing("; ".join(sentences)) if sentences else None


def _name(partition: TopicPartition) -> str:
    return f"{partition.topic}[{partition.partition}]"


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordFilter:
    """A filter for records; None means any. `type` may have wildcards (`booking.re*`)."""

    booking: str | None = None
    room: int | None = None
    type: str | None = None

    @property
    def matches_all(self) -> bool:
        """Whether every record matches."""
        return self == RecordFilter()

    def matches(self, record: Record) -> bool:
        """Return whether the record matches. Foreign bytes are about a booking if they contain its id."""
        return (
            (self.booking is None or self.booking.encode() in (record.value or b""))
            and (self.room is None or (record.key == b"%d" % self.room and not _has_other_key(record)))
            and (self.type is None or fnmatchcase(cloud_event(record)["type"], self.type))
        )


#: The types of messages whose key is the id of a promo code or of a hotel.
_OTHER_KEYS: Final = frozenset(
    kind.message_type for kind in (*COMMANDS, *EVENTS) if not issubclass(kind, RoomCommand | RoomEvent)
)


def _has_other_key(record: Record) -> bool:
    return (header(record.headers, "ce_type") or b"").decode(errors="replace") in _OTHER_KEYS


async def read(
    settings: KafkaSettings,
    name: str,
    record_filter: RecordFilter,
    *,
    since: datetime | None,
    last: int | None,
    follow: bool,
) -> AsyncGenerator[Record, None]:
    """Yield the matching records of a topic since a time, or from the first on; with `last` only the newest of them.

    Records of one partition come in order. It ends at the present end of the log; with `follow` it never ends, also
    when the broker is away for a while.

    Raises:
        NoSuchTopic: there is no topic of this name on the broker.
        aiokafka.errors.KafkaError: the broker cannot be reached.
    """
    partitions = await partitions_of(settings, name)
    if not partitions:
        raise NoSuchTopic(f"The topic {name} does not exist. Create it: innkeeper topics create.")
    async with LogReader(settings) as reader:
        ranges = await reader.ranges(partitions)
        ends = {partition: end for partition, (_, end) in ranges.items()}
        # When every record matches, it is enough to read the last ones of each partition.
        reader.assign(await _starts(reader, ranges, since, last if record_filter.matches_all else None))
        async with aclosing(_matching(_by_time(reader.batches(ends)), record_filter)) as written:
            async for record in written if last is None else _last(written, last):
                yield record
    if follow:
        async with aclosing(_written_from(settings, name, ends)) as coming:
            async for record in _matching(coming, record_filter):
                yield record


async def partitions_of(settings: KafkaSettings, name: str) -> list[TopicPartition]:
    """Return the partitions of a topic by its name on the broker; none if it does not exist."""
    counts = await admin.partition_counts(settings, [name])
    return [TopicPartition(name, number) for number in range(counts.get(name, 0))]


async def _starts(
    reader: LogReader, ranges: Mapping[TopicPartition, OffsetRange], since: datetime | None, last: int | None
) -> dict[TopicPartition, int]:
    """Return the offset to begin at, by partition: at a time, or so many records before the end, or at the first."""
    if since is not None:
        found = await reader.offsets_at(dict.fromkeys(ranges, int(since.timestamp() * 1000)))
        return {partition: ranges[partition].end if at is None else at for partition, at in found.items()}
    if last is not None:
        return {partition: max(first, end - last) for partition, (first, end) in ranges.items()}
    return {partition: first for partition, (first, _) in ranges.items()}


async def end_offsets(settings: KafkaSettings, names: list[str]) -> dict[TopicPartition, OffsetRange]:
    """Return for each partition of the topics its first offset and the offset that the next record will get."""
    counts = await admin.partition_counts(settings, names)
    async with LogReader(settings) as reader:
        return await reader.ranges(
            TopicPartition(name, number) for name, count in counts.items() for number in range(count)
        )


def cloud_event(record: Record) -> dict[str, Any]:
    """Return the record as a CloudEvent in structured mode.

    Extensions of ours have its position on the log. The type of a record without our envelope is the one that a foreign
    event (a webhook) names, else `unreadable`.
    """
    position = {
        "kafkatopic": record.topic,
        "kafkapartition": record.partition,
        "kafkaoffset": record.offset,
        "kafkatime": _text_of_time(record),
    }
    if record.key is not None:
        position["partitionkey"] = record.key.decode(errors="replace")
    try:
        return {**_attributes(decode_envelope(record.headers)), **position, **_content(record.value)}
    except Undecodable:
        return {**_foreign(record), **position, **_content(record.value)}


def line(record: Record, dress: Callable[[str, str], str] = lambda text, _: text) -> str:
    """Return the record in words, on one line.

    `dress` is called with each part's text and its kind: `time`, `position`, `type`, `subject` or `field`.
    """
    event = cloud_event(record)
    data = event.get("data")
    fields = data if isinstance(data, Mapping) else {"data": data if data is not None else event.get("data_base64")}
    parts = [
        dress(_text_of_time(record), "time"),
        dress(f"{record.partition}@{record.offset}", "position"),
        dress(event["type"], "type"),
        dress(event.get("subject", event.get("partitionkey", "-")), "subject"),
        *(dress(f"{name}={_short(value)}", "field") for name, value in fields.items() if name != "booking_id"),
    ]
    if "sequence" in event:
        parts.append(dress(f"#{event['sequence']}", "position"))
    return "  ".join(parts)


def headers(record: Record) -> list[str]:
    """Return the record's headers as text, one a line; bytes that are no text are escaped."""
    return [f"{name}: {(value or b'').decode(errors='backslashreplace')}" for name, value in record.headers]


def moment(text: str, now: datetime) -> datetime:
    """Return the time that a person means by `30s`, `10m`, `2h`, `1d` (ago) or an ISO time (UTC unless it has a zone).

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


async def _written_from(
    settings: KafkaSettings, name: str, starts: Mapping[TopicPartition, int]
) -> AsyncGenerator[Record, None]:
    """Yield each record that is written from these offsets on, without an end; reconnect when the broker was away."""
    offsets = dict(starts)
    backoff = Backoff(f"the reader of {name} waits for the broker")
    while True:
        try:
            async with LogReader(settings) as reader:
                ranges = await reader.ranges(offsets)
                # Retention may have deleted records while the broker was away.
                reader.assign(
                    {partition: max(offset, ranges[partition].first) for partition, offset in offsets.items()}
                )
                async with aclosing(_by_time(reader.follow())) as coming:
                    async for record in coming:
                        backoff.reset()
                        offsets[TopicPartition(record.topic, record.partition)] = record.offset + 1
                        yield record
        except (KafkaError, RecordsMissing, OSError) as error:
            await backoff.wait(error)


async def _matching(found: AsyncGenerator[Record, None], record_filter: RecordFilter) -> AsyncGenerator[Record, None]:
    async with aclosing(found) as records:
        async for record in records:
            if record_filter.matches(record):
                yield record


async def _last(found: AsyncIterator[Record], count: int) -> AsyncIterator[Record]:
    """Yield the newest records, which are among the last of each partition."""
    newest: defaultdict[int, deque[Record]] = defaultdict(lambda: deque(maxlen=count))
    async for record in found:
        newest[record.partition].append(record)
    for record in sorted((each for records in newest.values() for each in records), key=_timestamp)[-count:]:
        yield record


async def _by_time(
    batches: AsyncGenerator[dict[TopicPartition, list[Record]], None],
) -> AsyncGenerator[Record, None]:
    """Yield the records of each batch in the order of time: a batch has one partition after the other."""
    async with aclosing(batches) as found:
        async for batch in found:
            for record in merge(*batch.values(), key=_timestamp):
                yield record


def _text_of_time(record: Record) -> str:
    return format_time(time_of(record)).decode()


def _attributes(envelope: Envelope) -> dict[str, Any]:
    optional = {
        "causationid": envelope.causation,
        "correlationid": envelope.correlation,
        "sequence": envelope.sequence,
        "traceparent": envelope.traceparent,
        "causationposition": envelope.causation_position,
        "actor": envelope.actor,
        "requestid": envelope.request_id,
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
        "time": _text_of_time(record),
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
