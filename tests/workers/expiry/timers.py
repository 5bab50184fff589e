"""The expiry role as its tests let it run."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg

from storage.settings import DatabaseSettings
from tests.support.log import Log
from workers.expiry import holds

Connection = psycopg.AsyncConnection[Any]


@asynccontextmanager
async def timer(log: Log, database: DatabaseSettings, name: str = "one") -> AsyncIterator[asyncio.Task[None]]:
    """Let a timer run for as long as the block lasts."""
    task = asyncio.create_task(holds.run(log.settings, database, name=name))
    try:
        yield task
    finally:
        task.cancel()
        (end,) = await asyncio.gather(task, return_exceptions=True)
        assert isinstance(end, asyncio.CancelledError), end
