"""Puts events back on an empty `booking.events`: with the ids, sequences and times given, in the same partitions.

While it works, the topic keeps the times of its producer, as no topic of a running system does: workers and ingress do
not start with it. So a log that is only half there is not taken for a whole one. The same call continues it.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from aiokafka import TopicPartition

from operators.restore.exported import LoggedEvent
from operators.restore.log import BEGINNING, EVENTS_BETWEEN_MARKS, Mark
from operators.restore.target import NotRestored
from topics.catalogue import BOOKING_EVENTS
from topics.envelope import Outgoing, header
from topics.kafka import admin
from topics.kafka.log_reader import LogReader, OffsetRange, Record, partitions_of
from topics.kafka.producer import Producer, open_producer
from topics.kafka.records import sequence_of
from topics.kafka.settings import KafkaSettings

#: So many events are sent at a time, and acknowledged before the next are read.
_EVENTS_IN_CHUNK: Final = 5_000
_REQUEST_SECONDS: Final = 60.0

Progress = Callable[[int], None]


@dataclass
class Refilled:
    """One partition of the log after it was filled.

    Attributes:
        base: the sequence of the event at offset 0.
        last: the sequence of its last event.
        marks: places in the partition, the one before its first event first.
    """

    base: int
    last: int
    marks: list[Mark] = field(default_factory=list)

    def offset_of(self, sequence: int) -> int:
        """Return the offset of the event with this sequence; -1 is before the first."""
        return sequence - self.base


#: By partition, what the log has already: the first and the last sequence, and the id of the last event.
_LoggedBefore = dict[int, tuple[int, int, str]]


async def refill(
    kafka: KafkaSettings,
    events: AsyncIterator[LoggedEvent],
    progress: Progress | None = None,
) -> dict[int, Refilled]:
    """Put events on the log, those of a partition one behind the other; return the partitions that have any.

    Args:
        kafka: where the topic is. Events of an interrupted call stay there, and are not sent again.
        events: all events, those of a partition in the order of their sequence, without a gap.
        progress: called with the number of events that the log has.

    Raises:
        NotRestored: the log has other events, or an event twice.
        topics.kafka.admin.TopicsFailed: we may not create the topic anew, or change its settings.
        aiokafka.errors.KafkaError: the broker cannot be reached, or refuses the events.
    """
    before = await _logged_before(kafka)
    if not before:
        await admin.create_with_own_times(kafka, BOOKING_EVENTS)
    keeps_times = await admin.keeps_times(kafka, BOOKING_EVENTS)
    refilled: dict[int, Refilled] = {}
    count = 0
    # A request that is sent again must not store its events twice: the offset of each event follows from its sequence.
    idempotent = kafka.model_copy(update={"kafka_idempotent": True})
    async with open_producer(
        idempotent, client_id="innkeeper-restore", request_timeout_seconds=_REQUEST_SECONDS
    ) as producer:
        chunk: list[Outgoing] = []
        async for event in events:
            count += 1
            _note(refilled, event)
            if _is_new(before, event, keeps_times=keeps_times):
                chunk.append(_outgoing(kafka, event))
            if len(chunk) == _EVENTS_IN_CHUNK:
                await _send(producer, chunk)
                chunk = []
            if progress is not None and count % _EVENTS_IN_CHUNK == 0:
                progress(count)
        await _send(producer, chunk)
    _require_all_there(before, refilled)
    await _require_ends(kafka, refilled)
    return refilled


async def check(kafka: KafkaSettings, events: AsyncIterator[LoggedEvent]) -> None:
    """Refuse a log that `refill` would refuse, and change nothing. Takes and raises what `refill` does."""
    if not (before := await _logged_before(kafka)):
        return
    keeps_times = await admin.keeps_times(kafka, BOOKING_EVENTS)
    refilled: dict[int, Refilled] = {}
    async for event in events:
        _note(refilled, event)
        _is_new(before, event, keeps_times=keeps_times)
    _require_all_there(before, refilled)


async def is_open(kafka: KafkaSettings) -> bool:
    """Return whether the topic keeps the times of its producer, as before `finish`. Raises as `refill`."""
    return not kafka.topic_create_time and await admin.keeps_times(kafka, BOOKING_EVENTS)


async def finish(kafka: KafkaSettings) -> None:
    """Let the topic take the broker's time again, as workers and ingress require it. Raises as `refill`."""
    await admin.configure(kafka, BOOKING_EVENTS)


