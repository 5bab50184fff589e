"""Fixtures of the workers' tests beside the broker and the database: the operators' command and a connection."""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner, Result

from operators.cli.main import app
from storage.settings import DatabaseSettings

Connection = psycopg.AsyncConnection[Any]
Tool = Callable[..., Result]
Assigned = Callable[[], Awaitable[dict[int, str]]]


@pytest.fixture
def tool(environment: dict[str, str]) -> Tool:
    def run(*arguments: str, **variables: str) -> Result:
        return CliRunner().invoke(app, arguments, env={**environment, "COLUMNS": "200", **variables})

    return run


@pytest.fixture
async def connection(database: DatabaseSettings) -> AsyncIterator[Connection]:
    async with await psycopg.AsyncConnection.connect(database.conninfo(), autocommit=True) as connection:
        yield connection


async def shared(assigned: Assigned, workers: Collection[str], partitions: int) -> dict[int, str] | None:
    """Return the worker of each partition, once all partitions are assigned and each worker has some."""
    found = await assigned()
    return found if len(found) == partitions and set(found.values()) == set(workers) else None
