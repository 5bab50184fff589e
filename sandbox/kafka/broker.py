"""One Apache Kafka broker (KRaft, broker and controller in one), on 127.0.0.1 unless it gets another address."""

import asyncio
import logging
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from typing_extensions import override

from sandbox.kafka import jars
from sandbox.kafka.probe import NO_NAME, answers
from sandbox.locations import HERE
from sandbox.ports import free_port
from sandbox.processes import ManagedProcess
from sandbox.spawning import run, tail

log = logging.getLogger(__name__)

CLUSTER_ID = "aW5ua2VlcGVyLXNhbmRib3"
MAX_MESSAGE_BYTES = 9 * 1024 * 1024
# The machine is small, and no sandbox runs for long. So: a small heap, the collector with the fewest threads, and only
# the quick compiler (over the first 1.5 million records the thorough one costs more than it saves).
ECONOMY = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData")
HEAP = ("-Xms256m", "-Xmx512m")
HEAP_IN_A_CLUSTER = ("-Xms128m", "-Xmx256m")
#: A machine that pauses for some seconds must not cost a lone broker its partitions and its groups.
SESSION_MS = 30_000
#: Kafka's own: so long after a broker's last heartbeat others lead its partitions.
SESSION_IN_A_CLUSTER_MS = 9_000
#: After a SIGKILL the broker may come back once its old session is over.
SESSION_AFTER_A_KILL_MS = 2_000