def _require_all_there(before: _LoggedBefore, refilled: Mapping[int, Refilled]) -> None:
    for partition, (_, last, _) in before.items():
        if partition not in refilled or refilled[partition].last < last:
            raise _other_events(partition)


async def _require_ends(kafka: KafkaSettings, refilled: Mapping[int, Refilled]) -> None:
    """Refuse a log on which an event is not at the offset that follows from its sequence."""
    for partition, (first, end) in (await _ranges(kafka)).items():
        filled = refilled.get(partition.partition)
        count = 0 if filled is None else filled.last - filled.base + 1
        if (first, end) != (0, count):
            raise NotRestored(
                f"{partition.topic}[{partition.partition}] has offsets {first} to {end - 1} after {count} events were"
                " put there: another process wrote to it. Stop it, delete the topic, run innkeeper topics create, and"
                " restore again."
            )


async def _ranges(kafka: KafkaSettings) -> dict[TopicPartition, OffsetRange]:
    async with LogReader(kafka, fetch_wait_ms=20) as reader:
        return await reader.ranges(await partitions_of(kafka, kafka.topic(BOOKING_EVENTS)))


async def _send(producer: Producer, chunk: list[Outgoing]) -> None:
    if chunk:
        await producer.send_all(chunk)


def _note(refilled: dict[int, Refilled], event: LoggedEvent) -> None:
    at = refilled.get(event.partition)
    if at is None:
        before = BEGINNING._replace(sequence=event.sequence - 1)
        refilled[event.partition] = at = Refilled(event.sequence, event.sequence - 1, [before])
    at.last = event.sequence
    if event.sequence % EVENTS_BETWEEN_MARKS == 0:
        time = datetime.fromtimestamp(event.time_ms / 1000, UTC)
        at.marks.append(Mark(at.offset_of(event.sequence), event.sequence, time, None))


def _outgoing(kafka: KafkaSettings, event: LoggedEvent) -> Outgoing:
    return Outgoing(
        kafka.topic(BOOKING_EVENTS), event.key, event.value, list(event.headers), event.partition, event.time_ms
    )


def _is_new(before: _LoggedBefore, event: LoggedEvent, *, keeps_times: bool) -> bool:
    """Return whether the log does not have the event yet.

    Raises:
        NotRestored: the log has another event in its place, or does not keep the event's time.
    """
    first, last, id = before.get(event.partition, (event.sequence, event.sequence - 1, ""))
    is_new = event.sequence > last
    if event.sequence < first or (event.sequence == last and event.id != id) or (is_new and not keeps_times):
        raise _other_events(event.partition)
    return is_new


def _other_events(partition: int) -> NotRestored:
    return NotRestored(
        f"{BOOKING_EVENTS.name}[{partition}] has events that are not among those to be restored: the system"
        " was started meanwhile, or the files are older. Create the topics anew: delete them, then innkeeper topics"
        " create."
    )


async def _logged_before(kafka: KafkaSettings) -> _LoggedBefore:
    """Return what an interrupted call left on the log."""
    filled = {partition: range for partition, range in (await _ranges(kafka)).items() if range.end > range.first}
    if not filled:
        return _LoggedBefore()
    async with LogReader(kafka, fetch_bytes=64 * 2**10, fetch_wait_ms=20) as reader:
        firsts = await reader.first_records((partition, first) for partition, (first, _) in filled.items())
        lasts = await reader.first_records((partition, end - 1) for partition, (_, end) in filled.items())
    before = _LoggedBefore()
    for partition, (first, end) in filled.items():
        first_sequence = sequence_of(firsts[partition, first]) or 0
        last_sequence = sequence_of(lasts[partition, end - 1]) or 0
        if first != 0 or not first_sequence or last_sequence - first_sequence != end - 1:
            raise _other_events(partition.partition)
        before[partition.partition] = (first_sequence, last_sequence, _id(lasts[partition, end - 1]))
    return before


def _id(record: Record) -> str:
    return (header(record.headers, "ce_id") or b"").decode(errors="replace")
