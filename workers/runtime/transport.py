"""Faust's Kafka transport, made safe and fast: one event a run of records, and positions taken from the ledger.

Faust spends about 130 us of Python on each event, more than a booking costs; a run of records as one event makes that
nothing. Its commit to Kafka stays, as a hint; where a partition is read from is what the ledger's cursor says.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Mapping
from functools import partial
from typing import Any, Final, Protocol, cast

import aiokafka
from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.errors import IllegalStateError, NodeNotReadyError
from faust.exceptions import ConsumerNotStarted
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, AppT, ConsumerMessage

from workers.runtime.fetch_wait import choose_fetch_wait, end_fetches
from workers.runtime.pause_gate import PauseGate
from workers.runtime.stopping import stop_hard

log = logging.getLogger(__name__)

#: How long a rebalance waits for the ledger; after that the agent finds the right place at its first batch.
MAX_TAKE_OVER_SECONDS = 20.0
#: How long a paused worker waits until it looks again whether it may go on.
REST_SECONDS: Final = 0.2
#: Nobody writes to it. To ask the broker for no partition at all would mean all of them.
NOBODYS: Final = TP("", 0)


class Ledger(Protocol):
    """Who knows where partitions are to be read, and is told when they change hands."""

    async def on_assigned(self, places: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Return the offset to read next, for each partition that became ours."""
        ...

    async def on_revoked(self) -> None:
        """Leave everything tidy for whoever goes on."""
        ...


