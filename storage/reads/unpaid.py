"""Bookings that hold nights unpaid, by account: one query for many accounts."""

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.predicates import UNPAID

# The index `booking_unpaid` finds an account's unpaid bookings; stays that are over do not count. A hold whose deadline
# has passed does not count either, even if the timer has not ended it yet.
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
    select null, booking.id, null from booking where booking.id = any (cast(:undecided as uuid[]))
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
