"""The examples for analysts, run as they would run them: from elsewhere, against the live system."""

import asyncio
import json
import os
import re
import shutil
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from sandbox.kafka import available, jars
from tests.support.waiting import MAX_WAIT_SECONDS
from tests.system.path.guest import House

pytestmark = pytest.mark.system

EXAMPLES = Path(__file__).parents[3] / "examples"
NO_KAFKA = available()
#: The command that a user with Kafka's tools has on the path.
CONSOLE_CONSUMER = f"""\
#!/bin/sh
exec java -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -cp '{jars.folder()}/jars/*' \\
    org.apache.kafka.tools.consumer.ConsoleConsumer "$@"
"""


@asynccontextmanager
async def running(house: House, folder: Path, *command: str | Path, path: str = "") -> AsyncIterator[Process]:
    """Start an example with nothing of ours within its reach, and end it."""
    environment = {"PATH": f"{path}:{os.environ['PATH']}", "KAFKA_URL": house.system.kafka_url}
    process = await asyncio.create_subprocess_exec(*command, cwd=folder, env=environment, stdout=PIPE, stderr=PIPE)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def line_with(process: Process, text: str) -> str:
    """Return the first line that the process prints with `text` in it."""
    assert process.stdout is not None
    assert process.stderr is not None
    async with asyncio.timeout(MAX_WAIT_SECONDS):
        async for line in process.stdout:
            if text in line.decode():
                return line.decode()
    raise AssertionError(f"it ended before it printed {text}: {(await process.stderr.read()).decode()}")


@pytest.mark.asyncio(loop_scope="package")
async def test_an_analyst_subscribes_with_twenty_lines_of_python(house: House, tmp_path: Path) -> None:
    source = (EXAMPLES / "subscriber.py").read_text()
    guest, room = await house.guest(), await house.room()
    before = await guest.booked(room)
    async with running(house, tmp_path, sys.executable, "-I", EXAMPLES / "subscriber.py") as subscriber:
        assert "booking.reserved.v1" in await line_with(subscriber, before)
        meanwhile = await guest.booked(room)

        line = await line_with(subscriber, meanwhile)

    assert re.match(r"\d{4}-\d\d-\d\dT\S+Z booking\.reserved\.v1 \{", line)
    lines = [line for line in source.splitlines() if line.strip() and not line.strip().startswith(("#", '"""'))]
    assert len(lines) <= 20


@pytest.mark.asyncio(loop_scope="package")
@pytest.mark.skipif(NO_KAFKA is not None, reason=NO_KAFKA or "")
@pytest.mark.parametrize("installed", [True, False], ids=["from the path", "from the fetched jars"])
async def test_an_analyst_subscribes_with_kafkas_own_console_consumer(
    house: House, tmp_path: Path, *, installed: bool
) -> None:
    tool = tmp_path / "bin" / "kafka-console-consumer.sh"
    if installed:
        tool.parent.mkdir()
        tool.write_text(CONSOLE_CONSUMER)
        tool.chmod(0o755)
    booking = await (await house.guest()).booked(await house.room())
    assert shutil.which("java")
    async with running(house, tmp_path, EXAMPLES / "console.sh", path=str(tool.parent)) as consumer:
        line = await line_with(consumer, booking)

    time, headers, key, value = line.split("\t")
    assert time.startswith("LogAppendTime:")
    assert "ce_type:booking.reserved.v1" in headers.split(",")
    assert json.loads(value)["room_id"] == int(key)
    assert json.loads(value)["booking_id"] == booking


@pytest.mark.parametrize("example", sorted(EXAMPLES.iterdir()), ids=lambda path: path.name)
def test_an_example_needs_nothing_of_ours(example: Path) -> None:
    ours = {path.parent.name for path in EXAMPLES.parent.glob("*/__init__.py")}

    assert {"topics", "storage", "workers", "ingress"} <= ours
    assert not re.search(rf"^\s*(import|from) ({'|'.join(ours)})\b", example.read_text(), re.MULTILINE)
