"""`sandbox up` starts every part, keeps them together, and leaves nothing behind.

Our own programs are played by a few lines each: here it is only about what starts and stops them.
"""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping
from pathlib import Path

import psutil
import pytest

from sandbox.kafka import available
from sandbox.ports import free_port
from tests.support.waiting import wait_until

NO_KAFKA = available()
pytestmark = pytest.mark.skipif(NO_KAFKA is not None, reason=NO_KAFKA or "")

ROOT = Path(__file__).parents[2]
ENDS_WELL = "print('done')"
WORKS = "import signal\nprint('worker ready', flush=True)\nsignal.pause()"
SERVES = """
import sys
from aiohttp import web

async def ready(request):
    return web.Response()

app = web.Application()
app.router.add_get("/health/ready", ready)
web.run_app(app, host="127.0.0.1", port=int(sys.argv[2]), print=None)
"""
PLAYED: Mapping[str, str] = {"storage": ENDS_WELL, "topics": ENDS_WELL, "workers": WORKS, "ingress": SERVES}


@pytest.fixture
def stage(tmp_path: Path) -> Path:
    """A folder in which `python -m workers` and the others find what plays them."""
    for name, script in PLAYED.items():
        package = tmp_path / "stage" / name
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
        (package / "__main__.py").write_text(script)
    return tmp_path / "stage"


async def up(stage: Path, data: Path) -> Process:
    environment = {name: value for name, value in os.environ.items() if name not in {"KAFKA_URL", "DATABASE_URL"}}
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "sandbox", "up", "--port", str(free_port()), "--data", str(data)),
        env={**environment, "PYTHONPATH": str(ROOT)},
        cwd=stage,
        stdout=PIPE,
        stderr=PIPE,
    )


async def first_line(process: Process) -> str:
    assert process.stdout is not None
    return (await process.stdout.readline()).decode().strip()


def family(process: Process) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def all_gone(processes: list[psutil.Process]) -> bool:
    return not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in processes)


async def test_a_stop_leaves_no_process_and_the_same_folder_serves_again(stage: Path, tmp_path: Path) -> None:
    for how in (signal.SIGTERM, signal.SIGINT):
        process = await up(stage, tmp_path / "all")
        assert (await first_line(process)).startswith("ready http://127.0.0.1:")
        started = family(process)

        process.send_signal(how)
        _, log = await process.communicate()

        assert process.returncode == 0, log.decode()
        assert len(started) >= 8
        assert all_gone(started)


async def test_a_kill_leaves_no_process_and_nobody_else_gets_the_folder_before(stage: Path, tmp_path: Path) -> None:
    process = await up(stage, tmp_path / "all")
    assert (await first_line(process)).startswith("ready")
    started = family(process)

    second = await up(stage, tmp_path / "all")
    _, refusal = await second.communicate()
    process.kill()
    await process.communicate()

    assert second.returncode == 1
    assert "another system runs on" in refusal.decode()
    await wait_until(lambda: all_gone(started))


async def test_a_part_that_cannot_start_ends_all_of_it_and_says_why(stage: Path, tmp_path: Path) -> None:
    (stage / "storage" / "__main__.py").write_text("raise SystemExit('no such table')")

    process = await up(stage, tmp_path / "all")
    _, log = await process.communicate()

    assert process.returncode == 1
    assert "no such table" in log.decode()
    assert "storage failed: exit status 1" in log.decode()
