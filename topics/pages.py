"""The pages of the documentation that are written by the code: what a room of the house says of itself."""

import importlib
import inspect
import json
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Any, Final

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from topics import asyncapi
from topics.catalogue import CATALOGUE, Topic
from topics.commands import COMMANDS
from topics.envelope import EVERY_VERSION
from topics.events import EVENTS, Event
from topics.message import Message
from topics.occasions import OCCASIONS
from topics.schemas import field_type, schema_of
from topics.telemetry.metrics import METRICS
from topics.upcasting import OLDER, Older

ROOT: Final = Path(__file__).parents[1]
CONTRACTS: Final = ROOT / "tests" / "contracts"
GENERATED: Final = "<!-- Written by `python -m topics docs`; edit the code instead. -->"
#: An event that more commands than these may lead to is an answer to any.
_MOST_NAMED: Final = 3
_ROOMS: Final = ("topics", "storage", "workers", "ingress", "sandbox")


def messages_page() -> str:
    """Return docs/messages.md: every command and event, with fields and an example."""
    parts = [
        "# Messages",
        GENERATED,
        _MESSAGES_INTRODUCTION,
        "## Topics",
        _topics_table(),
        "## Commands",
        "What somebody asks of the owner of a room.",
        *(_message_section(kind) for kind in COMMANDS),
        "## Events",
        "What the owner of a room decided: the public record.",
        *(_message_section(kind) for kind in EVENTS),
    ]
    return "\n\n".join(parts) + "\n"


def configuration_page() -> str:
    """Return docs/configuration.md: every setting of every process."""
    parts = ["# Configuration", GENERATED, _CONFIGURATION_INTRODUCTION]
    for settings in settings_classes():
        parts += [f"## {_first_line(settings)}", _settings_table(settings)]
    return "\n\n".join(parts) + "\n"


