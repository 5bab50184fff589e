"""Keeps the sandbox's processes: a `Service` is one of them, a `Supervisor` keeps them running.

A service can be started, waited for, stopped, killed and started again; a `Program` is a service of
our own, whose lines are shown with its name before them.
"""

import asyncio
import os
import select
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from typing_extensions import override

from sandbox.spawning import PROCESS_POLL_SECONDS, StartFailed, end, exit_status, spawn, status_in_words, tail
from topics.backoff import seconds_after

FAILED_WITHIN_SECONDS = 5.0
#: The cause of failures, a full disk for instance, may end at any moment: so long after it the part tries again.
MAX_RESTART_PAUSE_SECONDS = 4.0
#: The statuses of a process that others end: SIGKILL and SIGTERM, after which Java exits with 143.
_ENDED_BY_OTHERS = frozenset({-signal.SIGKILL, -signal.SIGTERM, 128 + signal.SIGTERM})
_LAST_LINES_SECONDS = 0.5
_TURNS_FOR_A_FULL_PIPE = 1000


class ManagedProcess:
    """One process: subclasses define its preparation, its command and when it is ready."""

    name: str
    ready_within_seconds = 120.0
    stop_within_seconds = 15.0
    stop_signal = signal.SIGTERM
    death_signal: signal.Signals | None = signal.SIGKILL

    def __init__(self, name: str) -> None:
        self.name = name
        #: Words before the command, which start it in another network for instance and become it.
        self.prefix: Sequence[str] = ()
        self._process: subprocess.Popen[bytes] | None = None

    async def prepare(self) -> None:
        """Make what must be there before the process starts; called before every start."""

    def command(self) -> Sequence[str]:
        """The program and its arguments."""
        raise NotImplementedError

    def environment(self) -> Mapping[str, str]:
        """Return the variables that are added to the environment of this process."""
        return {}

    def output(self) -> IO[bytes] | int:
        """Return the file of stdout and stderr of the process."""
        return subprocess.DEVNULL

    async def is_ready(self) -> bool:
        """Whether the process does its work now; asked again and again until it is."""
        return True

    def last_words(self) -> str:
        """Return the explanation of a failed start: the end of the log."""
        return ""

    async def drain_output(self) -> None:
        """Read the rest of the output of the process, which has ended."""

    @property
    def running(self) -> bool:
        """Whether the process was started and has not ended."""
        return self.running_pid is not None

    @property
    def running_pid(self) -> int | None:
        """The process's id, None when it does not run: it may end between two questions, so ask once."""
        return None if self._process is None or self._process.poll() is not None else self._process.pid

    @property
    def pid(self) -> int:
        """The process's id; raises RuntimeError when it does not run."""
        if (pid := self.running_pid) is None:
            raise RuntimeError(f"{self.name} is not running")
        return pid

    async def start(self, *, without_deadline: bool = False) -> None:
        """Start the process and wait until it is ready; raises StartFailed.

        Without a deadline the start ends only when the process is ready or has ended.
        """
        if self.running:
            raise RuntimeError(f"{self.name} is already running")
        await self.prepare()
        process = self._spawn()
        try:
            async with asyncio.timeout(None if without_deadline else self.ready_within_seconds):
                await self._until_ready(process)
        except TimeoutError:
            await end(process, signal.SIGKILL, 0)
            message = f"{self.name} was not ready within {self.ready_within_seconds:.0f} s"
            raise StartFailed(f"{message}\n{self.last_words()}") from None

    async def stop(self) -> None:
        """Ask the process to end, and SIGKILL it when it does not in `stop_within_seconds`."""
        if self._process is not None:
            await end(self._process, self.stop_signal, self.stop_within_seconds)

    async def kill(self) -> None:
        """SIGKILL the process and wait until it is gone."""
        if self._process is not None:
            await end(self._process, signal.SIGKILL, 0)

    async def ended(self) -> int:
        """Wait until the process ends; its exit status, negative for a signal."""
        if self._process is None:
            raise RuntimeError(f"{self.name} was never started")
        return await exit_status(self._process)

    def _spawn(self) -> subprocess.Popen[bytes]:
        output = self.output()
        try:
            self._process = spawn([*self.prefix, *self.command()], self.environment(), output, self.death_signal)
        finally:
            if not isinstance(output, int):
                output.close()
        return self._process

    async def _until_ready(self, process: subprocess.Popen[bytes]) -> None:
        while not await self.is_ready():
            if process.poll() is not None:
                await self.drain_output()
                if await self.is_ready():
                    return
                message = f"{self.name} ended with {process.returncode} before it was ready"
                raise StartFailed(f"{message}\n{self.last_words()}")
            await asyncio.sleep(PROCESS_POLL_SECONDS)

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.kill()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    def __enter__(self) -> Self:
        return asyncio.run(self.__aenter__())

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        asyncio.run(self.stop())


