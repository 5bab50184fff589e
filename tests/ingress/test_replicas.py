"""Reads on replicas: a real streaming replica serves, falls behind, dies and comes back, and nobody reads the past."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
import pytest
from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from ingress.application import DATABASE
from ingress.database import Database
from sandbox.postgres import Postgres
from sandbox.postgres.replica import Replica
from storage.migrate import upgrade
from storage.settings import DatabaseSettings
from tests.ingress.conftest import ingress_settings, run_ingress
from tests.ingress.house import STAY, open_hotel, open_stand_in_worker
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiting import wait_until
from topics.kafka.settings import KafkaSettings

pytestmark = pytest.mark.system

#: No machine is so slow that a replica takes this long; where being late is the point, a test keeps the default.
AMPLE_MS = 60_000


class Notebook:
    """A table that somebody writes to and reads, and the replica that may answer."""

    def __init__(self, database: Database, primary: Postgres, replica: Replica) -> None:
        self.database = database
        self.primary = primary
        self.replica = replica

    async def write(self, number: int) -> None:
        async with self.database.writing() as connection:
            await connection.execute(text("update note set number = :number"), {"number": number})

    async def read(self) -> tuple[int, bool]:
        """Return the number, and whether it came from the replica."""
        return await self.database.read(_number)

    async def replica_answers(self) -> bool:
        return (await self.read())[1]

    async def execute_on_replica(self, statement: str) -> None:
        async with await psycopg.AsyncConnection.connect(self.replica.url_of("postgres"), autocommit=True) as replica:
            await replica.execute(statement)


async def _number(connection: AsyncConnection) -> tuple[int, bool]:
    row = (await connection.execute(text("select number, pg_is_in_recovery() from note"))).one()
    return row.number, row.pg_is_in_recovery


@asynccontextmanager
async def run_database(database: Database) -> AsyncIterator[None]:
    running = asyncio.create_task(database.run())
    try:
        yield
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await database.close()


def settings_for(primary: Postgres, replicas: str, *, lag_ms: int = AMPLE_MS) -> DatabaseSettings:
    return DatabaseSettings(
        _env_file=None,
        database_url=SecretStr(primary.url),
        database_read_urls=SecretStr(replicas),
        database_read_lag_ms=lag_ms,
    )


@pytest.fixture
async def notebook(tmp_path: Path) -> AsyncIterator[Notebook]:
    async with Postgres(tmp_path / "primary") as primary, Replica(tmp_path / "replica", primary) as replica:
        async with await psycopg.AsyncConnection.connect(primary.url, autocommit=True) as connection:
            await connection.execute("create table note as select 0 as number")
        database = Database(settings_for(primary, f" {replica.url} ,"), pool_size=5)
        async with run_database(database):
            notebook = Notebook(database, primary, replica)
            await wait_until(notebook.replica_answers)
            yield notebook


async def test_a_write_is_read_at_once_whichever_server_answers(notebook: Notebook) -> None:
    answered_by_replica = 0
    for number in range(1, 201):
        await notebook.write(number)
        seen, by_replica = await notebook.read()
        assert seen == number
        answered_by_replica += by_replica
    assert answered_by_replica > 0


async def test_many_readers_at_once_see_no_number_go_back(notebook: Notebook) -> None:
    done = asyncio.Event()

    async def write() -> None:
        for number in range(1, 301):
            await notebook.write(number)
        done.set()

    async def read() -> list[tuple[int, bool]]:
        seen = []
        while not done.is_set():
            seen.append(await notebook.read())
        return seen

    async with asyncio.TaskGroup() as both:
        both.create_task(write())
        reading = [both.create_task(read()) for _ in range(4)]
    readers = [task.result() for task in reading]
    for seen in readers:
        numbers = [number for number, _ in seen]
        assert numbers == sorted(numbers)
    assert any(by_replica for seen in readers for _, by_replica in seen)


async def test_a_replica_that_falls_behind_is_left_out_until_it_keeps_up_again(
    notebook: Notebook, caplog: pytest.LogCaptureFixture
) -> None:
    hasty = Database(settings_for(notebook.primary, notebook.replica.url, lag_ms=100), pool_size=5)
    async with run_database(hasty):
        await wait_until(lambda: hasty.replicas == "1 of 1 in use")
        await notebook.execute_on_replica("select pg_wal_replay_pause()")
        await notebook.write(1)
        assert await hasty.read(_number) == (1, False)
        assert "is left out of reads: it is behind" in caplog.text
        assert hasty.replicas == "0 of 1 in use"

        await notebook.execute_on_replica("select pg_wal_replay_resume()")
        await wait_until(lambda: hasty.replicas == "1 of 1 in use")
        assert (await hasty.read(_number))[0] == 1


async def test_a_replica_that_dies_fails_no_read(notebook: Notebook) -> None:
    await notebook.replica.kill()
    assert [await notebook.read() for _ in range(20)] == [(0, False)] * 20

    await notebook.replica.start()
    await wait_until(notebook.replica_answers)


async def test_a_replica_that_falls_silent_fails_no_read(notebook: Notebook) -> None:
    async with TcpProxy("127.0.0.1", notebook.replica.port) as proxy:
        through = notebook.replica.url.replace(f":{notebook.replica.port}/", f":{proxy.port}/")
        database = Database(settings_for(notebook.primary, through, lag_ms=500), pool_size=5)
        async with run_database(database):
            await wait_until(lambda: database.replicas == "1 of 1 in use")
            proxy.silence()
            assert await database.read(_number) == (0, False)
            assert proxy.is_silent
            assert database.replicas == "0 of 1 in use"

            proxy.speak()
            await wait_until(lambda: database.replicas == "1 of 1 in use")


async def test_a_read_that_takes_longer_than_it_may_costs_nobody_the_replica(notebook: Notebook) -> None:
    servers = []

    async def read(connection: AsyncConnection) -> None:
        servers.append((await connection.execute(text("select pg_is_in_recovery()"))).scalar_one())
        await connection.execute(text("set statement_timeout = 50"))
        await connection.execute(text("select pg_sleep(60)"))

    with pytest.raises(DBAPIError, match="statement timeout"):
        await notebook.database.read(read)
    assert servers == [True]
    assert notebook.database.replicas == "1 of 1 in use"


async def test_a_replica_that_became_a_primary_is_asked_nothing(notebook: Notebook) -> None:
    await notebook.execute_on_replica("select pg_promote()")
    await notebook.write(1)
    for _ in range(20):
        assert await notebook.read() == (1, False)
    assert notebook.database.replicas == "0 of 1 in use"


async def test_without_replicas_the_primary_answers(notebook: Notebook) -> None:
    alone = Database(DatabaseSettings(_env_file=None, database_url=SecretStr(notebook.primary.url)), pool_size=1)
    assert await alone.read(_number) == (0, False)
    assert alone.replicas is None
    await alone.close()


async def test_a_guest_reads_over_http_what_was_decided_a_moment_ago(
    tmp_path: Path, kafka_settings: KafkaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Postgres(tmp_path / "primary") as primary:
        with monkeypatch.context() as patch:
            patch.setenv("DATABASE_URL", primary.url)
            await asyncio.to_thread(upgrade)
        async with Replica(tmp_path / "replica", primary) as replica:
            database = settings_for(primary, replica.url)
            await open_hotel(database)
            async with (
                run_ingress(ingress_settings(), kafka_settings, database) as house,
                open_stand_in_worker(kafka_settings, database) as owner,
            ):
                await wait_until(lambda: house.app[DATABASE].replicas == "1 of 1 in use")
                assert (await house.get("/health/ready")).body["parts"]["replicas"] == "1 of 1 in use"
                for _ in range(20):
                    accepted = await house.post("/v1/bookings/init", STAY, user=1)
                    path = accepted.headers["Location"]
                    assert (await house.get(path, user=1)).body["booking_status"] == "PENDING"
                    await owner.write_booking(accepted.body["id"], 1, "RESERVED")
                    assert (await house.get(path, user=1)).body["booking_status"] == "RESERVED"
                    assert (await house.get(path.removesuffix("/status"), user=1)).body["room_id"] == 1
                assert len((await house.get("/v1/users/myBookings", user=1)).body) == 20
                assert (await house.get("/v1/hotels/1/info")).status == 200
                assert house.app[DATABASE].replicas == "1 of 1 in use"
