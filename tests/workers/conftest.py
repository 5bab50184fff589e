"""What tests of workers are handed besides the broker and the database: the operators' command."""

from collections.abc import Callable

import pytest
from typer.testing import CliRunner, Result

from workers.__main__ import cli

Tool = Callable[..., Result]


@pytest.fixture
def tool(environment: dict[str, str]) -> Tool:
    def run(*arguments: str, **variables: str) -> Result:
        return CliRunner().invoke(cli, arguments, env={**environment, "COLUMNS": "200", **variables})

    return run
