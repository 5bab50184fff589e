"""A write batch writes the rows that its events changed, and reads every row once."""

from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID

import msgspec
import pytest
from psycopg import AsyncConnection
from psycopg.errors import SerializationFailure

from storage.database import connect
from storage.settings import DatabaseSettings
from tests.support.scenario import NOON
from tests.workers.decisions.words import (
    ADAS,
    ANOTHER_ROOM,
    GUESTS,
    HOTEL,
    OPENED,
    PAID,
    RESERVED,
    ROOM,
    but,
    march,
    nights,
)
from tests.workers.decisions.words_at_hotel import (
    ARRIVED,
    BLOCK_ID,
    BLOCKED,
    LEFT,
    RELEASED,
    SALE,
    SOLD_ON_TERMS,
    kept,
)
from tests.workers.decisions.words_of_changes import ASKED_MORE
from tests.workers.decisions.words_of_moves import HAS_MOVED, LEG, MOVE_HELD, MOVE_OPENED, SUITES, move_ended
from topics.messages.events import Event, InventoryChanged, SaleTermsChanged
from topics.messages.sale import NO_SALE_TERMS, SaleTerms
from topics.messages.values import BlockReason, BookingStatus, ChangeEnd
from workers.decisions import Block, Night
from workers.reservations.write_batch import NightKey, WriteBatch

LATER = NOON + timedelta(minutes=1)
STAY = [(ROOM, march(10)), (ROOM, march(11))]
CHANGED = InventoryChanged(room_id=ROOM, ranges=nights(10), price_minor=77, total_count=9)


@pytest.fixture
async def connection(database: DatabaseSettings) -> AsyncIterator[AsyncConnection]:
    async with await connect(database, "a test") as connection:
        yield connection


async def batch_of(
    connection: AsyncConnection, *events: Event, known: dict[NightKey, Night | None] | None = None
) -> WriteBatch:
    """Load Ada's booking and its nights, and apply events, each a minute after the one before it."""
    batch = WriteBatch({} if known is None else known)
    await batch.load_bookings(connection, [ADAS])
    await batch.load_nights(connection, STAY)
    await batch.load_blocks(connection, [(ROOM, BLOCK_ID)])
    await batch.load_sale_terms(connection, [ROOM])
    state = msgspec.structs.replace(batch.state(ADAS, STAY), block=batch.block((ROOM, BLOCK_ID)))
    for minute, event in enumerate(events):
        state = batch.apply(state, event, NOON + timedelta(minutes=minute))
    return batch


async def write(connection: AsyncConnection, *events: Event) -> None:
    async with connection.transaction():
        await (await batch_of(connection, *events)).write(connection)


async def rows(connection: AsyncConnection, query: str) -> list[tuple[object, ...]]:
    return await (await connection.execute(query.encode())).fetchall()


async def test_a_booking_that_changes_in_the_batch_that_makes_it_is_written_once(connection: AsyncConnection) -> None:
    await write(connection, OPENED, RESERVED, GUESTS)

    [(id, status, made, changed)] = await rows(connection, "select id, status, created_at, updated_at from booking")
    guests = await rows(connection, "select booking_id, guest_id from booking_guest order by guest_id")
    counts = await rows(connection, "select date, reserved_count, booked_count from inventory order by date limit 3")

    assert (id, status) == (ADAS, BookingStatus.GUESTS_ADDED.value)
    assert (made, changed) == (NOON + timedelta(minutes=1), NOON + timedelta(minutes=2))
    assert guests == [(ADAS, guest_id) for guest_id in sorted(GUESTS.guest_ids)]
    assert counts == [(march(10), 1, 0), (march(11), 1, 0), (march(12), 0, 0)]


async def test_the_request_of_a_booking_is_read_as_it_was_written(connection: AsyncConnection) -> None:
    await write(connection, OPENED, but(RESERVED, request_hash="0f" * 16))
    kept = (await batch_of(connection)).booking(ADAS)
    assert kept is not None
    assert kept.request_hash == "0f" * 16


