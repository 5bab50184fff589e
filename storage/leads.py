"""The lead of a role of which one process works and the others wait: an advisory lock of its session."""

from psycopg import AsyncConnection


async def take_lead(connection: AsyncConnection, role: str, *, silent_seconds: float) -> bool:
    """Take the role's lead if no session has it; this session keeps it until it ends.

    The server ends a session that is silent for `silent_seconds`, so that another process replaces a frozen leader.
    """
    await connection.execute("select set_config('idle_session_timeout', %s, false)", (f"{silent_seconds}s",))
    found = await connection.execute("select pg_try_advisory_lock(hashtext('innkeeper.' || %s))", (role,))
    row = await found.fetchone()
    assert row is not None, "a function always returns"
    return bool(row[0])
