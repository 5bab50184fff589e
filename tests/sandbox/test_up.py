"""A system in the foreground starts every part, keeps them together, and leaves nothing behind.

Workers and ingress are left out here: it is about what starts and stops them.
"""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path

import psutil
import pytest

from sandbox.kafka import available
from tests.support.processes import is_gone
from tests.support.waiting import wait_until

NO_KAFKA = available()
pytestmark = [pytest.mark.skipif(NO_KAFKA is not None, reason=NO_KAFKA or ""), pytest.mark.system]

ROOT = Path(__file__).parents[2]
SYSTEM = """
import asyncio, sys
from pathlib import Path
from sandbox.system import Plan, System
from sandbox.up import in_foreground, print_and_stay

plan = Plan(folder=Path(sys.argv[1]), workers={}, ingress=0)
sys.exit(asyncio.run(in_foreground(System(plan), print_and_stay)))
"""


async def up(data: Path, **variables: str) -> Process:
    environment = {name: value for name, value in os.environ.items() if name not in {"KAFKA_URL", "DATABASE_URL"}}
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", SYSTEM, str(data)),
        env={**environment, **variables},
        cwd=ROOT,
        stdout=PIPE,
        stderr=PIPE,
    )


async def first_line(process: Process) -> str:
    assert process.stdout is not None
    return (await process.stdout.readline()).decode().strip()


def family(process: Process) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def all_gone(processes: list[psutil.Process]) -> bool:
    return all(map(is_gone, processes))


async def test_a_stop_leaves_no_process_and_the_same_folder_serves_again(tmp_path: Path) -> None:
    for how in (signal.SIGTERM, signal.SIGINT):
        process = await up(tmp_path)
        assert (await first_line(process)).startswith("ready http://127.0.0.1:")
        started = family(process)

        process.send_signal(how)
        _, log = await process.communicate()

        assert process.returncode == 0, log.decode()
        assert len(started) > 3
        assert all_gone(started)


async def test_a_kill_leaves_no_process_and_nobody_else_gets_the_folder_before(tmp_path: Path) -> None:
    process = await up(tmp_path)
    assert (await first_line(process)).startswith("ready")
    started = family(process)

    second = await up(tmp_path)
    _, refusal = await second.communicate()
    process.kill()
    await process.communicate()

    assert second.returncode == 1
    assert "another system runs on" in refusal.decode()
    await wait_until(lambda: all_gone(started))


async def test_a_part_that_cannot_start_ends_all_of_it_with_the_reason(tmp_path: Path) -> None:
    process = await up(tmp_path, TOPIC_PARTITIONS="none")
    _, log = await process.communicate()

    assert process.returncode == 1
    assert "unable to parse string as an integer" in log.decode()
    assert "topics failed: exit status" in log.decode()
