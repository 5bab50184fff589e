"""The query and the response of a hotel's report."""

from datetime import date, datetime
from typing import TypeAlias
from uuid import UUID

from pydantic import Field

from ingress.http.models import Day, MoneyOut, OutModel, Query
from ingress.http.paging import Paged

# A field may have the name of its type.
_Date: TypeAlias = date


class ReportQuery(Query):
    """A range of days, both ends included, at most 366; the last 30 days at the hotel by default."""

    start_date: Day | None = None
    end_date: Day | None = None


class ReportedDay(OutModel):
    """One night. `bookings` have it, `arrivals` begin with it, `nights` of `rooms` were sold, in rooms.

    `estimated` of the `bookings` are from before amounts by night were kept: the amount of each is shared evenly.
    `fees` are kept of stays that ended early, and are in the first night that was on sale again.
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
    fees: MoneyOut


class Report(OutModel):
    """The nights of confirmed bookings in these days, with the amount of each night.

    Revenue is net: refunds made by hand of bookings that stay, and the amounts that lost disputes took, are deducted
    from each booking's nights in proportion to their amounts; those of a trip's payment are first divided among its
    room types, in proportion to what is kept of each. A stay that was cancelled, left early or not arrived at
    counts with the nights before the first one that was on sale again; all else that the hotel keeps of it by its
    policy is a fee. The policy of a booking that is paid at the hotel makes no fee, because nothing is held.
    A stay that was changed counts with its present nights and amounts, which include the costs of its changes.
    Amounts contain the taxes and fees that are paid with the price, and not those that the hotel collects itself
    (`collected`: `at_hotel`), whether the booking is prepaid or paid at the hotel.
    `occupancy` is the share of the rooms for sale that were sold, `average_daily_rate` the revenue of a room a night.
    Both are null when there is nothing to divide by, as is `average_booking_value`.
    """

    hotel_id: int
    start_date: _Date
    end_date: _Date
    currency: str
    total_bookings: int = Field(description="Bookings with at least one night in these days.")
    total_revenue: MoneyOut
    average_booking_value: MoneyOut | None
    total_nights: int = Field(description="Nights sold, each as often as it was rooms.")
    occupancy: float | None = Field(
        description="From 0 to 1, with four digits; above 1, if more rooms were sold than there are."
    )
    average_daily_rate: MoneyOut | None
    estimated: int = Field(
        description="Of `total_bookings`, those from before amounts by night were kept, whose amount is shared evenly."
    )
    total_fees: MoneyOut = Field(description="Kept of stays that ended early, beside the revenue.")
    by_day: list[ReportedDay]


class WalksQuery(Paged):
    """A part of a range of days, both ends included, at most 366; by default 30 days from today at the hotel."""

    start_date: Day | None = None
    end_date: Day | None = None


class WalkedBookingOut(OutModel, title="WalkedBooking"):
    """A confirmed booking whose guests have not arrived yet."""

    id: UUID
    check_in_date: _Date
    check_out_date: _Date
    rooms_count: int
    created_at: datetime


class OversoldNightOut(OutModel, title="OversoldNight"):
    """A night of a room type in which `over` rooms more are sold than the hotel has, those off sale aside.

    `bookings` are those that would have to be walked to another hotel: the newest ones, as many as have so many rooms,
    and at most 100.
    """

    date: _Date
    room_id: int
    room_type: str
    rooms: int = Field(description="The rooms that there are.")
    blocked: int = Field(description="Of them, those that the hotel took off sale.")
    booked: int
    over: int
    bookings: list[WalkedBookingOut]
