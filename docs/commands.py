"""Makes docs/commands.md: every command of `innkeeper` with its arguments, options and examples."""

import inspect
from collections.abc import Iterator
from typing import Any, Final

from typer.core import TyperGroup, TyperOption

from operators.cli.main import COMMANDS, PROGRAM, load
from storage import __main__ as storage
from topics import __main__ as topics
from topics.pages import table

_INTRODUCTION: Final = """\
`innkeeper --help` and `innkeeper COMMAND --help` show the same. `python -m operators` is the same program.
With `--install-completion` your shell completes commands, options and roles. `KAFKA_URL` and `DATABASE_URL`
name the broker and the database ([configuration](configuration.md)).
Exit status, unless a command lists others: 0 fine, 1
something was found or refused, 2 it could not be done."""


def commands_page(generated: str) -> str:
    """Return the page; `generated` is the remark that says where it comes from."""
    parts = ["# Commands", generated, _INTRODUCTION]
    for panel in dict.fromkeys(entry.panel for entry in COMMANDS.values()):
        parts.append(f"## {panel}")
        for name, entry in COMMANDS.items():
            if entry.panel == panel:
                parts += _passed_on(name) or _declared(name, load(name))
    return "\n\n".join(parts) + "\n"


def _declared(name: str, command: Any) -> Iterator[str]:
    if isinstance(command, TyperGroup):
        for each, inner in command.commands.items():
            yield from _declared(f"{name} {each}", inner)
        return
    yield f"### {PROGRAM} {name}"
    yield inspect.cleandoc(command.help)
    rows = [(f"`{_named(each)}`", _prose(each)) for each in command.params if _prose(each)]
    if rows:
        yield table(("argument or option", "meaning"), rows)
    if command.epilog:
        yield _listed([line.strip("- `") for line in command.epilog.splitlines() if line.startswith("- ")])


def _named(parameter: Any) -> str:
    if not isinstance(parameter, TyperOption):
        return str(parameter.metavar or parameter.name.upper())
    names = ", ".join(parameter.opts)
    return names if parameter.is_flag else f"{names} {parameter.metavar or parameter.name.upper()}"


def _prose(parameter: Any) -> str:
    return str(getattr(parameter, "help", None) or "")


def _passed_on(name: str) -> list[str]:
    """Return the part of a command whose parser belongs to another package; empty for any other."""
    if name == "migrate":
        return [
            f"### {PROGRAM} migrate",
            storage.DESCRIPTION,
            _listed([f"{PROGRAM} {each}" for each in storage.EXAMPLES]),
        ]
    if name != "topics":
        return []
    parts = []
    for each, command in topics.SUBCOMMANDS.items():
        examples = [f"{PROGRAM} topics {line}" for line in topics.EXAMPLES if line.split()[0] == each]
        parts += [f"### {PROGRAM} topics {each}", inspect.cleandoc(str(command.__doc__)), _listed(examples)]
    return parts


def _listed(examples: list[str]) -> str:
    return "\n".join(f"    {each}" for each in examples)
