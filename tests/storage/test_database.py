"""Connections of tools and of workers."""

from storage.database import connect, connect_sync, connect_worker
from storage.settings import DatabaseSettings


async def test_a_connection_has_its_name_and_the_settings_of_its_session(database: DatabaseSettings) -> None:
    async with await connect(database, "innkeeper test", options={"lock_timeout": 3000, "jit": "off"}) as connection:
        shown = [
            await (await connection.execute(b"show " + name)).fetchone()
            for name in (b"application_name", b"lock_timeout", b"jit")
        ]
        assert connection.autocommit

    assert shown == [("innkeeper test",), ("3s",), ("off",)]


def test_a_connection_without_an_event_loop_is_the_same(database: DatabaseSettings) -> None:
    with connect_sync(database, "innkeeper test", autocommit=False) as connection:
        assert connection.execute("show application_name").fetchone() == ("innkeeper test",)
        assert not connection.autocommit


async def test_a_frozen_worker_blocks_its_successor_only_for_as_long_as_the_settings_allow(
    database: DatabaseSettings,
) -> None:
    settings = database.model_copy(update={"lock_timeout_ms": 1500, "idle_in_transaction_timeout_ms": 2500})
    async with await connect_worker(settings, "innkeeper worker") as connection:
        lock = await (await connection.execute("show lock_timeout")).fetchone()
        idle = await (await connection.execute("show idle_in_transaction_session_timeout")).fetchone()

    assert (lock, idle) == (("1500ms",), ("2500ms",))
