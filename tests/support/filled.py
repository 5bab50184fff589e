"""Structs whose every field has a value of its own, other than its default: for tests that no field is forgotten."""

from datetime import UTC, date, datetime, time, timedelta
from enum import Enum
from itertools import count
from typing import Any, TypeVar, get_args, get_origin, get_type_hints
from uuid import UUID

import msgspec

AStruct = TypeVar("AStruct", bound=msgspec.Struct)


def filled(kind: type[AStruct]) -> AStruct:
    """Return a struct of this kind; no field has its default, and no two numbers, texts or times are equal."""
    numbers = count(1)
    hints = get_type_hints(kind)
    values = {field.name: _value(hints[field.name], numbers) for field in msgspec.structs.fields(kind)}
    for field in msgspec.structs.fields(kind):
        assert values[field.name] != field.default, (
            f"{kind.__name__}.{field.name} needs a value that is not its default"
        )
    return kind(**values)


def _value(hint: Any, numbers: "count[int]") -> Any:
    number = next(numbers)
    arguments = [argument for argument in get_args(hint) if argument is not type(None)]
    if get_origin(hint) is tuple:
        return (_value(arguments[0], numbers),)
    if arguments:
        return _value(arguments[0], numbers)
    if issubclass(hint, Enum):
        return list(hint)[-1]
    if issubclass(hint, msgspec.Struct):
        return filled(hint)
    return {
        bool: True,
        int: number,
        str: f"text {number}",
        date: date(2027, 1, 1) + timedelta(days=number),
        datetime: datetime(2027, 1, 1, tzinfo=UTC) + timedelta(days=number),
        time: (datetime(2027, 1, 1, tzinfo=UTC) + timedelta(minutes=number)).time(),
        UUID: UUID(int=number),
    }[hint]
