"""Faust's Kafka transport, made safe and fast: one event a run of records, and positions taken from the ledger.

Faust spends about 130 us of Python on each event, more than a booking costs; a run of records as one event makes that
nothing. Its commit to Kafka stays, as a hint; where a partition is read from is what the ledger's cursor says.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

import aiokafka
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage

from workers.log_source import Place

log = logging.getLogger(__name__)

#: How long the broker waits for records before it answers a fetch with none.
FETCH_WAIT_MS = 20
#: How long a rebalance waits for the ledger; after that the agent finds the right place at its first batch.
MOST_TAKE_OVER_SECONDS = 20.0

TakeOver = Callable[[Iterable[Place]], Awaitable[dict[Place, int]]]


class RunConsumer(driver.Consumer):  # type: ignore[misc]
    """Hands the agent runs: one message whose value is the list of records fetched from a partition."""

    def _new_consumer_thread(self) -> "PromptConsumerThread":
        return PromptConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, ConsumerMessage]]:
        """Yield one message a run. The checks are Faust's own for each record, made once for each run."""
        records, active = await self._wait_next_records(timeout)
        generation = self.app.consumer_generation_id
        if records is None or self.should_stop:
            return
        if not self.flow_active:
            await self.perform_seek()
            return
        for tp, run in records.items():
            if not self.flow_active or self.app.consumer_generation_id != generation:
                return
            if run and (active is None or tp in active or tp in self._buffered_partitions):
                self._read_offset[tp] = run[-1].offset - 1
                yield tp, self._as_message(tp, run)

    def _as_message(self, tp: TP, run: list[Any]) -> ConsumerMessage:
        last = run[-1]
        return ConsumerMessage(
            last.topic,
            last.partition,
            last.offset,
            last.timestamp / 1000.0,
            last.timestamp_type,
            [],
            None,
            run,
            None,
            0,
            0,
            tp,
            generation_id=self.app.consumer_generation_id,
        )

    def _new_offset(self, tp: TP) -> int | None:
        """Return the offset to commit: the agent acknowledges in order, so it is one past the highest."""
        acked = self._acked[tp]
        if not acked:
            return None
        highest: int = max(acked)
        acked.clear()
        self._acked_index[tp].clear()
        return highest + 1

    async def perform_seek(self) -> None:
        """Start each partition where the ledger says, after its owner before us has been heard out."""
        await super().perform_seek()
        take_over: TakeOver = self.app.take_over
        places = {Place(tp.topic, tp.partition): tp for tp in self.assignment()}
        if not places:
            return
        task = asyncio.ensure_future(take_over(list(places)))
        try:
            offsets = await asyncio.wait_for(asyncio.shield(task), MOST_TAKE_OVER_SECONDS)
        except TimeoutError:
            log.warning("the ledger does not answer; its cursors are asked again with the first batch")
            return
        await self.start_at({places[place]: offset for place, offset in offsets.items()})

    async def start_at(self, offsets: dict[TP, int]) -> None:
        """Read the partitions from these offsets on."""
        still_ours = {tp: offset for tp, offset in offsets.items() if tp in self.assignment()}
        if still_ours:
            await self._thread.seek_wait(still_ours)
            for tp, offset in still_ours.items():
                self._read_offset[tp] = offset - 1 if offset > 0 else None
                self._committed_offset[tp] = offset

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Tell Kafka how far we came before somebody else goes on."""
        await self.commit()
        await super().on_partitions_revoked(revoked)


class PromptConsumerThread(driver.AIOKafkaConsumerThread):  # type: ignore[misc]
    """Asks the broker for records without Faust's hard-coded wait of 1.5 s."""

    def _create_worker_consumer(self, transport: Any) -> aiokafka.AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS
        return consumer


class RunTransport(driver.Transport):  # type: ignore[misc]
    """The transport of every worker."""

    Consumer = RunConsumer
