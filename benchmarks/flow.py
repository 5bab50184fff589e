"""An open loop straight to the log: commands at a steady rate, and the wait of each until its event is seen.

It never waits for a decision before it sends the next command, so a pause of the system delays every later command.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import uuid4

from aiokafka import AIOKafkaConsumer, TopicPartition

from benchmarks.extent import Extent
from benchmarks.load import MAX_BOOKED_NIGHTS
from benchmarks.stage import HOTEL, SOURCE, USER, BenchmarkFailed, Rooms
from topics.catalogue import BOOKING_COMMANDS, BOOKING_EVENTS
from topics.envelope import Outgoing, command_record, header
from topics.kafka.producer import Producer, open_producer
from topics.kafka.settings import KafkaSettings
from topics.messages.commands import ReserveStay
from topics.messages.events import BookingReserved

_EVENT_FETCH_WAIT_MS: Final = 20
_MAX_EVENT_WAIT_SECONDS: Final = 120.0


class Flow:
    """Sends stays and reads their events.

    `waits` are seconds from before the send until the event was seen. `seen_at` is the time of the last event, by
    `time.perf_counter`.
    """

    def __init__(self, kafka: KafkaSettings, producer: Producer, rooms: Rooms) -> None:
        self.waits: list[float] = []
        self.seen_at = 0.0
        self._topic = kafka.topic(BOOKING_COMMANDS)
        self._producer = producer
        self._rooms = rooms
        self._sent_at: dict[bytes, float] = {}
        self._sending: set[asyncio.Task[Any]] = set()
        self._chance = random.Random(1)

    async def send_steadily(self, per_s: float, seconds: float | None = None) -> None:
        """Send so many commands a second, evenly, for so many seconds or until cancelled."""
        began = time.perf_counter()
        count = 0
        while seconds is None or count < per_s * seconds:
            pause = began + count / per_s - time.perf_counter()
            if pause > 0:
                await asyncio.sleep(pause)
            self._send()
            count += 1

    async def measure(self, per_s: float, extent: Extent) -> list[float]:
        """Send so many commands a second for a warm-up and for the extent's time; return the latter's waits in ms.

        Raises:
            BenchmarkFailed: as `until_all_are_seen`.
        """
        await self.send_steadily(per_s, extent.warm_up_seconds)
        await self.until_all_are_seen()
        self.waits.clear()
        await self.send_steadily(per_s, extent.seconds)
        await self.until_all_are_seen()
        return [wait * 1000 for wait in self.waits]

    async def until_all_are_seen(self) -> None:
        """Wait until every command's event was seen.

        Raises:
            BenchmarkFailed: some are not seen for a long time, or could not be sent.
        """
        await asyncio.gather(*self._sending)
        deadline = time.perf_counter() + _MAX_EVENT_WAIT_SECONDS
        while self._sent_at:
            if time.perf_counter() > deadline:
                raise BenchmarkFailed(
                    f"{len(self._sent_at)} commands have no event after {_MAX_EVENT_WAIT_SECONDS:.0f} s"
                )
            await asyncio.sleep(0.01)

    def _send(self) -> None:
        command_id = uuid4().hex
        record = self._record(command_id)
        self._sent_at[command_id.encode()] = time.perf_counter()
        task = asyncio.create_task(self._producer.send(record))
        self._sending.add(task)
        task.add_done_callback(self._forget_sent)

    def _forget_sent(self, task: asyncio.Task[Any]) -> None:
        # A task that failed stays, for `until_all_are_seen` to raise.
        if not task.cancelled() and task.exception() is None:
            self._sending.discard(task)

    def _record(self, command_id: str) -> Outgoing:
        chance = self._chance
        nights = chance.randint(1, MAX_BOOKED_NIGHTS)
        check_in = self._rooms.first_night + timedelta(days=chance.randint(0, self._rooms.nights - nights))
        command = ReserveStay(
            room_id=chance.randint(1, self._rooms.count),
            booking_id=uuid4(),
            user_id=USER,
            hotel_id=HOTEL,
            check_in=check_in,
            check_out=check_in + timedelta(days=nights),
        )
        return command_record(self._topic, command, id=command_id, source=SOURCE, time=datetime.now(UTC))

    async def watch(self, consumer: AIOKafkaConsumer) -> None:
        """Read events until cancelled."""
        while True:
            batches = await consumer.getmany(timeout_ms=1000)
            now = time.perf_counter()
            for records in batches.values():
                for record in records:
                    self._see(record, now)

    def _see(self, record: Any, now: float) -> None:
        sent_at = self._sent_at.pop(header(record.headers, "ce_causationid") or b"", None)
        if sent_at is None:
            # A record that was published twice was seen before.
            return
        message_type = (header(record.headers, "ce_type") or b"").decode()
        if message_type != BookingReserved.message_type:
            raise BenchmarkFailed(f"a stay was answered by {message_type}")
        self.waits.append(now - sent_at)
        self.seen_at = now


@asynccontextmanager
async def flow(kafka: KafkaSettings, rooms: Rooms) -> AsyncIterator[Flow]:
    """Open a flow that reads every event from now on."""
    consumer = AIOKafkaConsumer(
        **kafka.client_options(), client_id="innkeeper-benchmarks", fetch_max_wait_ms=_EVENT_FETCH_WAIT_MS
    )
    async with open_producer(kafka, client_id="innkeeper-benchmarks") as producer:
        try:
            await consumer.start()
            topic = kafka.topic(BOOKING_EVENTS)
            consumer.assign([TopicPartition(topic, number) for number in range(kafka.topic_partitions)])
            await consumer.seek_to_end()
            flowing = Flow(kafka, producer, rooms)
            async with asyncio.TaskGroup() as together:
                watching = together.create_task(flowing.watch(consumer))
                yield flowing
                watching.cancel()
        finally:
            with suppress(asyncio.CancelledError):
                await consumer.stop()