def example_environment() -> str:
    """Return .env.example: every variable once, with its default commented out."""
    lines = [
        "# Written by `python -m topics docs`; edit the settings classes instead.",
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


def asyncapi_document() -> str:
    """Return topics/asyncapi.json: the AsyncAPI document, with the frozen wire files as its examples."""
    examples = {wire: example_of(kind) for wire, kind in EVERY_VERSION.items()}
    return json.dumps(asyncapi.document(examples), indent=1, ensure_ascii=False) + "\n"


def metrics_page() -> str:
    """Return docs/metrics.md: every metric of every process."""
    rows = (
        (
            f"`{metric.name}`",
            metric.kind,
            metric.unit,
            ", ".join(f"`{label}`" for label in metric.labels),
            ", ".join(metric.told_by),
            metric.help,
        )
        for metric in METRICS
    )
    table = _table(("metric", "kind", "unit", "labels", "told by", "meaning"), rows)
    return f"# Metrics\n\n{GENERATED}\n\n{_METRICS_INTRODUCTION}\n\n{table}\n"


PAGES: Final = {
    "docs/messages.md": messages_page,
    "docs/metrics.md": metrics_page,
    "topics/asyncapi.json": asyncapi_document,
    "docs/configuration.md": configuration_page,
    ".env.example": example_environment,
}


def settings_classes() -> list[type[BaseSettings]]:
    """Return every settings class of the house, in the order in which a booking meets them.

    They are found in modules named `settings`, by path: the language must not import the rooms that speak it.
    """
    found: list[type[BaseSettings]] = []
    for path in (path for room in _ROOMS for path in sorted((ROOT / room).rglob("settings.py"))):
        module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
        found += [
            member
            for member in vars(module).values()
            if inspect.isclass(member) and issubclass(member, BaseSettings) and member.__module__ == module.__name__
        ]
    return found


def example_of(kind: type[Message]) -> dict[str, Any]:
    """Return the frozen wire file of a message: its headers, key and value."""
    contract: dict[str, Any] = json.loads((CONTRACTS / f"{kind.wire}.json").read_text())
    return contract


def _topics_table() -> str:
    rows = (
        (f"`{topic.name}`", topic.key, ", ".join(topic.written_by), ", ".join(topic.read_by), retention_in_words(topic))
        for topic in CATALOGUE
    )
    return _table(("topic", "key", "written by", "read by", "kept"), rows)


def retention_in_words(topic: Topic) -> str:
    """Return how long a topic keeps its records."""
    return "for ever" if topic.retention is None else f"{topic.retention.days} days"


def _message_section(kind: type[Message]) -> str:
    topic = next(topic for topic in CATALOGUE if kind in topic.messages)
    parts = [
        f"### {kind.wire}",
        inspect.cleandoc(kind.__doc__ or ""),
        f"`{kind.__name__}` on `{topic.name}`; the key is the {topic.key}, here `{example_of(kind)['key']}`.",
        *([_occasion(kind, topic)] if issubclass(kind, Event) else []),
        *_version(kind),
        *(part for older in OLDER if older.now is kind for part in _older_version(older)),
    ]
    return "\n\n".join(parts)


def _occasion(kind: type[Event], topic: Topic) -> str:
    occasion = OCCASIONS[kind]
    commands = (
        "any command about a booking"
        if len(occasion.after) > _MOST_NAMED
        else " or ".join(f"`{command.wire}`" for command in occasion.after)
    )
    versions = ", ".join(f"`{each.wire}`" for each in asyncapi.versions(kind))
    lines = [
        f"- Sent by {' and '.join(topic.written_by)}, in answer to {commands}.",
        f"- When: {occasion.when}",
        f"- Versions on the log: {versions}.",
    ]
    return "\n".join(lines)


def _version(kind: type[Message]) -> list[str]:
    example = example_of(kind)
    return [
        _fields_table(kind),
        f"Headers of an example:\n\n{_fenced(example['headers'])}",
        f"Its value:\n\n{_fenced(example['value'])}",
    ]


def _older_version(older: Older) -> list[str]:
    return [
        f"#### {older.kind.wire}",
        f"Replaced by `{older.now.wire}`: {older.difference}. All else means the same, and ours read it as that one.",
        *_version(older.kind),
    ]


def _fields_table(kind: type[Message]) -> str:
    schema = schema_of(kind)
    rows = (
        (
            f"`{name}`",
            field_type(field, schema.get("$defs", {})),
            "required" if name in schema["required"] else f"`{json.dumps(field['default'])}`",
        )
        for name, field in schema["properties"].items()
    )
    return _table(("field", "type", "default"), rows)


def _settings_table(settings: type[BaseSettings]) -> str:
    rows = (
        (f"`{name}`", f"`{_default(field)}`" if _default(field) else "", field.description or "")
        for name, field in _variables(settings).items()
    )
    return _table(("variable", "default", "meaning"), rows)


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


def _table(head: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines)


def _fenced(value: Mapping[str, Any]) -> str:
    return f"```json\n{json.dumps(value, indent=2, ensure_ascii=False)}\n```"


_MESSAGES_INTRODUCTION: Final = """\
Every record is a CloudEvents 1.0 event in Kafka's binary mode: the attributes are headers (`ce_id`, `ce_type`,
`ce_source`, `ce_subject`, `ce_time`, and the extensions `ce_causationid`, `ce_correlationid`, `ce_sequence`,
`ce_traceparent`), the value is the data as JSON. `ce_type` is the wire name with its version. An event's
`ce_causationid` is the id of the command that it answers, its id is that one with an index, and its `ce_sequence`
counts without a gap within a partition. Money is integers in minor units of `currency`, a surge is in thousandths,
dates are hotel-local nights, and `[check_in, check_out)` leaves the check-out night free.

Readers ignore fields that they do not know, so a field with a default may be added at any time. Anything else is a new
version: readers are upgraded before writers, and a reader that meets a version it does not know stops. A version that
was replaced stays on the log beside the newer one ([ADR 0014](adr/0014-replaced-versions-stay-readable.md)):
`inventory.changed.v2` is written once `INVENTORY_CHANGED_VERSION` says so, until then `inventory.changed.v1`.

The examples are the frozen files of `tests/contracts`. `python -m topics asyncapi` prints all this for programs
(AsyncAPI 3.0; every ingress serves it at `/asyncapi.json`, and for people at `/events`), and `python -m topics schema`
the JSON Schema of every message."""

_METRICS_INTRODUCTION: Final = """\
Every process answers Prometheus at `/metrics` on a port of its own, `METRICS_PORT` at `METRICS_HOST`; without the
setting it does not. Histograms have `_bucket`, `_sum` and `_count`. Each process also tells `process_*` (memory, CPU,
files) and `python_gc_*`, as the client library names them."""

_CONFIGURATION_INTRODUCTION: Final = """\
Every process reads its settings from the environment, and from a file `.env` in the folder in which it is started; the
environment goes first. `.env.example` lists the same variables. A setting may also be a file of its name, in small
letters, in `/run/secrets` or the folder that `SECRETS_FOLDER` names: secrets of containers are found there."""
