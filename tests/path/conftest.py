"""One whole system for all tests of the path, and a second ingress whose holds are short."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio

from sandbox.ports import free_port
from sandbox.system import Plan, System
from tests.path.guest import House, open_house
from tests.support.stack import PATIENT_INGRESS
from tests.support.waiting import wait_until

#: Long enough to ask for a payment within it, also if the machine stands still meanwhile; short enough to wait for.
SHORT_HOLD_SECONDS = 12


@pytest.fixture(autouse=True)
def _no_process_is_left_behind() -> None:
    """The system's own supervisor stops and starts processes in the middle of these tests, and ends them all."""


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    """Start everything once."""
    plan = Plan(
        folder=tmp_path_factory.mktemp("system"),
        partitions=4,
        own_servers=True,
        quiet=True,
        # One user asks what a thousand would.
        environment={"RATE_LIMITS": "false", **PATIENT_INGRESS},
    )
    async with System(plan) as system, open_house(system) as opened:
        yield opened


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def hasty(house: House) -> AsyncIterator[str]:
    """Start a second ingress, whose holds end after a few seconds; return its address."""
    port = free_port()
    environment = {**os.environ, **house.system.environment(), "HOLD_SECONDS": str(SHORT_HOLD_SECONDS)}
    with (house.system.logs / "hasty.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "ingress", "--port", str(port), env=environment, stderr=log
        )
    url = f"http://127.0.0.1:{port}"

    async def ready() -> bool:
        try:
            async with house.session.get(f"{url}/health/ready") as response:
                return response.status == 200
        except aiohttp.ClientConnectionError:
            return False

    try:
        await wait_until(ready, message="the second ingress answers")
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        await process.wait()
