"""Starts, watches and ends the processes that the sandbox consists of.

A `Service` is one process that can be started, waited for, stopped, killed and started again.
A `Supervisor` keeps services running. No process outlives the one that started it, not even when
that one is killed with SIGKILL (on Linux; elsewhere nothing asks the kernel for this).
"""

import asyncio
import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

READY_POLL_SECONDS = 0.02
FAILED_WITHIN_SECONDS = 5.0
LONGEST_PAUSE_SECONDS = 15.0
PR_SET_PDEATHSIG = 1

_prctl = ctypes.CDLL(None, use_errno=True).prctl if sys.platform == "linux" else None


class StartFailed(RuntimeError):  # noqa: N818 - it tells what happened
    """A service ended, or did not answer in time, before it was ready."""


class Service:
    """One process: subclasses say how to prepare it, what to run and when it is ready."""

    name: str
    ready_within_seconds = 60.0
    stop_within_seconds = 15.0
    stop_signal = signal.SIGTERM
    death_signal: signal.Signals | None = signal.SIGKILL

    def __init__(self, name: str) -> None:
        self.name = name
        self._process: subprocess.Popen[bytes] | None = None

    async def prepare(self) -> None:
        """Make what must be there before the process starts; called before every start."""

    def command(self) -> Sequence[str]:
        """The program and its arguments."""
        raise NotImplementedError

    def environment(self) -> Mapping[str, str]:
        """What is added to the environment of this process."""
        return {}

    def output(self) -> IO[bytes] | int:
        """Where stdout and stderr of the process go."""
        return subprocess.DEVNULL

    async def is_ready(self) -> bool:
        """Whether the process does its work now; asked again and again until it says so."""
        return True

    def last_words(self) -> str:
        """What explains a failed start: the end of the log."""
        return ""

    @property
    def running(self) -> bool:
        """Whether the process was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The process's id; raises RuntimeError when it does not run."""
        if self._process is None or self._process.poll() is not None:
            raise RuntimeError(f"{self.name} is not running")
        return self._process.pid

    async def start(self, *, patient: bool = False) -> None:
        """Start the process and wait until it is ready; raises StartFailed.

        A patient start has no deadline: it ends only when the process is ready or has ended.
        """
        if self.running:
            raise RuntimeError(f"{self.name} is already running")
        await self.prepare()
        process = self._spawn()
        try:
            async with asyncio.timeout(None if patient else self.ready_within_seconds):
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
            self._process = spawn(self.command(), self.environment(), output, self.death_signal)
        finally:
            if not isinstance(output, int):
                output.close()
        return self._process

    async def _until_ready(self, process: subprocess.Popen[bytes]) -> None:
        while not await self.is_ready():
            if process.poll() is not None:
                message = f"{self.name} ended with {process.returncode} before it was ready"
                raise StartFailed(f"{message}\n{self.last_words()}")
            await asyncio.sleep(READY_POLL_SECONDS)

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


