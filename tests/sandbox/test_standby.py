"""Two servers of one database: a commit is on both, either may lead, and a client finds the one that does."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from pydantic import SecretStr
from sqlalchemy import text

from sandbox import postgres
from sandbox.postgres import Postgres
from sandbox.postgres.standby import CannotFailOver, Pair, fail_over, folders_of
from sandbox.processes import Supervisor
from storage.database import NoAnswer, connect, connect_sync, connect_worker, request_limits
from storage.engines import async_engine
from storage.failures import Reason, reason_of
from storage.pool import WorkerPool
from storage.settings import DatabaseSettings
from tests.support.waiting import wait_until

MISSING = postgres.available()
pytestmark = [pytest.mark.skipif(MISSING is not None, reason=MISSING or ""), pytest.mark.system]

#: No machine is so slow that a server which runs takes this long to answer.
AMPLE_SECONDS = 60


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Pair]:
    pair, supervisor = Pair(*folders_of(folder)), Supervisor(lambda _: None)
    try:
        for server in pair.in_order:
            await supervisor.start(server)
        yield pair
    finally:
        await supervisor.stop(*(server.name for server in supervisor.services))


def settings_of(url: str) -> DatabaseSettings:
    return DatabaseSettings(_env_file=None, database_url=SecretStr(url), database_connect_seconds=AMPLE_SECONDS)


async def is_in_step(settings: DatabaseSettings) -> bool:
    async with await connect(settings, "innkeeper test") as connection:
        rows = await connection.execute("select sync_state from pg_stat_replication where state = 'streaming'")
        return await rows.fetchall() == [("sync",)]


async def test_either_leads_and_a_commit_is_on_both(tmp_path: Path) -> None:
    async with running(tmp_path) as pair:
        settings = settings_of(pair.url)
        first, second = pair.members
        await wait_until(lambda: is_in_step(settings), message="the standby is in step")
        async with await connect(settings, "innkeeper test") as before:
            async with await connect(settings_of(second.url), "innkeeper test") as standby:
                # A commit is written on the standby before it can be read there, also that of a new table.
                await standby.execute("select pg_wal_replay_pause()")
                await before.execute("create table note (number int)")
                await before.execute("insert into note values (1)")
                assert not await has(standby, [1])
                await standby.execute("select pg_wal_replay_resume()")
                await wait_until(lambda: has(standby, [1]), message="the standby shows what it has")
                with pytest.raises(psycopg.Error) as refused:
                    await standby.execute("insert into note values (9)")
                assert reason_of(refused.value) is Reason.READ_ONLY
                # Else a promotion may wait for 5 s (findings/postgresql-promotes-after-its-retry-interval.sh).
                assert await (await standby.execute("show wal_retrieve_retry_interval")).fetchone() == ("500ms",)

            # While the standby hangs no commit is acknowledged, also not when the statement takes too long.
            hasty = settings.model_copy(update={"database_statement_seconds": 0.3})
            async with await connect_worker(hasty, "innkeeper test") as waiting:
                with frozen(second), pytest.raises(NoAnswer):
                    await waiting.execute("insert into note values (2)")
            await wait_until(lambda: has(before, [1, 2]), message="the commit ends when the standby has it")

            # When the primary is killed and the standby promoted
            assert await fail_over(first.folder, second.folder) == second.folder

            # Then a connection to it is gone, and each new one, of every kind, is to the other.
            with pytest.raises(psycopg.OperationalError) as lost:
                await before.execute("select 1")
            assert reason_of(lost.value) is Reason.AWAY
        assert await kinds_that_write(settings) == {"tool", "worker", "without a loop", "pool", "engine"}

        # And the old primary becomes its standby by itself; then it leads again.
        await wait_until(lambda: is_in_step(settings), message="the old primary is a standby in step")
        assert [server.name for server in pair.in_order] == ["postgres-2", "postgres"]
        assert await fail_over(first.folder, second.folder) == first.folder
        async with await connect(settings, "innkeeper test") as connection:
            assert await numbers(connection) == [1, 2, 3, 3, 3, 3, 3]
        await wait_until(lambda: is_in_step(settings), message="the other is its standby in step")

    # After a restart, on other ports, it is as it was.
    async with running(tmp_path) as pair:
        assert [server.name for server in pair.in_order] == ["postgres", "postgres-2"]
        settings = settings_of(pair.url)
        await wait_until(lambda: is_in_step(settings), message="the standby follows on other ports")
        async with await connect(settings, "innkeeper test") as connection:
            assert await numbers(connection) == [1, 2, 3, 3, 3, 3, 3]


async def test_without_a_standby_nothing_is_killed(tmp_path: Path) -> None:
    first, second = folders_of(tmp_path)
    async with Postgres(first) as alone:
        with pytest.raises(CannotFailOver, match="no standby runs"):
            await fail_over(first, second)
        assert alone.running


@contextmanager
def frozen(server: Postgres) -> Iterator[None]:
    """Freeze a server with all its processes for as long as the block lasts."""
    family = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
    try:
        for process in family:
            process.suspend()
        yield
    finally:
        for process in family:
            process.resume()


async def has(connection: psycopg.AsyncConnection[Any], wanted: list[int]) -> bool:
    """Whether a server shows the numbers; before it shows the table it has none."""
    try:
        return await numbers(connection) == wanted
    except psycopg.errors.UndefinedTable:
        return False


async def numbers(connection: psycopg.AsyncConnection[Any]) -> list[int]:
    rows = await connection.execute("select number from note order by number")
    return [number for (number,) in await rows.fetchall()]


async def kinds_that_write(settings: DatabaseSettings) -> set[str]:
    """Write with each kind of connection, and return those that could."""
    found, insert = set(), "insert into note values (3)"
    async with await connect(settings, "a") as tool, await connect_worker(settings, "b") as worker:
        await tool.execute(insert)
        await worker.execute(insert)
        found |= {"tool", "worker"}
    with connect_sync(settings, "c") as without_loop:
        without_loop.execute(insert)
        found.add("without a loop")
    async with WorkerPool(settings, "d", max_size=1) as pool, pool.connection() as pooled:
        await pooled.execute(insert)
        found.add("pool")
    many = async_engine(settings, "e", request_limits(settings))
    async with many.begin() as connection:
        await connection.execute(text(insert))
        found.add("engine")
    await many.dispose()
    return found
