"""A batch loads all that `decide` reads, and no more: nights, the hotel's clock, and the account's unpaid stays."""

from collections.abc import AsyncIterator
from datetime import date
from uuid import UUID

import msgspec
import pytest
from psycopg import AsyncConnection
from psycopg.types.json import Jsonb

from storage.bookings import _LOAD_UNPAID, UnpaidSearch, load_unpaid
from storage.database import connect
from storage.settings import DatabaseSettings
from tests.support.scenario import NOON
from tests.workers.decisions.words import (
    ADA,
    ADD_GUESTS,
    ANOTHER_ROOM,
    CANCEL,
    CANCELLED,
    CHANGE,
    CHECK_OUT,
    EXPIRED,
    LATER,
    OPEN,
    OPENED,
    PAY,
    REQUEST_PAYMENT,
    RESERVE,
    RESERVED,
    ROOM,
    but,
    march,
    repeated,
)
from tests.workers.decisions.words_at_hotel import BLOCK, BLOCKED, RELEASE, RELEASED, unchanged
from tests.workers.decisions.words_of_changes import ASKED_MORE, PAY_MORE
from tests.workers.decisions.words_of_codes import (
    BEN_CLAIMS,
    CARLA_CLAIMS,
    CLAIM,
    CODE_SET,
    GIVE_BACK,
    GIVEN_BACK,
    SET_CODE,
    claimed,
    code_rejected,
    code_unchanged,
)
from tests.workers.decisions.words_of_moves import (
    CONFIRM_LEG,
    HAS_MOVED,
    MOVE,
    MOVE_OPENED,
    RESERVE_LEG,
    SUITE_IS_HELD,
    SUITES,
    move_ended,
)
from tests.workers.decisions.words_of_sale import TERMS
from topics.kafka.settings import KafkaSettings
from topics.messages.commands import Command, ReserveStay
from topics.messages.events import (
    BlockReleased,
    BookingCancelled,
    BookingRejected,
    BookingReserved,
    CommandRefused,
    Event,
    InventoryUnchanged,
    RoomsHeld,
    StayChanged,
)
from topics.messages.releases import Release
from topics.messages.values import BookingStatus, ChangeEnd, InventoryRefusal, Refusal, Rejection, Terms
from workers.decisions import Booking, unpaid
from workers.decisions.state import PendingChange, unpaid_rooms
from workers.reservations.handler import MAX_CACHED_ROOMS, MAX_CACHED_TERMS, CommandBatch, Reservations


def batch() -> CommandBatch:
    nights = {(ROOM, march(day)): None for day in range(10, 15)}
    return CommandBatch({**nights}, {})


def test_the_nights_of_a_new_stay_are_those_it_asks_for() -> None:
    decided = batch()
    assert decided.decide(OPEN, NOON) == (OPENED,)
    assert decided.decide(RESERVE, NOON) == (RESERVED,)
    assert decided.decide(CANCEL, NOON) == (CANCELLED,)


def test_a_request_that_comes_again_with_other_dates_ends_the_hold_that_is_over() -> None:
    decided = batch()
    decided.decide(OPEN, NOON)
    decided.decide(RESERVE, NOON)
    again = but(RESERVE, check_in=march(13), check_out=march(14))
    assert decided.decide(again, LATER) == (EXPIRED, repeated(again, BookingStatus.EXPIRED))


# Blocks, also within one batch


async def test_a_block_and_its_release_are_decided_in_one_batch(connection: AsyncConnection) -> None:
    assert await decide_all(connection, OPEN, BLOCK, RELEASE, RELEASE, BLOCK) == [
        OPENED,
        BLOCKED,
        RELEASED,
        unchanged(RELEASE, None),
        unchanged(BLOCK, None),
    ]


async def test_a_release_reads_the_nights_of_the_block_that_an_earlier_batch_made(connection: AsyncConnection) -> None:
    long = but(BLOCK, first_night=march(11), end_night=march(14))
    await decide_all(connection, OPEN, long)

    assert await decide_all(connection, RELEASE) == [but(RELEASED, first_night=march(11), end_night=march(14))]
    found = await connection.execute("select sum(blocked_count) from inventory")
    assert await found.fetchone() == (0,)


async def test_nights_that_a_block_takes_and_a_release_gives_back_are_those_of_the_batch(
    connection: AsyncConnection,
) -> None:
    both = but(BLOCK, rooms_count=2)
    other = but(RESERVE, booking_id=UUID(int=2), check_in=march(11))
    events = await decide_all(connection, OPEN, both, RESERVE, RELEASE, other)

    assert [outcome(event) for event in events[2:]] == [Rejection.SOLD_OUT, BlockReleased, BookingReserved]


