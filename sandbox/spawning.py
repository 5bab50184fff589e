"""Starts and ends single processes so that none outlives the process that started it.

Not even SIGKILL to the starter leaves one behind (on Linux; other kernels do not offer it).
"""

import asyncio
import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

PROCESS_POLL_SECONDS = 0.02
PR_SET_PDEATHSIG = 1

_prctl = ctypes.CDLL(None, use_errno=True).prctl if sys.platform == "linux" else None


class StartFailed(RuntimeError):
    """A process ended, or did not answer in time, before it was ready."""


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


async def end(process: subprocess.Popen[bytes], how: signal.Signals, deadline_seconds: float) -> int:
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
    while process.poll() is None:
        await asyncio.sleep(PROCESS_POLL_SECONDS)
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
