"""Continues a system whose log is lost, from the ledger that is left: `innkeeper restore --from-ledger`.

The new log gets the events of exported files with their times, then those that the outbox keeps with the times of
their decisions; all have the ids and sequences that they had. Each consumer resumes behind the last event that it has
applied. Commands that were on the lost log and were not decided are lost; those requests are named as far as the
database knows them.
"""

from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from psycopg import AsyncConnection

from operators.restore import coordination, exported, refill, target
from operators.restore.exported import Checked, LoggedEvent
from operators.restore.from_export import Steps, check, require_topics
from operators.restore.log import BEGINNING
from operators.restore.refill import Refilled
from operators.restore.target import NotRestored
from storage import consumer_positions, cursors, lost_log, operator_log, stripe_position
from storage.cursors import CursorKey
from storage.settings import DatabaseSettings
from topics.catalogue import BOOKING_COMMANDS, BOOKING_EVENTS, STRIPE_WEBHOOKS, Topic
from topics.consumers import CONSUMERS
from topics.envelope import Outgoing, header
from topics.kafka import admin
from topics.kafka.log_reader import LogReader, partitions_of
from topics.kafka.records import sequence_of
from topics.kafka.settings import KafkaSettings
from workers.reconciliation.lost_webhooks import LISTED_DAYS

_TOPICS: Final = (BOOKING_COMMANDS, BOOKING_EVENTS, STRIPE_WEBHOOKS)
_DECIDER: Final = "reservations"
_FOLLOWER: Final = "coordination"
#: A webhook is on its topic, from Stripe or from reconciliation, at most so long after its event was made.
_WEBHOOK_LATE: Final = timedelta(hours=1)


@dataclass(frozen=True, kw_only=True)
class LostRequest:
    """A request whose command is lost: the id that its client was given, its account, its endpoint and its time.

    The id is a booking's, or that of a block of nights.
    """

    booking_id: UUID
    user_id: int
    endpoint: str
    sent_at: datetime


@dataclass(frozen=True, kw_only=True)
class Gap:
    """Events of a partition, from the first to the last, that neither files nor outbox have.

    The new log begins behind the last one, so that it lacks those before the first too.
    `missed_by` are our consumers that have not applied all of them.
    """

    partition: int
    first: int
    last: int
    missed_by: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class LedgerPlan:
    """The events and requests that are left, and those that are lost.

    Attributes:
        lost: the names of the topics that are other ones than those that the database knows.
        events: how many events are put back on the log.
        gaps: the events that neither files nor outbox have.
        decided_until: the log's time of the last decision (UTC); commands that were sent later are lost, and those
            before it that were not decided.
        requests: the lost requests with an Idempotency-Key, and those of the desk; of others the database has no trace.
    """

    lost: tuple[str, ...]
    events: int
    gaps: tuple[Gap, ...]
    decided_until: datetime | None
    requests: tuple[LostRequest, ...]


@dataclass
class _State:
    """The cursors of the ledger, and where the events of each partition come from.

    Attributes:
        decided: the sequence of the last event of each partition.
        decided_until: the time of the last decision.
        applied: by consumer and partition, the sequence of the last event that it has applied.
        lost: the topics that are new.
        kept: by partition, the first event of the outbox.
        files: the files; None without any.
        begins: by partition, the sequence of the first event that the new log gets.
    """

    decided: dict[int, int] = field(default_factory=dict)
    decided_until: datetime | None = None
    applied: dict[tuple[str, int], int] = field(default_factory=dict)
    lost: tuple[Topic, ...] = ()
    kept: dict[int, int] = field(default_factory=dict)
    files: Checked | None = None
    begins: dict[int, int] = field(default_factory=dict)

    def in_files(self, partition: int) -> int:
        """Return the last sequence of a partition that the files have."""
        return 0 if self.files is None else self.files.last.get(partition, 0)

    def gaps(self) -> tuple[Gap, ...]:
        """Return the events that the new log lacks."""
        found = []
        for partition, begin in sorted(self.begins.items()):
            first = min(self.in_files(partition) + 1, begin)
            missed_by = tuple(
                name
                for (name, number), last in sorted(self.applied.items())
                if number == partition and last < begin - 1
            )
            if begin > 1:
                found.append(Gap(partition=partition, first=first, last=begin - 1, missed_by=missed_by))
        return tuple(found)

    def events(self) -> int:
        """Return how many events the new log gets."""
        return sum(self.decided[partition] - begin + 1 for partition, begin in self.begins.items())