async def test_a_command_about_another_rooms_block_reads_no_nights(connection: AsyncConnection) -> None:
    await decide_all(connection, OPEN, BLOCK)
    elsewhere = but(RELEASE, room_id=ANOTHER_ROOM)

    assert await decide_all(connection, elsewhere) == [unchanged(elsewhere, InventoryRefusal.NO_SUCH_BLOCK)]


# Promo codes, within one batch and in several


async def test_the_uses_of_a_code_are_counted_within_a_batch_and_read_by_the_next_one(
    connection: AsyncConnection,
) -> None:
    first = await decide_all(connection, SET_CODE, CLAIM, CLAIM, BEN_CLAIMS, CARLA_CLAIMS, GIVE_BACK)
    assert first == [
        CODE_SET,
        claimed(CLAIM),
        code_unchanged(CLAIM),
        claimed(BEN_CLAIMS),
        code_rejected(CARLA_CLAIMS, Rejection.CODE_USED_UP),
        GIVEN_BACK,
    ]

    second = await decide_all(connection, GIVE_BACK, CLAIM, BEN_CLAIMS, CARLA_CLAIMS, SET_CODE)
    assert second == [
        code_unchanged(GIVE_BACK),
        code_unchanged(CLAIM),
        code_unchanged(BEN_CLAIMS),
        claimed(CARLA_CLAIMS),
        code_unchanged(SET_CODE),
    ]
    found = await connection.execute("select used_count from promo_code")
    assert await found.fetchone() == (2,)


async def test_the_uses_of_an_account_are_those_of_the_ledger_and_of_the_batch(
    connection: AsyncConnection,
) -> None:
    another = but(CLAIM, reserve=but(RESERVE, booking_id=UUID(int=4)))
    third = but(CLAIM, reserve=but(RESERVE, booking_id=UUID(int=5)))
    await decide_all(connection, SET_CODE, CLAIM)

    events = await decide_all(connection, another, GIVE_BACK, another, third)

    refused = [code_rejected(each, Rejection.CODE_USED_BY_ACCOUNT) for each in (another, third)]
    assert events == [refused[0], GIVEN_BACK, claimed(another), refused[1]]


@pytest.mark.parametrize("first_night", [date.min, march(10), date.max])
@pytest.mark.parametrize("end_night", [date.min, date.max])
@pytest.mark.parametrize("rooms_count", [-(2**31), 2**31 - 1])
async def test_absurd_numbers_and_dates_are_refused_like_others(
    connection: AsyncConnection, first_night: date, end_night: date, rooms_count: int
) -> None:
    changes = {"first_night": first_night, "end_night": end_night}
    block = but(BLOCK, rooms_count=rooms_count, **changes)
    change = but(CHANGE, allowance_count=rooms_count, **changes)

    for event in (await decide_all(connection, OPEN, block, change))[1:]:
        assert isinstance(event, InventoryUnchanged)


def test_a_worker_forgets_the_nights_and_the_terms_that_it_read_before_a_rebalance() -> None:
    """Another worker may have changed them since."""
    reservations = Reservations(KafkaSettings(_env_file=None))
    reservations._nights[ROOM, march(10)] = None
    reservations._terms[ROOM] = None

    reservations.forget()

    assert (reservations._nights, reservations._terms) == ({}, {})


@pytest.mark.parametrize(
    ("with_terms", "without", "kept"),
    [
        (MAX_CACHED_TERMS, MAX_CACHED_ROOMS - MAX_CACHED_TERMS, MAX_CACHED_ROOMS),
        (MAX_CACHED_TERMS + 1, 0, 0),
        (0, MAX_CACHED_ROOMS, MAX_CACHED_ROOMS),
        (1, MAX_CACHED_ROOMS, 0),
    ],
)
async def test_a_worker_remembers_the_terms_of_so_many_rooms(
    with_terms: int, without: int, kept: int, connection: AsyncConnection
) -> None:
    reservations = Reservations(KafkaSettings(_env_file=None))
    reservations._terms.update(dict.fromkeys(range(with_terms), TERMS))
    reservations._terms.update(dict.fromkeys(range(with_terms, with_terms + without)))

    await reservations.handle(connection, [])

    assert len(reservations._terms) == kept


# The account's share


SHARED = but(RESERVE, account_share_percent=50)
TEN_ROOMS = but(OPEN, total_count=10)


@pytest.fixture
async def connection(database: DatabaseSettings) -> AsyncIterator[AsyncConnection]:
    async with await connect(database, "a test") as connection:
        yield connection


async def decide_all(connection: AsyncConnection, *commands: Command) -> list[Event]:
    """Decide the commands in one batch, write it, and return the last event of each."""
    batch = CommandBatch({}, {})
    async with connection.transaction():
        await batch.load(connection, commands)
        events = [batch.decide(command, NOON)[-1] for command in commands]
        await batch.write(connection)
    return events


