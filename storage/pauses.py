"""The roles of workers that an operator paused: `paused_role`, read by workers, ingress and operators' tools."""

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeAlias

from psycopg import AsyncConnection
from psycopg.rows import class_row

from storage import operator_log
from topics.times import to_the_second

if TYPE_CHECKING:
    # The operators' commands start without SQLAlchemy.
    from sqlalchemy.ext.asyncio import AsyncConnection as PooledConnection

Connection: TypeAlias = AsyncConnection[Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Pause:
    """A role that is paused: since when (UTC), by which operator, and the reason if they gave one."""

    role: str
    who: str
    at: datetime
    reason: str | None

    def __str__(self) -> str:
        reason = f": {self.reason}" if self.reason else ""
        return f"{self.role} is paused since {to_the_second(self.at)} by {self.who}{reason}"


async def list_pauses(connection: Connection) -> list[Pause]:
    """Return every pause, by role. Raises psycopg.Error."""
    cursor = connection.cursor(row_factory=class_row(Pause))
    return await (await cursor.execute("select role, who, at, reason from paused_role order by role")).fetchall()


async def paused_roles(connection: "PooledConnection") -> list[str]:
    """Return the names of the paused roles in order, for the ingress. Raises sqlalchemy.exc.SQLAlchemyError."""
    return list((await connection.exec_driver_sql("select role from paused_role order by role")).scalars())


async def of(connection: Connection, role: str) -> Pause | None:
    """Return the pause of a role, if it is paused. Raises psycopg.Error."""
    cursor = connection.cursor(row_factory=class_row(Pause))
    found = await cursor.execute("select role, who, at, reason from paused_role where role = %s", (role,))
    return await found.fetchone()


async def begin(connection: Connection, role: str, *, who: str, reason: str | None) -> tuple[Pause, bool]:
    """Pause a role and record the operator's action; return the pause, and whether it is new.

    A pause that exists is not changed. Raises psycopg.Error.
    """
    while True:
        async with connection.transaction():
            inserted = await connection.execute(
                "insert into paused_role (role, who, reason) values (%s, %s, %s) on conflict do nothing",
                (role, who, reason),
            )
            if inserted.rowcount:
                await operator_log.record(connection, who=who, action="pause", target=role, details={"reason": reason})
            pause = await of(connection, role)
        if pause is not None:
            return pause, bool(inserted.rowcount)
        # The other pause ended between the two statements, so the role is not paused: try once more.


async def end(connection: Connection, role: str, *, who: str) -> bool:
    """Resume a role and record the operator's action; False when it was not paused."""
    async with connection.transaction():
        deleted = await connection.execute("delete from paused_role where role = %s", (role,))
        if deleted.rowcount:
            await operator_log.record(connection, who=who, action="resume", target=role)
    return bool(deleted.rowcount)
