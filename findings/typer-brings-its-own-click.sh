#!/usr/bin/env bash
# typer 0.29.2 with click 8.5.1: a Typer command is no command of the installed click.
#
# Typer has a click of its own inside. `typer.main.get_command` still returns an object that runs in a click group, but
# its errors are of other classes: `except click.ClickException` around it catches nothing, `click.get_current_context()`
# inside it finds no context, and a click group that has it ends with status 1 on a wrong option value, where its own
# commands end with 2 and print the usage. Tools that wrap Typer applications have to import the errors from Typer.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check typer==0.29.2 click==8.5.1
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version

import click
import typer
from click.testing import CliRunner

app = typer.Typer()


@app.command()
def by_typer(nights: int = 1) -> None:
    print(nights)


@click.command("by-click")
@click.option("--nights", type=int, default=1)
def by_click(nights: int) -> None:
    print(nights)


command = typer.main.get_command(app)
group = click.Group("hotel", commands={"by-typer": command, "by-click": by_click})
status = {
    name: CliRunner().invoke(group, [name, "--nights", "many"]).exit_code for name in ("by-click", "by-typer")
}
try:
    command.main(["--nights", "many"], standalone_mode=False)
except Exception as error:
    caught = isinstance(error, click.ClickException)
    print("typer", version("typer"), "and click", version("click"))
    print("is a click.Command:", isinstance(command, click.Command))
    print("raises", f"{type(error).__module__}.{type(error).__qualname__}", "which is a click.ClickException:", caught)
print("status of a wrong option in one click group:", status)
works = CliRunner().invoke(group, ["by-typer", "--nights", "2"]).output == "2\n"
as_found = works and not caught and not isinstance(command, click.Command) and status == {"by-click": 2, "by-typer": 1}
sys.exit(0 if as_found else 1)
PYTHON
