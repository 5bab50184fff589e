"""The JSON Schema of every message, for readers of the topics without our code."""

import inspect
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from topics.envelope import EVERY_VERSION
from topics.messages.message import Message

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


def schemas() -> dict[str, dict[str, Any]]:
    """Return the schema of every version of every message by its message type."""
    return {message_type: schema_of(kind) for message_type, kind in EVERY_VERSION.items()}


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


def field_type(field: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """Return the type of a field in words; `definitions` are the schema's own."""
    if "$ref" in field:
        return _named_type(field["$ref"].rpartition("/")[2], definitions)
    if "anyOf" in field:
        return " or ".join(field_type(choice, definitions) for choice in field["anyOf"])
    if field.get("type") == "array":
        return f"array of {field_type(field['items'], definitions)}"
    return str(field.get("format") or field["type"])


def _named_type(name: str, definitions: Mapping[str, Any]) -> str:
    definition = definitions[name]
    if "enum" in definition:
        return f"one of {', '.join(f'`{word}`' for word in definition['enum'])}"
    fields = definition["properties"].items()
    return f"object of {', '.join(f'`{inner}`: {field_type(schema, definitions)}' for inner, schema in fields)}"


def _described(schema: Mapping[str, Any]) -> dict[str, Any]:
    described = dict(schema)
    if "description" in described:
        described["description"] = inspect.cleandoc(described["description"])
    return described
