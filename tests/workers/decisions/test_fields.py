"""No field of a night or a booking is lost where an event makes a new one out of it, also a field that comes later."""

from datetime import date
from typing import Any

import msgspec
import pytest
from msgspec.structs import asdict, replace

from tests.support.filled import filled
from tests.support.scenario import NOON
from tests.workers.decisions.words import (
    CANCELLED,
    CHANGED,
    EXPIRED,
    OPENED,
    PAID,
    RESERVED,
    but,
    march,
)
from tests.workers.decisions.words_at_hotel import BLOCKED, DID_NOT_ARRIVE, LEFT, RELEASED
from topics.messages.commands import ReserveStay
from topics.messages.events import BookingRejected, BookingReserved, Event, InventoryChanged
from topics.messages.values import BookingStatus
from workers.decisions import Block, Booking, Night, State, decide, evolve

NIGHT = filled(Night)
NIGHTS = dict.fromkeys((march(10), march(11)), NIGHT)


def booking_with(status: BookingStatus) -> Booking:
    """Return the booking of RESERVED with a value in every field but the legs, which only a trip has."""
    return replace(
        filled(Booking),
        id=RESERVED.booking_id,
        room_id=RESERVED.room_id,
        check_in=RESERVED.check_in,
        check_out=RESERVED.check_out,
        status=status,
        legs=(),
    )


def common_fields(kind: type[msgspec.Struct], other: type[msgspec.Struct]) -> set[str]:
    return {*kind.__struct_fields__} & {*other.__struct_fields__}


def values(struct: msgspec.Struct, names: set[str]) -> dict[str, Any]:
    return {name: value for name, value in asdict(struct).items() if name in names}


@pytest.mark.parametrize(
    ("status", "event", "changed"),
    [
        (None, RESERVED, ["reserved_count"]),
        (BookingStatus.GUESTS_ADDED, PAID, ["booked_count", "reserved_count"]),
        (BookingStatus.EXPIRED, PAID, ["booked_count"]),
        (BookingStatus.GUESTS_ADDED, CANCELLED, ["reserved_count"]),
        (BookingStatus.CONFIRMED, CANCELLED, ["booked_count"]),
        (BookingStatus.GUESTS_ADDED, EXPIRED, ["reserved_count"]),
        (BookingStatus.CHECKED_IN, but(LEFT, freed_from=march(10)), ["booked_count"]),
        (BookingStatus.CONFIRMED, DID_NOT_ARRIVE, ["booked_count"]),
        (None, BLOCKED, ["blocked_count"]),
        (None, RELEASED, ["blocked_count"]),
    ],
)
def test_a_night_keeps_every_field_but_the_counts_when_its_rooms_are_taken_or_freed(
    status: BookingStatus | None, event: Event, changed: list[str]
) -> None:
    booking = None if status is None else booking_with(status)
    after = evolve(State(booking, NIGHTS, block=filled(Block)), event)

    assert after.nights.keys() == NIGHTS.keys()
    for night in after.nights.values():
        assert [name for name, value in asdict(night).items() if value != getattr(NIGHT, name)] == changed


def test_a_new_night_has_every_value_that_its_event_has_of_it() -> None:
    names = common_fields(Night, type(OPENED))
    night = evolve(State(None, {}), OPENED).nights[OPENED.first_night]

    assert names == {"hotel_id", "total_count", "price_minor", "currency"}
    assert values(night, names) == values(OPENED, names)


@pytest.mark.parametrize("name", sorted(common_fields(Night, InventoryChanged)))
def test_a_change_of_a_night_reaches_its_field_and_no_other(name: str) -> None:
    value = not NIGHT.closed if name == "closed" else 1_000
    after = evolve(State(None, NIGHTS), replace(CHANGED, **{name: value}))

    assert after.nights == dict.fromkeys(NIGHTS, replace(NIGHT, **{name: value}))


@pytest.mark.parametrize("kind", [BookingReserved, BookingRejected], ids=lambda kind: kind.message_type)
def test_a_new_booking_has_every_value_that_its_event_has_of_it(kind: type[BookingReserved | BookingRejected]) -> None:
    stay: dict[str, date] = {"check_in": march(10), "check_out": march(12)}
    event = replace(filled(kind), **stay)
    booking = evolve(State(None, NIGHTS), event).booking

    assert booking is not None
    names = common_fields(Booking, kind)
    assert values(booking, names) == values(event, names)
    assert booking.id == event.booking_id
    assert booking.rejection == getattr(event, "reason", None)


def test_a_booking_keeps_every_field_that_an_event_does_not_change() -> None:
    booking = booking_with(BookingStatus.GUESTS_ADDED)
    after = evolve(State(booking, NIGHTS), CANCELLED).booking

    assert after == replace(
        booking,
        status=BookingStatus.CANCELLED,
        hold_expires_at=None,
        cancel_reason=CANCELLED.reason,
        freed_from=None,
        policy=None,
        version=booking.version + 1,
    )


@pytest.mark.parametrize("rooms_count", [3, 4])
def test_a_booking_or_its_rejection_has_every_value_that_the_command_has_of_it(rooms_count: int) -> None:
    free = replace(NIGHT, total_count=3, booked_count=0, reserved_count=0, closed=False)
    command = replace(
        filled(ReserveStay),
        hotel_id=NIGHT.hotel_id,
        check_in=march(10),
        check_out=march(12),
        rooms_count=rooms_count,
        account_share_percent=100,
    )
    event, *_ = decide(State(None, dict.fromkeys(NIGHTS, free)), command, NOON)

    assert isinstance(event, BookingReserved if rooms_count <= free.free_count else BookingRejected)
    names = common_fields(ReserveStay, type(event))
    assert values(event, names) == values(command, names)
