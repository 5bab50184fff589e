"""Each command imports what it needs: help needs no driver, and no command pays for another's libraries."""

import json
import subprocess
import sys
from functools import cache

import pytest

from operators.cli.commands import __name__ as words
from operators.cli.main import COMMANDS

#: Libraries that take long to load.
SLOW = (
    "aiohttp",
    "aiokafka",
    "alembic",
    "faust",
    "numpy",
    "opentelemetry",
    "prometheus_client",
    "psycopg",
    "pyarrow",
    "pydantic_settings",
    "sqlalchemy",
    "stripe",
    "structlog",
    "uvloop",
)
#: The libraries that connect to the broker and the database.
_BOTH = {"aiokafka", "psycopg", "pydantic_settings"}
#: Which of them each command's work needs, by the module that does it.
NEEDED = {
    "accounts": _BOTH | {"sqlalchemy"},
    "actions": _BOTH,
    "audit": _BOTH,
    "dead_letters": _BOTH,
    "explain": _BOTH,
    "export": _BOTH,
    "lag": _BOTH,
    "money": _BOTH | {"stripe"},
    "new_generation": _BOTH,
    "pause": _BOTH,
    "rebuild": _BOTH | {"sqlalchemy"},
    "reconcile": _BOTH | {"stripe"},
    "refunds": _BOTH,
    "replay": _BOTH,
    "restore": _BOTH | {"sqlalchemy", "stripe"},
    "tail": _BOTH,
}
_WORK_OF_EACH = """
import importlib, json, os, sys
for name in sys.argv[2:]:
    if os.fork() == 0:
        importlib.import_module(f"operators.cli.{name}")
        print(json.dumps([name, sorted(set(json.loads(sys.argv[1])) & sys.modules.keys())]), flush=True)
        os._exit(0)
    os.wait()
"""
_HELP_OF_EACH = """
import contextlib, io, json, sys
from operators.cli import main
slow, asked = map(json.loads, sys.argv[1:])
for words in asked:
    sys.argv[1:] = [*words, "--help"]
    with contextlib.redirect_stdout(io.StringIO()) as shown, contextlib.suppress(SystemExit):
        main.main()
    assert "--help" in shown.getvalue(), words
print(json.dumps(sorted(set(slow) & sys.modules.keys())))
"""


def printed(script: str, *arguments: str) -> str:
    return subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True).stdout


@cache
def imported() -> dict[str, set[str]]:
    """Return which slow libraries each command's work imports, each in a process of its own."""
    lines = printed(_WORK_OF_EACH, json.dumps(SLOW), *NEEDED).splitlines()
    return {name: set(libraries) for name, libraries in map(json.loads, lines)}


@pytest.mark.parametrize("name", NEEDED)
def test_a_command_imports_the_libraries_that_it_needs_and_no_others(name: str) -> None:
    assert imported()[name] <= NEEDED[name]


def test_the_table_speaks_of_every_command_that_operators_have() -> None:
    modules = {entry.module.rpartition(".")[2] for entry in COMMANDS.values() if entry.module.startswith(words)}

    assert modules - {"running"} == NEEDED.keys()


def test_explain_imports_rich_for_a_page_alone() -> None:
    script = "import sys, operators.cli.explain; print('rich.console' in sys.modules)"

    assert printed(script) == "False\n"


def test_help_imports_no_slow_library() -> None:
    asked = [[name] for name in COMMANDS if name not in {"topics", "migrate"}]
    asked += [[], ["dead-letters", "list"], ["accounts", "grant"], ["sandbox", "up"], ["sandbox", "demo"]]

    loaded = printed(_HELP_OF_EACH, json.dumps(SLOW), json.dumps(asked))

    assert json.loads(loaded) == []


def test_help_of_a_migration_imports_neither_alembic_nor_sqlalchemy() -> None:
    script = (
        "import sys\nfrom storage.__main__ import main\n"
        "try:\n    main(['migrate', '--help'])\nexcept SystemExit:\n    print(*sys.modules)"
    )

    loaded = set(printed(script).split())

    assert "storage.settings" in loaded
    assert not {"alembic", "sqlalchemy"} & loaded
