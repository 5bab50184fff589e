"""Finds events of Stripe's that no webhook brought, and puts them on `stripe.webhooks` as the ingress would have.

An event is lost if Stripe's list has it and the topic has not, for so long that its webhook should have come. The topic
itself is the memory: it keeps webhooks for the 30 days for which Stripe lists events, and what this role wrote there is
read back, so a process that is killed between writing and saving its position writes nothing twice. Payments decides
about such an event as about any webhook: by the same marks, the same ids of commands, and the same mode.

Reads Stripe's list and `stripe.webhooks`; writes `stripe.webhooks` and `stripe_position`.
"""

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec
from aiokafka import TopicPartition
from aiokafka.errors import UnknownTopicOrPartitionError
from psycopg import AsyncConnection

from storage import stripe_position
from telemetry import metrics, traces
from topics.envelope import UNREADABLE, Outgoing
from topics.failpoints import failpoint
from topics.kafka.log_reader import LogReader, Record
from topics.kafka.producer import Producer
from topics.webhooks import webhook_record
from workers.reconciliation.stripe_client import Event, StripeClient
from workers.stripe.event_types import EVENT_TYPES
from workers.stripe.settings import MAX_STRIPE_CLOCK_SKEW

RECONCILIATION_SOURCE: Final = "innkeeper/reconciliation"
LISTED_DAYS: Final = 30
"""Stripe lists events for so long (docs.stripe.com/api/events/list, read in November 2026)."""
OVERLAP: Final = MAX_STRIPE_CLOCK_SKEW
"""The list is read again from so long before the position: an event may show up in it after younger ones."""
_MAX_SENT_TOGETHER: Final = 100
MAX_LOST_TOGETHER: Final = 1_000
"""So many lost events are kept in memory at a time, and put on the topic in one turn; the next turn has the rest."""
_MAX_NAMED: Final = 5

log = logging.getLogger(__name__)


class _Arrived(msgspec.Struct, frozen=True):
    """The fields of a webhook by which its event is known; `created` in seconds since 1970."""

    id: str
    created: int = 0


_ARRIVED: Final = msgspec.json.Decoder(_Arrived)


