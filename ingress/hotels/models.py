"""The query and the response of a hotel's public description."""

from datetime import date
from typing import Annotated

from pydantic import Field

from ingress.http.models import Currency, Day, MoneyOut, OutModel, Query, Several
from ingress.offers import ApproximateOffer, OfferOut
from ingress.stays import MAX_PEOPLE, Adults, ChildAge, RoomsCount

Children = Annotated[Several[ChildAge], Field(max_length=MAX_PEOPLE)]


class NightOut(OutModel, title="NightShown"):
    """A night that was put on sale: its price with surge, and how many rooms are free."""

    date: date
    price: MoneyOut
    available: int


class PlanOffer(OfferOut, title="PlanOffer"):
    """A price of the stay by one rate plan. `approximate` is there if the request names another currency."""

    approximate: ApproximateOffer | None = None


class RoomOut(OutModel, title="RoomShown"):
    """A room type of a hotel; `price_from` is its cheapest night within three months.

    Only with the dates of a stay: its nights that are on sale, how many rooms are `available` in all of them, the
    `plans` by which it can be booked, and the `total` that a booking which names no plan would be charged now; null
    when it cannot be booked, because too few are free, because the party is too large, because the plan is not sold for
    these days, or because the amount is one that cannot be charged.
    """

    id: int
    type: str
    capacity: int
    total_count: int
    base_price: MoneyOut
    price_from: MoneyOut | None
    photos: list[str]
    amenities: list[str]
    nights: list[NightOut] | None = None
    available: int | None = None
    total: MoneyOut | None = None
    plans: list[PlanOffer] | None = None


class Contact(OutModel):
    """How to reach a hotel."""

    phone: str | None
    email: str | None
    address: str | None


class HotelOut(OutModel, title="HotelShown"):
    """A hotel with its rooms. Times are the hotel's own."""

    id: int
    name: str
    city: str
    currency: str
    photos: list[str]
    amenities: list[str]
    contact: Contact
    contact_phone: str | None
    contact_email: str | None
    stars: int | None
    latitude: float | None
    longitude: float | None
    time_zone: str
    check_in_time: str
    check_out_time: str
    rooms: list[RoomOut]


class Stay(Query):
    """A stay whose prices are in the response; without dates, none."""

    check_in_date: Day | None = None
    check_out_date: Day | None = None
    rooms_count: RoomsCount = 1
    adults: Adults | None = Field(
        default=None, description="In all rooms together; without, those that a plan's price covers."
    )
    children: Children = Field(default_factory=list, description="The ages of the children in all rooms.")
    currency: Currency | None = Field(
        default=None,
        description="Show the prices of plans in this one too, if they are in another (`approximate`), by exchange"
        " rates.",
    )
