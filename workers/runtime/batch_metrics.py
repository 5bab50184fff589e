"""The metrics and traces of a worker's batches, counted for each batch and, where possible, never for each record.

A booking does not depend on it. Reads the records of a batch and the headers of those that followed from it.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Final

import msgspec
from aiokafka import TopicPartition

from storage.cursors import CursorKey
from telemetry import metrics, traces
from telemetry.metrics import Histogram, Labels
from topics.catalogue import BOOKING_COMMANDS, BOOKING_EVENTS, STRIPE_WEBHOOKS, Topic
from topics.envelope import Headers, Outgoing, header
from topics.messages.events import EVENTS, BookingConfirmed, BookingRejected
from workers.runtime.cursor_state import CursorState
from workers.runtime.role import Received, Record, Role

if TYPE_CHECKING:
    from opentelemetry.trace import Span

#: The histogram of the age of a topic's records when all records that follow from them are published.
_AGES: Final[Mapping[Topic, Histogram]] = {
    BOOKING_COMMANDS: metrics.DECISION_SECONDS,
    BOOKING_EVENTS: metrics.EVENT_SECONDS,
    STRIPE_WEBHOOKS: metrics.WEBHOOK_SECONDS,
}
_timestamp = attrgetter("timestamp")
#: The index at which `encode_headers` puts an event's type; a search would cost more than all other counting here.
_TYPE: Final = 3
_REJECTED: Final = BookingRejected.message_type.encode()
_REASON: Final = b'"reason":'
_CONFIRMED: Final = BookingConfirmed.message_type.encode()


class _Refusal(msgspec.Struct):
    """The part of a `BookingRejected` that is counted."""

    reason: str


_refusal: Final = msgspec.json.Decoder(_Refusal)


class BatchMetrics:
    """Counts one role's batches."""

    def __init__(
        self, role: Role, topics: Mapping[str, Topic], states: Callable[[], Mapping[CursorKey, CursorState]]
    ) -> None:
        """`topics` are those that the role reads, by name on the broker; `states` returns its cursors."""
        self._ages = {name: _AGES[topic].of() for name, topic in topics.items()}
        self._decides = BOOKING_COMMANDS in role.topics
        self._states = states
        self._ends: Callable[[TopicPartition], int | None] = lambda _: None
        self._partition_records = metrics.PARTITION_BATCH_RECORDS.of()
        self._batches = metrics.BATCH_RECORDS.of()
        self._transactions = metrics.TRANSACTION_SECONDS.of()
        self._publishing = metrics.PUBLISH_SECONDS.of()
        self._began = self._committed = 0.0
        self._name = role.name
        self._topics = topics
        self._began_ns = 0
        self._spans: dict[tuple[str, int, int], Span] = {}
        self.traces = traces.on()
        for name, topic in topics.items():
            for consumer in role.consumers:
                if topic in consumer.topics:
                    metrics.DEAD_LETTERS.add(0, consumer.name, name)
        if self._decides:
            for event in EVENTS:
                metrics.DECISIONS.add(0, event.message_type)
        metrics.LAG.set_function(self._lags)

    def read_ends_from(self, ends: Callable[[TopicPartition], int | None]) -> None:
        """Call `ends` for the offset after a partition's last record, as of the last fetch."""
        self._ends = ends

    def note_begin(self) -> None:
        """Note that a batch's transaction begins."""
        self._began = time.perf_counter()
        if self.traces:
            self._began_ns = time.time_ns()
            self._spans.clear()

    def note_commit(self) -> None:
        """Note that a batch's transaction is committed."""
        self._committed = time.perf_counter()
        self._transactions.observe(self._committed - self._began)

    def note_published(self, batch: Mapping[TopicPartition, Sequence[Record]], outgoing: Sequence[Outgoing]) -> None:
        """Count a batch when the broker has every record that followed; `batch` has its records by partition."""
        if outgoing:
            self._publishing.observe(time.perf_counter() - self._committed)
        now_ms = time.time_ns() // 1_000_000
        total = 0
        for partition, records in batch.items():
            count = len(records)
            total += count
            metrics.RECORDS.add(count, partition.topic)
            self._partition_records.observe(count)
            age = self._ages[partition.topic]
            # Many records have the same millisecond.
            for timestamp_ms, times in Counter(map(_timestamp, records)).items():
                age.observe((now_ms - timestamp_ms) / 1000, times)
        self._batches.observe(total)
        if self._decides:
            _count_decisions(outgoing, now_ms)
        if self._spans:
            traces.end_together(f"{self._name} batch", self._began_ns, tuple(self._spans.values()))
            self._spans.clear()

    def begin_span(self, received: Received) -> Received:
        """Begin the span of a record whose trace is sampled; return the record, whose events become parts of that span.

        An event keeps the trace that it has: payments derives calls from it, which must be the same in every process.
        """
        record, envelope = received.record, received.envelope
        parent = header(record.headers, traces.TRACEPARENT) if envelope is None else envelope.traceparent
        if isinstance(parent, bytes):
            parent = parent.decode(errors="replace")
        kind = record.topic if envelope is None else envelope.type
        span = None if parent is None else traces.begin(f"{self._name} {kind}", parent, _attributes(received))
        if span is None:
            return received
        self._spans[record.topic, record.partition, record.offset] = span
        if envelope is None or self._topics[record.topic] is not BOOKING_COMMANDS:
            return received
        return received._replace(envelope=msgspec.structs.replace(envelope, traceparent=traces.traceparent_of(span)))

    def count_dead_letters(self, cursors: Iterable[CursorKey]) -> None:
        """Count a record that these consumers sent to the dead-letter topic."""
        for key in cursors:
            metrics.DEAD_LETTERS.add(1, key.consumer, key.topic)

    def _lags(self) -> Iterable[tuple[Labels, float]]:
        for key, state in tuple(self._states().items()):
            end = self._ends(TopicPartition(key.topic, key.partition))
            if end is not None:
                yield (key.consumer, key.topic, str(key.partition)), max(0, end - state.applied - 1)


