"""Fixtures of the workers' tests besides the broker and the database: the operators' command."""

from collections.abc import Awaitable, Callable, Collection

import pytest
from typer.testing import CliRunner, Result

from operators.cli.main import app

Tool = Callable[..., Result]
Owners = Callable[[], Awaitable[dict[int, str]]]


@pytest.fixture
def tool(environment: dict[str, str]) -> Tool:
    def run(*arguments: str, **variables: str) -> Result:
        return CliRunner().invoke(app, arguments, env={**environment, "COLUMNS": "200", **variables})

    return run


async def shared(owners: Owners, among: Collection[str], partitions: int) -> dict[int, str] | None:
    """Return who owns what, once each of these owns something, and somebody everything."""
    owned = await owners()
    return owned if len(owned) == partitions and set(owned.values()) == set(among) else None
