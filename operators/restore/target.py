"""The database that is restored: it must be migrated and empty, and no worker may write to it meanwhile."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import psycopg
from psycopg import AsyncConnection, sql

from storage import database, models
from storage.settings import DatabaseSettings


class NotRestored(Exception):
    """The restore is refused, and nothing was written. The text has the reason and the next step."""


def _names(*tables: type[models.Table]) -> tuple[str, ...]:
    return tuple(table.__tablename__ for table in tables)


# A test compares both with the tables of `models`: a new table belongs to one of them.
#: The tables that are made from the log.
FROM_THE_LOG: Final = _names(
    models.LogCursor,
    models.TopicGeneration,
    models.Outbox,
    models.DeadLetter,
    models.Inventory,
    models.RoomSaleTerms,
    models.RoomBlock,
    models.Booking,
    models.BookingGuest,
    models.PromoCode,
    models.PromoCodeUse,
    models.HotelDocument,
    models.CheckoutSession,
    models.Refund,
    models.PaymentRefund,
    models.PaymentDispute,
    models.BookingTimeline,
    models.RoomNight,
    models.RoomNightChange,
    models.HotelMinPrice,
    models.ReportedStay,
    models.ReportedTrip,
    models.DailyReport,
    models.MoneyMovement,
    # Not on the log: payments workers write their rows anew.
    models.StripeCircuit,
)
#: The tables that are not on the log, and come from a backup.
FROM_A_BACKUP: Final = _names(
    models.AppUser,
    models.RefreshToken,
    models.Guest,
    models.GuestList,
    models.Installation,
    models.Hotel,
    models.Room,
    models.HotelSaleTerms,
    models.RatePlan,
    models.PromoCodeName,
    models.DeskBooking,
    models.IdempotencyKey,
    models.OperatorAction,
    models.DeadLetterEnd,
    models.PausedRole,
    models.UnattributedObject,
    models.StripePosition,
)

_LOCK_SECONDS: Final = 3
_INGRESS: Final = "innkeeper-ingress"


async def connect(settings: DatabaseSettings) -> AsyncConnection:
    """Open the connection of a restore."""
    # Statements are planned while the tables are still empty: a plan that reads all rows must not be kept.
    return await database.connect(settings, "innkeeper restore", options={"enable_seqscan": "off", "jit": "off"})


async def check(connection: AsyncConnection, *, with_ingress: bool) -> None:
    """Refuse a database that has rows already or is used by workers, or by an ingress unless `with_ingress`.

    Raises:
        NotRestored: the database cannot be restored into.
    """
    await require_no_workers(connection, with_ingress=with_ingress)
    try:
        filled = [table for table in FROM_THE_LOG if await has_rows(connection, table)]
    except psycopg.errors.UndefinedTable as error:
        raise NotRestored("The database does not have the newest schema. Bring it there: innkeeper migrate.") from error
    if filled:
        raise NotRestored(
            f"The database is not empty: {', '.join(filled)} {'has' if len(filled) == 1 else 'have'} rows."
            " A restore never writes over anything: give it a new database (innkeeper migrate)."
        )


async def require_no_workers(connection: AsyncConnection, *, with_ingress: bool = False) -> None:
    """Raise NotRestored if workers are connected to the database, or an ingress, unless `with_ingress`.

    An ingress writes no restored table. But where the log is lost, it would send commands to the new topics meanwhile,
    and give out ids that count as lost.
    """
    connected = await _connected(connection)
    if workers := [name for name in connected if name != _INGRESS]:
        raise NotRestored(f"Workers are connected to this database: {', '.join(workers)}. Stop them first.")
    if connected and not with_ingress:
        raise NotRestored("An ingress is connected to this database. Stop every ingress first: the log is lost.")


async def lock_tables(connection: AsyncConnection) -> None:
    """Lock the tables against all other writers until the transaction ends; a worker that starts waits.

    Raises:
        NotRestored: another process is writing them now.
    """
    await connection.execute(f"set local lock_timeout = '{_LOCK_SECONDS}s'".encode())
    try:
        await connection.execute(f"lock table {', '.join(FROM_THE_LOG)} in exclusive mode".encode())
    except psycopg.errors.LockNotAvailable as error:
        raise NotRestored("Another process is writing to this database. Stop every worker first.") from error
    await connection.execute("set local lock_timeout = 0")


@asynccontextmanager
async def alone(connection: AsyncConnection) -> AsyncIterator[None]:
    """Keep other restores of the same database out, for the length of the block.

    Raises:
        NotRestored: another one is at work.
    """
    locked = await connection.execute("select pg_try_advisory_lock(hashtext('innkeeper.restore'))")
    (is_alone,) = await locked.fetchone() or (False,)
    if not is_alone:
        raise NotRestored("Another restore of this database is at work.")
    try:
        yield
    finally:
        await connection.execute("select pg_advisory_unlock(hashtext('innkeeper.restore'))")


async def _connected(connection: AsyncConnection) -> list[str]:
    """Return the names of connected processes that may write restored tables or commands; an audit never does."""
    found = await connection.execute(
        "select distinct application_name from pg_stat_activity"
        " where datname = current_database() and pid <> pg_backend_pid()"
        " and application_name like 'innkeeper%'"
        " and application_name not in ('innkeeper audit', 'innkeeper restore') order by 1"
    )
    return [name for (name,) in await found.fetchall()]


async def has_rows(connection: AsyncConnection, table: str) -> bool:
    """Return whether a table has any row."""
    found = await connection.execute(sql.SQL("select exists (select from {})").format(sql.Identifier(table)))
    return bool((await found.fetchone() or (False,))[0])