async def plan(kafka: KafkaSettings, database: DatabaseSettings, folder: Path | None, *, steps: Steps) -> LedgerPlan:
    """Look at the ledger, the topics and the files, and change nothing. Takes and raises what `continue_log` does."""
    async with await target.connect(database) as connection:
        state = await _state(kafka, connection, folder, steps)
        if BOOKING_EVENTS in state.lost:
            async with connection.transaction():
                await refill.check(kafka, _events(kafka, connection, state))
        return await _plan(kafka, connection, state)


async def continue_log(
    kafka: KafkaSettings,
    database: DatabaseSettings,
    folder: Path | None,
    *,
    operator: str,
    despite_gaps: bool,
    steps: Steps,
) -> LedgerPlan:
    """Put the events that are left on the new log, and let every consumer resume there; return what was done.

    Args:
        kafka: where the new, empty topics are.
        database: the database of the lost log.
        folder: the files of `innkeeper export --format jsonl`; None: there are none.
        operator: the operator's name, for the operator log.
        despite_gaps: continue although neither files nor outbox have some events.
        steps: the reports of progress.

    Raises:
        NotRestored: nothing is lost, workers run, the files do not fit, or they and the outbox lack events.
        topics.kafka.log_reader.NoSuchTopic, topics.kafka.admin.TopicsFailed: as `from_export`.
        aiokafka.errors.KafkaError: the broker cannot be reached.
        psycopg.Error: the database cannot be used.
    """
    async with await target.connect(database) as connection, target.alone(connection):
        state = await _state(kafka, connection, folder, steps)
        planned = await _plan(kafka, connection, state)
        if planned.gaps and not despite_gaps:
            raise NotRestored(_sentence(planned.gaps, has_files=folder is not None))
        refilled = await _refill(kafka, connection, state, steps) if BOOKING_EVENTS in state.lost else {}
        if state.lost:
            async with connection.transaction():
                await target.require_no_workers(connection)
                await target.lock_tables(connection)
                if STRIPE_WEBHOOKS in state.lost:
                    await _set_back_webhooks(kafka, connection)
                await _resume(kafka, connection, state, refilled)
                await _record(kafka, connection, state, planned, operator)
        if BOOKING_EVENTS in state.lost or not state.lost:
            # Workers and ingress may use the log from here on, so that the cursors are set before.
            await refill.finish(kafka)
    return planned


def _sentence(gaps: tuple[Gap, ...], *, has_files: bool) -> str:
    missed_by = sorted({name for gap in gaps for name in gap.missed_by})
    first = gaps[0]
    return (
        f"{len(gaps)} partitions lack events on the new log, for instance {first.first} to {first.last} of partition"
        f" {first.partition}: neither {'the files' if has_files else 'a file (--from-export)'} nor the outbox has them."
        f" Its log would begin at {first.last + 1}: 1 to {first.last} would not be on it."
        + (f" {', '.join(missed_by)} would miss some." if missed_by else " Our consumers have applied all of them.")
        + " Look for newer files, or go on without them: --despite-gaps."
    )


# Finding what is left.


async def _state(kafka: KafkaSettings, connection: AsyncConnection, folder: Path | None, steps: Steps) -> _State:
    await target.require_no_workers(connection)
    await require_topics(kafka)
    state = _State()
    for found in await consumer_positions.last_events(
        connection, [kafka.topic(BOOKING_COMMANDS), kafka.topic(BOOKING_EVENTS)]
    ):
        if found.consumer == _DECIDER:
            state.decided[found.partition] = found.sequence
            times = [time for time in (state.decided_until, found.last_time) if time is not None]
            state.decided_until = max(times, default=None)
        elif found.topic == kafka.topic(BOOKING_EVENTS):
            state.applied[found.consumer, found.partition] = found.sequence
    state.lost = await _lost_topics(kafka, connection, has_events=any(state.decided.values()))
    if BOOKING_COMMANDS in state.lost:
        await _require_no_commands(kafka)
    if BOOKING_EVENTS in state.lost:
        if folder is not None:
            state.files = await check(kafka, folder, steps.check)
        await _find_kept(kafka, connection, state)
        _choose_beginnings(state)
    return state


