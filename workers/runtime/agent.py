"""The one Faust adapter: a role's consumers become an agent that never loses or skips a record.

A Faust event is the list of records that one fetch brought from one partition. The batch processor commits all waiting
events and publishes the records that follow from them; only then are the events acknowledged. No exception leaves the
agent's body, since Faust would acknowledge and continue: it ends the process with status 70, and a supervisor starts it
again.
"""

import asyncio
import logging
import os
import socket
import tempfile
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final, cast

import faust
from aiokafka import TopicPartition
from faust.tables import TableManager
from faust.types import TP
from faust.types.auth import CredentialsT

from storage.settings import DatabaseSettings
from topics.kafka.settings import KafkaSettings
from workers.runtime.batch_processor import BatchProcessor, dependencies_of
from workers.runtime.membership import SESSION_SECONDS
from workers.runtime.pause_gate import PauseGate, keep_updated
from workers.runtime.role import Role
from workers.runtime.stopping import stop_hard
from workers.runtime.taking import take_waiting
from workers.runtime.transport import WorkerConsumer, WorkerTransport

log = logging.getLogger(__name__)

#: The number of events that may wait; all of them become one batch, so that batches grow with the load.
MAX_WAITING: Final = 32
_MARK_SECONDS: Final = 1.0


class NoTables(TableManager):
    """Faust's manager of tables, which none of our roles has. Faust's own waits a second for them at each start."""

    async def on_start(self) -> None:
        """Let the agent begin."""
        await self._update_channels()
        await self.recovery.start()


def build_app(role: Role, kafka: KafkaSettings, database: DatabaseSettings, name: str | None = None) -> faust.App:
    """Return the Faust app of a worker. `name`, unique and stable, makes its membership static."""
    processor = BatchProcessor(role, kafka, dependencies_of(role, kafka, database, name or f"innkeeper-{role.name}"))
    gate = PauseGate()
    app = faust.App(
        kafka.group(role.name),
        broker=[f"kafka://{address}" for address in kafka.kafka_url.split(",")],
        broker_credentials=_credentials(kafka.client_options()),
        value_serializer="raw",
        key_serializer="raw",
        topic_allow_declare=False,
        topic_disable_leader=True,
        table_standby_replicas=0,
        stream_wait_empty=True,
        stream_buffer_maxsize=MAX_WAITING,
        # Only a hint for tools: workers begin at the cursors in the database. Revoked partitions are committed at once.
        broker_commit_interval=5.0,
        broker_session_timeout=SESSION_SECONDS,
        # A worker learns from a heartbeat's answer that another one joined or left; until then it keeps its partitions.
        broker_heartbeat_interval=0.5,
        broker_rebalance_timeout=30,
        broker_max_poll_records=2000,
        consumer_auto_offset_reset="earliest",
        consumer_group_instance_id=name,
        # The name under which the broker lists this process as the one that its partitions are assigned to.
        broker_client_id=name or f"{role.name}-{socket.gethostname()}-{os.getpid()}",
        producer_acks=-1,
        web_enabled=False,
        TableManager=NoTables,
        autodiscover=False,
        # Faust makes this folder for tables; there are none.
        datadir=Path(tempfile.gettempdir()) / "innkeeper-faust",
    )
    app.transport = WorkerTransport(app.conf.broker_consumer, app, processor, gate)
    processor.metrics.read_ends_from(lambda partition: cast("WorkerConsumer", app.consumer).end_of(TP(*partition)))
    names = [kafka.topic(topic) for topic in role.topics]
    _agent(app, app.topic(*names, value_type=bytes, key_type=bytes), processor, gate)
    _tasks(app, role, processor, gate, partial(keep_updated, database, role.name, gate, name))
    return app


def _credentials(options: Mapping[str, Any]) -> CredentialsT | None:
    """Return the Kafka client's credentials as Faust takes them."""
    tls = options.get("ssl_context")
    if "sasl_mechanism" not in options:
        return None if tls is None else faust.SSLCredentials(tls)
    return faust.SASLCredentials(
        username=options["sasl_plain_username"],
        password=options["sasl_plain_password"],
        mechanism=options["sasl_mechanism"],
        ssl_context=tls,
    )


def _agent(app: faust.App, channel: Any, processor: BatchProcessor, gate: PauseGate) -> None:
    @app.agent(channel)
    async def process(stream: Any) -> None:
        events = cast("Any", stream).noack()
        try:
            async for waiting in take_waiting(events):
                # Events dropped because of a pause are acknowledged to Faust alone; their records are read again later.
                seeks = {} if gate.draining else await processor.process(event.value for event in waiting)
                for event in waiting:
                    await events.ack(event)
                await _seek(app, seeks)
        except Exception as error:  # noqa: BLE001 - no error may leave the body
            stop_hard(error)


async def _seek(app: faust.App, seeks: dict[TopicPartition, int]) -> None:
    if seeks:
        consumer = cast("WorkerConsumer", app.consumer)
        await consumer.start_at({TP(*partition): offset for partition, offset in seeks.items()})


def _tasks(
    app: faust.App, role: Role, processor: BatchProcessor, gate: PauseGate, update_gate: Callable[[], Awaitable[None]]
) -> None:
    async def log_ready(_: faust.App, assigned: Iterable[TP], **__: Any) -> None:
        log.info("worker ready: %s has %d partitions", role.name, len(set(assigned)))

    async def mark_published() -> None:
        while True:
            await asyncio.sleep(_MARK_SECONDS)
            await _run_or_stop(processor.mark_published)

    async def run_background() -> None:
        if role.background is not None:
            await _run_or_stop(partial(gate.run_while_resumed, role.background))

    async def follow_pauses() -> None:
        await _run_or_stop(update_gate)

    async def close(*_: Any, **__: Any) -> None:
        await processor.close()

    app.on_partitions_assigned.connect(cast("Any", log_ready))
    app.on_before_shutdown.connect(cast("Any", close))
    app.task(mark_published)
    app.task(run_background)
    app.task(follow_pauses)


async def _run_or_stop(work: Callable[[], Awaitable[None]]) -> None:
    try:
        await work()
    except Exception as error:  # noqa: BLE001 - as in the agent
        stop_hard(error)
