"""The mark of a log that was lost: from then on the ingress knows which requests before it were lost too.

A restore that puts a log back, or continues without one, leaves it in the record of operators' actions. Commands that
were on the lost log and have no event are on no log any more, so that their bookings are never decided.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from psycopg import AsyncConnection
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection as PooledConnection

#: In the details of an action: the commands that were on the log before it are lost.
MARK: Final[Mapping[str, Any]] = {"commands_lost": True}

_LOST_AT: Final = text(
    "select max(at) from operator_action where action = 'restore' and details @> '{\"commands_lost\": true}'"
)
_SENT_SINCE: Final = text(
    "select exists (select from idempotency_key where user_id = :user_id and booking_id between :first and :last"
    " and created_at >= :since)"
)
_WILL_BE_DECIDED: Final = text(
    "select exists (select from promo_code as code where exists"
    " (select from promo_code_use as use where use.code_id = code.id and use.booking_id = :booking_id))"
    " or exists (select from booking where user_id = :user_id"
    " and legs @> jsonb_build_array(jsonb_build_object('booking_id', cast(:booking_id as text))))"
)
#: The bits of an id behind those that a trip's legs share with it (`ingress.bookings.ids`).
_OWN_BITS: Final = 80
_DESK_BOOKING_FROM_BEFORE: Final = text(
    "select exists (select from desk_booking as desk where booking_id = :booking_id and created_at < :since"
    " and not exists (select from idempotency_key as key where key.user_id = desk.manager_id"
    " and key.booking_id = desk.booking_id and key.created_at >= :since))"
)
#: A block of nights has a key too, and a booking whose promo code was claimed is asked for by an event.
_WITHOUT_EVENT: Final = """
    not exists (select from booking where booking.id = asked.booking_id)
    and not exists (select from room_block where room_block.id = asked.booking_id)
    and not exists (select from promo_code_use where promo_code_use.booking_id = asked.booking_id)
"""
_FORGET: Final = f"delete from idempotency_key as asked where {_WITHOUT_EVENT}".encode()  # noqa: S608 - a constant
_LOST_REQUESTS: Final = f"""
    with asked as (
        select booking_id, user_id, endpoint, created_at from idempotency_key
        union all
        select booking_id, manager_id, format('POST /v1/admin/hotels/%s/bookings', hotel_id), created_at
        from desk_booking as desk
        where not exists (
            select from idempotency_key as key where key.user_id = manager_id and key.booking_id = desk.booking_id
        )
    )
    select * from asked where {_WITHOUT_EVENT} order by created_at
""".encode()  # noqa: S608 - a constant


async def lost_at(connection: PooledConnection) -> datetime | None:
    """Return the time (UTC) at which a log was last given up; None: none was."""
    found: datetime | None = await connection.scalar(_LOST_AT)
    return found


async def was_sent_since(connection: PooledConnection, user_id: int, booking_id: UUID, since: datetime) -> bool:
    """Return whether a request of this booking with an Idempotency-Key was first sent since a time.

    The request for a leg is that for its trip, whose id begins with the same bits.
    """
    first = booking_id.int >> _OWN_BITS << _OWN_BITS
    ids = {"first": UUID(int=first), "last": UUID(int=first | (1 << _OWN_BITS) - 1)}
    found: bool = await connection.scalar(_SENT_SINCE, {"user_id": user_id, "since": since} | ids)
    return found


async def will_be_decided(connection: PooledConnection, user_id: int | None, booking_id: UUID) -> bool:
    """Return whether an event asks for this booking: its promo code was claimed, or the ledger has its trip.

    Coordination reads such events again after a restore, and sends their commands once more.
    """
    found: bool = await connection.scalar(_WILL_BE_DECIDED, {"user_id": user_id, "booking_id": booking_id})
    return found


async def is_desk_booking_from_before(connection: PooledConnection, booking_id: UUID, since: datetime) -> bool:
    """Return whether a booking at the desk was asked for before a time, and not again since then."""
    found: bool = await connection.scalar(_DESK_BOOKING_FROM_BEFORE, {"booking_id": booking_id, "since": since})
    return found


async def lost_requests(connection: AsyncConnection) -> list[tuple[UUID, int, str, datetime]]:
    """Return id, user, endpoint and time of each request whose command has no event, as far as the database knows them.

    Those are the requests with an Idempotency-Key, and bookings at the desk; the id is the booking's or the block's.
    """
    found = await connection.execute(_LOST_REQUESTS)
    return await found.fetchall()


async def forget_requests(connection: AsyncConnection) -> None:
    """Delete the keys of lost requests: one that is sent again is then a new request, with the same ids."""
    await connection.execute(_FORGET)
