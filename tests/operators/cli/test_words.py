"""The words of `innkeeper`: every command explains itself with examples that work, and a shell completes them."""

import re
import shlex
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.core import TyperGroup
from typer.testing import CliRunner, Result

from operators.cli.commands.options import Role
from operators.cli.commands.rebuild import ReadModel
from operators.cli.main import COMMANDS, PROGRAM, app, find, load
from operators.granted_roles import GrantedRole
from operators.rebuild import PROJECTIONS
from storage import __main__ as storage
from storage import accounts
from topics import __main__ as topics
from topics.catalogue import Service

#: Commands with a parser of another room, by the words that follow the program's name.
PASSED_ON = {
    **{f"topics {name}": topics.parser("innkeeper topics") for name in topics.SUBCOMMANDS},
    "migrate": storage.parser("innkeeper"),
}
ROLES = [role.value for role in Service if role.ours and role not in {Service.INGRESS, Service.OPERATORS}]


def leaves(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    """Yield every command of a group and of its groups with the words that name it."""
    if isinstance(command, TyperGroup):
        for each, inner in command.commands.items():
            yield from leaves(f"{name} {each}", inner)
    else:
        yield name, command


def operators_commands() -> dict[str, Any]:
    """Return each command that is declared here, by its words."""
    ours = [name for name in COMMANDS if name not in {"topics", "migrate"}]
    return {words: command for name in ours for words, command in leaves(name, load(name))}


def shown(*words: str) -> str:
    result = CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"})
    assert result.exit_code == 0, result.output
    return result.stdout


def examples_of(help: str) -> list[str]:
    """Return the lines below `Examples` in a help text."""
    _, heading, below = re.sub(r"\x1b\[[0-9;]*m", "", help).partition("Examples")
    assert heading
    return re.findall(rf"^\s*•?\s*({PROGRAM} .+?)\s*$", below, re.MULTILINE)


@pytest.mark.parametrize("words", [*operators_commands(), *PASSED_ON])
def test_every_command_has_examples_that_can_be_typed_as_they_are(words: str) -> None:
    examples = examples_of(shown(*words.split()))

    assert examples
    for example in examples:
        program, *typed = shlex.split(example)
        assert program == PROGRAM
        assert " ".join(typed).startswith(words)
        if words in PASSED_ON:
            first = typed if words == "migrate" else typed[1:]
            PASSED_ON[words].parse_args(first)
        else:
            command, name, arguments = find(typed)
            assert name == f"{PROGRAM} {words}"
            # Parses and checks every option and argument, and carries nothing out.
            command.make_context(name, arguments)


def test_an_example_with_an_option_that_does_not_exist_is_found_wrong() -> None:
    command, name, arguments = find(["lag", "--limit-minutes", "1"])

    with pytest.raises(Exception, match="No such option"):
        command.make_context(name, arguments)


@pytest.mark.parametrize("words", operators_commands())
def test_every_command_explains_its_exit_status(words: str) -> None:
    assert "Exit status" in shown(*words.split())


def test_the_first_help_names_and_describes_every_command() -> None:
    page = shown()

    for name, entry in COMMANDS.items():
        assert re.search(rf"│ {name} +{re.escape(entry.does)}", page), name


def test_the_choices_of_options_are_those_of_the_code_behind_them() -> None:
    assert sorted(Role) == sorted(ROLES)
    assert [*ReadModel] == [*PROJECTIONS, "all"]
    assert [*GrantedRole] == [accounts.MANAGER, accounts.OPERATOR]


def completed(line: str) -> list[str]:
    """Return the words that a shell offers at the end of a line."""
    number = len(line.split()) - (0 if line.endswith(" ") else 1)
    asked = {"COMP_WORDS": line, "COMP_CWORD": str(number), "_INNKEEPER_COMPLETE": "complete_bash"}
    return run([], asked).stdout.split()


def run(words: Sequence[str], environment: dict[str, str]) -> Result:
    return CliRunner().invoke(app, words, env=environment, prog_name=PROGRAM)


def test_a_shell_completes_the_names_of_commands() -> None:
    assert completed("innkeeper ") == list(COMMANDS)
    assert completed("innkeeper pa") == ["pause", "paused"]
    assert completed("innkeeper dead-letters ") == ["list", "show", "replay", "discard"]
    assert completed("innkeeper topics ") == list(topics.SUBCOMMANDS)


def test_a_shell_completes_roles_and_options() -> None:
    assert completed("innkeeper worker ") == [*Role]
    assert completed("innkeeper worker res") == ["reservations"]
    assert completed("innkeeper resume p") == ["payments", "projections"]
    assert completed("innkeeper lag --wa") == ["--watch"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_gets_the_script_that_completes(shell: str) -> None:
    script = run([], {"_INNKEEPER_COMPLETE": f"source_{shell}"}).stdout

    assert "_INNKEEPER_COMPLETE" in script
    assert PROGRAM in script


def test_every_command_that_code_and_manifests_name_exists() -> None:
    root = Path(__file__).parents[3]
    listing = ["git", "ls-files", "ingress", "operators", "sandbox", "storage", "topics", "workers", "deploy", "*.yml"]
    paths = subprocess.run(listing, cwd=root, check=True, capture_output=True, text=True).stdout.splitlines()
    named = {
        (path, word)
        for path in paths
        if path.endswith((".py", ".yml", ".yaml"))
        for word in re.findall(r"(?:[:;(`] ?|&& |\")innkeeper ([a-z][a-z-]+)", (root / path).read_text())
    }
    # Names of connections to the database, and what keys and identifiers are made from.
    others = {"operators", "payments", "start", "booking", "refresh", "ops", "quotes", "idempotency"}
    named -= {(path, word) for path, word in named if word in others}

    assert {word for _, word in named} >= {"audit", "migrate", "topics", "lag", "restore", "new-generation"}
    assert sorted((path, word) for path, word in named if word not in COMMANDS) == []
