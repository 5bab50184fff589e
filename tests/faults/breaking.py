"""Ways to break a part of a running system, that rows share; each returns when its fault is over."""

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Final

import psutil

from sandbox.processes import ManagedProcess
from sandbox.spawning import status_in_words
from tests.faults.row import Scene
from tests.support.program_logs import ProgramLogs
from tests.support.waiting import wait_until
from tests.system.pipeline.faults import MAX_RESTART_SECONDS, Fault, all_run, inject

#: How long the rows wait for an answer of a client that shows what the fault does.
MAX_SEEN_SECONDS: Final = 60.0
REFUSED: Final = "a request was answered 503"


async def dies_at(scene: Scene, part: str, failpoint: str) -> None:
    """Let a part die by SIGKILL at a named point of its code, and wait until it runs again."""
    supervised = scene.system.supervisor[part]
    before = supervised.pid
    # It is killed, and its next process has the failpoint. That may die before it is ready.
    await inject(scene.system, Fault(at_seconds=0.0, kind="failpoint", part=part, failpoint=failpoint))
    doomed = await wait_until(lambda: _next_process(supervised, before), MAX_RESTART_SECONDS, part)
    assert doomed is not None
    await wait_until(lambda: doomed.poll() is not None, MAX_RESTART_SECONDS, f"{part} dies at {failpoint}")
    scene.over()
    if doomed.returncode == -signal.SIGKILL:
        scene.causes[died_at(part, failpoint)] += 1
    else:
        scene.problems.append(f"{part} did not die at {failpoint}: {status_in_words(doomed.returncode)}")
    await all_run(scene.system, [part])


def _next_process(supervised: ManagedProcess, before: int) -> subprocess.Popen[bytes] | None:
    """Return the process of a part that is not the one of before, once there is one; it may have ended already."""
    process = supervised._process
    return None if process is None or process.pid == before else process


def died_at(part: str, failpoint: str) -> str:
    """Return the cause that `dies_at` adds."""
    return f"{part} died at {failpoint.partition(':')[0]}"


async def killed(scene: Scene, part: str, cause: str) -> None:
    """Kill a part by SIGKILL; its cause is added when the part has another process."""
    supervised = scene.system.supervisor[part]
    before = supervised.pid
    await inject_now(scene, "kill", part)
    scene.over()
    await wait_until(
        lambda: supervised.running_pid not in {None, before}, MAX_RESTART_SECONDS, f"{part} has another process"
    )
    scene.causes[cause] += 1


async def leave_in_order(scene: Scene, part: str, cause: str) -> None:
    """Ask a part to end by SIGTERM, and wait until it has; its cause is added if its exit status is 0."""
    leaving = scene.system.supervisor[part]._process
    assert leaving is not None
    await inject_now(scene, "leave", part)
    await wait_until(lambda: leaving.poll() is not None, MAX_RESTART_SECONDS, f"{part} ends")
    if leaving.returncode == os.EX_OK:
        scene.causes[cause] += 1
    else:
        scene.problems.append(f"{part} did not leave in order: {status_in_words(leaving.returncode)}")


async def inject_now(scene: Scene, kind: str, part: str, seconds: float = 0.0) -> None:
    """Make one fault of the storm (`tests.system.pipeline.faults`) now."""
    await inject(scene.system, Fault(at_seconds=0.0, kind=kind, part=part, seconds=seconds))


@asynccontextmanager
async def frozen(scene: Scene, *parts: str) -> AsyncIterator[None]:
    """Freeze the processes of these parts (SIGSTOP), with their children, for as long as the block lasts."""
    family = [member for part in parts for member in _family(scene.system.pid(part))]
    for process in family:
        _send(process, signal.SIGSTOP)
    try:
        yield
    finally:
        # The children first: the parent looks after them at once.
        for process in reversed(family):
            _send(process, signal.SIGCONT)


def refused(scene: Scene) -> int:
    """Return how many requests were answered 503 since the row began."""
    return scene.guests.statuses[503] + scene.town.promises.answers["503"]


async def until_refused(scene: Scene) -> None:
    """Wait until more requests are answered 503 than before; that is among the causes."""
    before = refused(scene)
    await wait_until(lambda: refused(scene) > before, MAX_SEEN_SECONDS, "requests are answered 503")
    scene.causes[REFUSED] += 1


@asynccontextmanager
async def logged(scene: Scene, cause: str, pattern: str, parts: Iterable[str]) -> AsyncIterator[None]:
    """Add a cause if one of these parts writes a line that matches while the block lasts."""
    logs = ProgramLogs(scene.system.logs)
    yield
    for part in parts:
        scene.causes[cause] += len(logs.lines(part, pattern))


async def for_seconds(seconds: float) -> None:
    """Let a fault last."""
    await asyncio.sleep(seconds)


def _family(pid: int) -> list[psutil.Process]:
    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]


def _send(process: psutil.Process, what: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(process.pid, what)