async def test_a_booking_that_another_room_made_at_the_same_time_is_tried_again(
    connection: AsyncConnection, database: DatabaseSettings
) -> None:
    """Two requests with one Idempotency-Key, whose row was lost, ask for two rooms."""
    await write(connection, OPENED)
    async with await connect(database, "the worker of another room") as other:
        batch = await batch_of(connection, RESERVED)
        async with other.transaction():
            await (await batch_of(other, but(OPENED, room_id=ANOTHER_ROOM), but(RESERVED, room_id=ANOTHER_ROOM))).write(
                other
            )
        with pytest.raises(SerializationFailure, match="another room"):
            async with connection.transaction():
                await batch.write(connection)
    found = (await batch_of(connection)).booking(ADAS)
    assert found is not None
    assert found.room_id == ANOTHER_ROOM


async def test_a_later_batch_reads_what_an_earlier_one_wrote(connection: AsyncConnection) -> None:
    await write(connection, OPENED, RESERVED)
    written = await batch_of(connection)
    before = written.booking(ADAS), written.state(ADAS, STAY)
    await write(connection, GUESTS)
    after = (await batch_of(connection)).booking(ADAS)

    assert before[0] == before[1].booking
    assert before[0] is not None
    assert before[0].status is BookingStatus.RESERVED
    assert [night.reserved_count for night in before[1].nights.values()] == [1, 1]
    assert after is not None
    assert (after.status, after.guest_ids) == (BookingStatus.GUESTS_ADDED, tuple(sorted(GUESTS.guest_ids)))


async def test_a_night_that_a_manager_and_a_guest_change_together_gets_both(connection: AsyncConnection) -> None:
    await write(connection, OPENED)
    await write(connection, CHANGED, RESERVED)

    found = await rows(
        connection, "select date, total_count, price_minor, reserved_count from inventory order by date limit 2"
    )

    assert found == [(march(10), 9, 77, 1), (march(11), OPENED.total_count, OPENED.price_minor, 1)]


async def test_nights_are_read_once_also_if_they_are_not_open(connection: AsyncConnection) -> None:
    known: dict[NightKey, Night | None] = {}
    await batch_of(connection, known=known)
    assert known == dict.fromkeys(STAY)
    await write(connection, OPENED)

    # Only the worker of the room's partition may change its nights, so nights that were read stay true.
    assert (await batch_of(connection, known=known)).state(None, STAY).nights == {}


async def test_a_sold_stay_that_ends_early_is_read_as_it_was_written(connection: AsyncConnection) -> None:
    left = but(LEFT, freed_from=march(11), policy=kept(160_00, 50))
    await write(connection, OPENED, SOLD_ON_TERMS, PAID, ARRIVED, left)

    booking = (await batch_of(connection)).booking(ADAS)
    counts = await rows(connection, "select booked_count from inventory order by date limit 2")

    assert booking is not None
    assert (booking.status, booking.freed_from) == (BookingStatus.CHECKED_OUT, march(11))
    assert (booking.sale, booking.policy) == (SALE, kept(160_00, 50))
    assert counts == [(1,), (0,)]


@pytest.mark.parametrize(
    "events",
    [
        (MOVE_OPENED,),
        (MOVE_OPENED, MOVE_HELD, ASKED_MORE),
        (MOVE_OPENED, MOVE_HELD, ASKED_MORE, HAS_MOVED),
        (MOVE_OPENED, move_ended(ChangeEnd.EXPIRED)),
    ],
    ids=["open", "held", "moved", "ended"],
)
async def test_a_change_to_another_room_type_is_read_as_it_was_written(
    connection: AsyncConnection, events: tuple[Event, ...]
) -> None:
    await write(connection, OPENED, RESERVED, GUESTS, PAID)
    for event in events:
        await write(connection, event)
    written = (await batch_of(connection)).booking(ADAS)

    async with connection.transaction(force_rollback=True):
        await connection.execute("truncate booking, booking_guest, inventory")
        before = await batch_of(connection, OPENED, RESERVED, GUESTS, PAID, *events)
    assert written == before.booking(ADAS)
    booked, reserved = (1, 0) if events[-1] is not HAS_MOVED else (0, 0)
    counts = await rows(connection, "select booked_count, reserved_count from inventory order by date limit 2")
    assert counts == [(booked, reserved)] * 2


