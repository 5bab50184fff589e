"""Redis for the sandbox and the tests: `with Redis(folder) as server: ... server.url`. It keeps nothing on the disk."""

import asyncio
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from typing_extensions import override

from sandbox.ports import free_port
from sandbox.processes import ManagedProcess
from sandbox.spawning import tail

PASSWORD = "of-the-sandbox-alone"  # noqa: S105 - of a sandbox on this machine


class Redis(ManagedProcess):
    """A server that keeps its port, and forgets all else, when it is stopped or killed and started again."""

    def __init__(self, folder: Path, port: int | None = None) -> None:
        super().__init__("redis")
        self.folder = folder.resolve()
        self.port = port or free_port()

    @property
    def url(self) -> str:
        """The URL with the password."""
        return f"redis://:{PASSWORD}@127.0.0.1:{self.port}/0"

    @override
    async def prepare(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)

    @override
    def command(self) -> Sequence[str]:
        settings = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "dir": str(self.folder),
            "requirepass": PASSWORD,
            "save": "",
            "appendonly": "no",
        }
        return ["redis-server", *(word for name, value in settings.items() for word in (f"--{name}", value))]

    @override
    def output(self) -> IO[bytes] | int:
        return self._log.open("ab")

    @override
    async def is_ready(self) -> bool:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        try:
            writer.write(f"AUTH {PASSWORD}\r\nPING\r\n".encode())
            return await reader.readline() == b"+OK\r\n" and await reader.readline() == b"+PONG\r\n"
        finally:
            writer.close()

    @override
    def last_words(self) -> str:
        return tail(self._log)

    @property
    def _log(self) -> Path:
        return self.folder / "redis.log"


def available() -> str | None:
    """Why Redis cannot run on this machine, in one sentence; None when it can."""
    if shutil.which("redis-server") is None:
        return "redis-server is not installed: apt-get install redis-server (Debian), brew install redis (macOS)."
    return None
