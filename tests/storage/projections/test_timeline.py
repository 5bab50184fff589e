"""A booking's timeline has all its events, in the order of the log."""

from datetime import timedelta
from uuid import UUID

import msgspec
import pytest

from storage import engines
from storage.database import TOOL_LIMITS
from storage.reads.bookings import TimelineEntry, timeline_of
from storage.settings import DatabaseSettings
from tests.storage.projections.log import T0, apply, in_one_batch, on_the_log, opened, reserved, rows
from topics.messages.events import BookingCancelled, BookingExpired, CommandRefused, Event, GuestsAdded
from topics.messages.values import CancelReason, Refusal


async def test_a_booking_shows_its_whole_history_in_order(database: DatabaseSettings) -> None:
    booking = UUID(int=1)
    await apply(
        database,
        in_one_batch(
            [
                opened(1, 0, 1, 9_000),
                reserved(1, 1, 0, 1),
                reserved(2, 1, 0, 1),
                GuestsAdded(room_id=1, booking_id=booking, guest_ids=(7,)),
                BookingExpired(room_id=1, booking_id=UUID(int=2)),
                BookingCancelled(room_id=1, booking_id=booking, reason=CancelReason.BY_GUEST),
            ]
        ),
    )

    found = await rows(
        database,
        f"select sequence, type, event_id, causation, time, event from booking_timeline"
        f" where booking_id = '{booking}' and sequence > 2 order by sequence",
    )
    assert found == [
        (
            4,
            "booking.guests_added.v1",
            "command-3:0",
            "command-3",
            T0 + timedelta(seconds=3),
            {"room_id": 1, "booking_id": str(booking), "guest_ids": [7], "guest_list_id": None},
        ),
        (
            6,
            "booking.cancelled.v1",
            "command-5:0",
            "command-5",
            T0 + timedelta(seconds=5),
            {
                "room_id": 1,
                "booking_id": str(booking),
                "reason": "by_guest",
                "hotel_reason": None,
                "freed_from": None,
                "policy": None,
            },
        ),
    ]


async def test_an_event_of_a_room_alone_is_in_no_timeline(database: DatabaseSettings) -> None:
    await apply(database, in_one_batch([opened(1, 0, 1, 9_000)]))

    assert await rows(database, "select * from booking_timeline") == []


async def test_events_that_come_again_are_stored_once(database: DatabaseSettings) -> None:
    log = on_the_log([opened(1, 0, 1, 9_000), reserved(1, 1, 0, 1)])
    await apply(database, [log])

    await apply(database, [log])

    assert await rows(database, "select sequence from booking_timeline") == [(2,)]


#: A request with the key of a booking of room 1 named room 2, whose partition refused it: there, too, as event 2.
IN_TWO_PARTITIONS: tuple[Event, ...] = (
    opened(1, 0, 1, 9_000),
    opened(2, 0, 1, 9_000),
    reserved(1, 1, 0, 1),
    CommandRefused(room_id=2, booking_id=UUID(int=1), command="booking.reserve.v1", reason=Refusal.ANOTHER_REQUEST),
    GuestsAdded(room_id=1, booking_id=UUID(int=1), guest_ids=(7,)),
)


async def history(database: DatabaseSettings, booking_id: UUID) -> list[TimelineEntry]:
    """Return a booking's history as its guest reads it."""
    engine = engines.async_engine(database, "innkeeper test", TOOL_LIMITS)
    try:
        async with engine.connect() as connection:
            return await timeline_of(connection, booking_id)
    finally:
        await engine.dispose()


@pytest.mark.parametrize("order", [(1, 2), (2, 1)], ids=["the booking's room first", "the other room first"])
async def test_events_of_one_sequence_from_two_partitions_are_both_there(
    database: DatabaseSettings, order: tuple[int, int]
) -> None:
    log = on_the_log(IN_TWO_PARTITIONS)
    assert [each.envelope.sequence for each in (log[1][1], log[2][1]) if each.envelope] == [2, 2]

    await apply(database, [{partition: log[partition]} for partition in order])

    entries = await history(database, UUID(int=1))
    assert [(entry.sequence, entry.type) for entry in entries] == [
        (2, "booking.reserved.v1"),
        (2, "booking.command_refused.v1"),
        (3, "booking.guests_added.v1"),
    ]


async def test_a_row_has_the_positions_of_its_event_and_of_its_command(database: DatabaseSettings) -> None:
    log = on_the_log([opened(1, 0, 1, 9_000), reserved(1, 1, 0, 1), reserved(2, 1, 0, 1), reserved(3, 1, 0, 1)])
    [(partition, received)] = log.items()
    named = (None, "booking.commands[1]@17", None, "no position")
    log[partition] = [
        each._replace(envelope=msgspec.structs.replace(each.envelope, causation_position=position))
        for each, position in zip(received, named, strict=True)
        if each.envelope is not None
    ]
    await apply(database, [log])

    found = await rows(
        database,
        'select topic, partition, "offset", causation_topic, causation_partition, causation_offset'
        " from booking_timeline order by sequence",
    )

    assert found == [
        ("booking.events", 1, 1, "booking.commands", 1, 17),
        ("booking.events", 1, 2, None, None, None),
        ("booking.events", 1, 3, None, None, None),
    ]
