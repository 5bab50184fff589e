"""The queries, bodies and responses of operations on blocks. Ranges of dates include both ends."""

from datetime import date
from typing import Annotated
from uuid import UUID

from pydantic import Field

from ingress.http.models import Body, BodyDay, OutModel
from ingress.http.paging import Paged
from topics.messages.values import MAX_ROOMS, BlockReason


class BlockIn(Body, title="BlockWanted"):
    """Rooms to take off sale for the nights from `start_date` to `end_date`."""

    start_date: BodyDay
    end_date: BodyDay
    rooms_count: Annotated[int, Field(ge=1, le=MAX_ROOMS)] = 1
    # Strict models take no text for an enumeration, so the value is read as JSON's.
    reason: Annotated[BlockReason, Field(strict=False)]


class BlocksQuery(Paged):
    """A part of a room's blocks; also those that were released with `released`, and those that are over with `past`."""

    released: bool = False
    past: bool = False


class BlockOut(OutModel, title="Block"):
    """Rooms that are off sale for the nights from `start_date` to `end_date`, until the block is released."""

    id: UUID
    room_id: int
    start_date: date
    end_date: date
    rooms_count: int
    reason: BlockReason
    released: bool
