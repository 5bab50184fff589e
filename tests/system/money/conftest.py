"""One whole system for all tests of money; after each of them all money is explained by events, and the audit holds."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from operators.audit import audit
from sandbox.system import Plan, System
from storage.settings import DatabaseSettings
from tests.support.money import require_explained_money
from tests.support.stack import LONG_TIMEOUTS, SHORT_OUTAGES
from tests.support.waiting import wait_until
from tests.system.money.desk import Desk
from tests.system.path.guest import open_house


@pytest.fixture(autouse=True)
def _no_process_is_left_behind() -> None:
    """The system's own supervisor starts its processes, and ends them all."""


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def whole_system(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Desk]:
    """Start everything once."""
    plan = Plan(
        folder=tmp_path_factory.mktemp("system"),
        partitions=4,
        own_servers=True,
        quiet=True,
        environment={
            "RATE_LIMITS": "false",
            "RECONCILIATION_EVENTS_SECONDS": "1",
            # A thousand late payments must not wait for the limit of a test key.
            "STRIPE_CALLS_PER_SECOND": "100",
            **LONG_TIMEOUTS,
            **SHORT_OUTAGES,
        },
    )
    async with System(plan) as system, open_house(system) as house:
        yield Desk(house)


@pytest_asyncio.fixture(loop_scope="package")
async def desk(whole_system: Desk) -> AsyncIterator[Desk]:
    """The running system; after the test the auditor of money and `innkeeper audit` look at all that happened."""
    yield whole_system
    house = whole_system.house
    await house.stripe("DELETE", "/_sandbox/faults")
    await require_explained_money(whole_system.log, house.session, house.system.stripe_url)
    database = DatabaseSettings(_env_file=None, database_url=house.system.database_url)

    async def holds() -> bool:
        report = await audit(house.kafka, database)
        assert report.problems() == []
        return report.ok

    await wait_until(holds, message="the audit holds")