async def _lost_topics(kafka: KafkaSettings, connection: AsyncConnection, *, has_events: bool) -> tuple[Topic, ...]:
    known = await consumer_positions.broker_ids(connection)
    now = await admin.topic_ids(kafka, [kafka.topic(topic) for topic in _TOPICS])
    if kafka.topic(BOOKING_COMMANDS) not in known:
        raise NotRestored("This database has decided nothing yet: there is no log to continue.")
    lost = tuple(
        topic for topic in _TOPICS if known.get(kafka.topic(topic), now[kafka.topic(topic)]) != now[kafka.topic(topic)]
    )
    is_unread = has_events and kafka.topic(BOOKING_EVENTS) not in known
    if is_unread and not await _record_count(kafka, BOOKING_EVENTS):
        # No consumer knows the topic that the events were on.
        lost = (*lost, BOOKING_EVENTS)
    if BOOKING_COMMANDS in lost or BOOKING_EVENTS in lost:
        return lost
    if await refill.is_open(kafka):
        # An earlier call set the cursors, and ended before its last step.
        return ()
    if (beginning := await _late_beginning(kafka)) is not None:
        raise NotRestored(_started_sentence(kafka, *beginning))
    raise NotRestored(
        f"{kafka.topic(BOOKING_EVENTS)} and {kafka.topic(BOOKING_COMMANDS)} are the topics that this database"
        " knows: no log is lost. If one was cut: innkeeper new-generation."
    )


async def _require_no_commands(kafka: KafkaSettings) -> None:
    """Refuse commands on the new topic: their requests would be called lost, and be decided later."""
    name = kafka.topic(BOOKING_COMMANDS)
    if count := await _record_count(kafka, BOOKING_COMMANDS):
        raise NotRestored(
            f"{name} has {count} commands: an ingress has sent them since the log was lost. Stop every ingress, delete"
            f" {name}, and create it anew: innkeeper topics create. Their requests are lost, too."
        )


async def _record_count(kafka: KafkaSettings, topic: Topic) -> int:
    async with LogReader(kafka, fetch_wait_ms=20) as reader:
        ranges = await reader.ranges(await partitions_of(kafka, kafka.topic(topic)))
    return sum(end - first for first, end in ranges.values())


async def _late_beginning(kafka: KafkaSettings) -> tuple[int, int] | None:
    """Return a partition of events whose first one is not event 1, and the sequence of its first one."""
    async with LogReader(kafka, fetch_wait_ms=20) as reader:
        ranges = await reader.ranges(await partitions_of(kafka, kafka.topic(BOOKING_EVENTS)))
        filled = [(partition, first) for partition, (first, end) in ranges.items() if end > first == 0]
        found = await reader.first_records(filled)
    for (partition, _), record in sorted(found.items()):
        if (sequence := sequence_of(record) or 1) > 1:
            return partition.partition, sequence
    return None


def _started_sentence(kafka: KafkaSettings, partition: int, sequence: int) -> str:
    events, commands = kafka.topic(BOOKING_EVENTS), kafka.topic(BOOKING_COMMANDS)
    return (
        f"{events}[{partition}] begins with event {sequence}: the system was started on new topics, or events were left"
        " out by an earlier restore. If files or the outbox have the events before it: let the workers decide what"
        f" waits, stop everything, delete {events}, and {commands} too if it is new as well, run innkeeper topics"
        " create, and restore again."
    )


async def _find_kept(kafka: KafkaSettings, connection: AsyncConnection, state: _State) -> None:
    """Find the first event of each partition from which on the outbox has all of them.

    Events that the files have otherwise count as missing in the files.
    """
    last: dict[int, int] = {}
    async with connection.transaction():
        async for event in _kept(kafka, connection):
            if state.files is not None:
                state.files.cut_before_another(event)
            if last.get(event.partition) != event.sequence - 1:
                state.kept[event.partition] = event.sequence
            last[event.partition] = event.sequence
    for partition, sequence in last.items():
        if sequence != state.decided.get(partition):
            del state.kept[partition]


