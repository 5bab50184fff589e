"""Tells whether today's code still reads what stands on the log for ever: the frozen wire files of this folder.

Each file is one message as it was written once: `{"headers": ..., "key": ..., "value": ...}`. A file is never edited. A
message that changes beyond a new field with a default gets a new version, a new file, and the old one stays readable.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from topics.message import Message

HERE = Path(__file__).parent
WORDS = HERE / "words.json"


def frozen() -> dict[str, dict[str, Any]]:
    """Return every frozen wire file by the name that it has on the wire."""
    return {path.stem: json.loads(path.read_text()) for path in HERE.glob("*.v*.json")}


def differences(kind: type[Message], contract: Mapping[str, Any]) -> Iterator[str]:
    """Yield, in words, how a message's type no longer means what the frozen file says; nothing if it still does."""
    try:
        message = msgspec.json.decode(json.dumps(contract["value"]), type=kind)
    except msgspec.ValidationError as error:
        yield f"it cannot be read: {error}"
        return
    for name, value in contract["value"].items():
        if name not in kind.__struct_fields__:
            yield f"the field {name} is gone"
        elif _as_written(getattr(message, name)) != _as_written(value):
            yield f"the field {name} means something else: {_as_written(getattr(message, name))}"


def _as_written(value: object) -> str:
    # As text, because 5, 5.0 and True are equal in Python and not on the wire.
    return json.dumps(msgspec.to_builtins(value), sort_keys=True)