def asks(number: int, rooms_count: int = 3, **changes: object) -> ReserveStay:
    return but(SHARED, booking_id=UUID(int=number), rooms_count=rooms_count, **changes)


def outcome(event: Event) -> object:
    return event.reason if isinstance(event, BookingRejected) else type(event)


async def test_stays_of_an_earlier_batch_and_of_this_one_count_together(connection: AsyncConnection) -> None:
    await decide_all(connection, TEN_ROOMS, asks(1))

    events = await decide_all(connection, asks(2), asks(3, rooms_count=2), asks(4, rooms_count=1, user_id=99))

    assert [outcome(event) for event in events] == [Rejection.ACCOUNT_SHARE, BookingReserved, BookingReserved]


async def test_a_stay_that_ends_earlier_in_the_batch_does_not_count(connection: AsyncConnection) -> None:
    await decide_all(connection, TEN_ROOMS, asks(1))

    events = await decide_all(connection, asks(2), but(CANCEL, booking_id=UUID(int=1)), asks(3))

    assert [outcome(event) for event in events] == [Rejection.ACCOUNT_SHARE, BookingCancelled, BookingReserved]


async def test_only_stays_of_the_same_nights_are_read(connection: AsyncConnection) -> None:
    await decide_all(connection, TEN_ROOMS, asks(1, check_in=march(12), check_out=march(14)))

    def search(first: int, end: int) -> UnpaidSearch:
        return UnpaidSearch(RESERVE.user_id or 0, ROOM, march(first), march(end))

    assert await load_unpaid(connection, [search(10, 12), search(14, 15)]) == []
    found = [(RESERVE.user_id, ROOM, UUID(int=1), march(12), march(14), 3)]
    assert await load_unpaid(connection, [search(10, 13)]) == found
    assert await load_unpaid(connection, [search(13, 14)]) == found


async def test_without_a_share_nothing_is_read(connection: AsyncConnection) -> None:
    await decide_all(connection, TEN_ROOMS, but(RESERVE, rooms_count=5))
    batch = CommandBatch({}, {})
    await batch.load(connection, [asks(2, account_share_percent=None), asks(3, user_id=None)])

    assert batch._unpaid._stays == {}


# A trip alone is RESERVING, and it has no rooms of its own.
@pytest.mark.parametrize("status", sorted(set(BookingStatus) - {BookingStatus.PENDING, BookingStatus.RESERVING}))
@pytest.mark.parametrize("terms", Terms)
async def test_the_query_finds_what_the_core_counts(
    connection: AsyncConnection, status: BookingStatus, terms: Terms
) -> None:
    await decide_all(connection, TEN_ROOMS, asks(1))
    await connection.execute("update booking set status = %s, terms = %s", (status.value, terms.value))
    booking = but_booking(status, terms)

    found = await load_unpaid(connection, [UnpaidSearch(RESERVE.user_id or 0, ROOM, march(10), march(12))])

    assert bool(found) == unpaid(booking)


async def test_the_query_finds_the_rooms_that_a_change_holds(connection: AsyncConnection) -> None:
    booking = but_booking(BookingStatus.CONFIRMED, Terms.PREPAID)
    held = (
        RoomsHeld(first_night=march(9), end_night=march(10), rooms_count=1),
        RoomsHeld(first_night=march(12), end_night=march(14), rooms_count=2),
    )
    change = PendingChange(id=UUID(int=2), stay=booking.present_stay(), extra_minor=1, held=held)
    booking = msgspec.structs.replace(booking, pending_change=change, hold_expires_at=NOON)
    await decide_all(connection, TEN_ROOMS, asks(1))
    await connection.execute(
        "update booking set status = 'CONFIRMED', pending_change = %s, hold_expires_at = %s",
        (Jsonb(msgspec.to_builtins(change)), NOON),
    )

    async def found(first: int, end: int) -> list[RoomsHeld]:
        rows = await load_unpaid(connection, [UnpaidSearch(RESERVE.user_id or 0, ROOM, march(first), march(end))])
        assert all(row[:3] == (RESERVE.user_id, ROOM, UUID(int=1)) for row in rows)
        return [RoomsHeld(first_night=row[3], end_night=row[4], rooms_count=row[5]) for row in rows]

    assert await found(8, 15) == list(unpaid_rooms(booking)) == list(held)
    assert await found(13, 20) == [held[1]]
    # The stay itself is paid.
    assert await found(10, 12) == []


def but_booking(status: BookingStatus, terms: Terms) -> Booking:
    return Booking(
        id=RESERVED.booking_id,
        user_id=RESERVED.user_id,
        hotel_id=RESERVED.hotel_id,
        room_id=ROOM,
        check_in=RESERVED.check_in,
        check_out=RESERVED.check_out,
        rooms_count=1,
        status=status,
        terms=terms,
        amount_minor=200_00,
        currency="EUR",
    )


