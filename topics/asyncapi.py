"""The AsyncAPI document for programs: every topic with its writers and readers, every message in every version.

`make docs` makes it from the catalogue and the message types. It is kept beside this module, because its examples are
the frozen messages under `tests/contracts`, which a process in production does not have.
"""

import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from topics.catalogue import CATALOGUE, Topic
from topics.envelope import EVERY_VERSION
from topics.event_triggers import EVENT_TRIGGERS
from topics.messages.commands import Command
from topics.messages.events import Event
from topics.messages.message import Message
from topics.messages.upcasting import OLDER

#: The document as it is published: JSON.
PUBLISHED: Final = Path(__file__).with_suffix(".json")

_Json = dict[str, Any]


def document(examples: Mapping[str, Mapping[str, Any]]) -> _Json:
    """Return the AsyncAPI 3.0 document; `examples` has the headers, key and value of each message type."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Innkeeper's topics",
            "version": "1",
            "description": _ABOUT,
            "license": {"name": "Apache 2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {topic.name: _channel(topic) for topic in CATALOGUE},
        "operations": dict(_operations()),
        "components": {
            "schemas": _schemas(),
            "messages": {
                message_type: _message(kind, examples[message_type]) for message_type, kind in EVERY_VERSION.items()
            },
            "messageTraits": {
                "command": _trait(_headers(optional=_HEADERS_OF_COMMANDS)),
                "event": _trait(_headers(_HEADERS_OF_EVENTS)),
            },
        },
    }


def versions(kind: type[Message]) -> tuple[type[Message], ...]:
    """Return the versions of a message that may be on the log, the newest first."""
    return (kind, *(older.kind for older in OLDER if older.now is kind))


def _channel(topic: Topic) -> _Json:
    message_types = [each.message_type for kind in topic.messages for each in versions(kind)]
    milliseconds = -1 if topic.retention is None else int(topic.retention.total_seconds() * 1000)
    return {
        "address": topic.name,
        "description": f"Keyed by {topic.key}. A system's TOPIC_PREFIX, if it has one, goes before the name.",
        "messages": {message_type: {"$ref": f"#/components/messages/{message_type}"} for message_type in message_types},
        "bindings": {
            "kafka": {
                "topic": topic.name,
                "topicConfiguration": {"cleanup.policy": ["delete"], "retention.ms": milliseconds},
                "bindingVersion": "0.5.0",
            }
        },
    }


def _operations() -> Iterator[tuple[str, _Json]]:
    for topic in CATALOGUE:
        for action, does, services in (("send", "writes", topic.written_by), ("receive", "reads", topic.read_by)):
            for service in services:
                yield (
                    f"{service}.{does}.{topic.name}",
                    {
                        "action": action,
                        "channel": {"$ref": f"#/channels/{topic.name}"},
                        "title": f"{service} {does} {topic.name}",
                    },
                )


def _message(kind: type[Message], example: Mapping[str, Any]) -> _Json:
    about = inspect.cleandoc(kind.__doc__ or "")
    older = next((older for older in OLDER if older.kind is kind), None)
    trait = "command" if issubclass(kind, Command) else "event"
    message: _Json = {
        "name": kind.message_type,
        "title": kind.__name__,
        "summary": about.partition("\n")[0],
        "description": about,
        "payload": {"$ref": f"#/components/schemas/{kind.__name__}"},
        "examples": [{"name": kind.message_type, "headers": dict(example["headers"]), "payload": example["value"]}],
        "traits": [{"$ref": f"#/components/messageTraits/{trait}"}],
    }
    now = kind if older is None else older.now
    if issubclass(now, Event):
        trigger = EVENT_TRIGGERS[now]
        message["x-when"] = trigger.when
        message["x-answers"] = [command.message_type for command in trigger.after]
    if older is not None:
        message["tags"] = [{"name": "older version"}]
        message["x-replaced-by"] = now.message_type
        message["description"] += f"\n\nReplaced by {now.message_type}: {older.difference}."
    return message


def _schemas() -> _Json:
    _, found = msgspec.json.schema_components(EVERY_VERSION.values(), ref_template="#/components/schemas/{name}")
    for schema in found.values():
        if "description" in schema:
            schema["description"] = inspect.cleandoc(schema["description"])
    return dict(sorted(found.items()))


def _trait(headers: _Json) -> _Json:
    return {
        "headers": headers,
        "correlationId": {"location": "$message.header#/ce_correlationid", "description": "The first request."},
        "bindings": {
            "kafka": {
                "key": {
                    "type": "string",
                    "pattern": "^-?[0-9]+$",
                    "description": "The id of the room, of the promo code or of the hotel, as text.",
                },
                "bindingVersion": "0.5.0",
            }
        },
    }


def _headers(required: Mapping[str, str] | None = None, optional: Mapping[str, str] | None = None) -> _Json:
    described = {**_HEADERS_OF_ALL, **(required or {}), **(optional or {})}
    properties: _Json = {name: {"type": "string", "description": about} for name, about in described.items()}
    properties["ce_specversion"]["const"] = "1.0"
    properties["content-type"]["const"] = "application/json"
    properties["ce_time"]["format"] = "date-time"
    return {"type": "object", "required": [*_REQUIRED_HEADERS, *(required or {})], "properties": properties}


_ABOUT: Final = """\
The log of a hotel-booking system: commands about the rooms of hotels, and events with the decisions on them. \
`booking.events` is the public record, kept for ever.

Every record is a CloudEvents 1.0 event in Kafka's binary mode: attributes are headers, the value is the data as JSON. \
Records of one room are in order. An event may be on the log twice, with the same `ce_id` and `ce_sequence`: drop the \
second. Ignore unknown fields: a field with a default may be added at any time. Any other change is a new version of \
the message with a new name; the older versions stay on the log."""

_HEADERS_OF_ALL: Final = {
    "ce_specversion": "CloudEvents' version.",
    "content-type": "Of the value.",
    "ce_id": "Unique; a second record with the same id is the same message.",
    "ce_type": "The message's name with its version.",
    "ce_source": "The service that wrote it.",
    "ce_subject": "The booking's id, or else `room/` and the room's id.",
    "ce_time": "When it was decided (events: by the log's clock) or sent; RFC 3339, UTC, milliseconds.",
    "ce_correlationid": "The request that started it all.",
    "ce_causationid": "The id of the command that an event answers, or of the event that a command follows from.",
    "ce_traceparent": "W3C Trace Context, if the request was traced.",
    "ce_causationposition": "The position of the command that an event answers, or of the webhook that a command "
    "follows from, as topic[partition]@offset.",
    "ce_actor": "The person who caused it, without a name or an address: user/17 is an account, operator/4 is the "
    "operator of the action of that number (`innkeeper actions`). Left out if no person caused the command.",
    "ce_requestid": "The id of that person's request. Left out if the client gave an X-Request-Id that is not 1 to 64 "
    "of 0-9, A-Z, a-z, dot, underscore, colon and hyphen.",
}
_HEADERS_OF_COMMANDS: Final = {
    "ce_replay": "Only on a command that an operator sent again: a JSON object with the replay's id, action, by (the "
    "operator's login name), at (UTC) and of (the position of the record that was sent again).",
}
_HEADERS_OF_EVENTS: Final = {
    "ce_causationid": "The id of the command that it answers.",
    "ce_sequence": "Counts a partition's events from 1, without a gap.",
}
_REQUIRED_HEADERS: Final = ("ce_specversion", "content-type", "ce_id", "ce_type", "ce_source", "ce_subject", "ce_time")
