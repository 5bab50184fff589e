"""A system that runs in the test itself: its log, its database, and a role at work."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner, Result

from operators.cli.main import app
from storage.settings import DatabaseSettings
from tests.support.log import Log, open_processor, process_all
from workers.runtime.role import Role

Ledger = psycopg.AsyncConnection[Any]


class Operator:
    """An operator at a terminal."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = environment

    async def __call__(self, *arguments: str) -> Result:
        """Run `innkeeper` with the arguments."""
        return await asyncio.to_thread(
            CliRunner().invoke, app, arguments, env={**self._environment, "COLUMNS": "200", "LOGNAME": "ines"}
        )


@pytest.fixture
def operator(environment: dict[str, str]) -> Operator:
    return Operator(environment)


@pytest.fixture
async def ledger(database: DatabaseSettings) -> AsyncIterator[Ledger]:
    async with await psycopg.AsyncConnection.connect(database.conninfo(), autocommit=True) as connection:
        yield connection


@asynccontextmanager
async def at_work(role: Role, log: Log, database: DatabaseSettings) -> AsyncIterator[None]:
    """Let the role process its topics, as long as the block lasts."""
    over = asyncio.Event()

    async def work() -> None:
        while not over.is_set():
            await process_all(processor, role, log)
            await processor.mark_published()

    async with open_processor(role, log, database) as processor:
        working = asyncio.ensure_future(work())
        try:
            yield
        finally:
            over.set()
            await working