class RunConsumer(driver.Consumer):
    """Hands the agent runs: one message whose value is the list of records fetched from a partition."""

    logger = driver.logger

    def _new_consumer_thread(self) -> "PromptConsumerThread":
        return PromptConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, ConsumerMessage]]:  # noqa: ASYNC109 - as Faust calls it
        """Yield one message a run. The checks are Faust's own for each record, made once for each run."""
        gate = cast("RunTransport", self.transport).gate
        if gate.shut or gate.holding:
            await self._rest(gate)
            return
        records, active = await self._wait_next_records(timeout)
        generation = self.app.consumer_generation_id
        if records is None or self.should_stop:
            return
        if not self.flow_active:
            await self.perform_seek()
            return
        owned = cast("set[TP]", active)
        for tp, run in records.items():
            if self._interrupted(generation):
                return
            if run and (tp in owned or tp in self._buffered_partitions):
                self._read_offset[tp] = run[-1].offset - 1
                yield tp, self._as_message(tp, run)

    async def _rest(self, gate: PauseGate) -> None:
        """Read nothing, but as often as a member of the group must; when the pause is over, begin at the cursors."""
        if not self.flow_active:
            await self.wait(cast("Any", self.can_resume_flow))
        if self._get_active_partitions():
            await self._getmany(active_partitions={NOBODYS}, timeout=REST_SECONDS)
        else:
            await self.sleep(REST_SECONDS)
        if not self.flow_active:
            await self.perform_seek()
        elif gate.holding and not gate.shut and not self.unacked:
            await self.perform_seek()
            gate.holding = gate.shut

    def _interrupted(self, generation: int) -> bool:
        return not self.flow_active or self.app.consumer_generation_id != generation

    def _as_message(self, tp: TP, run: Any) -> ConsumerMessage:
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
        # What a pause made the agent drop is not done.
        return None if cast("RunTransport", self.transport).gate.holding else highest + 1

    async def perform_seek(self) -> None:
        """Start each partition where the ledger says, after its owner before us has been heard out.

        Faust would ask Kafka for the offsets committed there, one partition after the other, and die of it where one of
        them is taken away meanwhile. Until the ledger answers, the client begins there by itself.
        """
        ledger = cast("RunTransport", self.transport).ledger
        places = {TopicPartition(tp.topic, tp.partition): tp for tp in self.assignment()}
        if not places:
            return
        task = asyncio.ensure_future(ledger.on_assigned(list(places)))
        task.add_done_callback(_stop_if_failed)
        try:
            offsets = await asyncio.wait_for(asyncio.shield(task), MAX_TAKE_OVER_SECONDS)
        except TimeoutError:
            log.warning("the ledger does not answer; its cursors are asked again with the first batch")
            return
        await self.start_at({places[place]: offset for place, offset in offsets.items()})

    async def start_at(self, offsets: dict[TP, int]) -> None:
        """Read the partitions from these offsets on."""
        still_ours = {tp: offset for tp, offset in offsets.items() if tp in self.assignment()}
        if not still_ours:
            return
        try:
            await self._thread.seek_wait(still_ours)
        except IllegalStateError:
            # One of them was taken away this moment; whoever gets them asks the ledger, and so do we for what is left.
            log.info("partitions change hands while they are taken over")
            return
        for tp, offset in still_ours.items():
            self._read_offset[tp] = offset - 1 if offset > 0 else None
            self._committed_offset[tp] = offset

    def end_of(self, tp: TP) -> int | None:
        """Return the offset after the partition's last as the last fetch told it; None before the first."""
        try:
            return cast("int | None", self._thread.highwater(tp))
        except (AssertionError, ConsumerNotStarted):
            # It is not ours any more, or not yet: the client asserts that it is.
            return None

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Tell Kafka and the ledger how far we came before somebody else goes on."""
        await self.commit()
        await super().on_partitions_revoked(revoked)
        await cast("RunTransport", self.transport).ledger.on_revoked()


class PromptConsumerThread(driver.AIOKafkaConsumerThread):
    """Asks the broker for records without Faust's hard-coded wait of 1.5 s, and leaves the group when others go on."""

    logger = driver.logger

    def _create_worker_consumer(self, transport: Any) -> aiokafka.AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        # Faust says "" for no name, which to the broker is a name, and that of every worker without one.
        consumer._group_instance_id = self.app.conf.consumer_group_instance_id or None  # noqa: SLF001 - it has no setting
        client = consumer._client  # noqa: SLF001 - as above
        client.coordinator_lookup = partial(_coordinator_lookup, client)
        return consumer

    async def on_start(self) -> None:
        """Start reading. Whatever ends the client's place in the group ends the process: Faust would wait for ever."""
        await super().on_start()
        assert self._consumer is not None
        choose_fetch_wait(self._consumer)
        self._consumer._coordinator._coordination_task.add_done_callback(_stop_if_failed)  # noqa: SLF001 - as above

    async def _seek_wait(self, consumer: aiokafka.AIOKafkaConsumer, partitions: Mapping[TP, int]) -> None:
        """Read from other offsets on, at once. Runs in the consumer's thread, as every use of the consumer must."""
        end_fetches(consumer)
        await super()._seek_wait(consumer, partitions)

    async def on_thread_stop(self) -> None:
        """Stop reading; what others of the role can go on with is theirs at once, with no wait for us to come back."""
        consumer = self._consumer
        if consumer is not None and _others_go_on(consumer):
            consumer._coordinator._group_instance_id = None  # noqa: SLF001 - only a member without a name leaves
        await super().on_thread_stop()


async def _coordinator_lookup(client: AIOKafkaClient, kind: CoordinationType, name: str) -> int:
    """Ask which broker keeps the group. While a broker comes up it knows of none, itself included: to be asked again.

    Raises:
        NodeNotReadyError: no broker is known. The client asserts that one is, and would never ask again.
    """
    if client.get_random_node() is None:
        raise NodeNotReadyError
    node: int = await AIOKafkaClient.coordinator_lookup(client, kind, name)
    return node


def _others_go_on(consumer: aiokafka.AIOKafkaConsumer) -> bool:
    """Return whether we own something, and somebody else of the role the rest."""
    owned = len(consumer.assignment())
    return 0 < owned < sum(len(consumer.partitions_for_topic(topic) or ()) for topic in consumer.subscription())


def _stop_if_failed(task: asyncio.Task[Any]) -> None:
    """End the process with the error of what it cannot do without; Faust would give up with a status of its own."""
    error = None if task.cancelled() else task.exception()
    if isinstance(error, Exception):
        stop_hard(error)


class RunTransport(driver.Transport):
    """The transport of every worker; `ledger` is asked where to read what becomes ours, and `gate` whether."""

    Consumer = RunConsumer

    def __init__(self, url: Any, app: AppT, ledger: Ledger, gate: PauseGate) -> None:
        super().__init__(url, app)
        self.ledger = ledger
        self.gate = gate
