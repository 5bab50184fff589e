"""The columns of an export: those of the envelope, and one for every field that any event has.

The request that an event about a promo code carries has none: the booking's own events have all of it.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from enum import StrEnum
from typing import Any, Final, TypeAlias

from msgspec import inspect

from topics.envelope import Undecodable, UnknownType, UnknownVersion, decode_envelope, decode_value
from topics.kafka.log_reader import Record
from topics.kafka.records import time_of
from topics.messages.commands import Command
from topics.messages.events import EVENTS, CodeChanged, Event, SaleTermsChanged


class Kind(StrEnum):
    """The type of a value. An integer has 64 bits, and a timestamp is UTC, to the microsecond.

    A time and a wall time (date and time) are those of the clocks at the hotel.
    """

    TEXT = "text"
    INTEGER = "integer"
    BOOLEAN = "boolean"
    DATE = "date"
    TIMESTAMP = "timestamp"
    TIME = "time"
    WALL_TIME = "wall time"


@dataclass(frozen=True, slots=True)
class ListOf:
    """Any number of values of one shape."""

    item: "Shape"

    def __str__(self) -> str:
        return f"list of {self.item}"


@dataclass(frozen=True, slots=True)
class Parts:
    """A struct of named values."""

    fields: tuple[tuple[str, "Shape"], ...]

    def __str__(self) -> str:
        return f"({', '.join(f'{name} {shape}' for name, shape in self.fields)})"


Shape: TypeAlias = Kind | ListOf | Parts


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """One column. `required`: every row has a value; `families`: the event types (without version) that fill it."""

    name: str
    shape: Shape
    required: bool = False
    families: tuple[str, ...] = ()


#: The columns of fields whose name is that of another column already.
_COLUMN_OF: Final[Mapping[tuple[type[Event], str], str]] = {
    (SaleTermsChanged, "terms"): "sale_terms",
    (CodeChanged, "terms"): "code_terms",
}


class Unexportable(Exception):
    """A record is not an event that this version can read."""


ENVELOPE: Final = (
    Column(name="id", shape=Kind.TEXT, required=True),
    Column(name="type", shape=Kind.TEXT, required=True),
    Column(name="version", shape=Kind.INTEGER, required=True),
    Column(name="time", shape=Kind.TIMESTAMP, required=True),
    Column(name="sequence", shape=Kind.INTEGER, required=True),
    Column(name="causation", shape=Kind.TEXT),
    Column(name="correlation", shape=Kind.TEXT),
    Column(name="partition", shape=Kind.INTEGER, required=True),
    Column(name="offset", shape=Kind.INTEGER, required=True),
    Column(name="log_time", shape=Kind.TIMESTAMP, required=True),
)


def row_of(record: Record) -> list[Any]:
    """Return an event's values in the order of COLUMNS; None where the event does not have the field.

    Raises:
        Unexportable: it cannot be read.
    """
    try:
        envelope = decode_envelope(record.headers)
        event = decode_value(envelope.type, record.value)
    except (Undecodable, UnknownType, UnknownVersion) as error:
        raise Unexportable(f"{place_of(record)} cannot be read ({type(error).__name__}: {error}).") from error
    family, _, version = envelope.type.rpartition(".v")
    row: list[Any] = [
        envelope.id,
        family,
        int(version),
        envelope.time.astimezone(UTC),
        envelope.sequence,
        envelope.causation,
        envelope.correlation,
        record.partition,
        record.offset,
        time_of(record),
        *_NO_FIELDS,
    ]
    for position, name, plain in _FIELDS_OF[type(event)]:
        value = getattr(event, name)
        row[position] = value if plain is None or value is None else plain(value)
    return row


def place_of(record: Record) -> str:
    """Return a record's position in words."""
    return f"Offset {record.offset} of partition {record.partition} of {record.topic}"


