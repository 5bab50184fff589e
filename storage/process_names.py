"""The names of worker processes that run at the moment: an advisory lock of a session, shared by those of one name.

PostgreSQL lets a lock go when its session ends. So a killed process is gone from here at once, and a frozen one stays.
Any role of PostgreSQL may read `pg_locks`.
"""

from collections.abc import Iterable
from typing import Any

from psycopg import AsyncConnection


async def register(connection: AsyncConnection[Any], role: str, name: str) -> int:
    """Count this session among the processes of the name until it ends; return how many there are, itself included.

    A session that registers twice counts once.
    """
    await connection.execute(
        "select pg_advisory_lock_shared(hashtext('innkeeper.worker.' || %s), hashtext(%s))", (role, name)
    )
    return (await count(connection, role, [name]))[name]


async def count(connection: AsyncConnection[Any], role: str, names: Iterable[str]) -> dict[str, int]:
    """Return the number of processes of each name that run at the moment; 0: none, or none that has registered."""
    found = await connection.execute(
        """
        select name, (
            select count(*) from pg_locks
            where locktype = 'advisory' and objsubid = 2 and granted
              and database = (select oid from pg_database where datname = current_database())
              and classid = hashtext('innkeeper.worker.' || %s)::oid and objid = hashtext(name)::oid
        )
        from unnest(%s::text[]) as name
        """,
        (role, list(names)),
    )
    return dict(await found.fetchall())