class Kafka(ManagedProcess):
    """A broker that keeps its data, and its port, when it is stopped or killed and started again.

    `with Kafka(folder) as kafka:` or `async with`, then `kafka.url`.
    """

    def __init__(
        self,
        folder: Path,
        port: int | None = None,
        extra_java_options: Sequence[str] = (),
        *,
        node_id: int = 1,
        controller_ports: Sequence[int] = (),
        host: str = HERE,
        doors: Mapping[int, int] | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        """Make a broker; in a cluster `controller_ports` are those of all its controllers, by node id from 1.

        `doors` are further ports, each with the port of a proxy in front of it: clients that come in there are sent to
        the proxy again, where others are sent to the broker itself. `variables` are added to its environment.
        """
        super().__init__(name_of(node_id))
        self.folder = folder.resolve()
        self.host = host
        self._doors = doors or {}
        self._variables = variables or {}
        self.port = port or free_port()
        self.node_id = node_id
        self._controller_ports = controller_ports or (free_port(),)
        self._extra_java_options = extra_java_options

    @property
    def controller_port(self) -> int:
        """The port of its own controller."""
        return self._controller_ports[self.node_id - 1]

    @property
    def replicas(self) -> int:
        """How many brokers its cluster has, each of which gets a copy of everything."""
        return len(self._controller_ports)

    @property
    def url(self) -> str:
        """The bootstrap server: `host:port`."""
        return f"{self.host}:{self.port}"

    def variables(self, principal: str | None = None) -> Mapping[str, str]:  # noqa: ARG002 - this broker asks for no name
        """The variables that bring a process here, as this principal where the broker asks for one."""
        return {"KAFKA_URL": self.url, **NO_NAME}

    @override
    async def prepare(self) -> None:
        """Write the configuration; format the folder when it is new; fetch the jars if need be."""
        await asyncio.to_thread(jars.fetch)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._configuration.touch(mode=0o600)
        self._configuration.write_text(self._properties())
        if not (self.folder / "log" / "meta.properties").exists():
            tool = ("kafka.tools.StorageTool", "format", "--cluster-id", CLUSTER_ID)
            command = self._java((), *tool, "--config", str(self._configuration), *self.accounts())
            await run(command, {}, self._log)

    @override
    def command(self) -> Sequence[str]:
        options = (*(HEAP if self.replicas == 1 else HEAP_IN_A_CLUSTER), *self._extra_java_options)
        return self._java(options, "kafka.Kafka", str(self._configuration))

    @override
    def environment(self) -> Mapping[str, str]:
        return {"LC_ALL": "C.UTF-8", **self._variables}

    @override
    def output(self) -> IO[bytes] | int:
        return self._log.open("ab")

    @override
    async def is_ready(self) -> bool:
        """Whether the broker answers as a member of its cluster, not merely listens."""
        return await answers(self.variables(), self.node_id)

    @override
    def last_words(self) -> str:
        return tail(self._log)

    def accounts(self) -> Sequence[str]:
        """Return the accounts for the tool that formats a new folder: none, as this broker has no authentication."""
        return ()

    def listeners(self) -> Mapping[str, object]:
        """Return the settings of the broker's listeners."""
        doors = {f"DOOR{port}": (port, proxy) for port, proxy in self._doors.items()}
        names = ("CONTROLLER", "PLAINTEXT", *doors)
        return {
            "controller.listener.names": "CONTROLLER",
            "listeners": ",".join(
                [
                    f"PLAINTEXT://{self.url}",
                    *(f"{name}://{self.host}:{port}" for name, (port, _) in doors.items()),
                    f"CONTROLLER://{HERE}:{self.controller_port}",
                ]
            ),
            "advertised.listeners": ",".join(
                [
                    f"PLAINTEXT://{self.url}",
                    *(f"{name}://{self.host}:{proxy}" for name, (_, proxy) in doors.items()),
                ]
            ),
            "listener.security.protocol.map": ",".join(f"{name}:PLAINTEXT" for name in names),
        }

    @property
    def _configuration(self) -> Path:
        return self.folder / "server.properties"

    @property
    def _was_killed(self) -> bool:
        """Whether its last life ended without a word: a broker that ends properly leaves a mark."""
        log = self.folder / "log"
        return (log / "meta.properties").exists() and not (log / ".kafka_cleanshutdown").exists()

    @property
    def _log(self) -> Path:
        return self.folder / "kafka.log"

    def _java(self, options: Sequence[str], *arguments: str) -> list[str]:
        archive = jars.class_archive()
        return [
            "java",
            *ECONOMY,
            *options,
            *((f"-XX:SharedArchiveFile={archive}",) if archive.exists() else ()),
            "-Xlog:disable",
            "-Xlog:all=error:stderr",
            f"-Dlog4j2.configurationFile={jars.HERE / 'log4j2.properties'}",
            "-cp",
            f"{jars.folder() / 'jars'}/*",
            *arguments,
        ]

    def _properties(self) -> str:
        settings = {
            "process.roles": "broker,controller",
            "node.id": self.node_id,
            "controller.quorum.voters": ",".join(
                f"{node_id}@127.0.0.1:{port}" for node_id, port in enumerate(self._controller_ports, start=1)
            ),
            **self.listeners(),
            "log.dirs": self.folder / "log",
            "broker.session.timeout.ms": self._session_ms(),
            **replication_settings(self.replicas),
            **SETTINGS,
        }
        return "".join(f"{name}={value}\n" for name, value in settings.items())

    def _session_ms(self) -> int:
        if self.replicas > 1:
            return SESSION_IN_A_CLUSTER_MS
        return SESSION_AFTER_A_KILL_MS if self._was_killed else SESSION_MS


def name_of(node_id: int) -> str:
    """Return the name of a broker as a part of a system: `kafka`, `kafka-2`..."""
    return "kafka" if node_id == 1 else f"kafka-{node_id}"


def min_insync(replicas: int) -> int:
    """Return how many of so many replicas must have a record before it is acknowledged: a majority."""
    return replicas // 2 + 1


def replication_settings(replicas: int) -> Mapping[str, object]:
    """Return a broker's settings by which all topics, its own too, have so many replicas, and lose nothing."""
    majority = min_insync(replicas)
    return {
        "default.replication.factor": replicas,
        "min.insync.replicas": majority,
        "unclean.leader.election.enable": "false",
        # So long, and half of that again, all partitions wait for a broker that hangs: less than the ingress does.
        "replica.lag.time.max.ms": 2_000,
        # So long a broker asks a controller that hangs to take a replica out of sync, before it asks the next one.
        "controller.socket.timeout.ms": 1_000,
        "offsets.topic.replication.factor": replicas,
        "transaction.state.log.replication.factor": replicas,
        "transaction.state.log.min.isr": majority,
        "share.coordinator.state.topic.replication.factor": replicas,
        "share.coordinator.state.topic.min.isr": majority,
    }


SETTINGS: Mapping[str, object] = {
    # Topics come from the catalogue alone; a typing error must not make one.
    "auto.create.topics.enable": "false",
    "message.max.bytes": MAX_MESSAGE_BYTES,
    # A lone worker starts at once, and a test may ask for a short session.
    "group.initial.rebalance.delay.ms": 0,
    "group.min.session.timeout.ms": 1000,
    "broker.heartbeat.interval.ms": 500,
    "offsets.topic.num.partitions": 5,
    "transaction.state.log.num.partitions": 1,
    "share.coordinator.state.topic.num.partitions": 1,
    # Few threads and little memory: the broker shares two cores with everything else.
    "num.network.threads": 2,
    "num.io.threads": 2,
    "num.recovery.threads.per.data.dir": 2,
    "log.cleaner.dedupe.buffer.size": 8 * 1024 * 1024,
}


async def archive_classes() -> None:
    """Let Java keep its loaded classes in a file, which halves the start; once for each version.

    Java may leave it out, for instance where the disk is full: then the broker only starts more slowly.
    """
    if jars.class_archive().exists():
        return
    with tempfile.TemporaryDirectory(prefix="kafka-classes-") as name:
        fresh = jars.folder() / f"{Path(name).name}.jsa"
        try:
            async with Kafka(Path(name), extra_java_options=(f"-XX:ArchiveClassesAtExit={fresh}",)):
                pass
            if fresh.exists():
                fresh.rename(jars.class_archive())
            else:
                log.warning("Java wrote no archive of the broker's classes; the broker will start more slowly.")
        finally:
            fresh.unlink(missing_ok=True)
