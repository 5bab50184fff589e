"""Gives up silent brokers: those that keep their connections and answer nothing, since they hang or packets vanish.

aiokafka 0.14 waits the whole request timeout for each answer and for each new connection (40 s; Faust sets 90 s), makes
no other connection meanwhile, and asks any broker for metadata, coordinators and producer ids, a silent one too. A
shorter request timeout is no remedy: a write waits for the replicas, and a member for the rest of its group, longer
than a silent broker should be waited for. So a client of ours does this:

- When a request is not answered for some seconds, the client connects to the broker once more. A broker that does not
  answer then either is silent: all connections to it are closed, and their requests fail, so that they are sent again.
- When it answers there, the connection of the request may be half-open: a firewall or a balancer has forgotten it. So
  a connection is then closed on which a request has no answer for longer than a broker ever takes.
- All clients of the process remember silent brokers, and ask them last.
- While a broker is silent or late, a client reads the metadata from another one each second: the controller may be
  about to name new leaders.

Java's client chooses the broker with the fewest requests under way (`NetworkClient.leastLoadedNode`), and has a setting
of its own for the time to connect (`socket.connection.setup.timeout.ms`).
"""

import asyncio
import logging
import random
from collections import defaultdict
from collections.abc import Callable
from typing import Any, Final

from aiokafka.client import AIOKafkaClient, ConnectionGroup
from aiokafka.conn import AIOKafkaConnection, CloseReason, create_conn
from aiokafka.errors import KafkaConnectionError, KafkaError

from topics import ended_connections

#: A broker has so long to accept a connection, and so long for each answer that opens it.
BROKER_CONNECT_SECONDS: Final = 3.0
#: The only address that is known has so long at the start.
LONE_CONNECT_SECONDS: Final = 15.0
#: A broker that was silent the last time has so long.
SILENT_CONNECT_SECONDS: Final = 2.0
#: A request may be without an answer for so long before its broker is tried by another connection.
UNANSWERED_SECONDS: Final = 3.0
#: A connection is closed on which an answer takes so long, although the broker answers on another one.
HALF_OPEN_SECONDS: Final = 10.0
#: A broker waits itself before it answers some requests: for replicas, and for the other members of a group. By API key
#: (Produce, JoinGroup, SyncGroup, CreateTopics, DeleteTopics); longer than the 15 s of our producers and of changes of
#: topics, and than the 30 s of a rebalance.
_LATER_SECONDS: Final = {0: 20.0, 11: 45.0, 14: 45.0, 19: 20.0, 20: 20.0}
#: A request may itself name how long the broker may wait; the answer has so much longer.
_ANSWER_MARGIN_SECONDS: Final = 5.0
_LOOK_SECONDS: Final = 1.0
#: A look that is later than this was held up in this process, whose connections may have answers that it has not read.
_LATE_LOOK_SECONDS: Final = 2.0

log = logging.getLogger(__name__)

# By host and port. A process has clients in several threads; each operation on the set is atomic.
_silent: Final[set[tuple[str, int]]] = set()


def longest_answer_seconds(request: Any) -> float:
    """Return how long a broker that works may take to answer a request, of which aiokafka has the struct.

    None is a part of a handshake.
    """
    if request is None:
        return HALF_OPEN_SECONDS
    longest = _LATER_SECONDS.get(request.API_KEY, HALF_OPEN_SECONDS)
    asked_ms = getattr(request, "timeout", None)
    return longest if asked_ms is None else max(longest, asked_ms / 1000 + _ANSWER_MARGIN_SECONDS)


def give_up_silent_brokers(client: AIOKafkaClient) -> None:
    """Make an aiokafka client, of a consumer or a producer too, give up silent brokers; called before its start."""
    client.__class__ = _Client
    client.begin()


