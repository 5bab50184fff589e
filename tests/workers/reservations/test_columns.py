"""The fields of nights and bookings and the columns of their tables agree, also after one of them is added."""

import re
from enum import Enum
from typing import Any, cast

import msgspec
import pytest
from msgspec.structs import asdict
from psycopg.types.json import Json, Jsonb

from storage import bookings, inventory, sale_terms
from storage.bookings import BOOKING_COLUMNS
from storage.inventory import COUNT_COLUMNS, KEY_COLUMNS, NIGHT_COLUMNS
from tests.operators.decided_log import decided_log
from tests.support.filled import filled
from tests.support.scenario import NOON
from tests.workers.decisions import words, words_at_hotel, words_of_changes, words_of_moves, words_of_trips
from topics.messages.events import BookingEvent, InventoryChanged
from topics.messages.values import ChangeEnd
from workers.booking_rows import booking_of, payments_of, row_of
from workers.decisions import Block, Booking, Night, Payment, PaymentState, RefundMade
from workers.decisions.evolve import _CHANGES
from workers.decisions.state import Dispute


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

    assert {*inventory.CHANGING_COLUMNS} == managed | {*COUNT_COLUMNS} | {"blocked_count"}


def test_a_row_of_blocks_is_the_fields_of_a_block() -> None:
    assert {*sale_terms.BLOCK_COLUMNS} == {*Block.__struct_fields__}


async def test_an_update_of_bookings_takes_each_value_from_the_position_of_its_column() -> None:
    connection = Statements()
    await bookings.change_bookings(cast("Any", connection), [tuple(BOOKING_COLUMNS)], [NOON])

    ((statement, parameters),) = connection.executed
    names = parameter_names(statement)
    assert parameters == [*([name] for name in names[:-1]), [NOON]]
    assert parameter_types(statement) == [*(BOOKING_COLUMNS[name] for name in names[:-1]), "timestamptz"]


_OF_TRIPS = {"LegHeld", "TripReserved", "TripRejected", "LegEnded"}


def test_every_field_of_a_booking_that_an_event_changes_is_written() -> None:
    messages = [
        message
        for each in (words, words_at_hotel, words_of_moves, words_of_changes, words_of_trips)
        for message in vars(each).values()
    ]
    messages.append(words_of_changes.ended(ChangeEnd.EXPIRED))
    messages += [logged.event for logged in decided_log().events if type(logged.event).__name__ in _OF_TRIPS]
    examples = {type(value): value for value in messages if isinstance(value, BookingEvent)}
    assert _CHANGES.keys() <= examples.keys(), "the words of the scenarios have no example of an event"

    changed = {"status", "version"}
    for kind, changes in _CHANGES.items():
        booking = filled(Booking)
        for payment in booking.payments:
            examples[kind] = _about(examples[kind], payment.payment_intent)
        changed |= changes(booking, examples[kind]).keys()
    # Guests have a table of their own.
    assert changed - {"guest_ids"} == {*bookings.CHANGING_COLUMNS, *bookings.STAY_COLUMNS}


def _about(event: BookingEvent, payment_intent: str) -> BookingEvent:
    return words.but(event, payment_intent=payment_intent) if hasattr(event, "payment_intent") else event


def test_a_row_of_bookings_has_each_field_in_the_position_of_its_column() -> None:
    booking = filled(Booking)
    row = dict(zip(BOOKING_COLUMNS, row_of(booking), strict=True))

    assert row.keys() | {"guest_ids"} == {*Booking.__struct_fields__}
    assert isinstance(row["payments"], Jsonb)
    assert isinstance(row["stay_times"], Json)
    for name in ("earlier_guest_list_ids", "ended_change_ids"):
        assert row[name].obj == [str(each) for each in getattr(booking, name)]
    as_they_are = {"sale", "policy", "pending_change", "earlier_stays", "legs"}
    assert {name: row[name].obj for name in as_they_are} == {name: getattr(booking, name) for name in as_they_are}
    structured = {"payments", "stay_times", "guest_ids", "earlier_guest_list_ids", "ended_change_ids", *as_they_are}
    simple = {name: value for name, value in asdict(booking).items() if name not in structured}
    assert {name: row[name] for name in simple} == {name: _plain(value) for name, value in simple.items()}


def _plain(value: object) -> object:
    """Return a value as its column has it."""
    if isinstance(value, tuple):
        return list(value)
    return value.value if isinstance(value, Enum) else value


def test_a_row_of_bookings_read_again_is_the_same_booking() -> None:
    booking = filled(Booking)
    columns = [value.obj if isinstance(value, Json | Jsonb) else value for value in row_of(booking)]

    assert booking_of((*columns, list(booking.guest_ids))) == booking


def _payments_of_release_0_1_0(state: str) -> list[dict[str, Any]]:
    """Return the payments of a row that 0.1.0 wrote."""
    return [{"payment_intent": "pi_1", "session_id": "cs_1", "amount_minor": 200_00, "state": state}]


@pytest.mark.parametrize(
    ("state", "payment"),
    [
        ("kept", Payment("pi_1", "cs_1", 200_00, PaymentState.KEPT)),
        ("refund_requested", Payment("pi_1", "cs_1", 200_00, PaymentState.REFUND_REQUESTED, due_minor=200_00)),
        ("refunded", Payment("pi_1", "cs_1", 200_00, PaymentState.REFUNDED, refunds=(RefundMade("", 200_00),))),
    ],
)
def test_a_payment_that_release_0_1_0_wrote_gets_its_sums(state: str, payment: Payment) -> None:
    assert payments_of(_payments_of_release_0_1_0(state)) == (payment,)


@pytest.mark.parametrize(
    "payment",
    [
        Payment("pi_1", "cs_1", 0, PaymentState.REFUNDED),
        Payment("pi_1", "cs_1", 9, PaymentState.REFUNDED, closed_minor=9),
        Payment("pi_1", "cs_1", 9, PaymentState.REFUNDED, disputes=(Dispute("dp_1", 9, "lost"),)),
        Payment("pi_1", "cs_1", 9, PaymentState.REFUND_REQUESTED, due_minor=9, failed_refund_ids=("re_1",)),
        Payment("pi_1", "cs_1", 9, PaymentState.KEPT, refunds=(RefundMade("re_1", 9, by_hand=True),)),
    ],
)
def test_a_payment_is_read_as_it_was_written(payment: Payment) -> None:
    assert payments_of(msgspec.to_builtins([payment])) == (payment,)
