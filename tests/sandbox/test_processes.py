"""No process is left behind, and one that ends is started again."""

import asyncio
import os
import signal
import sys
from functools import partial
from pathlib import Path

import psutil
import pytest

from sandbox import processes
from sandbox.processes import Program, Supervisor
from sandbox.spawning import StartFailed
from tests.support.processes import is_gone
from tests.support.waiting import MAX_WAIT_SECONDS, wait_until

PAUSES = "import signal\nsignal.pause()"
WAITS = f"print('ready', flush=True)\n{PAUSES}"
IGNORES_SIGTERM = f"import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n{WAITS}"
FAILS = "print('ready', flush=True)\nraise SystemExit(70)"
STARTS_ANOTHER_AND_WAITS = f"""
import asyncio, sys
from sandbox.processes import Program, Supervisor

async def main():
    program = Program("child", [sys.executable, "-c", {WAITS!r}], {{}}, ready_line="ready")
    await Supervisor(print).start(program)
    print(program.pid, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


def a_program(script: str, **environment: str) -> Program:
    return Program("worker", [sys.executable, "-c", script], environment, ready_line="ready")


def runs_anew(program: Program, before: int | None) -> bool:
    return program.running_pid not in {None, before}


async def test_a_program_that_is_killed_from_outside_starts_again_at_once() -> None:
    lines: list[str] = []
    supervisor = Supervisor(lines.append)
    program = a_program(WAITS)
    await supervisor.start(program)
    try:
        killed = program.pid

        os.kill(killed, signal.SIGKILL)

        await wait_until(partial(runs_anew, program, killed))
        assert lines == ["worker ended (SIGKILL); starts again now"]
    finally:
        await supervisor.stop("worker")


async def test_a_program_that_is_killed_again_before_it_is_ready_starts_again_at_once_each_time() -> None:
    lines: list[str] = []
    supervisor = Supervisor(lines.append)
    ready_once = f"import os\nif 'FIRST' in os.environ: print('ready', flush=True)\n{PAUSES}"
    program = Program(
        "worker", [sys.executable, "-c", ready_once], {}, first_start={"FIRST": "yes"}, ready_line="ready"
    )
    await supervisor.start(program)
    killed: int | None = None
    try:
        for _ in range(4):
            await wait_until(partial(runs_anew, program, killed))
            killed = program.pid
            os.kill(killed, signal.SIGKILL)
        await wait_until(partial(runs_anew, program, killed))
    finally:
        await supervisor.stop("worker")

    assert [line for line in lines if "starts again" in line] == ["worker ended (SIGKILL); starts again now"] * 4


@pytest.mark.parametrize("status", [0, 128 + signal.SIGTERM], ids=["as ours do", "as Java does"])
async def test_a_program_that_ended_after_sigterm_starts_again_at_once_each_time(status: int) -> None:
    lines: list[str] = []
    supervisor = Supervisor(lines.append)
    await supervisor.start(a_program(f"print('ready', flush=True)\nraise SystemExit({status})"))
    try:
        await wait_until(lambda: len(lines) >= 4)
    finally:
        await supervisor.stop("worker")

    assert lines[:4] == [f"worker ended (exit status {status}); starts again now"] * 4


def test_however_often_it_failed_a_part_tries_again_soon_after_the_cause_is_gone() -> None:
    pauses = [processes._pause_before_restart(failures) for failures in (0, 1, 2, 3, 4, 5, 6, 100)]

    assert pauses == [0.0, 0.0, 0.5, 1.0, 2.0, 4.0, 4.0, 4.0]


async def test_a_program_that_keeps_failing_is_left_alone_for_longer_and_longer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # However long a machine pauses between its first line and its end, it has failed.
    monkeypatch.setattr(processes, "FAILED_WITHIN_SECONDS", 600.0)
    lines: list[str] = []
    supervisor = Supervisor(lines.append)
    await supervisor.start(a_program(FAILS))
    try:
        await wait_until(lambda: len(lines) >= 4)
    finally:
        await supervisor.stop("worker")

    waits = [line.partition("starts again ")[2] for line in lines[:4]]
    assert waits == ["now", "in 0.5 s", "in 1.0 s", "in 2.0 s"]


async def test_a_part_that_was_killed_through_the_supervisor_stays_down_until_started() -> None:
    lines: list[str] = []
    supervisor = Supervisor(lines.append)
    program = a_program(WAITS)
    await supervisor.start(program)

    await supervisor.kill("worker")
    with pytest.raises(RuntimeError, match="worker is not running"):
        os.kill(program.pid, signal.SIGKILL)
    await supervisor.start(program)

    assert program.running
    await supervisor.stop("worker")
    assert lines == []


async def test_a_program_that_ends_before_it_is_ready_fails_the_start() -> None:
    with pytest.raises(StartFailed, match="worker ended with 3 before it was ready"):
        await a_program("raise SystemExit(3)").start()


async def test_a_program_that_ignores_sigterm_is_killed_at_the_deadline() -> None:
    program = a_program(IGNORES_SIGTERM)
    program.stop_within_seconds = 0.2
    await program.start()

    await program.stop()

    assert await program.ended() == -signal.SIGKILL


async def test_a_frozen_program_gets_the_signal_to_stop() -> None:
    program = a_program(WAITS)
    program.stop_within_seconds = MAX_WAIT_SECONDS
    await program.start()
    os.kill(program.pid, signal.SIGSTOP)

    await program.stop()

    assert await program.ended() == -signal.SIGTERM


async def test_a_fault_for_the_first_start_is_not_met_again() -> None:
    program = Program(
        "worker",
        [sys.executable, "-c", f"import os\nif 'FAULT' in os.environ: os._exit(1)\n{WAITS}"],
        {},
        first_start={"FAULT": "yes"},
        ready_line="ready",
    )
    with pytest.raises(StartFailed):
        await program.start()

    await program.start()

    await program.stop()


async def test_each_line_is_shown_after_the_name_of_its_program(
    capsys: pytest.CaptureFixture[str],
) -> None:
    program = a_program("import sys\nprint('one')\nprint('two', file=sys.stderr)\nprint('half', end='')")

    await program.finish()

    shown = capsys.readouterr().err.splitlines()
    assert shown == ["worker         | one", "worker         | two", "worker         | half"]


async def test_a_program_that_ended_before_we_looked_was_ready_all_the_same() -> None:
    program = a_program(FAILS)
    process = program._spawn()
    # As on a machine that pauses this process meanwhile.
    process.wait()

    await program._until_ready(process)

    await program.stop()


async def test_the_last_lines_of_a_program_are_shown_however_late_we_are(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "_LAST_LINES_SECONDS", 0.0)
    program = a_program("print('the last')")
    program._spawn().wait()

    await program.stop()

    assert capsys.readouterr().err == "worker         | the last\n"


async def test_nothing_outlives_a_supervisor_that_is_killed() -> None:
    supervisor = await asyncio.create_subprocess_exec(
        sys.executable, "-c", STARTS_ANOTHER_AND_WAITS, stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    assert supervisor.stdout is not None
    child = psutil.Process(int(await supervisor.stdout.readline()))

    supervisor.kill()
    await supervisor.wait()

    await wait_until(lambda: is_gone(child))
