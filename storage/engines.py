"""SQLAlchemy's engines on our connections: the same addresses, limits and keepalives as everywhere."""

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import Engine, create_engine
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from storage.database import TOOL_LIMITS, Connection, Limits, parameters, sync_parameters
from storage.settings import DatabaseSettings

#: SQLAlchemy's own reading of addresses is not used: it knows fewer forms than libpq, and drops what it does not know.
_URL: Final = "postgresql+psycopg://"


def async_engine(
    settings: DatabaseSettings,
    application_name: str,
    limits: Limits,
    *,
    address: str | None = None,
    options: Mapping[str, object] | None = None,
    **pool: Any,
) -> AsyncEngine:
    """Return an engine for the primary, or for the replica of an address.

    `pool` are parameters of SQLAlchemy's `create_async_engine`.
    """
    found = parameters(settings, application_name, limits, options, address=address)
    return create_async_engine(
        _URL, hide_parameters=True, connect_args={"async_creator_fn": Connection.connect, **found}, **pool
    )


def engine(settings: DatabaseSettings, application_name: str) -> Engine:
    """Return an engine for a tool without an event loop; no statement has a limit."""
    found = sync_parameters(settings, application_name, TOOL_LIMITS)
    return create_engine(_URL, hide_parameters=True, connect_args=found)