def _choose_beginnings(state: _State) -> None:
    in_files_alone = () if state.files is None else state.files.last
    for partition in sorted({*state.decided, *in_files_alone}):
        decided, in_files = state.decided.get(partition, 0), state.in_files(partition)
        if in_files > decided:
            raise NotRestored(
                f"The files go up to event {in_files} of partition {partition}, and this database decided up to"
                f" {decided}: it is older than the files. Restore an empty database instead: --from-export alone."
            )
        kept = state.kept.get(partition, decided + 1)
        state.begins[partition] = 1 if kept <= in_files + 1 else kept


async def _kept(kafka: KafkaSettings, connection: AsyncConnection) -> AsyncIterator[LoggedEvent]:
    topic = kafka.topic(BOOKING_EVENTS)
    async for partition, created_at, record in cursors.kept(connection, _DECIDER, kafka.topic(BOOKING_COMMANDS)):
        if record.topic == topic:
            yield _logged(partition, created_at, record)


def _logged(partition: int, created_at: datetime, record: Outgoing) -> LoggedEvent:
    id = (header(record.headers, "ce_id") or b"").decode()
    time_ms = round(created_at.timestamp() * 1000)
    return LoggedEvent(partition, sequence_of(record) or 0, id, time_ms, record.key, record.value, record.headers)


async def _plan(kafka: KafkaSettings, connection: AsyncConnection, state: _State) -> LedgerPlan:
    requests: tuple[LostRequest, ...] = ()
    if BOOKING_COMMANDS in state.lost:
        found = await lost_log.lost_requests(connection)
        requests = tuple(
            LostRequest(booking_id=booking_id, user_id=user_id, endpoint=endpoint, sent_at=sent_at)
            for booking_id, user_id, endpoint, sent_at in found
        )
    return LedgerPlan(
        lost=tuple(kafka.topic(topic) for topic in state.lost),
        events=state.events(),
        gaps=state.gaps(),
        decided_until=state.decided_until,
        requests=requests,
    )


# The new log.


async def _refill(
    kafka: KafkaSettings, connection: AsyncConnection, state: _State, steps: Steps
) -> dict[int, Refilled]:
    count = state.events()
    async with connection.transaction():
        return await refill.refill(kafka, _events(kafka, connection, state), lambda done: steps.refill(done, count))


async def _events(kafka: KafkaSettings, connection: AsyncConnection, state: _State) -> AsyncIterator[LoggedEvent]:
    """Yield the events of the files, and behind them those of the outbox."""
    not_before_ms = 0
    # No event gets a time before that of the one it follows, or an export by days would not have it in its day's file.
    newest_ms: Counter[int] = Counter()
    if state.files is not None:
        # An event that no file has must not get a day whose file is written: no later export would have it.
        not_before_ms = state.files.end_of_whole_days_ms
        for event in exported.events(state.files.files, kafka.topic_partitions, state.files.replaced):
            if state.begins[event.partition] == 1 and event.sequence <= state.in_files(event.partition):
                newest_ms[event.partition] = max(newest_ms[event.partition], event.time_ms)
                yield event
    async for event in _kept(kafka, connection):
        if event.sequence >= state.begins[event.partition] and event.sequence > state.in_files(event.partition):
            newest_ms[event.partition] = max(newest_ms[event.partition], event.time_ms, not_before_ms)
            yield event._replace(time_ms=newest_ms[event.partition])


# The cursors.