async def test_the_stay_that_moved_is_that_of_a_leg(connection: AsyncConnection) -> None:
    await write(connection, OPENED, RESERVED, GUESTS, PAID, MOVE_OPENED, MOVE_HELD, ASKED_MORE, HAS_MOVED)

    booking = (await batch_of(connection)).booking(ADAS)

    assert booking is not None
    assert (booking.rooms_count, booking.pending_change, booking.hold_expires_at) == (0, None, None)
    assert [(leg.booking_id, leg.room_id) for leg in booking.legs] == [(LEG, SUITES)]


# Blocks and sale terms


BLOCK = Block(
    id=BLOCK_ID,
    room_id=ROOM,
    first_night=march(10),
    end_night=march(12),
    rooms_count=1,
    reason=BlockReason.MAINTENANCE,
)


async def test_a_block_and_its_nights_are_written_and_read(connection: AsyncConnection) -> None:
    await write(connection, OPENED, BLOCKED)
    blocked = await batch_of(connection)
    blocked_counts = await rows(connection, "select blocked_count from inventory order by date limit 3")
    await write(connection, RELEASED)
    released = await batch_of(connection)

    assert blocked.block((ROOM, BLOCK_ID)) == BLOCK
    assert blocked_counts == [(1,), (1,), (0,)]
    assert released.block((ROOM, BLOCK_ID)) == msgspec.structs.replace(BLOCK, released=True)
    assert [night.blocked_count for night in released.state(None, STAY).nights.values()] == [0, 0]


async def test_a_block_that_is_released_in_the_batch_that_makes_it_is_written_once(
    connection: AsyncConnection,
) -> None:
    await write(connection, OPENED, BLOCKED, RELEASED)

    assert await rows(connection, "select id, released from room_block") == [(BLOCK_ID, True)]
    assert await rows(connection, "select sum(blocked_count) from inventory") == [(0,)]


async def test_two_rooms_have_a_block_of_the_same_id(connection: AsyncConnection) -> None:
    elsewhere = but(BLOCKED, room_id=ANOTHER_ROOM, rooms_count=2)
    await write(connection, OPENED, BLOCKED)
    async with connection.transaction():
        other = WriteBatch({})
        keys = [(ANOTHER_ROOM, day) for _, day in STAY]
        state = other.apply(other.state(None, ()), but(OPENED, room_id=ANOTHER_ROOM), NOON)
        await other.load_blocks(connection, [(ANOTHER_ROOM, BLOCK_ID)])
        other.apply(msgspec.structs.replace(other.state(None, keys), block=state.block), elsewhere, NOON)
        await other.write(connection)

    found = await rows(connection, "select room_id, rooms_count from room_block order by room_id")
    assert found == [(ROOM, 1), (ANOTHER_ROOM, 2)]
    assert (await batch_of(connection)).block((ROOM, BLOCK_ID)) == BLOCK


async def test_the_sale_terms_of_a_room_are_replaced_and_read_once(connection: AsyncConnection) -> None:
    first, second = (msgspec.structs.replace(NO_SALE_TERMS, version=version, capacity=version) for version in (1, 2))
    await write(connection, *(SaleTermsChanged(room_id=ROOM, hotel_id=HOTEL, terms=terms) for terms in (first, second)))
    written = await rows(connection, "select room_id, version from room_sale_terms")
    known: dict[int, SaleTerms | None] = {}
    for _ in range(2):
        batch = WriteBatch({}, known)
        await batch.load_sale_terms(connection, [ROOM, ANOTHER_ROOM])
        await connection.execute("truncate room_sale_terms")

    assert written == [(ROOM, 2)]
    assert known == {ROOM: second, ANOTHER_ROOM: None}
    assert batch.terms_of(ROOM) == second


async def test_a_batch_without_changes_writes_nothing(connection: AsyncConnection) -> None:
    await write(connection)

    assert await rows(connection, "select 1 from booking union all select 1 from inventory") == []
    assert (await batch_of(connection)).booking(UUID(int=99)) is None
