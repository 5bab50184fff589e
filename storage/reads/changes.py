"""The changes of bookings' stays: one that is held until it is paid, and the stays that earlier ones replaced."""

from datetime import datetime
from uuid import UUID

import msgspec
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.models import BookingTimeline
from topics.messages.events import RoomsHeld, StayBefore, StayChanged


class HeldChange(msgspec.Struct, frozen=True, kw_only=True):
    """A dearer change of a stay that waits for `extra_minor`; `stay` is what the booking becomes once that is paid.

    `held` are the rooms that it needs beside the booking's own.
    """

    id: UUID
    stay: StayBefore
    extra_minor: int
    held: tuple[RoomsHeld, ...] = ()


class ReplacedStay(msgspec.Struct, frozen=True, kw_only=True):
    """A stay as it was until the change `change_id` replaced it."""

    change_id: UUID
    stay: StayBefore


async def changed_at(connection: AsyncConnection, booking_id: UUID) -> dict[UUID, datetime]:
    """Return when the booking's stay was changed, by the ids of the changes, as far as the projection has come."""
    rows = await connection.execute(
        select(BookingTimeline.event["change_id"].astext, BookingTimeline.time).where(
            BookingTimeline.booking_id == booking_id, BookingTimeline.type == StayChanged.message_type
        )
    )
    return {UUID(change_id): time for change_id, time in rows}
