"""One whole system for all tests of the path, and a second ingress whose holds are short."""

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from sandbox.system import Plan, System
from tests.support.caps import WITHOUT_CAPS
from tests.support.stack import LONG_TIMEOUTS, SHORT_OUTAGES
from tests.support.waiting import wait_until
from tests.system.path.guest import House, open_house

#: Long enough to ask for a payment within it, also if the machine freezes meanwhile; short enough to wait for.
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
        environment={"RATE_LIMITS": "false", **WITHOUT_CAPS, **LONG_TIMEOUTS, **SHORT_OUTAGES},
    )
    async with System(plan) as system, open_house(system) as opened:
        yield opened


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def hasty(house: House) -> AsyncIterator[str]:
    """Start a second ingress, whose holds end after a few seconds; return its address."""
    log_path = house.system.logs / "hasty.log"
    environment = {**os.environ, **house.system.environment(), "HOLD_SECONDS": str(SHORT_HOLD_SECONDS)}
    with log_path.open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "operators", "ingress", "--port", "0", env=environment, stderr=log
        )

    def listens() -> re.Match[str] | None:
        return re.search(r"listening at (http://[\d.]+:\d+)\D", log_path.read_text())

    try:
        listening = await wait_until(listens, message="the second ingress listens")
        assert listening is not None
        url = listening[1]

        async def ready() -> bool:
            async with house.session.get(f"{url}/health/ready") as response:
                return response.status == 200

        await wait_until(ready, message="the second ingress is ready")
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        await process.wait()
