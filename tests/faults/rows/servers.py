"""F7 and F8: the broker and the database are killed, restarted, frozen and starved."""

import asyncio
import time
from dataclasses import replace
from typing import Final

import psycopg

from storage.failures import Reason, reason_of
from tests.faults.breaking import MAX_SEEN_SECONDS, REFUSED, for_seconds, frozen, killed, logged, until_refused
from tests.faults.groups import ONE_BROKER
from tests.faults.row import Promise, Row, Scene
from tests.support.waiting import wait_until
from tests.system.pipeline.faults import all_run, end_sessions


async def _broker_is_killed(scene: Scene) -> None:
    await killed(scene, "kafka", "the broker was killed")
    await all_run(scene.system, ["kafka"])


async def _broker_is_frozen(scene: Scene) -> None:
    async with frozen(scene, "kafka"):
        await until_refused(scene)
        await for_seconds(8.0)


async def _broker_is_away(scene: Scene) -> None:
    await scene.system.kill_part("kafka")
    began = time.monotonic()
    await until_refused(scene)
    await for_seconds(max(0.0, began + 20.0 - time.monotonic()))
    await scene.system.start_part("kafka")


async def _database_is_away(scene: Scene) -> None:
    await scene.system.kill_part("postgres")
    await until_refused(scene)
    await for_seconds(3.0)
    await scene.system.start_part("postgres")


async def _database_restarts(scene: Scene) -> None:
    before = scene.system.pid("postgres")
    await scene.system.stop_part("postgres")
    await for_seconds(1.0)
    await scene.system.start_part("postgres")
    scene.causes["postgres was restarted"] += scene.system.pid("postgres") != before


async def _database_is_frozen(scene: Scene) -> None:
    because = "it did not answer in the request's time|connection timeout expired"
    async with logged(scene, "the ingress gave the reason", because, ["ingress"]), frozen(scene, "postgres"):
        await until_refused(scene)
        await for_seconds(5.0)


async def _sessions_are_ended(scene: Scene) -> None:
    for _ in range(3):
        scene.causes["all sessions were ended"] += await end_sessions(scene.system)
        await for_seconds(2.0)


async def _connections_are_taken(scene: Scene) -> None:
    """Take what is left of the server's connections, end everybody's sessions, and take theirs as well."""
    taken: list[psycopg.AsyncConnection] = []
    try:
        for _ in range(2):
            await _take_connections(scene, taken)
            await _end_sessions_of_others(taken)
        await _take_connections(scene, taken)
        async with logged(scene, "the ingress gave the reason", "no connections? left|too many", ["ingress"]):
            await until_refused(scene)
            await for_seconds(5.0)
        scene.figures["connections taken"] = str(len(taken))
    finally:
        await asyncio.gather(*(connection.close() for connection in taken))


async def _take_connections(scene: Scene, taken: list[psycopg.AsyncConnection]) -> None:
    """Take connections, one at least, until the server has none left."""

    async def has_some() -> bool:
        try:
            while True:
                taken.append(await psycopg.AsyncConnection.connect(scene.system.database_url, autocommit=True))
        except psycopg.OperationalError as error:
            if reason_of(error) is not Reason.BUSY:
                raise
            scene.causes["the database had no connection left"] += 1
        # Others may have had all of them just now.
        return bool(taken)

    await wait_until(has_some, MAX_SEEN_SECONDS, "the row has a connection")


async def _end_sessions_of_others(mine: list[psycopg.AsyncConnection]) -> None:
    """End the sessions of everybody but these."""
    kept = [connection.info.backend_pid for connection in mine]
    await mine[0].execute(
        "select pg_terminate_backend(pid) from pg_stat_activity"
        " where pid <> all(%s) and datname = current_database() and backend_type = 'client backend'",
        (kept,),
    )


async def _nights_are_locked(scene: Scene) -> None:
    async with await psycopg.AsyncConnection.connect(scene.system.database_url) as connection:
        await connection.execute("lock table inventory in access exclusive mode")
        await for_seconds(8.0)
        rows = await connection.execute("select count(*) from pg_locks where not granted")
        ((waiting,),) = await rows.fetchall()
        scene.causes["others waited for the lock"] += int(waiting)


_PLAIN: Final = Row(
    id="",
    fault="",
    made_by="",
    group=ONE_BROKER,
    promises=(
        Promise.NO_ROOM_SOLD_TWICE,
        Promise.COUNTS_ADD_UP,
        Promise.EVERY_PROMISE_IS_KEPT,
        Promise.ONE_KEY_ONE_BOOKING,
        Promise.MONEY_IS_EXPLAINED,
        Promise.THE_LOG_HAS_NO_GAP,
        Promise.READ_MODELS_AGREE,
        Promise.IT_RECOVERS,
    ),
    breaks=_broker_is_killed,
    max_wait_seconds=30.0,
    # The ingress runs, and answers within its deadline.
    answers=frozenset({"503"}),
)

ROWS: Final[tuple[Row, ...]] = (
    replace(
        _PLAIN,
        id="F7",
        fault="The broker is killed",
        made_by="SIGKILL; it is started again at once",
        causes=("the broker was killed",),
    ),
    replace(
        _PLAIN,
        id="F7b",
        fault="The broker is killed and away for 20 s",
        made_by="SIGKILL, and a start 20 s later",
        breaks=_broker_is_away,
        causes=(REFUSED,),
        max_wait_seconds=50.0,
    ),
    replace(
        _PLAIN,
        id="F7c",
        fault="The broker freezes",
        made_by="SIGSTOP until requests are refused, and 8 s more",
        breaks=_broker_is_frozen,
        causes=(REFUSED,),
        max_wait_seconds=40.0,
    ),
    replace(
        _PLAIN,
        id="F8",
        fault="PostgreSQL is killed",
        made_by="SIGKILL of the postmaster; a start 3 s after the first 503",
        breaks=_database_is_away,
        causes=(REFUSED,),
    ),
    replace(
        _PLAIN,
        id="F8b",
        fault="PostgreSQL restarts",
        made_by="a fast shutdown, and a start one second later",
        breaks=_database_restarts,
        causes=("postgres was restarted",),
        max_wait_seconds=20.0,
    ),
    replace(
        _PLAIN,
        id="F8c",
        fault="PostgreSQL freezes",
        made_by="SIGSTOP of all its processes until requests are refused, and 5 s more",
        breaks=_database_is_frozen,
        causes=(REFUSED, "the ingress gave the reason"),
    ),
    replace(
        _PLAIN,
        id="F8d",
        fault="PostgreSQL ends every session",
        made_by="`pg_terminate_backend` for all of them, three times in 6 s",
        breaks=_sessions_are_ended,
        causes=("all sessions were ended",),
        max_wait_seconds=15.0,
    ),
    replace(
        _PLAIN,
        id="F8e",
        fault="PostgreSQL has no connection left",
        made_by="the row takes them all, ends the sessions of everybody else, and takes those as well, for 5 s",
        breaks=_connections_are_taken,
        causes=(REFUSED, "the database had no connection left", "the ingress gave the reason"),
    ),
    replace(
        _PLAIN,
        id="F8f",
        fault="A lock keeps the workers from the nights",
        made_by="`lock table inventory in access exclusive mode`, for 8 s",
        breaks=_nights_are_locked,
        causes=("others waited for the lock",),
        max_wait_seconds=20.0,
    ),
)
