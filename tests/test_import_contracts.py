"""The lists of the import contracts name every module that there is, so that a new one is not past them."""

import tomllib
from typing import Any, Final

import pytest

from operators.cli.commands import __name__ as commands
from operators.cli.main import COMMANDS
from tests.words import PACKAGES, files, text

#: The modules that the sources of each contract may import; the contract forbids all others of ours.
MAY_IMPORT: Final[dict[str, set[str]]] = {
    "topics imports nothing of ours, and neither a database driver nor a command line": set(),
    "pricing imports messages alone: no database, no broker, no network": {"topics.messages"},
    "telemetry imports topics alone": {"topics"},
    "storage imports topics, pricing and telemetry alone": {"topics", "pricing", "telemetry"},
    "workers import neither the ingress nor operators' tools, and run without the sandbox": {
        "topics",
        "pricing",
        "storage",
        "telemetry",
    },
    "The core imports messages and pricing alone: no database, no broker, no network": {"topics.messages", "pricing"},
    "The ingress imports no worker and no command line, and of operators only the packages whose answers it gives": {
        "topics",
        "pricing",
        "storage",
        "telemetry",
        "operators.dead_letters",
        "operators.explain",
        "operators.lag",
    },
    "Operators' tools import neither the ingress nor the sandbox; only `innkeeper ingress` and `sandbox` start them": {
        "topics",
        "pricing",
        "storage",
        "telemetry",
        "workers",
    },
}
_NO_COMMAND_LINE: Final = "Only the command line imports typer and rich"


def contracts() -> dict[str, dict[str, Any]]:
    """Return the contracts of pyproject.toml, by their names."""
    written = tomllib.loads(text("pyproject.toml"))["tool"]["importlinter"]["contracts"]
    return {contract["name"]: contract for contract in written}


def modules() -> set[str]:
    """Return the modules and packages directly in ours: `topics.times`, `topics.kafka`."""
    paths = (path.split("/") for path in files() if path.endswith(".py"))
    return {
        f"{path[0]}.{path[1].removesuffix('.py')}"
        for path in paths
        if path[0] in PACKAGES and len(path) > 1 and path[1] != "__init__.py"
    }


def within(module: str, names: set[str]) -> bool:
    """Return whether a module, or the package that it is in, is among the names."""
    return bool({module, module.partition(".")[0]} & names)


def unnamed(contract: dict[str, Any], may_import: set[str]) -> list[str]:
    """Return the modules that a contract neither forbids nor is meant to allow, and those of which it does both."""
    sources, forbidden = set(contract["source_modules"]), set(contract["forbidden_modules"])
    return sorted(
        module
        for module in modules()
        if not within(module, sources) and within(module, forbidden) == within(module, may_import)
    )


@pytest.mark.parametrize("name", MAY_IMPORT)
def test_a_contract_forbids_every_module_that_its_sources_may_not_import(name: str) -> None:
    assert unnamed(contracts()[name], MAY_IMPORT[name]) == []


def test_a_module_that_a_contract_does_not_name_is_found() -> None:
    name = next(name for name in MAY_IMPORT if name.startswith("pricing"))
    contract = contracts()[name]
    forgetful = {
        **contract,
        "forbidden_modules": [each for each in contract["forbidden_modules"] if "times" not in each],
    }

    assert unnamed(forgetful, MAY_IMPORT[name]) == ["topics.times"]


def test_every_contract_about_forbidden_modules_of_ours_is_compared_with_them() -> None:
    about_ours = {
        name
        for name, contract in contracts().items()
        if set(PACKAGES) & {module.partition(".")[0] for module in contract.get("forbidden_modules", ())}
    }

    assert about_ours == MAY_IMPORT.keys()


def test_every_module_outside_the_command_line_the_ingress_and_the_sandbox_imports_neither_typer_nor_rich() -> None:
    sources = set(contracts()[_NO_COMMAND_LINE]["source_modules"])

    elsewhere = {"operators.__main__", "operators.cli", "ingress", "sandbox"}
    assert [module for module in sorted(modules()) if within(module, sources) == within(module, elsewhere)] == []


def test_the_command_line_imports_no_module_by_a_name_that_the_contracts_do_not_see() -> None:
    assert {entry.module.rpartition(".")[0] for entry in COMMANDS.values()} == {commands}