async def _resume(
    kafka: KafkaSettings, connection: AsyncConnection, state: _State, refilled: Mapping[int, Refilled]
) -> None:
    """Begin the generations of the new topics, and set each consumer's cursor there."""
    ids = await admin.topic_ids(kafka, [kafka.topic(topic) for topic in state.lost])
    for topic in state.lost:
        name = kafka.topic(topic)
        generation = await cursors.generation(connection, name, ids[name])
        for consumer in CONSUMERS:
            if topic not in consumer.topics:
                continue
            for partition in range(kafka.topic_partitions):
                key = CursorKey(consumer.name, name, partition, generation)
                await cursors.create(connection, key, 0)
                if topic is BOOKING_EVENTS:
                    await _set(connection, state, key, refilled.get(partition) or _empty(state, partition))
        if topic is BOOKING_COMMANDS and BOOKING_EVENTS in state.lost:
            # All that the outbox has of the events is on the new log.
            await cursors.give_up_generations(connection, _DECIDER, name, generation)
    if BOOKING_COMMANDS in state.lost and BOOKING_EVENTS not in state.lost:
        await _set_back_coordination(kafka, connection, state)


async def _set_back_coordination(kafka: KafkaSettings, connection: AsyncConnection, state: _State) -> None:
    """Let coordination read again the events of so long as commands are kept: its own may be among the lost ones."""
    assert BOOKING_COMMANDS.retention is not None
    if state.decided_until is None:
        return
    name = kafka.topic(BOOKING_EVENTS)
    since_ms = int((state.decided_until - BOOKING_COMMANDS.retention).timestamp() * 1000)
    topic_id = (await admin.topic_ids(kafka, [name]))[name]
    applied = await consumer_positions.applied_offsets(connection, _FOLLOWER, name, topic_id, published=False)
    async with LogReader(kafka, fetch_wait_ms=20) as reader:
        at = await reader.offsets_at(dict.fromkeys(await partitions_of(kafka, name), since_ms))
        read_again = {
            each: offset
            for each, offset in at.items()
            if offset is not None and offset <= applied.get(each.partition, -1)
        }
        records = await reader.first_records(read_again.items())
    for (each, offset), record in records.items():
        await cursors.rewind(
            connection,
            consumer=_FOLLOWER,
            topic=name,
            topic_id=topic_id,
            partition=each.partition,
            was=applied[each.partition],
            applied=offset - 1,
            sequence=(sequence_of(record) or 1) - 1,
        )


async def _set(connection: AsyncConnection, state: _State, key: CursorKey, log: Refilled) -> None:
    """Set a cursor of events behind the last event that its consumer has applied."""
    locked = (await cursors.lock(connection, [key]))[key]
    sequence = max(locked.sequence, log.base - 1)
    if key.consumer == _FOLLOWER and BOOKING_COMMANDS in state.lost and state.decided_until is not None:
        # Its commands may be among those that are lost; the same ones follow once more, with the same ids.
        sequence = min(sequence, coordination.place(log.marks, None, state.decided_until).sequence)
    offset = log.offset_of(sequence)
    cursor = replace(locked, applied=offset, published=offset, sequence=sequence, last_hash=None)
    await cursors.save(connection, [cursor], [])


async def _set_back_webhooks(kafka: KafkaSettings, connection: AsyncConnection) -> None:
    """Let reconciliation list Stripe's events again from those on that payments may not have processed."""
    found = await consumer_positions.last_events(connection, [kafka.topic(STRIPE_WEBHOOKS)])
    times = [each.last_time - _WEBHOOK_LATE for each in found if each.last_time is not None]
    if times:
        oldest = datetime.now(UTC) - timedelta(days=LISTED_DAYS) + _WEBHOOK_LATE
        await stripe_position.set_back(connection, max(min(times), oldest))


def _empty(state: _State, partition: int) -> Refilled:
    """Return a partition that got no event."""
    last = state.begins.get(partition, 1) - 1
    return Refilled(last + 1, last, [BEGINNING._replace(sequence=last)])


async def _record(
    kafka: KafkaSettings, connection: AsyncConnection, state: _State, planned: LedgerPlan, operator: str
) -> None:
    details: dict[str, Any] = {"lost": list(planned.lost), "events": planned.events}
    details["gaps"] = [asdict(gap) for gap in planned.gaps]
    if BOOKING_COMMANDS in state.lost:
        details |= lost_log.MARK
        await lost_log.forget_requests(connection)
    await operator_log.record(
        connection, who=operator, action="restore", target=kafka.topic(BOOKING_EVENTS), details=details
    )


__all__ = ["Gap", "LedgerPlan", "LostRequest", "NotRestored", "continue_log", "plan"]
