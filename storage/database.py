"""A worker's own connection to the ledger."""

from psycopg import AsyncConnection

from storage.settings import DatabaseSettings


async def connect(settings: DatabaseSettings, name: str) -> AsyncConnection:
    """Open a connection on which no frozen process can block its successor for long."""
    return await AsyncConnection.connect(
        settings.conninfo(),
        autocommit=True,
        application_name=name,
        connect_timeout=5,
        tcp_user_timeout=10_000,
        keepalives_idle=5,
        # Statements are prepared once, maybe while the tables are empty: they must never settle for reading all rows.
        options=f"-c enable_seqscan=off -c lock_timeout={settings.lock_timeout_ms}"
        f" -c idle_in_transaction_session_timeout={settings.idle_in_transaction_timeout_ms}",
    )
