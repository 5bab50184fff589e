"""Checks that today's code reads the messages that are on the log for ever: the frozen examples of this folder.

Each file is one message as it was once written: `{"headers": ..., "key": ..., "value": ...}`. A file is never edited. A
message that changes beyond a new field with a default gets a new version and a new file; the old one stays readable.

`published.json` has the schema of every version as it was last published. `python -m tests.contracts.check` adds new
ones to it, and refuses, with reasons, to change one that was published. A description that was false is corrected by an
entry in `CORRECTED`.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from topics.messages.message import Message
from topics.schemas import schemas

HERE = Path(__file__).parent
WORDS = HERE / "words.json"
PUBLISHED = HERE / "published.json"

Schema = Mapping[str, Any]

#: Message type -> (a published description that was false, why it was). Its correction breaks no reader.
CORRECTED: Final[Mapping[str, tuple[str, str]]] = {
    "booking.cancel.v1": (
        (
            "End the booking; its nights go back on sale and money that was kept is refunded.\n\n"
            "`user_id` None is a trusted writer; anyone else must be the booking's own user."
        ),
        "A hotel cancels during the stay too, and nights that are past never go back on sale.",
    ),
    "booking.cancelled.v1": (
        "The booking ended before its time and its nights are on sale again.",
        "A hotel cancels during the stay too, and nights that are past never go back on sale.",
    ),
    "booking.confirmed.v1": (
        (
            "The room is the guest's. No payment_intent: nothing was owed in advance.\n\n"
            "`late`: the payment arrived after the hold had ended, and the nights were still free at the same price."
        ),
        "No price was ever checked when a payment came late: the price agreed at the reservation counts.",
    ),
    "booking.record_refund.v1": (
        "Stripe carried out the refund of one payment.",
        "A payment can have several refunds, each of a part of it.",
    ),
    "booking.refund_requested.v1": (
        "This payment goes back in full.",
        "A part of the payment may have gone back before.",
    ),
    "booking.refunded.v1": (
        "The refund of one payment was carried out.",
        "A payment can have several refunds, each of a part of it.",
    ),
}


def frozen() -> dict[str, dict[str, Any]]:
    """Return every frozen example by its message type."""
    return {path.stem: json.loads(path.read_text()) for path in HERE.glob("*.v*.json")}


def differences(kind: type[Message], contract: Mapping[str, Any]) -> Iterator[str]:
    """Yield, in words, how a type no longer reads its frozen example as before; nothing if it still does."""
    try:
        message = msgspec.json.decode(json.dumps(contract["value"]), type=kind)
    except msgspec.ValidationError as error:
        yield f"it cannot be read: {error}"
        return
    for name, value in contract["value"].items():
        if name not in kind.__struct_fields__:
            yield f"the field {name} is missing"
        elif _as_written(getattr(message, name)) != _as_written(value):
            yield f"the field {name} means something else: {_as_written(getattr(message, name))}"


def _as_written(value: object) -> str:
    # As text, because 5, 5.0 and True are equal in Python and not in JSON.
    return json.dumps(msgspec.to_builtins(value), sort_keys=True)


def published() -> dict[str, Schema]:
    """Return the schema of every version of every message, as it was last published, by message type."""
    found: dict[str, Schema] = json.loads(PUBLISHED.read_text())
    return found


def present() -> dict[str, Schema]:
    """Return the schemas as they would be published now, as JSON."""
    found: dict[str, Schema] = json.loads(json.dumps(schemas()))
    return found


def breaks(before: Schema, after: Schema | None) -> Iterator[str]:
    """Yield, in words, the ways in which a change of a published schema breaks its readers."""
    if after is None:
        yield "the message is missing, and stays on the log for ever"
        return
    if before["description"] != after["description"] and not _is_correction(before):
        yield f"its description was {before['description']!r} and is {after['description']!r}"
    yield from _breaks("", _whole(before, before), _whole(after, after))


def _is_correction(before: Schema) -> bool:
    """Return whether the published description is known to be false."""
    false, _ = CORRECTED.get(before["$id"].rpartition(":")[2], (None, None))
    return bool(before["description"] == false)


def _breaks(path: str, before: Schema, after: Schema) -> Iterator[str]:
    if before.keys() >= {"properties"} <= after.keys():
        yield from _broken_fields(path, before, after)
    elif before.keys() >= {"enum"} <= after.keys():
        for word in before["enum"]:
            if word not in after["enum"]:
                yield f"the word {word!r} of {path} is missing"
    elif before.keys() >= {"items"} <= after.keys():
        yield from _breaks(f"{path}[]", before["items"], after["items"])
    elif before.keys() >= {"anyOf"} <= after.keys() and len(before["anyOf"]) == len(after["anyOf"]):
        for one, other in zip(before["anyOf"], after["anyOf"], strict=True):
            yield from _breaks(path, one, other)
    elif (was := _bare(before)) != (now := _bare(after)):
        yield f"the field {path} was {json.dumps(was)} and is {json.dumps(now)}"


def _broken_fields(path: str, before: Schema, after: Schema) -> Iterator[str]:
    for name, field in before["properties"].items():
        inner = f"{path}.{name}".lstrip(".")
        if name not in after["properties"]:
            yield f"the field {inner} is missing"
            continue
        now = after["properties"][name]
        yield from _breaks(inner, field, now)
        match name in before.get("required", ()), name in after.get("required", ()):
            case True, False:
                yield f"the field {inner} was always there, and may now be left out"
            case False, True:
                yield f"the field {inner} is required, and older records do not have it"
            case False, False if field["default"] != now["default"]:
                yield f"the field {inner}, left out, meant {field['default']!r} and would mean {now['default']!r}"
    for name in after.get("required", ()):
        if name not in before["properties"]:
            yield f"the new field {f'{path}.{name}'.lstrip('.')} is required, and older records do not have it"


def _whole(part: Any, schema: Schema) -> Any:
    """Return a part of a schema with its references resolved."""
    if isinstance(part, list):
        return [_whole(each, schema) for each in part]
    if not isinstance(part, dict):
        return part
    if "$ref" in part:
        meant = schema["$defs"][part["$ref"].rpartition("/")[2]]
        return _whole({**meant, **{name: value for name, value in part.items() if name != "$ref"}}, schema)
    return {name: _whole(value, schema) for name, value in part.items()}


def _bare(field: Schema) -> Schema:
    return {name: value for name, value in field.items() if name not in {"title", "description", "default"}}


def main() -> int:
    """Add new schemas to published.json, unless something is broken."""
    now = present()
    known = published() if PUBLISHED.exists() else {}
    broken = [
        f"{message_type}: {reason}"
        for message_type, schema in known.items()
        for reason in breaks(schema, now.get(message_type))
    ]
    for sentence in broken:
        sys.stderr.write(f"{sentence}. Make it a new version, and keep this one.\n")
    if not broken:
        PUBLISHED.write_text(json.dumps(now, indent=1, ensure_ascii=False) + "\n")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