class Program(ManagedProcess):
    """One of our own programs; each line that it writes goes to our stderr after its name, or to a log of its own."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        first_start: Mapping[str, str] | None = None,
        ready_line: str | None = None,
        probe: Callable[[], Awaitable[bool]] | None = None,
        log: Path | None = None,
    ) -> None:
        """Make a program that is ready when a line contains `ready_line` and the probe agrees.

        `first_start` is added to the environment of the first start alone: a fault to be met once.
        `log` is the file that gets its lines in place of stderr.
        """
        super().__init__(name)
        self._command = command
        self._environment = environment
        self._first_start = dict(first_start or {})
        self._ready_line = None if ready_line is None else ready_line.encode()
        self._probe = probe
        self._log = log
        self._printed_ready = False
        self._lines: asyncio.Task[None] | None = None

    async def finish(self) -> None:
        """Run the program to its end; raises StartFailed unless it succeeds."""
        process = self._spawn()
        try:
            status = await exit_status(process)
        finally:
            await self.stop()
        if status != 0:
            raise StartFailed(f"{self.name} failed: {status_in_words(status)}\n{self.last_words()}".rstrip())

    @override
    def command(self) -> Sequence[str]:
        return self._command

    @override
    def environment(self) -> Mapping[str, str]:
        # Its lines must come when they are written, not when a buffer is full.
        return {"PYTHONUNBUFFERED": "1", **self._environment, **self._first_start}

    @override
    def output(self) -> IO[bytes] | int:
        return subprocess.PIPE

    @override
    async def is_ready(self) -> bool:
        printed = self._ready_line is None or self._printed_ready
        return printed and (self._probe is None or await self._probe())

    @override
    def last_words(self) -> str:
        return "" if self._log is None else tail(self._log)

    @override
    async def stop(self) -> None:
        await super().stop()
        await self._no_more_lines()

    @override
    async def kill(self) -> None:
        await super().kill()
        await self._no_more_lines()

    def _spawn(self) -> subprocess.Popen[bytes]:
        self._printed_ready = False
        process = super()._spawn()
        self._first_start.clear()
        self._lines = asyncio.create_task(self._show_lines(process))
        return process

    async def _show_lines(self, process: subprocess.Popen[bytes]) -> None:
        if process.stdout is None:
            raise RuntimeError(f"{self.name} was started without a pipe")
        reader = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), process.stdout
        )
        try:
            rest = b""
            while chunk := await reader.read(65_536):
                *lines, rest = (rest + chunk).split(b"\n")
                self._show(lines)
            self._show([rest] if rest else [])
        finally:
            transport.close()

    def _show(self, lines: Sequence[bytes]) -> None:
        for line in lines:
            if self._ready_line is not None and self._ready_line in line:
                self._printed_ready = True
        if self._log is None:
            sys.stderr.writelines(f"{self.name:<14} | {line.decode(errors='replace')}\n" for line in lines)
            sys.stderr.flush()
        else:
            with self._log.open("ab") as log:
                log.writelines(line + b"\n" for line in lines)

    @override
    async def drain_output(self) -> None:
        pipe = None if self._process is None else self._process.stdout
        if self._lines is None or pipe is None:
            return
        # All that is in the pipe is read, however late we are. A child that the process left behind may hold the pipe
        # open, and even write to it: its lines are not worth a wait.
        for _ in range(_TURNS_FOR_A_FULL_PIPE):
            if self._lines.done() or pipe.closed or not select.select([pipe], [], [], 0)[0]:
                break
            await asyncio.sleep(0)
        await asyncio.wait([self._lines], timeout=_LAST_LINES_SECONDS)

    async def _no_more_lines(self) -> None:
        await self.drain_output()
        if self._lines is not None:
            self._lines.cancel()


class Supervisor:
    """Keeps services running: one that ends is started again, at once unless it keeps failing."""

    def __init__(self, report: Callable[[str], None]) -> None:
        self._report = report
        self._services: dict[str, ManagedProcess] = {}
        self._keepers: dict[str, asyncio.Task[None]] = {}

    def __getitem__(self, name: str) -> ManagedProcess:
        return self._services[name]

    @property
    def services(self) -> list[ManagedProcess]:
        """Every service that was started, in that order."""
        return list(self._services.values())

    async def start(self, service: ManagedProcess) -> None:
        """Start the service, wait until it is ready, and keep it running; raises StartFailed."""
        self._services[service.name] = service
        await service.start()
        self._keepers[service.name] = asyncio.create_task(self._keep(service))

    async def stop(self, *names: str) -> None:
        """Stop these services at the same time; they stay stopped."""
        await self._each(names, lambda service: service.stop())

    async def kill(self, *names: str) -> None:
        """SIGKILL these services; they stay dead until started again."""
        await self._each(names, lambda service: service.kill())

    async def _each(self, names: Sequence[str], what: Callable[[ManagedProcess], Awaitable[None]]) -> None:
        keepers = [self._keepers.pop(name) for name in names if name in self._keepers]
        for keeper in keepers:
            keeper.cancel()
        await asyncio.gather(*keepers, return_exceptions=True)
        await asyncio.gather(*(what(self._services[name]) for name in names))

    async def _keep(self, service: ManagedProcess) -> None:
        clock = asyncio.get_running_loop().time
        failures = 0
        ready_at: float | None = clock()
        while True:
            status = await service.ended()
            # A process that others ended has not failed, ready or not. Our own end with 0 after SIGTERM.
            healthy = status in _ENDED_BY_OTHERS or (
                ready_at is not None and (status == os.EX_OK or clock() - ready_at > FAILED_WITHIN_SECONDS)
            )
            failures = 0 if healthy else failures + 1
            pause_seconds = _pause_before_restart(failures)
            when = f"in {pause_seconds:.1f} s" if pause_seconds else "now"
            self._report(f"{service.name} ended ({status_in_words(status)}); starts again {when}")
            await asyncio.sleep(pause_seconds)
            ready_at = await self._start_again(service)

    async def _start_again(self, service: ManagedProcess) -> float | None:
        try:
            await service.start(without_deadline=True)
        except StartFailed as failure:
            self._report(str(failure))
            return None
        return asyncio.get_running_loop().time()


def _pause_before_restart(failures: int) -> float:
    if failures <= 1:
        return 0.0
    return seconds_after(failures - 1, first_seconds=0.5, max_seconds=MAX_RESTART_PAUSE_SECONDS)