def _attributes(received: Received) -> dict[str, str | int]:
    record, envelope = received.record, received.envelope
    attributes: dict[str, str | int] = {
        "messaging.system": "kafka",
        "messaging.destination.name": record.topic,
        "messaging.destination.partition.id": str(record.partition),
        "messaging.kafka.offset": record.offset,
    }
    return (
        attributes
        if envelope is None
        else attributes | {"innkeeper.subject": envelope.subject, "messaging.message.id": envelope.id}
    )


def _count_decisions(outgoing: Sequence[Outgoing], now_ms: int) -> None:
    counted = Counter([record.headers[_TYPE][1] for record in outgoing])
    for message_type, times in counted.items():
        metrics.DECISIONS.add(times, message_type.decode())
    if _REJECTED in counted:
        # The value from its reason on has few different forms, and each of them is decoded once.
        endings = [r.value.partition(_REASON)[2] for r in outgoing if r.headers[_TYPE][1] == _REJECTED]
        for ending, times in Counter(endings).items():
            metrics.REJECTIONS.add(times, _refusal.decode(b"{" + _REASON + ending).reason)
    if _CONFIRMED in counted:
        for record in outgoing:
            if record.headers[_TYPE][1] == _CONFIRMED and (requested_ms := requested_at_ms(record.headers)) is not None:
                metrics.CONFIRMATION_SECONDS.of().observe((now_ms - requested_ms) / 1000)


def requested_at_ms(headers: Headers) -> int | None:
    """Return when an event's booking was requested, in ms since 1970; None for an id that the ingress did not make."""
    subject = header(headers, "ce_subject")
    if subject is None or len(subject) != 36 or subject[14:15] != b"8":
        return None
    return int(subject[:8] + subject[9:13], 16)
