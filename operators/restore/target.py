"""The database that is to be restored: it must be migrated and empty, and nobody may be at work on it meanwhile."""

from typing import Final

import psycopg
from psycopg import AsyncConnection, sql

from storage import models
from storage.settings import CONNECT_SECONDS, DatabaseSettings


class NotRestored(Exception):
    """The restore is refused, and nothing was written. Says why, and what to do."""


#: All that is made from the log, and nothing of what a backup brings.
FROM_THE_LOG: Final = tuple(
    table.__tablename__
    for table in (
        models.LogCursor,
        models.TopicGeneration,
        models.Outbox,
        models.DeadLetter,
        models.Inventory,
        models.Booking,
        models.BookingGuest,
        models.CheckoutSession,
        models.Refund,
        models.BookingTimeline,
        models.RoomNight,
        models.RoomNightChange,
        models.HotelMinPrice,
        models.ReportedStay,
        models.DailyReport,
    )
)

_LOCK_SECONDS: Final = 3


async def connect(settings: DatabaseSettings) -> AsyncConnection:
    """Open the connection of a restore, whose statements are prepared while the tables are still empty."""
    return await AsyncConnection.connect(
        settings.conninfo(),
        autocommit=True,
        application_name="innkeeper restore",
        connect_timeout=CONNECT_SECONDS,
        options="-c enable_seqscan=off -c jit=off",
    )


async def check(connection: AsyncConnection) -> None:
    """Refuse a database that has rows already, or workers.

    Raises:
        NotRestored: what is in the way.
    """
    if workers := await _workers(connection):
        raise NotRestored(f"Workers are connected to this database: {', '.join(workers)}. Stop them first.")
    try:
        filled = [table for table in FROM_THE_LOG if await has_rows(connection, table)]
    except psycopg.errors.UndefinedTable as error:
        raise NotRestored("The database does not have the newest schema. Bring it there: innkeeper migrate.") from error
    if filled:
        raise NotRestored(
            f"The database is not empty: {', '.join(filled)} {'has' if len(filled) == 1 else 'have'} rows."
            " A restore never writes over anything: give it a new database (innkeeper migrate)."
        )


async def keep_everybody_out(connection: AsyncConnection) -> None:
    """Keep all others from writing these tables until the transaction ends; a worker that starts waits.

    Raises:
        NotRestored: somebody is writing them now.
    """
    await connection.execute(f"set local lock_timeout = '{_LOCK_SECONDS}s'".encode())
    try:
        await connection.execute(f"lock table {', '.join(FROM_THE_LOG)} in exclusive mode".encode())
    except psycopg.errors.LockNotAvailable as error:
        raise NotRestored("Somebody is writing to this database. Stop every worker first.") from error
    await connection.execute("set local lock_timeout = 0")


async def _workers(connection: AsyncConnection) -> list[str]:
    """Return who is connected and would write what is restored; the ingress only writes what a backup brings."""
    found = await connection.execute(
        "select distinct application_name from pg_stat_activity"
        " where datname = current_database() and pid <> pg_backend_pid()"
        " and application_name like 'innkeeper%' and application_name <> 'innkeeper-ingress' order by 1"
    )
    return [name for (name,) in await found.fetchall()]


async def has_rows(connection: AsyncConnection, table: str) -> bool:
    """Tell whether there is anything in a table."""
    found = await connection.execute(sql.SQL("select exists (select from {})").format(sql.Identifier(table)))
    return bool((await found.fetchone() or (False,))[0])
