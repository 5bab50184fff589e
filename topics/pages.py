"""The generated documents about messages: docs/messages.md and topics/asyncapi.json."""

import inspect
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from topics import asyncapi
from topics.catalogue import CATALOGUE, Topic
from topics.envelope import EVERY_VERSION
from topics.event_triggers import EVENT_TRIGGERS
from topics.messages.commands import COMMANDS
from topics.messages.events import EVENTS, Event
from topics.messages.message import Message
from topics.messages.upcasting import OLDER, Older
from topics.schemas import field_type, schema_of, values

ROOT: Final = Path(__file__).parents[1]
CONTRACTS: Final = ROOT / "tests" / "contracts"
GENERATED: Final = "<!-- Written by `make docs`; edit the code instead. -->"
#: An event that can answer more commands than this is listed as an answer to any.
_MAX_COMMANDS_NAMED: Final = 3


def messages_page() -> str:
    """Return docs/messages.md: every command and event, with fields and an example."""
    parts = [
        "# Messages",
        GENERATED,
        _MESSAGES_INTRODUCTION,
        "## Topics",
        _topics_table(),
        "## Commands",
        "Requests about a room, a promo code or a hotel's documents, decided by the worker of the key's partition.",
        *(_message_section(kind) for kind in COMMANDS),
        "## Events",
        "The decisions on commands: the public record.",
        *(_message_section(kind) for kind in EVENTS),
        "## Values",
        "The objects and words in the fields of messages.",
        *(_value_section(name, schema) for name, schema in values().items()),
    ]
    return "\n\n".join(parts) + "\n"


def asyncapi_document() -> str:
    """Return topics/asyncapi.json: the AsyncAPI document, with the frozen messages as its examples."""
    examples = {message_type: example_of(kind) for message_type, kind in EVERY_VERSION.items()}
    return json.dumps(asyncapi.document(examples), indent=1, ensure_ascii=False) + "\n"


def example_of(kind: type[Message]) -> dict[str, Any]:
    """Return the frozen example of a message: its headers, key and value."""
    contract: dict[str, Any] = json.loads((CONTRACTS / f"{kind.message_type}.json").read_text())
    return contract


def _topics_table() -> str:
    rows = (
        (f"`{topic.name}`", topic.key, ", ".join(topic.written_by), ", ".join(topic.read_by), retention_in_words(topic))
        for topic in CATALOGUE
    )
    return table(("topic", "key", "written by", "read by", "kept"), rows)


def retention_in_words(topic: Topic) -> str:
    """Return the retention of a topic in words."""
    return "for ever" if topic.retention is None else f"{topic.retention.days} days"


def _message_section(kind: type[Message]) -> str:
    topic = next(topic for topic in CATALOGUE if kind in topic.messages)
    parts = [
        f"### {kind.message_type}",
        inspect.cleandoc(kind.__doc__ or ""),
        f"`{kind.__name__}` on `{topic.name}`; the key is the {_key_field(kind)}, here `{example_of(kind)['key']}`.",
        *([_trigger(kind, topic)] if issubclass(kind, Event) else []),
        *_version(kind),
        *(part for older in OLDER if older.now is kind for part in _older_version(older)),
    ]
    return "\n\n".join(parts)


def _key_field(kind: type[Message]) -> str:
    """Return the field of a message that its record has as the key."""
    return next(name for name in ("room_id", "code_id", "hotel_id") if name in kind.__struct_fields__)


def _value_section(name: str, schema: Mapping[str, Any]) -> str:
    about = f"### {name}\n\n{schema.get('description', '')}".strip()
    if "enum" in schema:
        return f"{about}\n\n{', '.join(f'`{word}`' for word in schema['enum'])}"
    return f"{about}\n\n{_table_of_fields(schema)}"


def _trigger(kind: type[Event], topic: Topic) -> str:
    trigger = EVENT_TRIGGERS[kind]
    commands = (
        "any command about a booking"
        if len(trigger.after) > _MAX_COMMANDS_NAMED
        else " or ".join(f"`{command.message_type}`" for command in trigger.after)
    )
    versions = ", ".join(f"`{each.message_type}`" for each in asyncapi.versions(kind))
    lines = [
        f"- Sent by {' and '.join(topic.written_by)}, in answer to {commands}.",
        f"- When: {trigger.when}",
        f"- Versions on the log: {versions}.",
    ]
    return "\n".join(lines)


def _version(kind: type[Message]) -> list[str]:
    example = example_of(kind)
    return [
        _table_of_fields(schema_of(kind)),
        f"Headers of an example:\n\n{_fenced(example['headers'])}",
        f"Its value:\n\n{_fenced(example['value'])}",
    ]


def _older_version(older: Older) -> list[str]:
    return [
        f"#### {older.kind.message_type}",
        f"Replaced by `{older.now.message_type}`: {older.difference}. Nothing else differs; our code reads it as that.",
        *_version(older.kind),
    ]


def _table_of_fields(schema: Mapping[str, Any]) -> str:
    required = schema.get("required", ())
    rows = (
        (
            f"`{name}`",
            field_type(field, lambda value: f"[{value}](#{value.lower()})"),
            "required" if name in required else f"`{json.dumps(field['default'])}`",
        )
        for name, field in schema["properties"].items()
    )
    return table(("field", "type", "default"), rows)


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines)


def _fenced(value: Mapping[str, Any]) -> str:
    return f"```json\n{json.dumps(value, indent=2, ensure_ascii=False)}\n```"


_MESSAGES_INTRODUCTION: Final = """\
Every record is a CloudEvents 1.0 event in Kafka's binary mode: the attributes are headers (`ce_id`, `ce_type`,
`ce_source`, `ce_subject`, `ce_time`, and the extensions `ce_causationid`, `ce_causationposition`, `ce_correlationid`,
`ce_sequence`, `ce_actor`, `ce_requestid`, `ce_traceparent`), the value is the data as JSON. `ce_type` is the message
type with its version. An event's `ce_causationid` is the id of the command that it answers, its `ce_sequence` counts
without a gap within a partition, and its id is the command's id, a colon and that sequence. `ce_causationposition` is
the position of that command on the log (`booking.commands[3]@17`), or of the webhook that a command follows from.
`ce_actor` is the person who caused it, without a name or an address: `user/17` is an account, `operator/4` is the
operator of the action of that number (`innkeeper actions`). A command that no person caused has none, and so have the
events that answer it. `ce_requestid` is the id of that person's request. A command that an operator sent again has
`ce_replay`, which names the replay.

Money is integers in minor units of `currency`, a surge is in thousandths, dates are hotel-local nights, and
`[check_in, check_out)` leaves the check-out night free.

Readers ignore unknown fields, so a field with a default may be added at any time. Any other change is a new version:
readers are upgraded before writers, and a reader that meets an unknown version stops. A replaced version stays on the
log beside the newer one ([ADR 0014](adr/0014-replaced-versions-stay-readable.md)):
`inventory.changed.v2` is written once `INVENTORY_CHANGED_VERSION` is 2, until then `inventory.changed.v1`.

The examples are the frozen files of `tests/contracts`. `innkeeper topics asyncapi` prints all this for programs
(AsyncAPI 3.0; every ingress serves it at `/asyncapi.json`, and for people at `/events`), and `innkeeper topics schema`
the JSON Schema of every message."""
