"""The changes of bookings' stays: one that is held until it is paid, and the stays that earlier ones replaced."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.models import Booking, BookingTimeline, Room
from topics.messages.events import RoomsHeld, StayBefore, StayChanged
from topics.messages.sale import Sale


class HeldChange(msgspec.Struct, frozen=True, kw_only=True):
    """A dearer change of a stay that waits for `extra_minor`; `stay` is what the booking becomes once that is paid.

    `held` are the rooms that it needs beside the booking's own. A change to another room type has its room in
    `to_room_id`; while that room has not answered (`is_open`), the change has no price.
    """

    id: UUID
    stay: StayBefore
    extra_minor: int
    held: tuple[RoomsHeld, ...] = ()
    to_room_id: int | None = None
    is_open: bool = False


class ReplacedStay(msgspec.Struct, frozen=True, kw_only=True):
    """A stay as it was until the change `change_id` replaced it."""

    change_id: UUID
    stay: StayBefore


async def pending_change(connection: AsyncConnection, booking_id: UUID) -> HeldChange | None:
    """Return the change of a booking that is open or held, if there is one."""
    change = await connection.scalar(select(Booking.pending_change).where(Booking.id == booking_id))
    return None if change is None else msgspec.convert(change, HeldChange)


async def changed_at(connection: AsyncConnection, booking_id: UUID) -> dict[UUID, datetime]:
    """Return when the booking's stay was changed, by the ids of the changes, as far as the projection has come."""
    rows = await connection.execute(
        select(BookingTimeline.event["change_id"].astext, BookingTimeline.time).where(
            BookingTimeline.booking_id == booking_id, BookingTimeline.type == StayChanged.message_type
        )
    )
    return {UUID(change_id): time for change_id, time in rows}


@dataclass(frozen=True, slots=True)
class OtherRoom:
    """The room type of a change to another one, and what is sold there; None: the room is not described any more.

    `sale` is None while the room has not answered, and where its hotel has set no sale terms.
    """

    type: str | None
    sale: Sale | None


# The leg in the other room has the change's id.
_OTHER_ROOMS: Final = text(
    """
    select change.id, room.type, leg.sale
    from unnest(cast(:ids as uuid[]), cast(:room_ids as bigint[])) as change (id, room_id)
    left join room on room.id = change.room_id
    left join booking leg on leg.id = change.id
    """
)


async def other_rooms(connection: AsyncConnection, changes: Collection[HeldChange | None]) -> dict[UUID, OtherRoom]:
    """Return the other rooms of those changes that are to another room type, by the ids of the changes."""
    moves = [change for change in changes if change is not None and change.to_room_id is not None]
    if not moves:
        return {}
    asked = {"ids": [move.id for move in moves], "room_ids": [move.to_room_id for move in moves]}
    rows = await connection.execute(_OTHER_ROOMS, asked)
    return {id: OtherRoom(type, None if sale is None else msgspec.convert(sale, Sale)) for id, type, sale in rows}


async def room_type(connection: AsyncConnection, room_id: int) -> str | None:
    """Return the name of a room type; None: it is not described any more."""
    found: str | None = await connection.scalar(select(Room.type).where(Room.id == room_id))
    return found
