"""The JSON Schema of every message, for readers of the topics without our code."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from topics.envelope import EVERY_VERSION
from topics.messages.message import Message

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


def schemas() -> dict[str, dict[str, Any]]:
    """Return the schema of every version of every message by its message type."""
    return {message_type: schema_of(kind) for message_type, kind in EVERY_VERSION.items()}


def values() -> dict[str, dict[str, Any]]:
    """Return the schema of every value that fields of messages have, by its name: objects and lists of words."""
    found = {
        name: schema for kind in EVERY_VERSION.values() for name, schema in schema_of(kind).get("$defs", {}).items()
    }
    return dict(sorted(found.items()))


def schema_of(kind: type[Message]) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a message's data.

    Fields that the schema does not name are allowed: a reader ignores unknown fields.
    """
    generated = msgspec.json.schema(kind)
    definitions = {name: _described(schema) for name, schema in generated["$defs"].items()}
    data = definitions.pop(kind.__name__)
    return {"$schema": DIALECT, "$id": f"urn:innkeeper:{kind.message_type}", **data} | (
        {"$defs": definitions} if definitions else {}
    )


def field_type(field: Mapping[str, Any], named: Callable[[str], str]) -> str:
    """Return the type of a field in words; `named` writes the name of a value that is described on its own."""
    if "$ref" in field:
        return named(field["$ref"].rpartition("/")[2])
    if "anyOf" in field:
        return " or ".join(field_type(choice, named) for choice in field["anyOf"])
    if field.get("type") == "array":
        return f"array of {field_type(field['items'], named)}"
    return str(field.get("format") or field["type"])


def _described(schema: Mapping[str, Any]) -> dict[str, Any]:
    described = dict(schema)
    if "description" in described:
        described["description"] = inspect.cleandoc(described["description"])
    return described
