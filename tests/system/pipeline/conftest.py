"""One system for the tests of coordination: the roles that decide bookings, and the one that connects them."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from sandbox.system import Plan, System
from tests.system.path.guest import House, open_house


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def coordinated(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    """Start it once; each test has hotels, rooms and accounts of its own, and compares all that happened so far."""
    plan = Plan(
        folder=tmp_path_factory.mktemp("coordinated"),
        workers={"reservations": 1, "coordination": 1},
        ingress=0,
        stripe=False,
        partitions=4,
        own_servers=True,
        quiet=True,
    )
    async with System(plan) as system, open_house(system) as house:
        yield house
