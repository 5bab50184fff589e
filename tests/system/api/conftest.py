"""One whole system for all tests of the table, with two guests and two hosts in it."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from sandbox.system import Plan, System
from tests.support.caps import WITHOUT_CAPS
from tests.system.api.world import World, open_world

#: Limits that are off here, since a test sends many requests a second. Each has tests of its own.
WITHOUT_LIMITS = {
    "RATE_LIMITS": "false",
    "LOGIN_DELAYS": "false",
    "BCRYPT_ROUNDS": "4",
    "ACK_SECONDS": "60",
    **WITHOUT_CAPS,
}


@pytest.fixture(autouse=True)
def _no_process_is_left_behind() -> None:
    """The system's own supervisor ends its processes after the last of these tests."""


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """Start everything once."""
    plan = Plan(
        folder=tmp_path_factory.mktemp("system"),
        partitions=4,
        own_servers=True,
        quiet=True,
        environment=WITHOUT_LIMITS,
    )
    async with System(plan) as system, open_world(system) as opened:
        yield opened
