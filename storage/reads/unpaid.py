"""Bookings that hold nights unpaid: of many accounts in one query, and of one account among the nights of a stay."""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Final
from uuid import UUID

from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.models import Inventory
from storage.predicates import UNPAID
from topics.messages.values import nights_of

_MAX_BOOKINGS_LISTED: Final = 100

# The index `booking_unpaid` finds an account's unpaid bookings; stays that are over do not count. A hold whose deadline
# has passed does not count either, even if the timer has not ended it yet. A trip counts once: its legs have no
# deadline of their own. It is undecided while its rooms have not answered.
UNPAID_OF_EACH: Final = text(
    f"""
    select account.id as user_id, unpaid.id as booking_id, unpaid.hold_expires_at
    from unnest(cast(:user_ids as bigint[])) as account (id)
    cross join lateral (
      select booking.id, booking.hold_expires_at
      from booking
      where booking.user_id = account.id and ({UNPAID})
        and case when status = 'CONFIRMED' then check_out > :today
                 else hold_expires_at > now() end
      limit :most
    ) as unpaid
    union all
    select null, booking.id, null from booking
    where booking.id = any (cast(:undecided as uuid[])) and status <> 'RESERVING'
    """  # noqa: S608 - the predicate of the index is a constant
)
# A trip is paid or cancelled, and not one of its legs.
_HELD_OF_NIGHTS: Final = text(
    f"""
    select distinct coalesce(trip_id, id) as held_id from booking
    where user_id = :user_id and ({UNPAID}) and room_id = :room_id and check_in < :check_out and check_out > :check_in
    order by held_id limit :most
    """  # noqa: S608 - the predicate of the index is a constant
)


# As `storage.bookings.load_unpaid`, by which the decision counts them: bookings, and what changes hold until they are
# paid.
_ROOMS_OF_NIGHTS: Final = text(
    f"""
    select check_in, check_out, rooms_count from booking
    where user_id = :user_id and room_id = :room_id and ({UNPAID})
    and check_in < :check_out and check_out > :check_in
    union all
    select held.first_night, held.end_night, held.rooms_count
    from booking cross join jsonb_to_recordset(pending_change -> 'held')
        as held (first_night date, end_night date, rooms_count int)
    where user_id = :user_id and room_id = :room_id and status = 'CONFIRMED' and hold_expires_at is not null
    and held.first_night < :check_out and held.end_night > :check_in
    """  # noqa: S608 - the predicate of the index is a constant
)


@dataclass(frozen=True, slots=True)
class UnpaidRead:
    """The unpaid bookings of accounts, with the ends of their holds, and those of the undecided that are decided."""

    unpaid: Mapping[int, Mapping[UUID, datetime | None]]
    decided: frozenset[UUID]


async def unpaid_bookings(
    connection: AsyncConnection, user_ids: Collection[int], undecided: Collection[UUID], *, most: int
) -> UnpaidRead:
    """Return the bookings that these accounts hold unpaid, in one snapshot with the bookings that are decided.

    Args:
        connection: a connection.
        user_ids: the accounts.
        undecided: bookings that were asked for; those that the ledger has are returned as decided.
        most: the largest number of bookings that is returned for each account.
    """
    rows = await connection.execute(
        UNPAID_OF_EACH,
        {"user_ids": list(user_ids), "undecided": list(undecided), "most": most, "today": datetime.now(UTC).date()},
    )
    unpaid: defaultdict[int, dict[UUID, datetime | None]] = defaultdict(dict)
    decided = set()
    for user_id, booking_id, hold_expires_at in rows:
        if user_id is None:
            decided.add(booking_id)
        else:
            unpaid[user_id][booking_id] = hold_expires_at
    return UnpaidRead(unpaid, frozenset(decided))


@dataclass(frozen=True, slots=True)
class NightsHeld:
    """Nights of a room type: an account's bookings that hold some of them unpaid, and the fewest rooms of a night.

    `fewest_rooms` is None when none of the nights was ever put on sale.
    """

    bookings: list[UUID]
    fewest_rooms: int | None


async def nights_held_unpaid(
    connection: AsyncConnection, user_id: int, room_id: int, check_in: date, check_out: date
) -> NightsHeld:
    """Return what an account holds unpaid of the nights of [check_in, check_out) of a room type.

    A leg is listed as its trip. A hold whose deadline has passed is listed until the timer has ended it, because it
    still holds its nights.
    """
    asked = {
        "user_id": user_id,
        "room_id": room_id,
        "check_in": check_in,
        "check_out": check_out,
        "most": _MAX_BOOKINGS_LISTED,
    }
    bookings = await connection.execute(_HELD_OF_NIGHTS, asked)
    fewest_rooms = await connection.execute(
        select(func.min(Inventory.total_count)).where(
            Inventory.room_id == room_id, Inventory.night >= check_in, Inventory.night < check_out
        )
    )
    return NightsHeld(list(bookings.scalars()), fewest_rooms.scalar())


async def rooms_held_unpaid(
    connection: AsyncConnection, user_id: int, room_id: int, check_in: date, check_out: date
) -> dict[date, int]:
    """Return the number of rooms that an account holds unpaid of each night of [check_in, check_out) of a room type.

    Nights of which it holds none are absent.
    """
    asked = {"user_id": user_id, "room_id": room_id, "check_in": check_in, "check_out": check_out}
    rooms: Counter[date] = Counter()
    for first_night, end_night, rooms_count in await connection.execute(_ROOMS_OF_NIGHTS, asked):
        for night in nights_of(max(first_night, check_in), min(end_night, check_out)):
            rooms[night] += rooms_count
    return dict(rooms)
