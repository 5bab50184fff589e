"""The database's primary dies under load, its standby is promoted, and nothing that was acknowledged is lost."""

import asyncio
import logging
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Final

import psycopg
import pytest

from sandbox import kafka, postgres
from sandbox.postgres.standby import fail_over, folders_of
from sandbox.system import System
from tests.support.waiting import wait_until
from tests.system.pipeline import chaos
from tests.system.pipeline.chaos import Verdict
from tests.system.pipeline.load import Town
from tests.system.pipeline.visitors import visitor

MISSING = kafka.available() or postgres.available()
pytestmark = [
    pytest.mark.skipif(MISSING is not None, reason=MISSING or ""),
    pytest.mark.system,
    pytest.mark.long,
    pytest.mark.timeout(900),
]

_SEED: Final = 1
_LOAD_SECONDS: Final = 30.0
_VISITORS_A_SECOND: Final = 3.0
_BOOKINGS: Final = 3


@pytest.fixture(autouse=True)
def _no_process_is_left_behind() -> None:
    """The system's own supervisor starts its processes, and ends them all."""


async def test_the_primary_is_killed_twice_under_load_and_nothing_acknowledged_is_lost(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "aiokafka")
    verdict = Verdict(_SEED, _LOAD_SECONDS, Counter())
    plan = replace(chaos.plan(tmp_path), standby=True)
    async with System(plan) as system, chaos.settled_town(system) as town:
        first, second = folders_of(system.folder)
        async with asyncio.TaskGroup() as together:
            together.create_task(town.live(_SEED, _LOAD_SECONDS, _VISITORS_A_SECOND, chaos.FINISH_SECONDS, visitor))
            for promoted in (second, first):
                await some_are_booked(town)
                assert await fail_over(first, second) == promoted
                await some_are_booked(town)
                await wait_until(lambda: has_standby(system), message="the old primary is a standby in step")
        await chaos.judge(system, town, verdict)

    assert verdict.problems == {}, verdict.as_json()


async def some_are_booked(town: Town) -> None:
    """Wait until some more bookings are promised."""
    before = len(town.promises.bookings)
    await wait_until(lambda: len(town.promises.bookings) >= before + _BOOKINGS, message="bookings are accepted again")


async def has_standby(system: System) -> bool:
    """Return whether the primary waits for a standby that follows it."""
    async with await psycopg.AsyncConnection.connect(system.database_url) as connection:
        rows = await connection.execute("select sync_state from pg_stat_replication where state = 'streaming'")
        return await rows.fetchall() == [("sync",)]
