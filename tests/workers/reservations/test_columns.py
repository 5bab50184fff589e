"""The fields of nights and bookings and the columns of their tables agree, also after one of them is added."""

import re
from enum import Enum
from typing import Any, cast

import pytest
from msgspec.structs import asdict
from psycopg.types.json import Jsonb

from storage import bookings, inventory
from storage.bookings import BOOKING_COLUMNS
from storage.inventory import COUNT_COLUMNS, KEY_COLUMNS, NIGHT_COLUMNS
from tests.support.filled import filled
from tests.support.scenario import NOON
from tests.workers.decisions import words
from topics.messages.events import BookingEvent, InventoryChanged
from workers.decisions import Booking, Night
from workers.decisions.evolve import _CHANGES
from workers.reservations.write_batch import _booking_of, _row_of


class Statements:
    """Stand-in for a connection: it keeps each statement with its parameters."""

    def __init__(self) -> None:
        self.executed: list[tuple[str, list[Any]]] = []

    async def execute(self, statement: str, parameters: Any) -> None:
        """Keep the statement."""
        self.executed.append((statement, list(parameters)))


def parameter_names(statement: str) -> list[str]:
    """Return the columns that an UPDATE names for its parameters: `from unnest(...) as n (room_id, date, ...)`."""
    (names,) = re.findall(r"as n \(([^)]*)\)", statement)
    return [name.strip() for name in names.split(",")]


def parameter_types(statement: str) -> list[str]:
    return re.findall(r"%b::(\w+)\[\]", statement)


def test_a_row_of_inventory_is_its_key_and_the_fields_of_a_night_in_their_order() -> None:
    assert tuple(NIGHT_COLUMNS) == (*KEY_COLUMNS, *Night.__struct_fields__)


@pytest.mark.parametrize("write", [inventory.count_nights, inventory.change_nights])
async def test_an_update_of_nights_takes_each_value_from_the_position_of_its_column(write: Any) -> None:
    # A row of the names of its columns shows from which column each parameter is taken.
    connection = Statements()
    await write(cast("Any", connection), [tuple(NIGHT_COLUMNS)])

    ((statement, parameters),) = connection.executed
    names = parameter_names(statement)
    assert parameters == [[name] for name in names]
    assert parameter_types(statement) == [NIGHT_COLUMNS[name] for name in names]
    changing = [name for name in names if name not in KEY_COLUMNS]
    assert re.findall(r"(\w+) = n\.(\w+)", statement.partition(" where ")[0]) == [(name, name) for name in changing]


def test_every_field_of_a_night_that_an_event_changes_is_written() -> None:
    managed = {*Night.__struct_fields__} & {*InventoryChanged.__struct_fields__}

    assert {*inventory.CHANGING_COLUMNS} == managed | {*COUNT_COLUMNS}


async def test_an_update_of_bookings_takes_each_value_from_the_position_of_its_column() -> None:
    connection = Statements()
    await bookings.change_bookings(cast("Any", connection), [tuple(BOOKING_COLUMNS)], [NOON])

    ((statement, parameters),) = connection.executed
    names = parameter_names(statement)
    assert parameters == [*([name] for name in names[:-1]), [NOON]]
    assert parameter_types(statement) == [*(BOOKING_COLUMNS[name] for name in names[:-1]), "timestamptz"]


def test_every_field_of_a_booking_that_an_event_changes_is_written() -> None:
    examples = {type(value): value for value in vars(words).values() if isinstance(value, BookingEvent)}
    assert _CHANGES.keys() <= examples.keys(), "words.py has no example of an event"

    changed = {"status", "version"}
    for kind, changes in _CHANGES.items():
        booking = filled(Booking)
        for payment in booking.payments:
            examples[kind] = _about(examples[kind], payment.payment_intent)
        changed |= changes(booking, examples[kind]).keys()
    # Guests have a table of their own.
    assert changed - {"guest_ids"} == {*bookings.CHANGING_COLUMNS}


def _about(event: BookingEvent, payment_intent: str) -> BookingEvent:
    return words.but(event, payment_intent=payment_intent) if hasattr(event, "payment_intent") else event


def test_a_row_of_bookings_has_each_field_in_the_position_of_its_column() -> None:
    booking = filled(Booking)
    row = dict(zip(BOOKING_COLUMNS, _row_of(booking), strict=True))

    assert row.keys() | {"guest_ids"} == {*Booking.__struct_fields__}
    assert isinstance(row["payments"], Jsonb)
    simple = {name: value for name, value in asdict(booking).items() if name not in {"payments", "guest_ids"}}
    assert {name: row[name] for name in simple} == {
        name: value.value if isinstance(value, Enum) else value for name, value in simple.items()
    }


def test_a_row_of_bookings_read_again_is_the_same_booking() -> None:
    booking = filled(Booking)
    (*columns,) = _row_of(booking)
    payments = list(BOOKING_COLUMNS).index("payments")
    columns[payments] = columns[payments].obj

    assert _booking_of((*columns, list(booking.guest_ids))) == booking
