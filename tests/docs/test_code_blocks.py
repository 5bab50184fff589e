"""The code in README and docs is correct: blocks parse, commands and options exist, SQL is the examples'.

tests/sandbox/test_demo.py runs README's requests on a running system, tests/system/money/test_walk.py those of
docs/money.md, tests/system/path/test_documents.py runs the commands, tests/system/path/test_examples.py the examples,
and tests/operators/export compares the answers of docs/analytics.md.
"""

import ast
import json
import re
import subprocess
import sys
from functools import cache
from importlib.util import find_spec

import duckdb
import pytest
import yaml
from typer.testing import CliRunner

from operators.cli.main import COMMANDS, app
from tests.docs.blocks import ROOT, Block, blocks, calls_of, commands, differences

KNOWN = {"sh", "python", "sql", "json", "yaml", "mermaid"}
#: Commands that have commands of their own.
GROUPS = {"accounts", "dead-letters", "refunds", "sandbox", "topics"}
DRAWINGS = {"C4Context", "C4Container", "sequenceDiagram", "stateDiagram-v2", "flowchart", "classDiagram"}
MIN_CALLS = 20


def of(*languages: str) -> pytest.MarkDecorator:
    """Return the mark that tries a test with every block in these languages; there must be one."""
    found = blocks(*languages)
    assert found, f"no block of {languages}: take the test away"
    return pytest.mark.parametrize("block", found, ids=str)


def test_every_block_names_its_language() -> None:
    fences = {
        page.name: re.findall(r"^```(\w*)\n.*?^```$", page.read_text(), re.DOTALL | re.MULTILINE)
        for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    }

    assert {name: found for name, found in fences.items() if set(found) - KNOWN} == {}


@pytest.mark.process
@of("sh")
def test_a_block_of_shell_is_shell(block: Block) -> None:
    checked = subprocess.run(["bash", "-n"], input=block.code, capture_output=True, text=True, check=False)

    assert (checked.returncode, checked.stderr) == (0, "")


@of("json", "yaml")
def test_a_block_of_json_or_yaml_can_be_read(block: Block) -> None:
    read = json.loads if block.language == "json" else yaml.safe_load

    assert read(block.code) is not None


@pytest.mark.process
@of("python")
def test_a_block_of_python_is_python_and_runs(block: Block) -> None:
    ast.parse(block.code)
    ran = subprocess.run(
        [sys.executable, "-c", block.code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )

    assert ran.returncode == 0, ran.stderr


@of("sql")
def test_a_block_of_sql_is_one_of_the_examples(block: Block) -> None:
    *macros, question = duckdb.extract_statements(block.code)
    assert question.type == duckdb.StatementType.SELECT
    assert all(each.query.strip().startswith("create or replace temp macro") for each in macros)
    assert block.code.strip() in {path.read_text().strip() for path in (ROOT / "examples").glob("*.sql")}


@of("mermaid")
def test_a_picture_joins_only_what_it_draws(block: Block) -> None:
    lines = [line.strip() for line in block.code.strip().splitlines()]
    assert lines[0].split()[0] in DRAWINGS
    assert block.code.count("{") == block.code.count("}")
    assert block.code.count("(") == block.code.count(")")

    if lines[0].startswith("C4"):
        drawn = set(re.findall(r"^(?!Rel)\w+\((\w+),", "\n".join(lines), re.MULTILINE))
        joined = {end for pair in re.findall(r"^Rel\((\w+), (\w+),", "\n".join(lines), re.MULTILINE) for end in pair}
        assert joined - drawn == set()
        assert drawn - joined - {"ours"} == set()


@cache
def help_of(path: tuple[str, ...]) -> tuple[int, str]:
    """Return the exit status and the text of `innkeeper PATH --help`, on a page that breaks no word."""
    result = CliRunner().invoke(
        app, [*path, "--help"], env={"COLUMNS": "400", "TERMINAL_WIDTH": "400", "NO_COLOR": "1"}
    )
    return result.exit_code, result.output


def path_of(words: list[str]) -> tuple[str, ...]:
    """Return the command's name, and the name of its own command where it has some."""
    length = 2 if words[0] in GROUPS and len(words) > 1 and re.fullmatch(r"[a-z-]+", words[1]) else 1
    return tuple(words[:length])


def test_every_innkeeper_command_of_the_documents_exists_with_its_options() -> None:
    calls = [(place, words[1:]) for place, words in commands("innkeeper") if len(words) > 1]
    wrong = []
    for place, words in calls:
        if re.fullmatch(r"[A-Z.]+", words[0]):
            continue
        path = () if words[0].startswith("-") else path_of(words)
        status, page = help_of(path) if not path or words[0] in COMMANDS else (2, "")
        options = [word.split("=")[0] for word in words if re.match(r"--[a-z]|-[a-z]\b", word)]
        missing = [option for option in options if not re.search(rf"(?<![\w-]){option}(?![\w-])", page)]
        if status != 0 or missing:
            wrong.append(f"{place}: {' '.join(path)} {' '.join(missing)} (status {status})")

    assert len(calls) >= MIN_CALLS
    assert wrong == []


def test_every_make_target_of_the_documents_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    asked = [(place, word) for place, words in commands("make") for word in words[1:] if re.fullmatch("[a-z-]+", word)]

    assert asked
    assert [f"{place}: make {target}" for place, target in asked if target not in targets] == []


def test_every_module_that_the_documents_run_exists() -> None:
    calls = [(place, words[words.index("-m") + 1]) for place, words in commands("python", "python3") if "-m" in words]

    assert calls
    assert [f"{place}: python -m {module}" for place, module in calls if find_spec(module) is None] == []


def test_every_script_that_the_documents_run_exists() -> None:
    calls = [(place, words[1]) for place, words in commands("python") if words[1:] and words[1].endswith(".py")]

    assert calls
    assert [f"{place}: python {script}" for place, script in calls if not (ROOT / script).is_file()] == []


def test_a_command_that_does_not_exist_would_be_found() -> None:
    assert help_of(("explain",))[0] == 0
    assert help_of(("explains",))[0] != 0
    assert "--nonsense" not in help_of(("explain",))[1]
    assert list(calls_of("KEY=1 .venv/bin/innkeeper lag --watch | tee x  # all")) == [
        ["innkeeper", "lag", "--watch"],
        ["tee", "x"],
    ]


def test_a_page_shows_what_an_answer_has() -> None:
    answer = {"a": "1", "b": [{"c": 2, "d": 3}], "e": None}

    assert differences({"b": [{"c": 2}], "e": None}, answer) == []
    assert differences({"b": [{"c": 3}], "f": 1}, answer) == ["b.0.c: 3 is shown, the answer has 2", "f: is not there"]
    assert differences({"b": []}, answer) == ["b: 0 entries are shown, the answer has 1"]
