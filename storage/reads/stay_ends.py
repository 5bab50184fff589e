"""The end of a stay as the ledger has it: the nights that it gave back, and what the hotel keeps by its policy."""

from dataclasses import dataclass
from datetime import date
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.models import Booking


@dataclass(frozen=True, kw_only=True, slots=True)
class StayEnd:
    """The end of a stay. `freed_from` is the first night that is on sale again, `kept_minor` in minor units."""

    freed_from: date | None
    kept_minor: int | None


async def stay_end(connection: AsyncConnection, booking_id: UUID) -> StayEnd:
    """Return the end of a booking's stay; both are None while it has none, or nothing was decided by a policy."""
    rows = await connection.execute(select(Booking.freed_from, Booking.policy).where(Booking.id == booking_id))
    freed_from, policy = rows.one()
    return StayEnd(freed_from=freed_from, kept_minor=None if policy is None else policy["kept_minor"])
