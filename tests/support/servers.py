"""One broker and one database server for all processes of a run of tests: the process that distributes them keeps both.

The servers start while the other processes still collect their tests.
"""

import asyncio
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from sandbox.kafka import Kafka, available
from sandbox.postgres import Postgres
from sandbox.spawning import StartFailed
from tests.support.stack import Server, source_of
from tests.support.waiting import wait_until

#: The names under which the distributing process hands the servers on to the others.
KAFKA, POSTGRES = "innkeeper_kafka", "innkeeper_postgres"
_MAX_START_SECONDS: Final = 240.0


class SharedServers:
    """Those servers of a run that the sandbox starts.

    One that a variable names, or that comes from a container engine, is left to each process.
    `addresses` has the URL and the folder of each, before it is started.
    """

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="innkeeper-tests-"))
        # The database server may be run by another user than we are.
        self._folder.chmod(0o755)
        self._servers: dict[str, Kafka | Postgres] = {}
        if source_of("KAFKA_URL", os.environ) == "sandbox" and available() is None:
            self._servers[KAFKA] = Kafka(self._folder / "kafka")
        if source_of("DATABASE_URL", os.environ) == "sandbox":
            self._servers[POSTGRES] = Postgres(self._folder / "postgres")
        self.addresses = {name: (server.url, str(server.folder)) for name, server in self._servers.items()}

    def start(self) -> None:
        """Start the servers at the same time; the processes that wait for one see whether it is ready or has failed."""

        async def start_all() -> None:
            await asyncio.gather(*(self._start(server) for server in self._servers.values()))

        asyncio.run(start_all())

    async def _start(self, server: Kafka | Postgres) -> None:
        server.folder.mkdir(parents=True, exist_ok=True)
        try:
            await server.start()
        except StartFailed as failure:
            _mark(server.folder, "failed").write_text(str(failure))
        else:
            _mark(server.folder, "ready").touch()

    def stop(self) -> None:
        """Stop the servers and remove their data."""

        async def stop_all() -> None:
            await asyncio.gather(*(server.stop() for server in self._servers.values()))

        asyncio.run(stop_all())
        shutil.rmtree(self._folder, ignore_errors=True)


@contextmanager
def shared_server(address: tuple[str, str]) -> Iterator[Server]:
    """Yield a server that another process keeps, once it is ready. It is not ours: `pids` is empty.

    Raises:
        RuntimeError: it could not start.
        AssertionError: it did not start in time.
    """
    url, folder = address
    ready, failed = (_mark(Path(folder), what) for what in ("ready", "failed"))

    def has_started() -> bool:
        if failed.exists():
            raise RuntimeError(failed.read_text())
        return ready.exists()

    asyncio.run(wait_until(has_started, _MAX_START_SECONDS, f"the server at {url} is ready"))
    yield Server(url=url)


def _mark(folder: Path, what: str) -> Path:
    """Return the file beside a server's folder with the result of its start."""
    return folder.with_name(f"{folder.name}.{what}")