class _Client(AIOKafkaClient):
    """An aiokafka client whose class was changed, since consumers and producers make their clients themselves."""

    def begin(self) -> None:
        self._connecting: defaultdict[tuple[Any, int], asyncio.Lock] = defaultdict(asyncio.Lock)
        # The oldest request of each connection, by the future of its answer, and since when it was seen to wait.
        self._unanswered: dict[tuple[Any, int], tuple[asyncio.Future[Any], float]] = {}
        self._looked_at = 0.0
        # The ids of brokers that have not answered a request for some seconds.
        self._late: set[Any] = set()
        self._probes: dict[Any, asyncio.Task[None]] = {}
        self._watching: asyncio.Task[None] | None = None
        self._request_timeout_ms: int
        self._trying: tuple[str, int, Any] | None = None

    # aiokafka calls these.

    @property
    def hosts(self) -> list[tuple[str, int, Any]]:
        """The addresses in the order in which they are tried; while one is tried, that one alone."""
        if self._trying is not None:
            return [self._trying]
        return sorted(super().hosts, key=lambda host: (host[0], host[1]) in _silent)

    async def bootstrap(self) -> None:
        """Read the first metadata from any of the addresses."""
        hosts, request_timeout_ms = self.hosts, self._request_timeout_ms
        seconds = BROKER_CONNECT_SECONDS if len(hosts) > 1 else LONE_CONNECT_SECONDS
        self._request_timeout_ms = min(request_timeout_ms, int(seconds * 1000))
        try:
            await self._bootstrap(hosts)
        finally:
            self._request_timeout_ms = request_timeout_ms
        if self._watching is None:
            self._watching = asyncio.create_task(self._watch())

    async def _bootstrap(self, hosts: list[tuple[str, int, Any]]) -> None:
        for host in hosts:
            self._trying = host
            try:
                with ended_connections.raises_os_error():
                    await super().bootstrap()
            except (OSError, KafkaConnectionError):
                _note_silent(host[0], host[1], others=len(hosts) > 1)
            else:
                _note_answer(host[0], host[1], others=len(hosts) > 1)
                return
            finally:
                self._trying = None
        raise KafkaConnectionError(f"Unable to bootstrap from {hosts}")

    async def close(self) -> None:
        """Close all connections, and drop bytes that a broker has not read yet."""
        tasks = [*self._probes.values()] if self._watching is None else [self._watching, *self._probes.values()]
        self._watching = None
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for connection in self._conns.values():
            if connection._writer is not None and connection._writer.transport.get_write_buffer_size():
                connection._writer.transport.abort()
        await super().close()

    def get_random_node(self) -> Any:
        """Return a broker to ask for what every broker knows."""
        nodes = [broker.nodeId for broker in self.cluster.brokers() if self._answers(broker)]
        return random.choice(nodes) if nodes else super().get_random_node()  # noqa: S311 - any one is as good

    async def _get_conn(self, node_id: Any, *, group: int = ConnectionGroup.DEFAULT, **_: Any) -> Any:
        """Return a connection; None: there is none, and the metadata are read again."""
        connection_id = (node_id, group)
        broker = self.cluster.broker_metadata(node_id)
        if broker is not None and self._reads_metadata() and not self._answers(broker) and self._has_answering():
            return None
        if (known := self._known(connection_id)) is not None:
            return known
        # aiokafka makes one connection at a time; a silent broker would hold up those to all others.
        async with self._connecting[connection_id]:
            if (known := self._known(connection_id)) is not None:
                return known
            try:
                if broker is None:
                    raise KafkaConnectionError("it is not in the cluster's metadata")
                connection = await self._connect(broker, self._on_connection_closed)
            except (OSError, KafkaError) as error:
                log.debug("no connection to the broker %s: %r", node_id, error)
                self.force_metadata_update()
                return None
            self._conns[connection_id] = connection
            return connection

    # Our own.

    def _known(self, connection_id: tuple[Any, int]) -> Any:
        connection = self._conns.get(connection_id)
        if connection is not None and not connection.connected():
            # aiokafka drops it: its reading task, which has only a weak reference, then closes nothing.
            connection.close(reason=CloseReason.CONNECTION_BROKEN)
            self._conns.pop(connection_id, None)
            return None
        return connection

    def _reads_metadata(self) -> bool:
        return asyncio.current_task() is self._sync_task

    def _answers(self, broker: Any) -> bool:
        return broker.nodeId not in self._late and not _is_silent(broker)

    def _has_answering(self) -> bool:
        return any(self._answers(broker) for broker in self.cluster.brokers())

    async def _connect(self, broker: Any, on_close: Callable[..., None] | None) -> AIOKafkaConnection:
        """Open a connection within some seconds, and remember whether the broker answered."""
        others = len(self.cluster.brokers()) > 1
        seconds = SILENT_CONNECT_SECONDS if _is_silent(broker) else BROKER_CONNECT_SECONDS
        try:
            with ended_connections.raises_os_error():
                connection = await create_conn(
                    broker.host,
                    broker.port,
                    client_id=self._client_id,
                    request_timeout_ms=min(self._request_timeout_ms, int(seconds * 1000)),
                    ssl_context=self._ssl_context,
                    security_protocol=self._security_protocol,
                    on_close=on_close,
                    max_idle_ms=self._connections_max_idle_ms,
                    sasl_mechanism=self._sasl_mechanism,
                    sasl_plain_username=self._sasl_plain_username,
                    sasl_plain_password=self._sasl_plain_password,
                    sasl_kerberos_service_name=self._sasl_kerberos_service_name,
                    sasl_kerberos_domain_name=self._sasl_kerberos_domain_name,
                    sasl_oauth_token_provider=self._sasl_oauth_token_provider,
                )
        except (OSError, KafkaConnectionError):
            _note_silent(broker.host, broker.port, others=others)
            raise
        _note_answer(broker.host, broker.port, others=others)
        connection._request_timeout = self._request_timeout_ms / 1000
        connection.__class__ = _Connection
        return connection

    async def _watch(self) -> None:
        """Look once a second for requests without an answer, until cancelled."""
        loop = asyncio.get_running_loop()
        self._looked_at = loop.time()
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            if loop.time() - self._looked_at > _LOOK_SECONDS + _LATE_LOOK_SECONDS:
                # This process was frozen: the time in which it read no answers is nobody's delay.
                self._unanswered.clear()
            self._looked_at = now = loop.time()
            self._note_unanswered(now)
            silent = {broker.nodeId for broker in self.cluster.brokers() if _is_silent(broker)}
            unanswered = self._unanswered.items()
            self._late = {node for (node, _), (_, since) in unanswered if now - since >= UNANSWERED_SECONDS}
            for node in (silent | self._late) - self._probes.keys():
                self._probes[node] = asyncio.create_task(self._probe(node))
            if silent or self._late:
                self.force_metadata_update()

    def _note_unanswered(self, now: float) -> None:
        """Note since when the oldest request of each connection waits; a broker answers them in order."""
        oldest = {each: connection._requests[0][2] for each, connection in self._conns.items() if connection._requests}
        before = self._unanswered
        self._unanswered = {
            each: before[each] if each in before and before[each][0] is answer else (answer, now)
            for each, answer in oldest.items()
        }

    def _close_half_open(self, node_id: Any) -> None:
        """Close each connection to a broker, which has just answered on another one, that waits for too long.

        How long is counted to the last look, not to now: this process may have been frozen since.
        """
        for each, (answer, since) in self._unanswered.items():
            connection = self._conns.get(each)
            if each[0] != node_id or connection is None or not connection._requests:
                continue
            _, request, oldest = connection._requests[0]
            if oldest is answer and self._looked_at - since >= longest_answer_seconds(request):
                log.warning("a connection to the broker %s is half-open; another one is made", node_id)
                _close_now(connection)

    async def _probe(self, node_id: Any) -> None:
        """Connect to a broker once more; if it does not answer, close all connections to it."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            broker = self.cluster.broker_metadata(node_id)
            if broker is None:
                # The cluster no longer counts it as one of its brokers.
                self._abort(node_id)
            else:
                (await self._connect(broker, None)).close()
                self._close_half_open(node_id)
        except (OSError, KafkaConnectionError):
            # After a time limit that is long over, this process was frozen, and the answer may be there.
            if loop.time() - began <= BROKER_CONNECT_SECONDS + _LATE_LOOK_SECONDS:
                self._abort(node_id)
        except KafkaError as error:
            log.info("the broker %s answers: %r", node_id, error)
            self._close_half_open(node_id)
        finally:
            del self._probes[node_id]

    def _abort(self, node_id: Any) -> None:
        """Close all connections to a broker."""
        for (node, _), connection in tuple(self._conns.items()):
            if node == node_id:
                _close_now(connection)


class _Connection(AIOKafkaConnection):
    """A connection whose class was changed, since `create_conn` makes it itself."""

    def send(self, request: Any, expect_response: bool = True) -> Any:  # noqa: FBT001, FBT002 - as in aiokafka
        """Send a request, and return the future of its answer.

        Raises:
            KafkaConnectionError: the connection has ended; it is closed.
        """
        try:
            with ended_connections.raises_os_error():
                return super().send(request, expect_response)
        except OSError as error:
            self.close(reason=CloseReason.CONNECTION_BROKEN)
            raise KafkaConnectionError(f"{self._host}:{self._port}: {error}") from error


def _close_now(connection: AIOKafkaConnection) -> None:
    """Close a connection without a wait until the broker has read the rest; its requests fail."""
    if connection._writer is not None:
        connection._writer.transport.abort()
    connection.close(reason=CloseReason.CONNECTION_TIMEOUT)


def _is_silent(broker: Any) -> bool:
    return (broker.host, broker.port) in _silent


def _note_silent(host: str, port: int, *, others: bool) -> None:
    """Remember a silent broker. Each caller logs by itself that the only one is away."""
    if (host, port) not in _silent:
        _silent.add((host, port))
        if others:
            log.warning("the broker at %s:%d does not answer; the others are asked first", host, port)


def _note_answer(host: str, port: int, *, others: bool) -> None:
    if (host, port) in _silent:
        _silent.discard((host, port))
        if others:
            log.warning("the broker at %s:%d answers again", host, port)
