"""Transactions that wait for one another in the database."""

import psycopg

from storage.settings import DatabaseSettings


async def somebody_waits(database: DatabaseSettings) -> bool:
    """Whether a statement waits for what another transaction has locked."""
    async with await psycopg.AsyncConnection.connect(database.conninfo(), autocommit=True) as connection:
        found = await connection.execute(
            "select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
        )
        return await found.fetchone() is not None
