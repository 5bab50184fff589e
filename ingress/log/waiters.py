"""Waiting for an event without polling: reads the end of `booking.events`, all partitions, without a consumer group.

Only requests that wait cost anything. While no request waits nothing is fetched; the first one that waits seeks to the
end of the log, and sends its command after that. If the broker fails meanwhile, waiting requests get the 202 that they
would have got without waiting. While one of several brokers is silent, the partitions of the others are read.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from math import ceil
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from topics.backoff import Backoff
from topics.catalogue import BOOKING_EVENTS
from topics.envelope import Undecodable, UnknownType, UnknownVersion, decode_value, header, message_types
from topics.kafka.settings import KafkaSettings
from topics.kafka.silent_brokers import give_up_silent_brokers
from topics.kafka.starting import start_client, stop_consumer
from topics.messages.message import Message

log = logging.getLogger(__name__)

_REREAD_SECONDS: Final = 1.0
# After the last event the log is read a little longer: the same guest often sends the next request at once.
_FOLLOW_ON_SECONDS: Final = 1.0
_EVENTS_FETCH_WAIT_MS: Final = 100
_EVENTS_MS: Final = 10_000
# Leaders that answer do so much sooner; the partitions of one that is silent are left out after that.
_ENDS_SECONDS: Final = 0.5
_TURN_SECONDS: Final = 0.1
_NO_END: Final = "no broker returns the end of the events"
_CAUSATION: Final = "ce_causationid"
_CORRELATION: Final = "ce_correlationid"


@dataclass(eq=False)
class _Waiter:
    answers: Collection[str]
    event: asyncio.Future[Message | None]
    is_answer: Callable[[Message], bool]


class Waiters:
    """Gives events to the requests that wait for them; `run` reads the log."""

    def __init__(self, settings: KafkaSettings, topics_checked: asyncio.Event) -> None:
        self._settings = settings
        self._topics_checked = topics_checked
        self._by_id: defaultdict[tuple[str, bytes], list[_Waiter]] = defaultdict(list)
        self._any_waiter = asyncio.Event()
        self._following = asyncio.Event()
        self._backoff = Backoff(
            "waiting requests cannot read the events",
            first_seconds=_REREAD_SECONDS,
            max_seconds=_REREAD_SECONDS,
        )
        self.ready = False

    @contextmanager
    def register(
        self,
        command_id: str,
        answers: tuple[type[Message], ...],
        *,
        through_others: bool = False,
        is_answer: Callable[[Message], bool] = lambda _: True,
    ) -> Iterator[asyncio.Future[Message | None]]:
        """Yield a future of the first of these events that answers the command; send the command inside the block.

        `through_others`: the event may follow from the command by way of other commands (it has the command's id as
        its correlation, not as its causation). `is_answer`: whether one of these events answers the command. The
        result is None when the process stops.
        """
        key = (_CORRELATION if through_others else _CAUSATION, command_id.encode())
        waiter = _Waiter(message_types(answers), asyncio.get_running_loop().create_future(), is_answer)
        self._by_id[key].append(waiter)
        self._any_waiter.set()
        try:
            yield waiter.event
        finally:
            self._by_id[key].remove(waiter)
            if not self._by_id[key]:
                del self._by_id[key]
            if not self._by_id:
                self._any_waiter.clear()

    def __len__(self) -> int:
        """Return how many requests wait."""
        return sum(len(waiters) for waiters in tuple(self._by_id.values()))

    async def until_following(self, within_seconds: float) -> None:
        """Return when every event from now on will be read, or after this time.

        The time is counted in turns: a machine that freezes for seconds uses up one turn, not all of them.
        """
        for _ in range(ceil(within_seconds / _TURN_SECONDS)):
            if self._following.is_set():
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(_TURN_SECONDS):
                    await self._following.wait()

    def release(self) -> None:
        """End all waiting: the process stops."""
        for waiters in self._by_id.values():
            for waiter in waiters:
                if not waiter.event.done():
                    waiter.event.set_result(None)

    async def run(self) -> None:
        """Read the log until the process ends."""
        await self._topics_checked.wait()
        while True:
            try:
                await self._read()
            except (KafkaError, OSError, TimeoutError) as error:
                await self._backoff.wait(error)

    async def _read(self) -> None:
        consumer = AIOKafkaConsumer(
            **self._settings.client_options(),
            client_id="innkeeper-ingress-waiters",
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="latest",
            fetch_max_wait_ms=_EVENTS_FETCH_WAIT_MS,
            request_timeout_ms=_EVENTS_MS,
        )
        give_up_silent_brokers(consumer._client)  # noqa: SLF001 - the consumer has no public way to its client
        try:
            await start_client(consumer.start())
            topic = self._settings.topic(BOOKING_EVENTS)
            partitions = [TopicPartition(topic, number) for number in range(self._settings.topic_partitions)]
            consumer.assign(partitions)
            await self._from_the_end(consumer)
            self.ready = True
            self._backoff.reset()
            while True:
                consumer.pause(*partitions)
                await self._any_waiter.wait()
                consumer.resume(*partitions)
                await self._from_the_end(consumer)
                self._following.set()
                await self._follow(consumer)
                self._following.clear()
        finally:
            self.ready = False
            self._following.clear()
            await stop_consumer(consumer)

    async def _from_the_end(self, consumer: AIOKafkaConsumer) -> None:
        """Go to the end of the partitions whose leaders answer; the consumer does so for the others once these do."""
        seeking = asyncio.create_task(consumer.seek_to_end())
        try:
            await asyncio.wait([seeking], timeout=_ENDS_SECONDS)
            if not seeking.done():
                await self._until_any_end(consumer)
            elif not seeking.result():
                raise TimeoutError(_NO_END)
        finally:
            seeking.cancel()

    async def _until_any_end(self, consumer: AIOKafkaConsumer) -> None:
        asking = [asyncio.create_task(consumer.position(partition)) for partition in consumer.assignment()]
        try:
            found, _ = await asyncio.wait(asking, timeout=_EVENTS_MS / 1000, return_when=asyncio.FIRST_COMPLETED)
            if not found:
                raise TimeoutError(_NO_END)
        finally:
            for each in asking:
                each.cancel()
            await asyncio.gather(*asking, return_exceptions=True)

    async def _follow(self, consumer: AIOKafkaConsumer) -> None:
        clock = asyncio.get_running_loop().time
        last_waited = clock()
        while self._by_id or clock() - last_waited < _FOLLOW_ON_SECONDS:
            batches = await consumer.getmany(timeout_ms=250)
            if self._by_id:
                last_waited = clock()
                for records in batches.values():
                    self._dispatch(records)

    def _dispatch(self, records: Sequence[Any]) -> None:
        for record in records:
            for name, value in record.headers:
                if (name, value) in self._by_id:
                    self._answer(self._by_id[name, value], record)

    def _answer(self, waiters: Sequence[_Waiter], record: Any) -> None:
        message_type = (header(record.headers, "ce_type") or b"").decode(errors="replace")
        interested = [waiter for waiter in waiters if message_type in waiter.answers and not waiter.event.done()]
        if not interested:
            return
        try:
            event = decode_value(message_type, record.value)
        except (Undecodable, UnknownType, UnknownVersion) as error:
            # The guest polls instead; the consumers of the event handle the record.
            log.warning("an event at %s:%s cannot be read: %s", record.partition, record.offset, error)
            return
        for waiter in interested:
            if waiter.is_answer(event):
                waiter.event.set_result(event)
