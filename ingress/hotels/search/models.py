"""The query of a search and its hits."""

import re
from datetime import date, datetime
from typing import Annotated, Final, Literal, NamedTuple

from pydantic import BeforeValidator, Field

from ingress.hotels.models import Children
from ingress.http.models import Currency, Day, Line, MoneyIn, MoneyOut, OutModel, Query, Several
from ingress.http.paging import Limit, PageCursor
from ingress.stays import Adults, RoomsCount, accept_people, today_at
from pricing.sale import PricedStay
from storage.reads.search import HotelFacts
from topics.messages.sale import Meals, Party
from topics.messages.values import Terms

MAX_PAGES: Final = 10_000
EARTH_RADIUS_M: Final = 6_371_008.8


class IndexOutdated(Exception):
    """The nights in the database are no continuation of those in the index, which must be loaded anew."""


class Near(NamedTuple):
    """A circle on the map, in degrees and kilometres."""

    latitude: float
    longitude: float
    km: float


_DECIMALS: Final = r"(\.\d{1,9})?"
_LATITUDE: Final = rf"-?(90|[1-8]?\d{_DECIMALS})"
_LONGITUDE: Final = rf"-?(180|(1[0-7]|[1-9])?\d{_DECIMALS})"
_KM: Final = rf"(0\.\d{{0,8}}[1-9]|[1-9]\d{{0,3}}{_DECIMALS}|1\d{{4}}{_DECIMALS})"
_NEAR: Final = f"^{_LATITUDE},{_LONGITUDE},{_KM}$"


def _near(given: object) -> object:
    if not isinstance(given, str) or not re.match(_NEAR, given, re.ASCII):
        raise ValueError("must be latitude,longitude,kilometres, such as 38.72,-9.14,5")
    return given.split(",")


_NearText = Annotated[str, Field(pattern=_NEAR)]


class HotelSearch(Query):
    """The hotels and the stay of a search. Prices are of one night, in major units of the hotel's currency."""

    city: Line | None = Field(default=None, description="The whole name, in any case; not needed beside near.")
    check_in_date: Day
    check_out_date: Day
    rooms_count: RoomsCount = 1
    guests: Annotated[int, Field(ge=1, le=1000)] | None = Field(
        default=None, description="How many have to fit into the rooms; not needed beside adults."
    )
    adults: Adults | None = Field(default=None, description="In all rooms together.")
    children: Children = Field(default_factory=list, description="The ages of the children in all rooms.")
    min_price: MoneyIn | None = Field(default=None, description="Of a night, in major units.")
    max_price: MoneyIn | None = Field(default=None, description="Of a night, in major units.")
    amenities: Annotated[Several[Line], Field(max_length=20)] = Field(
        default_factory=list, description="All of them must be there."
    )
    stars: Annotated[int, Field(ge=1, le=5)] | None = Field(default=None, description="At least so many.")
    near: Annotated[Near, BeforeValidator(_near, json_schema_input_type=_NearText)] | None = Field(
        default=None, description="Latitude, longitude and kilometres around, such as 38.72,-9.14,5."
    )
    currency: Currency | None = Field(
        default=None,
        description="Show prices in this one too, if they are in another (`approximate`), by exchange rates; hotels"
        " whose prices cannot be shown in it are left out. min_price and max_price are in it.",
    )
    charged_in: Currency | None = Field(default=None, description="Only hotels that charge this currency.")
    sort: Literal["price", "stars", "distance"] = "price"
    limit: Limit = 20
    page: Annotated[int, Field(ge=1, le=MAX_PAGES)] | None = Field(default=None, description="Counted from 1.")
    cursor: PageCursor | None = Field(default=None, description="As the page before named it; not beside page.")

    @property
    def nights(self) -> int:
        """How many nights the stay has."""
        return (self.check_out_date - self.check_in_date).days

    @property
    def people(self) -> Party | None:
        """The people, if they are named."""
        return accept_people(self.adults, self.children)


class SortPosition(NamedTuple):
    """The position of a hotel in the order of a search: by `key`, then by its id."""

    key: int
    hotel_id: int


class Hit(NamedTuple):
    """A hotel that matches the search, and its cheapest room type. The search is sorted by `key`.

    `average_minor` is the price of a night in one room, whenever it is paid, and `total_minor` what a booking of the
    whole stay in all rooms would be charged. `priced` is its price by the cheapest rate plan; None: the room has no
    sale terms.
    """

    hotel: HotelFacts
    room_id: int
    room_type: str
    average_minor: int
    total_minor: int
    rooms_left: int
    distance_m: int | None
    key: int
    priced: PricedStay | None = None


class Found(NamedTuple):
    """One page of hits in order, and whether there are more."""

    hits: list[Hit]
    more: bool


class ApproximatePrice(OutModel):
    """A hit's prices in the currency that the search names, for eyes only: the hotel charges its own currency.

    They follow from exchange rates of `rate_date`, published by `rate_source`, and are rounded.
    """

    currency: str
    min_price: MoneyOut
    total: MoneyOut
    due_at_hotel: MoneyOut
    rate_date: date
    rate_source: str


class HotelHit(OutModel):
    """A hotel with the cheapest room type that is free for the whole stay, by its cheapest rate plan.

    `min_price` is the average of a night in one room: all that the stay costs, with taxes, now and at the hotel.
    `total` is charged with a booking of all nights and rooms, and `due_at_hotel` is paid there. `approximate` is there
    if the search names another currency than the hotel's.
    """

    id: int
    name: str
    city: str
    photos: list[str]
    amenities: list[str]
    stars: int | None
    latitude: float | None
    longitude: float | None
    distance_km: float | None
    currency: str
    min_price: MoneyOut
    total: MoneyOut
    room_id: int
    room_type: str
    rooms_left: int
    plan_id: str
    plan_name: str
    meals: Meals
    payment: Terms
    due_at_hotel: MoneyOut
    refundable: bool = Field(description="Whether a cancellation, now or later, costs less than everything.")
    free_until: datetime | None = Field(
        description="Until when a cancellation costs nothing, with the hotel's offset; null: it always costs something."
    )
    approximate: ApproximatePrice | None = None


def written_alike(name: str) -> str:
    """Return a name without the differences of case and of blanks around it."""
    return name.strip().casefold()


def earliest_today() -> date:
    """Return the day in the time zone where it is the earliest."""
    return today_at("Etc/GMT+12")


def latest_today() -> date:
    """Return the day in the time zone where it is the latest."""
    return today_at("Etc/GMT-14")
