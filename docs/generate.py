"""Writes the documents that come from the code; `--check` only names those that differ from it.

The one module that imports every package: `make docs` and `make docs-check` run it in a checkout.
"""

import argparse
import importlib
import inspect
import sys
from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import Path
from typing import Final

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from docs.commands import commands_page
from docs.currencies import currencies_page
from docs.scaling import scaling_page
from telemetry.metrics import METRICS
from tests.faults.page import faults_page
from topics.pages import asyncapi_document, messages_page, table
from workers.decisions.states import states_page

ROOT: Final = Path(__file__).parents[1]
_GENERATED: Final = "<!-- Written by `make docs`; edit the code instead. -->"
#: Every package with settings, in the order in which a booking meets them.
_PACKAGES: Final = ("topics", "pricing", "storage", "telemetry", "workers", "ingress", "operators", "sandbox")


def configuration_page() -> str:
    """Return docs/configuration.md: every setting of every process."""
    parts = ["# Configuration", _GENERATED, _CONFIGURATION_INTRODUCTION]
    for settings in settings_classes():
        parts += [f"## {_first_line(settings)}", _settings_table(settings)]
    return "\n\n".join(parts) + "\n"


def example_environment() -> str:
    """Return .env.example: every variable once, with its default commented out."""
    lines = [
        "# Written by `make docs`; edit the settings classes instead.",
        "# Copy this to .env and take the # away from what you change; docs/configuration.md has the same as a table.",
    ]
    seen: set[str] = set()
    for settings in settings_classes():
        fresh = {name: field for name, field in _variables(settings).items() if name not in seen}
        if fresh:
            lines += ["", f"# {_first_line(settings)}"]
        for name, field in fresh.items():
            lines += ["", f"# {field.description}", f"#{name}={_default(field)}"]
        seen |= fresh.keys()
    return "\n".join(lines) + "\n"


def metrics_page() -> str:
    """Return docs/metrics.md: every metric of every process."""
    rows = (
        (
            f"`{metric.name}`",
            metric.kind,
            metric.unit,
            ", ".join(f"`{label}`" for label in metric.labels),
            ", ".join(metric.services),
            metric.help,
        )
        for metric in METRICS
    )
    metrics = table(("metric", "kind", "unit", "labels", "reported by", "meaning"), rows)
    return f"# Metrics\n\n{_GENERATED}\n\n{_METRICS_INTRODUCTION}\n\n{metrics}\n"


PAGES: Final[Mapping[str, Callable[[], str]]] = {
    "docs/messages.md": messages_page,
    "docs/commands.md": lambda: commands_page(_GENERATED),
    "docs/metrics.md": metrics_page,
    "docs/currencies.md": lambda: currencies_page(_GENERATED),
    "docs/scaling.md": lambda: scaling_page(_GENERATED),
    "docs/faults.md": lambda: faults_page(_GENERATED),
    "docs/states.md": states_page,
    "topics/asyncapi.json": asyncapi_document,
    "docs/configuration.md": configuration_page,
    ".env.example": example_environment,
}


def settings_classes() -> list[type[BaseSettings]]:
    """Return every settings class, in the order in which a booking meets them.

    They are found in modules named `settings`.
    """
    found: list[type[BaseSettings]] = []
    for path in (path for package in _PACKAGES for path in sorted((ROOT / package).rglob("settings.py"))):
        module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
        found += [
            member
            for member in vars(module).values()
            if inspect.isclass(member) and issubclass(member, BaseSettings) and member.__module__ == module.__name__
        ]
    return found


def _settings_table(settings: type[BaseSettings]) -> str:
    rows = (
        (f"`{name}`", f"`{_default(field)}`" if _default(field) else "", field.description or "")
        for name, field in _variables(settings).items()
        if not any(name.lower() in base.model_fields for base in _bases(settings))
    )
    return table(("variable", "default", "meaning"), rows)


def _bases(settings: type[BaseSettings]) -> list[type[BaseSettings]]:
    """Return the settings that a class extends, which have a table of their own."""
    return [base for base in settings.__mro__[1:] if issubclass(base, BaseSettings) and base is not BaseSettings]


def _variables(settings: type[BaseSettings]) -> dict[str, FieldInfo]:
    prefix = str(settings.model_config.get("env_prefix") or "")
    return {(prefix + name).upper(): field for name, field in settings.model_fields.items()}


def _default(field: FieldInfo) -> str:
    match field.get_default(call_default_factory=True, validated_data={}):
        case SecretStr() as secret:
            return secret.get_secret_value()
        case bool() as flag:
            return str(flag).lower()
        case Enum() as word:
            return str(word.value)
        case None:
            return ""
        case other:
            return "" if field.is_required() else str(other)


def _first_line(settings: type[BaseSettings]) -> str:
    return inspect.cleandoc(settings.__doc__ or settings.__name__).split(". ")[0].splitlines()[0].rstrip(".")


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    """Write the documents below `root`, or check them; return the exit status: 1 when one differs."""
    parser = argparse.ArgumentParser("python -m docs.generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit status 1 when a document differs")
    check = parser.parse_args(arguments).check
    outdated = []
    for name, page in PAGES.items():
        path, content = root / name, page()
        if path.is_file() and path.read_text() == content:
            continue
        outdated.append(name)
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
            sys.stderr.write(f"wrote {name}\n")
    if check and outdated:
        sys.stderr.write(f"Different from the code: {', '.join(outdated)}. Run make docs.\n")
        return 1
    return 0


_METRICS_INTRODUCTION: Final = """\
Every process answers Prometheus at `/metrics` on a port of its own, `METRICS_PORT` at `METRICS_HOST`; without the
setting it does not. Histograms have `_bucket`, `_sum` and `_count`. Each process also reports `process_*` (memory, CPU,
files) and `python_gc_*`, as the client library names them."""

_CONFIGURATION_INTRODUCTION: Final = """\
Every process reads its settings from the environment, and from a file `.env` in the folder in which it is started; the
environment goes first. `.env.example` lists the same variables. A setting may also be a file of its name, in small
letters, in `/run/secrets` or the folder that `SECRETS_FOLDER` names: secrets of containers are found there."""


if __name__ == "__main__":
    sys.exit(main())