async def test_the_index_of_unpaid_bookings_serves_the_query(connection: AsyncConnection) -> None:
    # The test's table is too small for any index to pay; an index that cannot serve the query is used in no case.
    await connection.execute("set enable_seqscan = off")
    explained = await connection.execute(b"explain " + _LOAD_UNPAID.encode(), ([ADA], [ROOM], [march(10)], [march(12)]))
    plan = " ".join([line for (line,) in await explained.fetchall()])

    assert "booking_unpaid" in plan


# Changes to another room type


PAY_FIRST = but(PAY, attempt=1)


async def counted(connection: AsyncConnection) -> dict[int, tuple[int, int]]:
    """Return the rooms booked and reserved in each night of the stay, by room type."""
    found = await connection.execute(
        "select room_id, min(booked_count), max(booked_count), min(reserved_count), max(reserved_count) from inventory"
        " where date between %s and %s group by 1",
        (march(10), march(11)),
    )
    rows = await found.fetchall()
    assert all(row[1] == row[2] and row[3] == row[4] for row in rows), rows
    return {room_id: (booked, reserved) for room_id, booked, _, reserved, _ in rows}


async def test_a_stay_moves_by_batches_that_each_read_what_the_one_before_wrote(connection: AsyncConnection) -> None:
    prices = (but(CHANGE, room_id=SUITES, price_minor=150_00), but(OPEN, room_id=SUITES))
    await decide_all(connection, OPEN, *reversed(prices), RESERVE, ADD_GUESTS, REQUEST_PAYMENT, PAY_FIRST)

    assert await decide_all(connection, MOVE) == [MOVE_OPENED]
    (reserved,) = await decide_all(connection, RESERVE_LEG)
    assert isinstance(reserved, BookingReserved)
    assert await counted(connection) == {ROOM: (1, 0), SUITES: (0, 1)}
    assert await decide_all(connection, SUITE_IS_HELD) == [ASKED_MORE]
    assert await decide_all(connection, PAY_MORE) == [HAS_MOVED]
    assert await counted(connection) == {ROOM: (0, 0), SUITES: (0, 1)}
    await decide_all(connection, CONFIRM_LEG)
    assert await counted(connection) == {ROOM: (0, 0), SUITES: (1, 0)}


async def test_an_answer_finds_the_nights_of_the_stay_that_it_frees_and_its_hotels_clock(
    connection: AsyncConnection,
) -> None:
    move = but(MOVE, hold_seconds=30 * 24 * 3_600)
    await decide_all(connection, OPEN, RESERVE, ADD_GUESTS, REQUEST_PAYMENT, PAY_FIRST, move)
    began = CommandBatch({}, {})
    async with connection.transaction(force_rollback=True):
        await began.load(connection, [SUITE_IS_HELD])
        (ended,) = began.decide(SUITE_IS_HELD, CHECK_OUT)
        assert ended == move_ended(ChangeEnd.STAY_BEGAN)

    as_dear = but(SUITE_IS_HELD, amount_minor=200_00, night_amounts_minor=(100_00, 100_00))
    (moved,) = await decide_all(connection, as_dear)

    assert isinstance(moved, StayChanged)
    assert await counted(connection) == {ROOM: (0, 0)}


async def test_the_rooms_of_a_leg_that_waits_count_as_the_accounts_in_its_room_alone(
    connection: AsyncConnection,
) -> None:
    opened, paid = but(OPEN, room_id=SUITES, total_count=10), (RESERVE, ADD_GUESTS, REQUEST_PAYMENT, PAY_FIRST)
    await decide_all(connection, TEN_ROOMS, opened, *paid, MOVE)
    await decide_all(connection, but(RESERVE_LEG, rooms_count=3, account_share_percent=50))

    events = await decide_all(connection, asks(2, room_id=SUITES), asks(3, rooms_count=5))

    assert [outcome(event) for event in events] == [Rejection.ACCOUNT_SHARE, BookingReserved]


# Releases side by side


def test_for_an_older_release_a_refusal_has_a_word_that_it_knows() -> None:
    decided = CommandBatch({(ROOM, march(day)): None for day in range(10, 15)}, {}, Release.V0_1_0)
    decided.decide(OPEN, NOON)
    at_hotel = but(RESERVE, terms=Terms.AT_HOTEL)
    reserved, confirmed = decided.decide(at_hotel, NOON)
    assert reserved == but(RESERVED, terms=Terms.AT_HOTEL, hold_expires_at=None, night_amounts_minor=())
    assert confirmed.message_type == "booking.confirmed.v1"

    (refusal,) = decided.decide(CANCEL, CHECK_OUT)

    assert isinstance(refusal, CommandRefused)
    assert refusal.reason is Refusal.WRONG_STATUS
