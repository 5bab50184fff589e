"""Opens every psycopg connection: `connect` for tools, `connect_worker` for a process that writes behind a cursor."""

from collections.abc import Mapping
from typing import Any

import psycopg
from psycopg import AsyncConnection

from storage.settings import CONNECT_SECONDS, DatabaseSettings


async def connect(
    settings: DatabaseSettings,
    application_name: str,
    *,
    autocommit: bool = True,
    connect_seconds: int = CONNECT_SECONDS,
    options: Mapping[str, object] | None = None,
) -> AsyncConnection:
    """Open a connection; PostgreSQL shows `application_name` in `pg_stat_activity`.

    `options` are settings of the session, for instance `{"lock_timeout": 3000}`. Raises psycopg.OperationalError when
    the database does not answer within `connect_seconds`.
    """
    return await AsyncConnection.connect(
        settings.conninfo(), autocommit=autocommit, **_parameters(application_name, connect_seconds, options)
    )


def connect_sync(
    settings: DatabaseSettings,
    application_name: str,
    *,
    autocommit: bool = True,
    connect_seconds: int = CONNECT_SECONDS,
    options: Mapping[str, object] | None = None,
) -> psycopg.Connection:
    """As `connect`, for code without an event loop."""
    return psycopg.connect(
        settings.conninfo(), autocommit=autocommit, **_parameters(application_name, connect_seconds, options)
    )


async def connect_worker(settings: DatabaseSettings, application_name: str) -> AsyncConnection:
    """Open a worker's connection, on which no frozen process can block its successor for long."""
    return await AsyncConnection.connect(settings.conninfo(), **worker_parameters(settings, application_name))


def worker_parameters(settings: DatabaseSettings, application_name: str) -> dict[str, Any]:
    """Return the parameters of a worker's connections, for `connect_worker` and for pools."""
    options = {
        # Statements are prepared once, maybe while the tables are empty: a plan that reads all rows must not be kept.
        "enable_seqscan": "off",
        "lock_timeout": settings.lock_timeout_ms,
        "idle_in_transaction_session_timeout": settings.idle_in_transaction_timeout_ms,
    }
    return {
        "autocommit": True,
        "tcp_user_timeout": 10_000,
        "keepalives_idle": 5,
        **_parameters(application_name, 5, options),
    }


def _parameters(application_name: str, connect_seconds: int, options: Mapping[str, object] | None) -> dict[str, Any]:
    parameters: dict[str, Any] = {"application_name": application_name, "connect_timeout": connect_seconds}
    if options:
        parameters["options"] = " ".join(f"-c {name}={value}" for name, value in options.items())
    return parameters
