"""Brokers that speak as much of Kafka's protocol as a client needs to begin, and hang when a test wants it.

A hung broker accepts connections and reads nothing, as a process does that is stopped by a signal.
"""

import asyncio
import struct
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from io import BytesIO
from typing import Any

from aiokafka.protocol.admin import ApiVersionRequest_v0, ApiVersionResponse_v0
from aiokafka.protocol.api import RequestHeader_v1, RequestHeader_v2, ResponseHeader_v0, ResponseHeader_v1
from aiokafka.protocol.coordination import FindCoordinatorRequest_v0, FindCoordinatorResponse_v0
from aiokafka.protocol.metadata import MetadataRequest_v5, MetadataResponse_v5
from aiokafka.protocol.offset import OffsetRequest_v1, OffsetResponse_v1
from aiokafka.protocol.produce import ProduceRequest_v3, ProduceResponse_v3
from aiokafka.protocol.transaction import InitProducerIdRequest_v0, InitProducerIdResponse_v0

from topics.kafka.metadata import NO_ID, DescribeTopicsRequestV12, DescribeTopicsResponse

TOPIC = "booking.events"
_VERSIONS = [(3, 1, 12), (18, 0, 0), (2, 1, 1), (10, 0, 0), (22, 0, 0), (0, 3, 3)]


class Broker:
    """One broker. `answered` counts its answers by the kind of request; `connections` those that it accepted."""

    def __init__(self, node_id: int, cluster: "FakeCluster") -> None:
        self.node_id = node_id
        self.port = 0
        self.answered: Counter[type] = Counter()
        self.connections = 0
        self.keeps_waiting: type | None = None
        #: Of so many connections, the first that it accepted, it knows nothing any more.
        self._forgotten = 0
        self._cluster = cluster
        self._runs = asyncio.Event()
        self._runs.set()

    @property
    def address(self) -> str:
        """The address, host:port."""
        return f"127.0.0.1:{self.port}"

    def freeze(self) -> None:
        """Answer nothing any more."""
        self._runs.clear()

    def thaw(self) -> None:
        """Answer again, and first what was asked meanwhile."""
        self._runs.set()

    def forget_connections(self) -> None:
        """Answer nothing any more on the connections that exist, as after a firewall forgot them; new ones work."""
        self._forgotten = self.connections

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection, one after the other."""
        self.connections += 1
        number = self.connections
        try:
            while True:
                (size,) = struct.unpack(">i", await reader.readexactly(4))
                data = BytesIO(await reader.readexactly(size))
                await self._runs.wait()
                kind, correlation_id = _read_header(data)
                if kind is self.keeps_waiting or number <= self._forgotten:
                    await asyncio.Event().wait()
                header = (
                    ResponseHeader_v1(correlation_id, {})
                    if kind.FLEXIBLE_VERSION
                    else ResponseHeader_v0(correlation_id)
                ).encode()
                body = header + self._answers[kind](self, kind.decode(data)).encode()
                writer.write(struct.pack(">i", len(body)) + body)
                self.answered[kind] += 1
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    def _api_versions(self, _: Any) -> Any:
        return ApiVersionResponse_v0(0, _VERSIONS)

    def _metadata(self, _: Any) -> Any:
        brokers = [(each.node_id, "127.0.0.1", each.port, None) for each in self._cluster.alive]
        nodes = [broker[0] for broker in brokers]
        partitions: list[Any] = [
            (0, number, leader, nodes, nodes, []) for number, leader in self._cluster.leaders.items()
        ]
        return MetadataResponse_v5(0, brokers, "fake", 1, [(0, TOPIC, False, partitions)])

    def _topics(self, request: Any) -> Any:
        topics: list[Any] = [(0, name, NO_ID, False, [], 0, {}) for _, name, _ in request.topics]
        return DescribeTopicsResponse(0, [], "fake", 1, topics, {})

    def _offsets(self, request: Any) -> Any:
        return OffsetResponse_v1(
            [(name, [(number, 0, -1, 7) for number, _ in parts]) for name, parts in request.topics]
        )

    def _coordinator(self, _: Any) -> Any:
        return FindCoordinatorResponse_v0(0, self._cluster.coordinator, "127.0.0.1", 1)

    def _producer_id(self, _: Any) -> Any:
        return InitProducerIdResponse_v0(0, 0, 1, 0)

    def _produce(self, request: Any) -> Any:
        return ProduceResponse_v3(
            [(name, [(number, 0, 5, -1) for number, _ in parts]) for name, parts in request.topics], 0
        )

    _answers: Mapping[Any, Callable[["Broker", Any], Any]] = {
        ApiVersionRequest_v0: _api_versions,
        MetadataRequest_v5: _metadata,
        DescribeTopicsRequestV12: _topics,
        OffsetRequest_v1: _offsets,
        FindCoordinatorRequest_v0: _coordinator,
        InitProducerIdRequest_v0: _producer_id,
        ProduceRequest_v3: _produce,
    }


_BY_KEY = {(kind.API_KEY, kind.API_VERSION): kind for kind in Broker._answers}


def _read_header(data: BytesIO) -> tuple[Any, int]:
    key, version = struct.unpack(">hh", data.getvalue()[:4])
    kind = _BY_KEY[key, version]
    header = (RequestHeader_v2 if kind.FLEXIBLE_VERSION else RequestHeader_v1).SCHEMA.decode(data)
    return kind, header[2]


class FakeCluster:
    """Brokers 1 to `size`; the topic's partition 0 is led by the first, and so on."""

    def __init__(self, size: int) -> None:
        self.brokers = {node_id: Broker(node_id, self) for node_id in range(1, size + 1)}
        self.leaders = {number: number + 1 for number in range(size)}
        self.coordinator = 1
        self.fenced: set[int] = set()

    def __getitem__(self, node_id: int) -> Broker:
        return self.brokers[node_id]

    @property
    def alive(self) -> list[Broker]:
        """The brokers that the controller has not fenced."""
        return [broker for node_id, broker in self.brokers.items() if node_id not in self.fenced]

    @property
    def url(self) -> str:
        """The bootstrap servers."""
        return ",".join(broker.address for broker in self.brokers.values())


@asynccontextmanager
async def open_cluster(size: int = 2) -> AsyncIterator[FakeCluster]:
    """Run the brokers for the length of the block."""
    cluster = FakeCluster(size)
    tasks: set[asyncio.Task[None]] = set()
    servers = []
    for broker in cluster.brokers.values():

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, broker: Broker = broker) -> None:
            task = asyncio.ensure_future(broker.serve(reader, writer))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        broker.port = server.sockets[0].getsockname()[1]
        servers.append(server)
    try:
        yield cluster
    finally:
        for server in servers:
            server.close()
        # Connections may still wait to be accepted.
        for _ in range(10):
            for task in tuple(tasks):
                task.cancel()
            await asyncio.gather(*tasks, asyncio.to_thread(int), return_exceptions=True)
