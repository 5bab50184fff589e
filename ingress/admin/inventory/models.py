"""The queries, bodies and responses of operations on nights."""

from datetime import date
from decimal import Decimal
from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from ingress.http.models import Body, Day, MoneyIn, MoneyOut, OutModel, PlainDecimal, Query, number_schema
from topics.messages.values import MAX_ROOMS, MAX_SURGE_MILLI

# A field may have the name of its type.
_Date: TypeAlias = date

SurgeFactor = Annotated[
    PlainDecimal,
    Field(gt=0, le=Decimal(MAX_SURGE_MILLI) / 1000),
    number_schema(
        exclusiveMinimum=0, maximum=MAX_SURGE_MILLI / 1000, description="Multiplies the price, such as 1.25."
    ),
]

AllowanceCount = Annotated[
    int, Field(ge=0, le=MAX_ROOMS, description="How many rooms more than `total_count` may be sold; 0 at first.")
]


class NightsQuery(Query):
    """A range of nights, both ends included, at most 366. One end alone: from today, or to the last night on sale."""

    start_date: Day | None = None
    end_date: Day | None = None


class NightChanges(Body):
    """Changes to nights; a field that is left out, or null, stays as it is. The days may be in the body, too."""

    start_date: Day | None = None
    end_date: Day | None = None
    surge_factor: SurgeFactor | None = None
    price: MoneyIn | None = None
    closed: bool | None = None
    total_count: Annotated[int, Field(ge=0, le=MAX_ROOMS)] | None = None
    allowance_count: AllowanceCount | None = None


class ManagedNight(OutModel):
    """One night of a room. A guest pays `price` x `surge_factor` for it, rounded half-up to a chargeable amount."""

    id: int = Field(description="`room_id` x 100,000 + days from 1970-01-01 to `date`; it never changes.")
    hotel_id: int
    city: str = Field(description="The hotel's.")
    room_id: int
    date: _Date
    booked_count: int
    reserved_count: int = Field(description="Held for guests who have not paid yet.")
    blocked_count: int = Field(description="Taken off sale by the hotel's blocks.")
    total_count: int
    allowance_count: int = Field(description="How many rooms more than `total_count` may be sold.")
    limit_count: int = Field(description="The most that are booked, held and blocked together: total and allowance.")
    surge_factor: str
    price: MoneyOut
    currency: str
    closed: bool


class ChangedNight(ManagedNight, title="ChangedNight"):
    """One night after a change; `refused` is the reason for which it keeps its values, null when it was changed."""

    refused: Literal["not_open", "total_below_sold"] | None


class UnversionedNight(ManagedNight):
    """A night for clients without a version, which read `book_count`."""

    book_count: int


class UnversionedChangedNight(ChangedNight):
    """A changed night for clients without a version, which read `book_count`."""

    book_count: int
