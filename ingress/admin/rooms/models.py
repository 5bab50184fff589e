"""The bodies and responses of operations on rooms."""

from datetime import datetime
from typing import Annotated, Final

from pydantic import Field

from ingress.admin.models import Amenities, Photos
from ingress.http.models import Body, Changes, Line, MoneyIn, MoneyOut, OutModel, left_out
from topics.messages.values import MAX_ROOMS

MAX_GUESTS: Final = 100

TotalCount = Annotated[int, Field(ge=1, le=MAX_ROOMS)]
Capacity = Annotated[int, Field(ge=1, le=MAX_GUESTS, description="How many guests one such room has place for.")]


class RoomIn(Body, title="RoomWanted"):
    """A room type, whole. Its `base_price` is that of nights opened from now on."""

    type: Line
    base_price: MoneyIn
    photos: Photos = Field(default_factory=list)
    amenities: Amenities = Field(default_factory=list)
    total_count: TotalCount
    capacity: Capacity


class RoomChanges(Changes):
    """Changes to a room type. `total_count` is that of all nights to come."""

    type: Line = left_out()
    base_price: MoneyIn = left_out()
    photos: Photos = left_out()
    amenities: Amenities = left_out()
    total_count: TotalCount = left_out()
    capacity: Capacity = left_out()


class ManagedRoom(OutModel):
    """A room type as its manager sees it."""

    id: int
    hotel_id: int
    type: str
    base_price: MoneyOut
    currency: str
    photos: list[str]
    amenities: list[str]
    total_count: int
    capacity: int
    created_at: datetime
    updated_at: datetime
