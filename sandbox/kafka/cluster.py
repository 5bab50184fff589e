"""A cluster of Apache Kafka brokers on 127.0.0.1: each topic has a replica on every broker."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from sandbox.kafka.broker import Kafka, min_insync, name_of
from sandbox.kafka.probe import NO_NAME
from sandbox.ports import free_port


class Cluster:
    """Brokers that elect their controller among themselves, and keep working while a majority of them runs.

    `async with Cluster(folder) as cluster`, then `cluster.url`. Each of `brokers` is a process of its own, to be
    stopped, killed and started again; that of node id 1 is the first, called `kafka`, the next is `kafka-2`.
    """

    def __init__(self, folder: Path, size: int = 3) -> None:
        ports = [free_port() for _ in range(size)]
        self.brokers = [
            Kafka(folder / name_of(node_id), node_id=node_id, controller_ports=ports) for node_id in range(1, size + 1)
        ]

    def __getitem__(self, node_id: int) -> Kafka:
        return self.brokers[node_id - 1]

    @property
    def url(self) -> str:
        """The bootstrap servers: `127.0.0.1:port`, separated by commas."""
        return ",".join(broker.url for broker in self.brokers)

    def variables(self, principal: str | None = None) -> Mapping[str, str]:  # noqa: ARG002 - these brokers ask for no name
        """The variables that bring a process here, and give our topics a replica on each broker."""
        size = len(self.brokers)
        topics = {"TOPIC_REPLICATION": str(size), "TOPIC_MIN_INSYNC_REPLICAS": str(min_insync(size))}
        return {"KAFKA_URL": self.url, **topics, **NO_NAME}

    async def start(self) -> None:
        """Start all brokers, and wait until each is a member; raises StartFailed in a group. A lone one would wait."""
        async with asyncio.TaskGroup() as together:
            for broker in self.brokers:
                together.create_task(broker.start())

    async def stop(self) -> None:
        """Stop all brokers."""
        await asyncio.gather(*(broker.stop() for broker in self.brokers))

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await asyncio.gather(*(broker.kill() for broker in self.brokers))
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()
