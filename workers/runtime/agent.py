"""The one Faust adapter: a role's consumers become an agent that never loses or skips a record.

Reads the role's topics in runs and hands them to the batch processor, which commits and publishes; only then is a run
acknowledged. Nothing leaves the agent's body by accident: what cannot be carried out ends the process with status 70,
and a supervisor starts it again.
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
from faust.types import TP
from faust.types.auth import CredentialsT

from storage.settings import DatabaseSettings
from topics.kafka.settings import KafkaSettings
from workers.runtime.batch_processor import BatchProcessor
from workers.runtime.pause_gate import PauseGate, watch
from workers.runtime.role import Role
from workers.runtime.stopping import stop_hard
from workers.runtime.taking import take_waiting
from workers.runtime.transport import RunConsumer, RunTransport

log = logging.getLogger(__name__)

#: How many runs may wait; all of them are taken at once, so a wait makes batches larger and load regulates itself.
RUNS_WAITING: Final = 32
_SETTLE_SECONDS: Final = 1.0


def build_app(role: Role, kafka: KafkaSettings, database: DatabaseSettings, name: str | None = None) -> faust.App:
    """Return the Faust app of a worker. `name`, unique and stable, makes its membership static."""
    runs = BatchProcessor(role, kafka, database, client_id=name or f"innkeeper-{role.name}")
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
        stream_buffer_maxsize=RUNS_WAITING,
        # A hint for tools, no more: the ledger's cursor says how far we came, and a hand-over commits at once.
        broker_commit_interval=5.0,
        broker_session_timeout=10,
        # At a heartbeat a worker hears that another came or went; nobody decides for a partition before it has.
        broker_heartbeat_interval=0.5,
        broker_rebalance_timeout=30,
        broker_max_poll_records=2000,
        consumer_auto_offset_reset="earliest",
        consumer_group_instance_id=name or "",
        # As who the broker tells operators that this one owns its partitions.
        broker_client_id=name or f"{role.name}-{socket.gethostname()}-{os.getpid()}",
        producer_acks=-1,
        web_enabled=False,
        autodiscover=False,
        # Faust makes this folder for tables, of which there are none.
        datadir=Path(tempfile.gettempdir()) / "innkeeper-faust",
    )
    app.transport = RunTransport(app.conf.broker_consumer, app, runs, gate)
    runs.metrics.read_ends_from(lambda place: cast("RunConsumer", app.consumer).end_of(TP(*place)))
    names = [kafka.topic(topic) for topic in role.topics]
    _agent(app, app.topic(*names, value_type=bytes, key_type=bytes), runs, gate)
    _tasks(app, role, runs, gate, database)
    return app


def _credentials(options: Mapping[str, Any]) -> CredentialsT | None:
    """Return in Faust's words how the Kafka client gets in."""
    trust = options.get("ssl_context")
    if "sasl_mechanism" not in options:
        return None if trust is None else faust.SSLCredentials(trust)
    return faust.SASLCredentials(
        username=options["sasl_plain_username"],
        password=options["sasl_plain_password"],
        mechanism=options["sasl_mechanism"],
        ssl_context=trust,
    )


def _agent(app: faust.App, channel: Any, processor: BatchProcessor, gate: PauseGate) -> None:
    @app.agent(channel)
    async def process(stream: Any) -> None:
        taken = cast("Any", stream).noack()
        try:
            async for events in take_waiting(taken):
                # What a pause holds back is read again after it.
                seeks = {} if gate.holding else await processor.process(event.value for event in events)
                for event in events:
                    await taken.ack(event)
                await _seek(app, seeks)
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not leave the body
            stop_hard(error)


async def _seek(app: faust.App, seeks: dict[TopicPartition, int]) -> None:
    if seeks:
        consumer = cast("RunConsumer", app.consumer)
        await consumer.start_at({TP(*place): offset for place, offset in seeks.items()})


def _tasks(app: faust.App, role: Role, processor: BatchProcessor, gate: PauseGate, database: DatabaseSettings) -> None:
    async def assigned(_: faust.App, assigned: Iterable[TP], **__: Any) -> None:
        log.info("worker ready: %s owns %d partitions", role.name, len(set(assigned)))

    async def settle() -> None:
        while True:
            await asyncio.sleep(_SETTLE_SECONDS)
            await _guarded(processor.mark_published)

    async def background() -> None:
        if role.background is not None:
            await _guarded(partial(gate.run_while_open, role.background))

    async def pauses() -> None:
        await _guarded(partial(watch, database, role.name, gate))

    async def closing(*_: Any, **__: Any) -> None:
        await processor.close()

    app.on_partitions_assigned.connect(cast("Any", assigned))
    app.on_before_shutdown.connect(cast("Any", closing))
    app.task(settle)
    app.task(background)
    app.task(pauses)


async def _guarded(work: Callable[[], Awaitable[None]]) -> None:
    try:
        await work()
    except Exception as error:  # noqa: BLE001 - as in the agent
        stop_hard(error)