def text_of(value: Any) -> str:
    """Return a column's value as text: ISO dates and times, lists and structs as JSON, nothing for None."""
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case datetime():
            return value.isoformat(timespec="microseconds").replace("+00:00", "Z")
        case date() | time():
            return value.isoformat()
        case list() | dict():
            return json.dumps(value, default=text_of, ensure_ascii=False, separators=(",", ":"))
        case other:
            return str(other)


def data_columns(events: Sequence[type[Event]]) -> tuple[Column, ...]:
    """Return a column for each name of a field that any of the events has, in the order in which they first have it.

    Raises:
        TypeError: a field has a type that no column can have, or a name has two types, or is an envelope's column.
    """
    shapes: dict[str, Shape] = {}
    families: dict[str, list[str]] = {}
    taken = {column.name for column in ENVELOPE}
    for event in events:
        for _, name, shape in _fields(event):
            if name in taken or shapes.setdefault(name, shape) != shape:
                raise TypeError(f"{event.__name__}.{name}: the name has another type already")
            families.setdefault(name, []).append(event.message_type.rpartition(".v")[0])
    return tuple(
        Column(name=name, shape=shape, families=tuple(dict.fromkeys(families[name]))) for name, shape in shapes.items()
    )


def _fields(event: type[Event]) -> list[tuple[str, str, Shape]]:
    """Return the name of each field of an event, that of its column, and its shape."""
    described = inspect.type_info(event)
    assert isinstance(described, inspect.StructType)
    return [
        (field.name, _COLUMN_OF.get((event, field.name), field.name), _shape(field.type))
        for field in described.fields
        if not _is_command(field.type)
    ]


def _is_command(type_: inspect.Type) -> bool:
    if isinstance(type_, inspect.UnionType):
        return any(map(_is_command, type_.types))
    return isinstance(type_, inspect.StructType) and issubclass(type_.cls, Command)


def _shape(type_: inspect.Type) -> Shape:
    match type_:
        case inspect.Metadata(type=described):
            return _shape(described)
        case inspect.VarTupleType(item_type=item) | inspect.ListType(item_type=item):
            return ListOf(_shape(item))
        case inspect.StructType(fields=fields):
            return Parts(tuple((field.name, _shape(field.type)) for field in fields))
        case inspect.UnionType(types=(one, inspect.NoneType())):
            return _shape(one)
        case inspect.DateTimeType(tz=False):
            return Kind.WALL_TIME
    if type(type_) not in _KINDS:
        raise TypeError(f"no column can hold {type_}")
    return _KINDS[type(type_)]


_KINDS: Final[Mapping[type, Kind]] = {
    inspect.IntType: Kind.INTEGER,
    inspect.BoolType: Kind.BOOLEAN,
    inspect.StrType: Kind.TEXT,
    inspect.UUIDType: Kind.TEXT,
    inspect.EnumType: Kind.TEXT,
    inspect.DateType: Kind.DATE,
    inspect.DateTimeType: Kind.TIMESTAMP,
    inspect.TimeType: Kind.TIME,
}
Plain: TypeAlias = Callable[[Any], Any]


def _plain(shape: Shape) -> Plain | None:
    """Return the function that turns a value into plain texts, lists and mappings; None: it is plain already."""
    match shape:
        case Kind.TEXT:
            return str
        case Kind():
            return None
        case ListOf(item=item):
            one = _plain(item)
            return list if one is None else lambda values: [one(value) for value in values]
        case Parts(fields=fields):
            parts = [(name, _plain(each)) for name, each in fields]
            return lambda value: {name: _part(getattr(value, name), one) for name, one in parts}


def _part(value: Any, plain: Plain | None) -> Any:
    return value if plain is None or value is None else plain(value)


DATA: Final = data_columns(EVENTS)
COLUMNS: Final = (*ENVELOPE, *DATA)
_NO_FIELDS: Final = (None,) * len(DATA)
_POSITIONS: Final = {column.name: position for position, column in enumerate(COLUMNS)}
_FIELDS_OF: Final[Mapping[type, Sequence[tuple[int, str, Plain | None]]]] = {
    event: [(_POSITIONS[column], name, _plain(shape)) for name, column, shape in _fields(event)] for event in EVENTS
}
