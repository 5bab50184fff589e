"""One Apache Kafka broker (KRaft, its own controller) on 127.0.0.1, with its data in a folder."""

import asyncio
import logging
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from typing_extensions import override

from sandbox.kafka import jars
from sandbox.kafka.probe import NO_NAME, answers
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
#: A machine that pauses for some seconds must not cost the broker its partitions and its groups.
SESSION_MS = 30_000
#: After a SIGKILL the broker may come back once its old session is over.
SESSION_AFTER_A_KILL_MS = 2_000


class Kafka(ManagedProcess):
    """A broker that keeps its data, and its port, when it is stopped or killed and started again.

    `with Kafka(folder) as kafka:` or `async with`, then `kafka.url`.
    """

    def __init__(self, folder: Path, port: int | None = None, extra_java_options: Sequence[str] = ()) -> None:
        super().__init__("kafka")
        self.folder = folder.resolve()
        self.port = port or free_port()
        self.controller_port = free_port()
        self._extra_java_options = extra_java_options

    @property
    def url(self) -> str:
        """The bootstrap server: `127.0.0.1:port`."""
        return f"127.0.0.1:{self.port}"

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
        options = (*HEAP, *self._extra_java_options)
        return self._java(options, "kafka.Kafka", str(self._configuration))

    @override
    def environment(self) -> Mapping[str, str]:
        return {"LC_ALL": "C.UTF-8"}

    @override
    def output(self) -> IO[bytes] | int:
        return self._log.open("ab")

    @override
    async def is_ready(self) -> bool:
        """Whether the broker answers as the cluster's leader, not merely listens."""
        return await answers(self.variables())

    @override
    def last_words(self) -> str:
        return tail(self._log)

    def accounts(self) -> Sequence[str]:
        """Return the accounts for the tool that formats a new folder: none, as this broker has no authentication."""
        return ()

    def listeners(self) -> Mapping[str, object]:
        """Return the settings of the broker's listeners."""
        return {
            "controller.listener.names": "CONTROLLER",
            "listeners": f"PLAINTEXT://{self.url},CONTROLLER://127.0.0.1:{self.controller_port}",
            "advertised.listeners": f"PLAINTEXT://{self.url}",
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
            "node.id": 1,
            "controller.quorum.voters": f"1@127.0.0.1:{self.controller_port}",
            **self.listeners(),
            "log.dirs": self.folder / "log",
            "broker.session.timeout.ms": SESSION_AFTER_A_KILL_MS if self._was_killed else SESSION_MS,
            **SETTINGS,
        }
        return "".join(f"{name}={value}\n" for name, value in settings.items())


SETTINGS: Mapping[str, object] = {
    # Topics come from the catalogue alone; a typing error must not make one.
    "auto.create.topics.enable": "false",
    "message.max.bytes": MAX_MESSAGE_BYTES,
    # A lone worker starts at once, and a test may ask for a short session.
    "group.initial.rebalance.delay.ms": 0,
    "group.min.session.timeout.ms": 1000,
    "broker.heartbeat.interval.ms": 500,
    # There is one broker to hold everything.
    "offsets.topic.replication.factor": 1,
    "transaction.state.log.replication.factor": 1,
    "transaction.state.log.min.isr": 1,
    "share.coordinator.state.topic.replication.factor": 1,
    "share.coordinator.state.topic.min.isr": 1,
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
