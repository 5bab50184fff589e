"""The query and the response of a hotel's report."""

from datetime import date
from typing import TypeAlias

from pydantic import Field

from ingress.http.models import Day, MoneyOut, OutModel, Query

# A field may have the name of its type.
_Date: TypeAlias = date


class ReportQuery(Query):
    """A range of days, both ends included, at most 366; the last 30 days at the hotel by default."""

    start_date: Day | None = None
    end_date: Day | None = None


class ReportedDay(OutModel):
    """One night. `bookings` have it, `arrivals` begin with it, `nights` of `rooms` were sold, in rooms.

    `estimated` of the `bookings` are from before amounts by night were kept: the amount of each is shared evenly.
    """

    date: _Date
    arrivals: int
    bookings: int
    nights: int
    revenue: MoneyOut
    rooms: int
    occupancy: float | None
    average_daily_rate: MoneyOut | None
    estimated: int


class Report(OutModel):
    """The nights of confirmed bookings in these days, with the amount of each night.

    Revenue is net: refunds made by hand of bookings that stay, and the amounts that lost disputes took, are deducted
    from each booking's nights in proportion to their amounts. `occupancy` is the share of the rooms for sale that were
    sold, `average_daily_rate` the revenue of a room a night. Both are null when there is nothing to divide by, as is
    `average_booking_value`.
    """

    hotel_id: int
    start_date: _Date
    end_date: _Date
    currency: str
    total_bookings: int = Field(description="Bookings with at least one night in these days.")
    total_revenue: MoneyOut
    average_booking_value: MoneyOut | None
    total_nights: int = Field(description="Nights sold, each as often as it was rooms.")
    occupancy: float | None = Field(description="From 0 to 1, with four digits.")
    average_daily_rate: MoneyOut | None
    estimated: int = Field(
        description="Of `total_bookings`, those from before amounts by night were kept, whose amount is shared evenly."
    )
    by_day: list[ReportedDay]