class Supervisor:
    """Keeps services running: one that ends is started again, at once unless it keeps failing."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._services: dict[str, Service] = {}
        self._keepers: dict[str, asyncio.Task[None]] = {}

    def __getitem__(self, name: str) -> Service:
        return self._services[name]

    @property
    def services(self) -> list[Service]:
        """Every service that was started, in that order."""
        return list(self._services.values())

    async def start(self, service: Service) -> None:
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

    async def _each(self, names: Sequence[str], what: Callable[[Service], Awaitable[None]]) -> None:
        keepers = [self._keepers.pop(name) for name in names if name in self._keepers]
        for keeper in keepers:
            keeper.cancel()
        await asyncio.gather(*keepers, return_exceptions=True)
        await asyncio.gather(*(what(self._services[name]) for name in names))

    async def _keep(self, service: Service) -> None:
        clock = asyncio.get_running_loop().time
        failures = 0
        ready_at: float | None = clock()
        while True:
            status = await service.ended()
            # A process killed from outside after it was ready has not failed.
            healthy = ready_at is not None and (
                status == -signal.SIGKILL or clock() - ready_at > FAILED_WITHIN_SECONDS
            )
            failures = 0 if healthy else failures + 1
            pause_seconds = _pause_before_restart(failures)
            when = f"in {pause_seconds:.1f} s" if pause_seconds else "now"
            self._say(f"{service.name} ended ({status_in_words(status)}); starts again {when}")
            await asyncio.sleep(pause_seconds)
            ready_at = await self._start_again(service)

    async def _start_again(self, service: Service) -> float | None:
        try:
            await service.start(patient=True)
        except StartFailed as failure:
            self._say(str(failure))
            return None
        return asyncio.get_running_loop().time()


def _pause_before_restart(failures: int) -> float:
    if failures <= 1:
        return 0.0
    return float(min(0.5 * 2 ** min(failures - 2, 10), LONGEST_PAUSE_SECONDS))


def status_in_words(status: int) -> str:
    """An exit status as people read it: `exit status 70` or `SIGKILL`."""
    return signal.Signals(-status).name if status < 0 else f"exit status {status}"


def spawn(
    command: Sequence[str],
    environment: Mapping[str, str],
    output: IO[bytes] | int,
    death_signal: signal.Signals | None = signal.SIGKILL,
) -> subprocess.Popen[bytes]:
    """Start a process in a session of its own; it gets `death_signal` when we die.

    The session keeps Ctrl-C in the terminal from it, so that the starter can end its processes in
    order. Call it from the main thread: the kernel ties the death signal to the thread that forks.
    """
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("start processes from the main thread: they die with their thread")
    ask_kernel = None if death_signal is None else _die_with_parent(death_signal)
    return subprocess.Popen(
        list(command),
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=ask_kernel,  # noqa: PLW1509 - two system calls, no lock, no allocation
    )


def _die_with_parent(death_signal: signal.Signals) -> Callable[[], None] | None:
    prctl = _prctl
    if prctl is None:
        return None
    parent = os.getpid()

    def in_child() -> None:
        prctl(PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
        if os.getppid() != parent:  # It died before we asked.
            os._exit(70)

    return in_child


async def end(
    process: subprocess.Popen[bytes], how: signal.Signals, deadline_seconds: float
) -> int:
    """Send `how`, then SIGKILL at the deadline; the exit status of the process."""
    if process.poll() is None:
        process.send_signal(how)
        if how is signal.SIGKILL:
            return await exit_status(process)
        # A stopped process acts on no signal but SIGKILL until it is continued.
        process.send_signal(signal.SIGCONT)
    try:
        async with asyncio.timeout(deadline_seconds):
            return await exit_status(process)
    except TimeoutError:
        process.kill()
        return await exit_status(process)


async def exit_status(process: subprocess.Popen[bytes]) -> int:
    """Wait until the process ends, without a thread; works in whatever event loop calls it."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            await _until_gone(process.pid)
    while process.poll() is None:  # noqa: ASYNC110 - only where there are no pidfds
        await asyncio.sleep(READY_POLL_SECONDS)
    return process.returncode


async def _until_gone(pid: int) -> None:
    if sys.platform != "linux":
        return
    loop = asyncio.get_running_loop()
    handle = os.pidfd_open(pid)
    gone = asyncio.Event()
    try:
        loop.add_reader(handle, gone.set)
        await gone.wait()
    finally:
        loop.remove_reader(handle)
        os.close(handle)


async def run(command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
    """Run a program to its end, its output appended to `log`; raises StartFailed."""
    with log.open("ab") as output:
        process = spawn(command, environment, output)
    try:
        status = await exit_status(process)
    except BaseException:
        await end(process, signal.SIGKILL, 0)
        raise
    if status != 0:
        raise StartFailed(f"{command[0]} failed: {status_in_words(status)}\n{tail(log)}")


def tail(log: Path, lines: int = 20) -> str:
    """The last lines of a log file; empty when there is none."""
    if not log.exists():
        return ""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