class LostWebhooks:
    """Compares Stripe's list of events with `stripe.webhooks`, turn by turn, from the saved position on."""

    def __init__(
        self,
        connection: AsyncConnection,
        client: StripeClient,
        reader: LogReader,
        producer: Producer,
        *,
        topic: str,
        arrival_seconds: float,
    ) -> None:
        """`topic` is the webhooks' name on the broker; an event is lost `arrival_seconds` after it was first listed."""
        self._connection = connection
        self._client = client
        self._reader = reader
        self._producer = producer
        self._topic = topic
        self._arrival_seconds = arrival_seconds
        self._until = datetime.min.replace(tzinfo=UTC)
        self._partitions: list[TopicPartition] = []
        #: The events on the topic that the list may still have: the time at which Stripe made each, by id.
        self._arrived: dict[str, int] = {}
        #: When each event that is not on the topic was first listed, by the loop's clock: no two clocks are compared.
        self._listed_at: dict[str, float] = {}

    async def start(self) -> bool:
        """Continue from the saved position; return whether Stripe still lists everything since then.

        Without a position it begins a little before now.

        Raises:
            aiokafka.errors.KafkaError, psycopg.Error: the broker or the database cannot be used.
        """
        now = datetime.now(UTC)
        saved = await stripe_position.read(self._connection)
        self._until = now - OVERLAP if saved is None else saved.events_until
        # The stand-in's clock may be days ahead of ours, and the position is in its time.
        since = min(self._until, now if saved is None else saved.saved_at) - OVERLAP - MAX_STRIPE_CLOCK_SKEW
        counts = await self._reader.partition_counts([self._topic])
        if not counts:
            raise UnknownTopicOrPartitionError(f"the topic {self._topic} does not exist")
        self._partitions = [TopicPartition(self._topic, number) for number in range(counts[self._topic])]
        ranges = await self._reader.ranges(self._partitions)
        found = await self._reader.offsets_at(dict.fromkeys(self._partitions, int(since.timestamp() * 1000)))
        self._reader.assign({each: ranges[each].end if at is None else at for each, at in found.items()})
        self._arrived.clear()
        self._listed_at.clear()
        return saved is None or saved.events_until > now - timedelta(days=LISTED_DAYS)

    async def turn(self, *, saving: bool = True) -> None:
        """Read the list once, and put the events that are lost by now on the topic; `saving`: move the position.

        Raises:
            workers.reconciliation.stripe_client.StripeUnavailable: Stripe does not answer.
            topics.kafka.log_reader.RecordsMissing: the topic was made anew meanwhile.
            aiokafka.errors.KafkaError, psycopg.Error: the broker or the database cannot be used.
        """
        await self._read_topic()
        now = asyncio.get_running_loop().time()
        newest, missing = self._until, dict[str, datetime]()
        # The list has the newest event first: those that stay are the oldest.
        lost: deque[Event] = deque(maxlen=MAX_LOST_TOGETHER)
        async for event in self._client.events(EVENT_TYPES, self._until - OVERLAP):
            newest = max(newest, event.created)
            if event.id not in self._arrived:
                missing[event.id] = event.created
                if now - self._listed_at.get(event.id, now) >= self._arrival_seconds:
                    lost.append(event)
        self._listed_at = {id: self._listed_at.get(id, now) for id in missing}
        # A webhook comes after those before it.
        await self._put_on_topic(list(reversed(lost)))
        if saving:
            waited_for = [created for id, created in missing.items() if id not in self._arrived]
            # Where nothing happens at Stripe for a month, the position moves all the same.
            newest = max(newest, datetime.now(UTC) - OVERLAP)
            self._until = max(self._until, min(waited_for, default=newest))
            await stripe_position.save(self._connection, self._until)
        self._forget()

    async def _read_topic(self) -> None:
        ends = {each: offsets.end for each, offsets in (await self._reader.ranges(self._partitions)).items()}
        async with aclosing(self._reader.batches(ends)) as batches:
            async for batch in batches:
                for records in batch.values():
                    self._note(records)

    def _note(self, records: Iterable[Record]) -> None:
        for record in records:
            try:
                arrived = _ARRIVED.decode(record.value or b"")
            except UNREADABLE:
                # Payments sends it to the dead-letter topic.
                continue
            self._arrived[arrived.id] = arrived.created

    async def _put_on_topic(self, lost: Sequence[Event]) -> None:
        for start in range(0, len(lost), _MAX_SENT_TOGETHER):
            some = lost[start : start + _MAX_SENT_TOGETHER]
            # A leader that was frozen and lost the lead meanwhile gets an error here, and writes nothing.
            await self._connection.execute("select 1")
            await self._producer.send_all([self._record(event) for event in some])
            failpoint("reconciliation.after_produce")
            for event in some:
                self._arrived[event.id] = int(event.created.timestamp())
                metrics.LOST_WEBHOOKS.add(1, event.type)
        if lost:
            types = ", ".join(f"{count} {type}" for type, count in sorted(Counter(each.type for each in lost).items()))
            named = ", ".join(each.id for each in lost[:_MAX_NAMED]) + (", ..." if len(lost) > _MAX_NAMED else "")
            log.warning("no webhook brought %s; put on %s from Stripe's list (%s)", types, self._topic, named)

    def _record(self, event: Event) -> Outgoing:
        trace = traces.well_formed(event.metadata.get(traces.TRACEPARENT))
        return webhook_record(
            self._topic,
            event.body,
            event_id=event.id,
            object_id=event.object_id,
            room_id=event.metadata.get("room_id"),
            headers=(
                ("source", RECONCILIATION_SOURCE.encode()),
                *(((traces.TRACEPARENT, trace.encode()),) if trace else ()),
            ),
        )

    def _forget(self) -> None:
        """Forget the events before the range that is listed next."""
        since = int((self._until - OVERLAP).timestamp())
        self._arrived = {id: created for id, created in self._arrived.items() if created >= since}
